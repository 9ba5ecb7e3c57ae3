//! A process that answers.
use std::time::Duration;

use super::book::answer;
use super::{Link, REQUESTS, SECOND, World};
use crate::client::Client;
use crate::request_reply::{Refusal, Request, Responder};

pub(super) struct Answerer {
    client: Client,
    responder: Responder,
}

impl Answerer {
    pub(super) async fn start(world: &World, skew: i64) -> Self {
        let client = world.client(&Link::default(), skew).await;
        let book = world.book.clone();
        let handler = move |request: Request| {
            let book = book.clone();
            async move {
                let text = std::str::from_utf8(request.value())?;
                let (token, work) = text.split_once(' ').ok_or("no work")?;
                let token: u64 = token.parse()?;
                book.ran(token);
                tokio::time::sleep(Duration::from_millis(work.parse()?)).await;
                Ok::<_, Refusal>(answer(token))
            }
        };
        let responder = client
            .responder("adders")
            .on_request(REQUESTS, handler)
            .consumer(|consumer| consumer.session_timeout(6 * SECOND).heartbeat_interval(SECOND))
            .start()
            .await
            .unwrap();
        Self { client, responder }
    }

    pub(super) async fn leave(self) {
        self.responder.close().await;
        self.client.close().await;
    }

    /// As by SIGKILL.
    pub(super) fn die(self) {}
}
