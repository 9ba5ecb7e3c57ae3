//! The cold rebalance: a caller that has never had a reply waits for its first while its group is in a rebalance that a silent member
//! holds open. NestJS keeps its partition and loses the reply: nothing is committed, so that it goes on from the end. We must not.
use std::sync::Arc;
use std::time::Duration;

use milena::{Client, Dialect, ReplyAllocator, ReplyGroup};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::on_kafka;
use crate::ours::{call, client, responder_that_holds};
use crate::partner::Partner;
use crate::side::Side;
use crate::support::kafka::{Cluster, TopicSpec, wait_for};
use crate::verbs::Outcome;

/// Long enough for the rebalance, and for the reply if it were still to come.
const LIMIT: Duration = Duration::from_secs(15);

/// How NestJS's call and both of ours ended; None without NestJS.
fn rebalance(kafka: &Cluster, runtime: &Runtime) -> Option<(Vec<Outcome>, Vec<Outcome>)> {
    let topic = kafka.topic("cold", 1);
    let replies = format!("{topic}.reply");
    kafka.create_topic(&TopicSpec { name: &replies, partitions: 4, replication: 1, ..Default::default() });
    let args = [("role", "caller"), ("topics", &*topic), ("group", &topic)];
    let told = [&args[..], &[("join", "told")]].concat();
    let mut waiting = Side::begin(kafka, Partner::Nest11, &args)?;
    let mut silent = Side::begin(kafka, Partner::Nest11, &args)?;
    let mut joining = Side::begin(kafka, Partner::Nest11, &told)?;
    joining.wait("loading", |event| (event["event"] == "loaded").then_some(()));
    for side in [&mut waiting, &mut silent] {
        side.wait("ready", |event| (event["event"] == "ready").then_some(()));
    }
    // One of ours is a member as well, the other reads the very partition that NestJS's caller has.
    let requester = |client: Client| client.requester().dialect(Dialect::Nest).request_topics([&*topic]);
    let member = runtime.block_on(async {
        let group = ReplyGroup::new(&*topic).share(false).heartbeat_interval(Duration::from_millis(300));
        let requester = requester(client(kafka).await).allocator(ReplyAllocator::nest_group(group));
        requester.build().await.expect("a member")
    });
    wait_for("a group of three", LIMIT, || {
        let group = kafka.group(&format!("{topic}-client"), true).map_err(|error| error.to_string())?;
        (group.state == "Stable" && group.members.len() == 3).then_some(()).ok_or(format!("{group:?}"))
    });
    let home = waiting.home().expect("a partition for replies");

    let held = Arc::new(Semaphore::new(0));
    let responder = runtime.block_on(responder_that_holds(kafka, &topic, held.clone()));
    let beside = runtime.block_on(async {
        let requester = requester(client(kafka).await).reply_partition(home as i32);
        requester.build().await.expect("a requester")
    });
    let ours = [member, beside].map(|requester| {
        let topic = topic.clone();
        runtime.spawn(async move { call(&requester, &topic, 1, LIMIT, "held ours").await })
    });
    waiting.forget(&["rebalancing"]);
    waiting.begin_calls(1, LIMIT, "held theirs");
    silent.process.signal("STOP");
    joining.process.tell("join");
    waiting.wait("a rebalance", |event| (event["event"] == "rebalancing").then_some(()));
    // The replies are in the log before the rebalance can end.
    held.add_permits(3);
    wait_for("replies in the log", LIMIT, || match responder.metrics().answered {
        3 => Ok(()),
        answered => Err(format!("{answered} replies")),
    });
    silent.process.signal("CONT");
    let ours = ours.map(|ours| runtime.block_on(ours).expect("a call of ours"));
    let outcomes = (waiting.finish_calls(), ours.concat());
    // It has kept its partition, and still lost what came there.
    assert_eq!(waiting.home(), Some(home));
    runtime.block_on(responder.close());
    Some(outcomes)
}

/// NestJS loses its reply, neither of ours does.
pub(crate) fn costs_only_them(kafka: &Cluster, runtime: &Runtime) {
    if let Some((theirs, ours)) = rebalance(kafka, runtime) {
        assert_eq!(ours, [Outcome::item("ours-0"), Outcome::item("ours-0")]);
        assert_eq!(theirs, [Outcome::lost()], "the control: if NestJS has its reply, this shows nothing");
    }
}

#[test]
fn a_cold_rebalance_costs_nestjs_its_reply_and_us_nothing() {
    on_kafka(costs_only_them);
}
