//! Calls over Kafka: a requester asks, a responder answers, and no reply is lost to a rebalance.
mod allocator;
mod answer;
mod answer_stream;
mod answering;
mod at_once;
mod attempts;
mod call;
mod config;
mod dead_letter;
mod gather;
mod group_home;
mod handler;
mod home;
mod inbox;
mod incoming;
mod intake;
#[cfg(feature = "json")]
mod json;
mod many;
mod message;
mod metrics;
mod opening;
mod output;
mod pending;
mod reader;
mod reply;
mod reply_group;
mod requester;
mod responder;
mod room;
mod running;
mod serve;
#[cfg(test)]
mod simulation;
mod stream;
mod token;
mod writer;

pub use allocator::ReplyAllocator;
pub use answer::{Answer, Answers, ErrorReply, IntoAnswer, IntoAnswers, Refusal, Status};
pub use answer_stream::{AnswerSink, AnswerStream};
pub use call::{Call, CallFuture};
pub use config::RequesterBuilder;
pub use gather::{GatherCall, Gathered, GroupReply};
pub use incoming::{Event, Request};
#[cfg(feature = "json")]
pub use json::{Json, json};
pub use message::{CodecError, Decode, Encode, FromRequest};
pub use metrics::{RequesterMetrics, ResponderMetrics};
pub use pending::PendingCall;
pub use reply::Reply;
pub use reply_group::ReplyGroup;
pub use requester::Requester;
pub use responder::{Responder, ResponderBuilder};
pub use stream::{ReplyStream, StreamCall};
pub use token::CallToken;

use std::time::Duration;

use crate::client::Client;

/// A connection that requests or replies are read on is taken for dead when it is silent for so long beyond the wait of a fetch. Who reads
/// at the end of a partition is answered from memory, so that this does not hit a node that is merely slow; to connect again costs little,
/// and not to would cost every call whose reply lies there.
const SILENCE: Duration = Duration::from_secs(5);

impl Client {
    /// Options of a requester, which asks and gets replies; [`Requester::request`] shows one at work.
    pub fn requester(&self) -> RequesterBuilder {
        RequesterBuilder::new(self.clone())
    }

    /// Options of a responder, which answers requests, as a member of a consumer group: responders of one group share the
    /// partitions of the request topics, and what one leaves unfinished the others answer.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("double", 1)?;
    /// # broker.create_topic("audit", 1)?;
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// use milena::{Event, Refusal, Request};
    ///
    /// let responder = client
    ///     .responder("doublers")
    ///     .on_request("double", async |request: Request| -> Result<String, Refusal> {
    ///         let number: i64 = std::str::from_utf8(request.value())?.parse()?;
    ///         Ok((2 * number).to_string())
    ///     })
    ///     .on_event("audit", async |event: Event| println!("{:?}", event.value()))
    ///     .concurrency(64)
    ///     .start()
    ///     .await?;
    ///
    /// let requester = client.requester().build().await?;
    /// assert_eq!(requester.request("double", "21").await?.value(), b"42");
    /// let error = requester.request("double", "x").await.unwrap_err();
    /// assert_eq!(error.kind(), milena::ErrorKind::Reply);
    /// responder.close().await;
    /// # Ok(()) }
    /// ```
    pub fn responder(&self, group: impl Into<String>) -> ResponderBuilder {
        ResponderBuilder::new(self.clone(), group.into())
    }
}
