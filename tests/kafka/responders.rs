//! Responders of one group on real Kafka: one comes, one closes, one dies, and every call is answered.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use milena::{Client, GroupProtocol, Request, Responder};
use tokio::task::JoinSet;

use crate::on_calm_kafka;
use crate::support::kafka::{NEWEST, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;

async fn echo(client: &Client, topic: &str, protocol: GroupProtocol) -> Responder {
    let handler = async |request: Request| request.value().to_vec();
    let responder = client.responder(topic).on_request(topic, handler).consumer(|consumer| {
        let consumer = consumer.group_protocol(protocol).session_timeout(Duration::from_secs(6));
        consumer
            .heartbeat_interval(Duration::from_millis(200))
            .auto_commit_interval(Duration::from_millis(200))
    });
    responder.start().await.unwrap()
}

fn wait_for_work(responder: &Responder) {
    let before = responder.metrics().answered;
    wait_for("an answer", PATIENCE, || match responder.metrics().answered {
        answered if answered > before => Ok(()),
        answered => Err(format!("{answered} answers")),
    });
}

#[test]
fn responders_of_one_group_come_close_and_die_and_every_call_is_answered() {
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
            let topic = &*kafka.topic(&format!("echo-{protocol:?}").to_lowercase(), PARTITIONS);
            let requester = client.requester().timeout(PATIENCE).build().await.unwrap();
            let enough = Arc::new(AtomicBool::new(false));
            let mut callers = JoinSet::new();
            for caller in 0..8 {
                let (requester, enough, topic) = (requester.clone(), enough.clone(), topic.to_owned());
                callers.spawn(async move {
                    let mut calls = 0;
                    while !enough.load(Relaxed) {
                        let value = format!("{caller}.{calls}");
                        let reply = requester.request(&topic, &value).partition(calls % PARTITIONS).await;
                        assert_eq!(reply.unwrap().text(), value);
                        calls += 1;
                    }
                    calls
                });
            }
            let first = echo(&client, topic, protocol).await;
            wait_for_work(&first);
            let second = echo(&client, topic, protocol).await;
            wait_for_work(&second);
            first.close().await;
            wait_for_work(&second);
            let third = echo(&client, topic, protocol).await;
            wait_for_work(&third);
            if protocol == GroupProtocol::Classic {
                // Its session ends before the calls do. With the other protocol that would take 45 s.
                drop(second);
            } else {
                second.close().await;
            }
            wait_for_work(&third);
            enough.store(true, Relaxed);
            let calls: i32 = callers.join_all().await.into_iter().sum();
            third.close().await;
            let committed = client.admin().group_offsets(topic).await.unwrap();
            let ends = client.consumer().build().await.unwrap();
            let ends = ends.end_offsets((0..PARTITIONS).map(|partition| (topic, partition))).await.unwrap();
            for (partition, end) in &ends {
                assert_eq!(
                    committed.get(partition).map(|committed| committed.offset),
                    Some(*end),
                    "{partition}"
                );
            }
            assert_eq!(ends.values().sum::<i64>(), i64::from(calls));
            println!("{protocol:?}: {calls} calls, {} replies came twice", requester.metrics().duplicate);
            requester.close().await;
        }
    });
}
