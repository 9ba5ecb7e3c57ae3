//! Calls over Kafka: a requester asks, a responder answers, and no reply is lost to a rebalance.
mod answer;
mod config;
mod incoming;
mod metrics;
mod reader;
mod reply;
mod requester;
mod responder;
mod serve;

use std::time::{SystemTime, UNIX_EPOCH};

pub use answer::{Answer, ErrorReply, IntoAnswer, Refusal, Status};
pub use config::RequesterBuilder;
pub use incoming::{Event, Request};
pub use metrics::{RequesterMetrics, ResponderMetrics};
pub use reply::Reply;
pub use requester::{Call, Requester};
pub use responder::{Responder, ResponderBuilder};

use crate::client::Client;

impl Client {
    /// Options of a requester, which asks and gets replies.
    pub fn requester(&self) -> RequesterBuilder {
        RequesterBuilder::new(self.clone())
    }

    /// Options of a responder, which answers requests. The name of the group is for logs until groups share request topics.
    pub fn responder(&self, group: impl Into<String>) -> ResponderBuilder {
        ResponderBuilder::new(self.clone(), group.into())
    }
}

/// Milliseconds since 1970-01-01 UTC.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
