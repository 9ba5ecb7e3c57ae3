//! They ask, we answer.
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::on_kafka;
use crate::ours;
use crate::partner::Partner;
use crate::side::Side;
use crate::support::kafka::Cluster;
use crate::verbs::{ASKED, Outcome};

const LONG: Duration = Duration::from_secs(30);

/// How Spring's callers find their replies: on a fixed partition or by a group of their own, with an id in bytes or as text.
const SPRING: [(&str, Option<&str>); 3] = [("binary", Some("2")), ("text", Some("1")), ("binary", None)];

pub(crate) fn from(kafka: &Cluster, runtime: &Runtime, partner: Partner, calls: usize) {
    let topic = kafka.topic("answered", 4);
    let replies = format!("{topic}.reply");
    kafka.create_topic(&crate::kafka::TopicSpec {
        name: &replies,
        partitions: 4,
        replication: 1,
        ..Default::default()
    });
    let responder = runtime.block_on(ours::responder(kafka, &topic));
    let manners: &[_] = if partner.is_nest() { &[("", None)] } else { &SPRING };
    // Started all at once: the start of a JVM takes longer than its calls.
    let callers = manners.iter().filter_map(|(ids, partition)| {
        let mut args =
            vec![("role", "caller"), ("topics", &*topic), ("group", &topic), ("replies", &replies)];
        args.push(("ids", ids));
        args.extend(partition.map(|partition| ("partition", partition)));
        Side::begin(kafka, partner, &args)
    });
    for (mut caller, manner) in callers.collect::<Vec<_>>().into_iter().zip(manners) {
        caller.wait("ready", |event| (event["event"] == "ready").then_some(()));
        let mut expect = |text: &str, expected: &dyn Fn(usize) -> Outcome| {
            let outcomes = caller.call(calls, LONG, text);
            let expected: Vec<_> = (0..calls).map(expected).collect();
            assert_eq!(outcomes, expected, "{partner:?} {manner:?} asked {text:?}");
        };
        for (text, expected) in ASKED {
            expect(text, &expected);
        }
        expect("null x", &|_| Outcome::null());
        for text in ["stream 3 x", "trickle 3 x"] {
            let items = |call: usize| {
                // Who waits for one reply gets the first. No null comes behind the others, though their end was not known yet.
                let count = if partner.is_nest() { 3 } else { 1 };
                let items = (0..count).map(|item| Some(format!("x-{call}.{item}"))).collect();
                Outcome { items, ..Outcome::default() }
            };
            expect(text, &items);
        }
        let error = |call: usize| match partner.is_nest() {
            // What its users see of the object that we send.
            true => format!("boom-{call}"),
            false => format!("{{\"status\":\"error\",\"message\":\"boom-{call}\"}}"),
        };
        expect("error boom", &|call| Outcome::error(error(call)));
        expect("echo after", &|call| Outcome::item(format!("after-{call}")));
        if let Some(partition) = manner.1 {
            runtime.block_on(beside(kafka, &topic, &replies, partition.parse().unwrap(), calls));
        }
    }
    let metrics = responder.metrics();
    assert_eq!((metrics.unanswerable, metrics.lost, metrics.unhandled), (0, 0, 0), "{metrics:?}");
    runtime.block_on(responder.close());
}

/// A requester of ours on the very partition of a caller of theirs: neither takes the other's replies for its own.
async fn beside(kafka: &Cluster, topic: &str, replies: &str, partition: i32, calls: usize) {
    let client = ours::client(kafka).await;
    let requester = client.requester().reply_topic(replies).reply_partition(partition);
    let requester = requester.build().await.unwrap();
    let outcomes = ours::call(&requester, topic, calls, LONG, "echo ours").await;
    let expected: Vec<_> = (0..calls).map(|call| Outcome::item(format!("ours-{call}"))).collect();
    assert_eq!(outcomes, expected);
    requester.close().await;
}

#[test]
fn we_answer_nestjs() {
    on_kafka(|kafka, runtime| from(kafka, runtime, Partner::Nest11, 20));
}

#[test]
fn we_answer_spring() {
    on_kafka(|kafka, runtime| from(kafka, runtime, Partner::Spring, 20));
}
