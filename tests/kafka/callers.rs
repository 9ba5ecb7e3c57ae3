//! Callers that ask without a pause while a node dies: every call is answered.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use milena::{Client, Request, Requester, Responder};
use tokio::task::JoinSet;

use crate::on_failing_kafka;
use crate::support::kafka::{NEWEST, TopicSpec, wait_for};

/// One for each reply partition.
const REQUESTERS: i32 = 4;

/// Tasks that ask by each requester, one call after the other.
const CALLERS: usize = 8;

/// Longer than a move of leaders takes.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn no_call_is_lost_when_a_node_dies() {
    on_failing_kafka(NEWEST, 3, async |kafka, faults, client| {
        let assignment: &[&[i32]] = &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[2, 1, 3]];
        for name in ["ask", "replies"] {
            kafka.create_topic(&TopicSpec { name, assignment, ..TopicSpec::default() });
        }
        let calls = Calls::start(&client, "ask", "replies").await;
        calls.wait_for(1000);
        faults.kill(2);
        let struck = Instant::now();
        wait_for("another leader", DEADLINE, || match kafka.leader("replies", 1) {
            2 => Err("still the dead node".to_owned()),
            _ => Ok(()),
        });
        let moved = struck.elapsed();
        calls.wait_for(calls.answered() + 1000);
        println!("another leader after {moved:?}, 1000 calls later after {:?}", struck.elapsed());
        println!("{} calls answered, none lost, after {:?}", calls.end().await, struck.elapsed());
    });
}

/// Callers that ask on until they are told to end.
struct Calls {
    answered: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    callers: JoinSet<()>,
    responders: Vec<Responder>,
}

impl Calls {
    async fn start(client: &Client, ask: &str, replies: &str) -> Self {
        let mut responders = Vec::new();
        for index in 0..2 {
            let echo =
                |request: Request| async move { format!("re: {}", String::from_utf8_lossy(request.value())) };
            let responder = client.responder("echoes").share(index, 2).on_request(ask, echo);
            responders.push(responder.start().await.unwrap());
        }
        let mut calls =
            Self { answered: Arc::default(), enough: Arc::default(), callers: JoinSet::new(), responders };
        for partition in 0..REQUESTERS {
            let requester =
                client.requester().reply_topic(replies).reply_partition(partition).timeout(DEADLINE);
            let requester = requester.build().await.unwrap();
            for caller in 0..CALLERS {
                let name = format!("{partition}.{caller}");
                let (answered, enough) = (calls.answered.clone(), calls.enough.clone());
                calls.callers.spawn(call_on(requester.clone(), ask.to_owned(), name, answered, enough));
            }
        }
        calls
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn wait_for(&self, count: usize) {
        wait_for("answers", DEADLINE, || match self.answered() {
            answered if answered < count => Err(format!("{answered} of {count}")),
            _ => Ok(()),
        });
    }

    /// Waits until each caller has its last answer.
    async fn end(mut self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        for responder in self.responders.drain(..) {
            responder.close().await;
        }
        self.answered()
    }
}

async fn call_on(
    requester: Requester,
    ask: String,
    name: String,
    answered: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
) {
    for number in 0.. {
        let question = format!("{name}.{number}");
        let reply =
            requester.request(&ask, &question).await.unwrap_or_else(|error| panic!("{question}: {error}"));
        assert_eq!(reply.text(), format!("re: {question}"));
        answered.fetch_add(1, Ordering::Relaxed);
        if enough.load(Ordering::Relaxed) {
            return;
        }
    }
}
