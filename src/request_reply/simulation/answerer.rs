//! A process that answers.
use std::time::Duration;

use super::book::answer;
use super::{Link, REQUESTS, SECOND, World};
use crate::client::Client;
use crate::request_reply::{AnswerStream, IntoAnswers as _, Request, Responder};

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
                let (work, items) = work.split_once(' ').ok_or("no items")?;
                let (work, items): (u64, u32) = (work.parse()?, items.parse()?);
                // Every other one that has little to do has nothing to wait for.
                if work > 50 || token % 2 == 1 {
                    tokio::time::sleep(Duration::from_millis(work)).await;
                }
                if items == 0 {
                    return answer(token).into_answers();
                }
                let stream = AnswerStream::written_by(async move |mut sink| {
                    for item in 0..items {
                        // Now and then the next one takes its time.
                        tokio::time::sleep(Duration::from_millis(if item % 7 == 6 { 30 } else { 0 })).await;
                        sink.send(format!("{}:{item}/{items}", answer(token))).await;
                    }
                    Ok(())
                });
                stream.into_answers()
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
