//! Calls: every one is answered, also those that are on their way while the leader of their reply partition dies.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use milena::{Client, Dialect, Request, Requester};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::kafka::{NEWEST, TopicSpec, wait_for};
use crate::{on_calm_kafka, on_failing_kafka};

const PATIENCE: Duration = Duration::from_secs(120);

async fn requester(client: &Client, replies: &str) -> Requester {
    client.requester().reply_topic(replies).reply_partition(0).timeout(PATIENCE).build().await.unwrap()
}

#[test]
fn calls_in_every_dialect_are_answered() {
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        let topic = kafka.topic("echo", 2);
        let echo = async |request: Request| request.value().to_vec();
        let responder = client.responder("echoes").on_request(&topic, echo).start().await.unwrap();
        for dialect in [Dialect::Auto, Dialect::Native, Dialect::Nest, Dialect::Spring, Dialect::Quarkus] {
            // Its reply topic is not there yet.
            let requester = client.requester().dialect(dialect).timeout(PATIENCE).build().await.unwrap();
            for number in 0..20 {
                let value = format!("{dialect:?} {number}");
                assert_eq!(requester.request(&topic, &value).await.unwrap().text(), value);
            }
            requester.close().await;
        }
        responder.close().await;
    });
}

#[test]
fn replies_survive_the_death_of_their_leader() {
    on_failing_kafka(NEWEST, 3, async |kafka, faults, client| {
        let (requests, replies) = ("calls", "calls.replies");
        kafka.create_topic(&TopicSpec {
            name: requests,
            assignment: &[&[1, 2, 3], &[2, 3, 1]],
            ..TopicSpec::default()
        });
        kafka.create_topic(&TopicSpec { name: replies, assignment: &[&[3, 1, 2]], ..TopicSpec::default() });
        let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let handler = {
            let (begun, gate) = (begun.clone(), gate.clone());
            move |request: Request| {
                let gate = gate.clone();
                begun.fetch_add(1, SeqCst);
                async move {
                    gate.acquire().await.unwrap().forget();
                    request.value().to_vec()
                }
            }
        };
        let responder = client.responder("gated").on_request(requests, handler).start().await.unwrap();
        let requester = requester(&client, replies).await;
        let mut calls = JoinSet::new();
        for number in 0..100 {
            let requester = requester.clone();
            calls.spawn(async move {
                let value = number.to_string();
                assert_eq!(requester.request(requests, &value).await.unwrap().text(), value);
            });
        }
        wait_for("every call at its handler", PATIENCE, || match begun.load(SeqCst) {
            100 => Ok(()),
            count => Err(format!("{count} of 100")),
        });
        let leader = kafka.leader(replies, 0);
        faults.kill(leader);
        // Half of the replies while nobody leads, half when another node does.
        gate.add_permits(50);
        wait_for("another leader", PATIENCE, || match kafka.leader(replies, 0) {
            now if now == leader => Err(format!("still {now}")),
            _ => Ok(()),
        });
        gate.add_permits(50);
        calls.join_all().await;
        assert_eq!(requester.metrics().answered, 100);
        requester.close().await;
        responder.close().await;
    });
}
