//! ApiVersions, versions 0-4: what is offered. Version 3 added the client's name and the features.
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::{Call, Cluster, Reply};
use super::{Handle, SERVED};
use crate::broker::config::Release;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::request::Request;

impl Handle for ApiVersionsRequest {
    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<ApiVersionsResponse> {
        let mut response = ApiVersionsResponse::default().with_throttle_time_ms(call.throttle_ms());
        if let Some(code) = call.injected_at_all() {
            return Reply::Now(response.with_error_code(code.code()));
        }
        if call.version >= 3
            && !(is_software(&self.client_software_name) && is_software(&self.client_software_version))
        {
            return Reply::Now(response.with_error_code(ErrorCode::INVALID_REQUEST.code()));
        }
        for &(key, min, max) in SERVED {
            let Some(highest) = cluster.config.highest(key) else { continue };
            // From 4.0 on nodes advertise Produce 0 to 2 for old librdkafka's sake, yet refuse them.
            let min = if key == 0 { 0 } else { min };
            let api = ApiVersion::default().with_api_key(key).with_min_version(min);
            response.api_keys.push(api.with_max_version(highest.min(max)));
        }
        if call.version >= 3 && cluster.config.release >= Release::V3_3 {
            let level = level(cluster.config.release);
            let name = StrBytes::from_static_str("metadata.version");
            response.supported_features.push(
                SupportedFeatureKey::default()
                    .with_name(name.clone())
                    .with_min_version(1)
                    .with_max_version(level),
            );
            response.finalized_features_epoch = 1;
            response.finalized_features.push(
                FinalizedFeatureKey::default()
                    .with_name(name)
                    .with_min_version_level(level)
                    .with_max_version_level(level),
            );
        }
        Reply::Now(response)
    }
}

/// The answer to a version that is not offered: in the shape of version 0, naming what is.
pub(super) fn unsupported(highest: i16) -> ApiVersionsResponse {
    let own = ApiVersion::default()
        .with_api_key(<ApiVersionsRequest as Request>::KEY)
        .with_min_version(0)
        .with_max_version(highest);
    ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.code())
        .with_api_keys(vec![own])
}

/// The level of `metadata.version` that belongs to a release.
fn level(release: Release) -> i16 {
    match release {
        Release::V3_3 => 7,
        Release::V3_6 => 14,
        Release::V3_7 => 19,
        Release::V3_9 => 21,
        Release::V4_0 => 25,
        _ => 27,
    }
}

/// KIP-511: letters and digits at both ends, dots and dashes between.
fn is_software(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    inner && end(bytes.first()) && end(bytes.last())
}
