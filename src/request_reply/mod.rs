//! Calls over Kafka: a requester asks, a responder answers, and no reply is lost to a rebalance.
mod answer;

pub use answer::{Answer, ErrorReply, IntoAnswer, Refusal, Status};
