//! InitProducerId 0-5: 3 added the id and epoch the producer has. Without a transactional id Kafka gives out a new id
//! whatever they say, so the same is done here.
use kafka_protocol::messages::*;

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
