//! milena's side, with the same handlers and the same outcomes as the partners'.
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use milena::{
    Answer, AnswerStream, Answers, Client, Error, ErrorReply, IntoAnswers, Refusal, Reply, Request,
    Requester, Responder, Status,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::kafka::Cluster;
use crate::verbs::Outcome;

pub(crate) async fn client(kafka: &Cluster) -> Client {
    Client::connect(&kafka.bootstrap()).await.unwrap()
}

pub(crate) async fn responder(kafka: &Cluster, topic: &str) -> Responder {
    responder_that_holds(kafka, topic, Arc::new(Semaphore::new(0))).await
}

/// Requests of the handler `held` are answered when there is a permit.
pub(crate) async fn responder_that_holds(kafka: &Cluster, topic: &str, held: Arc<Semaphore>) -> Responder {
    let handler = move |request| answer(request, held.clone());
    client(kafka).await.responder(topic).on_request(topic, handler).start().await.unwrap()
}

async fn answer(request: Request, held: Arc<Semaphore>) -> Result<Answers, Refusal> {
    let text = std::str::from_utf8(request.value())?;
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let answer = match verb {
        "echo" => Answer::new(rest.to_owned()),
        "upper" => Answer::new(rest.to_uppercase()),
        "null" => Answer::null(),
        "empty" => Answer::new(""),
        "slow" => {
            let (delay, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            tokio::time::sleep(Duration::from_millis(delay.parse()?)).await;
            Answer::new(rest.to_owned())
        }
        "held" => {
            held.acquire().await?.forget();
            Answer::new(rest.to_owned())
        }
        "stream" | "trickle" => {
            let (count, item) = rest.split_once(' ').unwrap_or((rest, ""));
            let (count, item) = (count.parse()?, item.to_owned());
            let pause = Duration::from_millis(if verb == "trickle" { 5 } else { 0 });
            return items(count, item, pause).into_answers();
        }
        "error" => return Err(Refusal::new(Status::NOT_FOUND, rest)),
        _ => return Err(Refusal::new(Status::UNIMPLEMENTED, format!("no handler {verb}"))),
    };
    answer.into_answers()
}

/// So many items; with a pause before each, the end comes late, too.
fn items(count: usize, item: String, pause: Duration) -> AnswerStream {
    AnswerStream::written_by(async move |mut items| {
        for number in 0..count {
            tokio::time::sleep(pause).await;
            items.send(format!("{item}.{number}")).await;
        }
        tokio::time::sleep(4 * pause).await;
        Ok(())
    })
}

/// Makes calls, all at once, as [`crate::side::Side::call`] does.
pub(crate) async fn call(
    requester: &Requester,
    topic: &str,
    calls: usize,
    limit: Duration,
    text: &str,
) -> Vec<Outcome> {
    let mut running = JoinSet::new();
    for call in 0..calls {
        let (requester, topic, text) = (requester.clone(), topic.to_owned(), format!("{text}-{call}"));
        running.spawn(async move {
            let reply = requester.request(&topic, &text).timeout(limit).await;
            (call, outcome(reply))
        });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|(call, _)| *call);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

pub(crate) fn outcome(reply: Result<Reply, Error>) -> Outcome {
    match reply {
        Ok(reply) if reply.is_null() => Outcome::null(),
        Ok(reply) => Outcome::item(reply.text()),
        Err(error) if error.is_timeout() => Outcome::lost(),
        Err(error) => {
            let reply = error.source().and_then(|source| source.downcast_ref::<ErrorReply>());
            Outcome::error(reply.map_or_else(|| error.to_string(), |reply| reply.message().to_owned()))
        }
    }
}

/// One call that is answered by a stream.
pub(crate) async fn stream(requester: &Requester, topic: &str, limit: Duration, text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut replies = requester.stream(topic, text).timeout(limit).await.expect("a request that is written");
    loop {
        let end = match replies.next().await {
            Ok(Some(reply)) => {
                outcome.items.push((!reply.is_null()).then(|| reply.text().into_owned()));
                continue;
            }
            Ok(None) => Outcome::default(),
            Err(error) => self::outcome(Err(error)),
        };
        return Outcome { items: outcome.items, ..end };
    }
}
