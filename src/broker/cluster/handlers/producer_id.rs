//! InitProducerId 0-5 and FindCoordinator 0-6.
//!
//! InitProducerId: 3 added the id and epoch the producer has. Without a transactional id Kafka gives out a new id
//! whatever they say, so the same is done here.
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::{Call, Cluster, Reply};
use super::Handle;
use crate::protocol::error_code::ErrorCode;

impl Handle for InitProducerIdRequest {
    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<InitProducerIdResponse> {
        let response = InitProducerIdResponse::default().with_throttle_time_ms(call.throttle_ms());
        let refused = |code: ErrorCode| {
            Reply::Now(
                response
                    .clone()
                    .with_error_code(code.code())
                    .with_producer_id((-1).into())
                    .with_producer_epoch(-1),
            )
        };
        if let Some(code) = call.injected_at_all() {
            return refused(code);
        }
        if (self.producer_id.0 < 0) != (self.producer_epoch < 0) {
            return refused(ErrorCode::INVALID_REQUEST);
        }
        if self.transactional_id.is_some() {
            // There is no transaction coordinator here.
            return refused(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        cluster.next_producer_id += 1;
        Reply::Now(response.with_producer_id(cluster.next_producer_id.into()))
    }
}

impl Handle for FindCoordinatorRequest {
    fn handle(self, _cluster: &mut Cluster, call: &Call) -> Reply<FindCoordinatorResponse> {
        // There are no coordinators here.
        let code = call.injected_at_all().unwrap_or(ErrorCode::COORDINATOR_NOT_AVAILABLE).code();
        let mut response = FindCoordinatorResponse::default().with_throttle_time_ms(call.throttle_ms());
        if call.version < 4 {
            let message = StrBytes::from_static_str("no coordinator");
            response = response.with_error_code(code).with_node_id((-1).into()).with_port(-1);
            response = response.with_error_message(Some(message).filter(|_| call.version >= 1));
        } else {
            let coordinator = |key| {
                Coordinator::default()
                    .with_key(key)
                    .with_node_id((-1).into())
                    .with_port(-1)
                    .with_error_code(code)
            };
            response =
                response.with_coordinators(self.coordinator_keys.into_iter().map(coordinator).collect());
        }
        Reply::Now(response)
    }
}
