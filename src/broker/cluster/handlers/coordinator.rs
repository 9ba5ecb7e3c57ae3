//! FindCoordinator 0-6: 1 added the kind of key, 4 many keys at once.
use std::sync::Arc;

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::{Call, Cluster, Reply};
use super::Handle;
use crate::protocol::error_code::ErrorCode;

/// The kinds of keys: a group, a transactional id, a share partition.
const GROUP: i8 = 0;
const LAST_KIND: i8 = 2;

/// Where a coordinator is.
struct Place {
    node: i32,
    host: String,
    port: i32,
    error: ErrorCode,
}

fn find(cluster: &mut Cluster, call: &Call, kind: i8, key: &str) -> Place {
    let nowhere = |error| Place { node: -1, host: String::new(), port: -1, error };
    if let Some(code) = call.injected_at_all() {
        return nowhere(code);
    }
    if kind != GROUP {
        // There are no other coordinators here.
        let known = (GROUP..=LAST_KIND).contains(&kind);
        return nowhere(if known {
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        } else {
            ErrorCode::INVALID_REQUEST
        });
    }
    cluster.ensure_offsets_topic(call.now);
    let node = cluster.coordinator(key).and_then(|id| cluster.nodes.get(&id)).filter(|node| node.up);
    match node {
        Some(node) => Place {
            node: node.id,
            host: node.host.clone(),
            port: i32::from(node.port),
            error: ErrorCode::NONE,
        },
        None => nowhere(ErrorCode::COORDINATOR_NOT_AVAILABLE),
    }
}

impl Handle for FindCoordinatorRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        let keys = self.coordinator_keys.iter().chain([&self.key]);
        keys.filter(|key| !key.is_empty()).map(|key| Arc::from(key.as_str())).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<FindCoordinatorResponse> {
        let mut response = FindCoordinatorResponse::default()
            .with_throttle_time_ms(call.throttle_ms())
            .with_error_message(None);
        if call.version < 4 {
            let place = find(cluster, call, self.key_type, &self.key);
            response.error_code = place.error.code();
            let message = StrBytes::from_static_str(place.error.name());
            response.error_message = Some(message).filter(|_| call.version >= 1);
            response.node_id = place.node.into();
            response.host = StrBytes::from_string(place.host);
            response.port = place.port;
        } else {
            for key in self.coordinator_keys {
                let place = find(cluster, call, self.key_type, &key);
                response.coordinators.push(
                    Coordinator::default()
                        .with_key(key)
                        .with_node_id(place.node.into())
                        .with_host(StrBytes::from_string(place.host))
                        .with_port(place.port)
                        .with_error_code(place.error.code())
                        .with_error_message(Some(StrBytes::default())),
                );
            }
        }
        Reply::Now(response)
    }
}
