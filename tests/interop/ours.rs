//! milena's side, with the same handlers and the same outcomes as the partners'.
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use milena::{Answer, Client, Error, ErrorReply, Refusal, Reply, Request, Requester, Responder, Status};
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
    client(kafka).await.responder("ours").on_request(topic, handler).start().await.unwrap()
}

async fn answer(request: Request, held: Arc<Semaphore>) -> Result<Answer, Refusal> {
    let text = std::str::from_utf8(request.value())?;
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    match verb {
        "echo" => Ok(Answer::new(rest.to_owned())),
        "upper" => Ok(Answer::new(rest.to_uppercase())),
        "null" => Ok(Answer::null()),
        "empty" => Ok(Answer::new("")),
        "slow" => {
            let (delay, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            tokio::time::sleep(Duration::from_millis(delay.parse()?)).await;
            Ok(Answer::new(rest.to_owned()))
        }
        "held" => {
            held.acquire().await?.forget();
            Ok(Answer::new(rest.to_owned()))
        }
        "error" => Err(Refusal::new(Status::NOT_FOUND, rest)),
        _ => Err(Refusal::new(Status::UNIMPLEMENTED, format!("no handler {verb}"))),
    }
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
