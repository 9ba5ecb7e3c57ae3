//! A process that asks.
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::book::{Book, Outcome, answer};
use super::{Link, REPLIES, REQUESTS, World};
use crate::admin::Admin;
use crate::client::Client;
use crate::error::Result;
use crate::request_reply::{Requester, RequesterBuilder};

pub(super) struct Caller {
    pub(super) name: usize,
    client: Client,
    pub(super) requester: Requester,
    pub(super) link: Link,
    calls: JoinSet<()>,
    book: Arc<Book>,
}

/// Takes all items, each of which must be the next. What a whole stream gives is what a single reply would.
async fn stream(requester: &Requester, value: &str, token: u64, shape: Shape) -> Result<Vec<u8>> {
    let mut replies = requester.stream(REQUESTS, value).credit(4).timeout(shape.timeout).await?;
    for item in 0..shape.items {
        let expected = format!("{}:{item}/{}", answer(token), shape.items);
        match replies.next().await? {
            Some(reply) if reply.value() == expected.as_bytes() => {}
            other => {
                return Ok(format!(
                    "{:?} in place of {expected}",
                    other.map(|reply| reply.text().into_owned())
                )
                .into());
            }
        }
    }
    match replies.next().await? {
        None => Ok(answer(token).into_bytes()),
        Some(more) => Ok(format!("{} behind the last item", more.text()).into()),
    }
}

/// What a call is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// How long the handler takes.
    pub(super) work: Duration,
    pub(super) timeout: Duration,
    /// When its caller loses interest.
    pub(super) patience: Option<Duration>,
    /// How many items it asks for; 0 is one reply.
    pub(super) items: u32,
}

impl Caller {
    pub(super) async fn start(
        world: &World,
        name: usize,
        skew: i64,
        options: impl FnOnce(RequesterBuilder) -> RequesterBuilder,
    ) -> Self {
        let link = Link::default();
        let client = world.client(&link, skew).await;
        let requester = options(client.requester().reply_topic(REPLIES)).build().await.unwrap();
        Self { name, client, requester, link, calls: JoinSet::new(), book: world.book.clone() }
    }

    pub(super) fn call(&mut self, shape: Shape) {
        let token = self.book.begin(self.name, shape.timeout);
        let (requester, book) = (self.requester.clone(), self.book.clone());
        while self.calls.try_join_next().is_some() {}
        self.calls.spawn(async move {
            let value = format!("{token} {} {}", shape.work.as_millis(), shape.items);
            let call = async {
                if shape.items > 0 {
                    return stream(&requester, &value, token, shape).await;
                }
                let reply = requester.request(REQUESTS, &value).timeout(shape.timeout).await?;
                Ok(reply.value().to_vec())
            };
            let outcome = match shape.patience {
                None => Book::ended(call.await),
                Some(patience) => match tokio::time::timeout(patience, call).await {
                    Ok(ended) => Book::ended(ended),
                    Err(_) => Outcome::Dropped,
                },
            };
            book.end(token, outcome);
        });
    }

    /// Leaves as a good process does.
    pub(super) async fn leave(mut self) -> std::result::Result<(), String> {
        // Those that nobody waits for are out of the table before the requester is closed.
        while self.calls.join_next().await.is_some() {}
        let metrics = self.requester.metrics();
        if metrics.in_flight != 0 || metrics.draining != 0 {
            return Err(format!(
                "leak: {} in flight, {} draining after the end",
                metrics.in_flight, metrics.draining
            ));
        }
        self.requester.close().await;
        self.client.close().await;
        Ok(())
    }

    /// As by SIGKILL.
    pub(super) fn die(self) {
        self.book.died(self.name);
    }

    /// Stopped by a signal for so long, as the others see it.
    pub(super) fn hang(&self, time: Duration) -> impl Future<Output = ()> + use<> {
        let (link, book, name) = (self.link.clone(), self.book.clone(), self.name);
        async move {
            let begin = Instant::now();
            link.freeze();
            tokio::time::sleep(time).await;
            link.thaw();
            book.excuse(Some(name), begin);
        }
    }

    pub(super) fn admin(&self) -> Admin {
        self.client.admin()
    }
}
