//! A live group of NestJS clients in which requesters of ours choose their reply partitions, too; it grows from two to six members and shrinks
//! to two again, while ours make calls all the time.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use milena::{Client, Dialect, ReplyAllocator, ReplyGroup, Requester, Responder};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::on_kafka;
use crate::ours::{call, responder};
use crate::partner::Partner;
use crate::side::Side;
use crate::support::kafka::{Cluster, TopicSpec, wait_for};
use crate::verbs::Outcome;

/// More than members, so that some have several, and fewer than twice as many.
const PARTITIONS: i32 = 8;
/// An idle NestJS client notices a rebalance when its poll of five seconds is over.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a call of ours, whatever the group does meanwhile: each of its rebalances is longer.
const LIMIT: Duration = Duration::from_secs(3);

/// A requester of ours that makes one call after the other until it is told to stop.
struct Own {
    requester: Requester,
    stop: Arc<AtomicBool>,
    calls: JoinHandle<Vec<Outcome>>,
}

struct Scene<'a> {
    kafka: &'a Cluster,
    runtime: &'a Runtime,
    topic: String,
    own: BTreeMap<String, Own>,
    /// By the client id that NestJS makes of its name.
    theirs: BTreeMap<String, Side>,
    calls: usize,
    _responder: Responder,
}

impl<'a> Scene<'a> {
    fn new(kafka: &'a Cluster, runtime: &'a Runtime) -> Self {
        let topic = kafka.topic("shared", 4);
        let replies = format!("{topic}.reply");
        kafka.create_topic(&TopicSpec {
            name: &replies,
            partitions: PARTITIONS,
            replication: 1,
            ..Default::default()
        });
        let _responder = runtime.block_on(responder(kafka, &topic));
        let (own, theirs) = (BTreeMap::new(), BTreeMap::new());
        Self { kafka, runtime, topic, own, theirs, calls: 0, _responder }
    }

    /// One of ours joins. Its calls begin when the group has given it a partition.
    fn join(&mut self, name: &str) {
        let group = ReplyGroup::new(&*self.topic).share(false).heartbeat_interval(Duration::from_millis(300));
        let requester = self.runtime.block_on(async {
            let client = Client::builder().client_id(name).bootstrap(&self.kafka.bootstrap()).unwrap();
            let requester = client.build().await.unwrap().requester().dialect(Dialect::Nest);
            let requester = requester.request_topics([&*self.topic]);
            requester.allocator(ReplyAllocator::nest_group(group)).build().await.unwrap()
        });
        let stop = Arc::<AtomicBool>::default();
        let calls = self.runtime.spawn({
            let (requester, topic, stop) = (requester.clone(), self.topic.clone(), stop.clone());
            async move {
                let mut outcomes = Vec::new();
                while !stop.load(Relaxed) {
                    outcomes.extend(call(&requester, &topic, 1, LIMIT, "slow 5 own").await);
                }
                outcomes
            }
        });
        self.own.insert(name.to_owned(), Own { requester, stop, calls });
    }

    /// This one of ours leaves. All of its calls were answered.
    fn leave(&mut self, name: &str) {
        let own = self.own.remove(name).expect("one of ours");
        own.stop.store(true, Relaxed);
        let outcomes = self.runtime.block_on(own.calls).expect("no panic");
        let wrong: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Outcome::item("own-0")).collect();
        assert!(wrong.is_empty(), "{name}: {} of {} calls: {wrong:?}", wrong.len(), outcomes.len());
        self.calls += outcomes.len();
        self.runtime.block_on(own.requester.close());
    }

    /// So many NestJS clients join, all at once, which is over when they are ready.
    fn join_theirs(&mut self, count: usize) -> bool {
        let args = [("role", "caller"), ("topics", &*self.topic), ("group", &self.topic)];
        let sides: Vec<_> =
            (0..count).filter_map(|_| Side::begin(self.kafka, Partner::Nest11, &args)).collect();
        let came = sides.len() == count;
        for mut side in sides {
            side.wait("ready", |event| (event["event"] == "ready").then_some(()));
            self.theirs.insert(format!("{}-client", side.name), side);
        }
        came
    }

    /// This one of theirs leaves.
    fn leave_theirs(&mut self, name: &str) {
        let mut side = self.theirs.remove(name).expect("one of theirs");
        side.process.ask_to_end();
        side.wait("its end", |event| (event["event"] == "closed").then_some(()));
    }

    /// Where the replies of each member go, once the group is at rest: nobody has another's, and everybody's calls are answered.
    fn rest(&mut self, when: &str) -> BTreeMap<String, i32> {
        let members = self.own.len() + self.theirs.len();
        let group = format!("{}-client", self.topic);
        let homes: BTreeMap<String, i32> = wait_for(when, PATIENCE, || {
            let group = self.kafka.group(&group, true).map_err(|error| error.to_string())?;
            let homes: BTreeMap<_, _> = group
                .members
                .iter()
                .filter_map(|(name, given)| {
                    Some((name.clone(), given.iter().map(|(_, partition)| *partition).min()?))
                })
                .collect();
            let at_rest = group.state == "Stable" && homes.len() == members;
            let theirs =
                |(name, side): (&String, &Side)| side.home() == homes.get(name).map(|home| (*home).into());
            let they_know = self.theirs.iter().all(theirs);
            (at_rest && they_know).then_some(homes).ok_or(format!("{members} members, {group:?}"))
        });
        let mut distinct: Vec<_> = homes.values().collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), members, "{when}: {homes:?}");
        for side in self.theirs.values_mut() {
            let expected: Vec<_> = (0..5).map(|call| Outcome::item(format!("theirs-{call}"))).collect();
            assert_eq!(side.call(5, PATIENCE, "echo theirs"), expected, "{when}: {}", side.name);
        }
        println!("{when}: {homes:?}");
        homes
    }
}

/// Who came first leads the group until it leaves.
fn scaled(kafka: &Cluster, runtime: &Runtime, we_lead: bool) {
    let mut scene = Scene::new(kafka, runtime);
    if we_lead {
        scene.join("own-1");
    }
    if !scene.join_theirs(1) {
        return;
    }
    let first_of_theirs = scene.theirs.keys().next().expect("one of theirs").clone();
    if !we_lead {
        scene.join("own-1");
    }
    let two = scene.rest("two members");

    scene.join("own-2");
    scene.join_theirs(2);
    scene.join("own-3");
    let six = scene.rest("six members");
    if we_lead {
        // NestJS's own rule may move a home when it leads; ours does not.
        assert!(two.iter().all(|(name, home)| six[name] == *home), "{two:?}, then {six:?}");
    }

    // The leader is among those that leave, so that another one takes over.
    let (stays, leaves) = if we_lead { ("own-2", "own-1") } else { ("own-1", "own-2") };
    let mut others = scene.theirs.keys().filter(|name| **name != first_of_theirs);
    let last = others.next_back().expect("more of theirs").clone();
    let keeps = if we_lead { first_of_theirs } else { last };
    for name in scene.theirs.keys().cloned().collect::<Vec<_>>() {
        if name != keeps {
            scene.leave_theirs(&name);
        }
    }
    scene.leave(leaves);
    scene.leave("own-3");
    scene.rest("two members again");
    scene.leave(stays);
    assert!(scene.calls > 100, "only {} calls of ours", scene.calls);
}

#[test]
fn a_mixed_group_led_by_us_grows_and_shrinks_while_we_call() {
    on_kafka(|kafka, runtime| scaled(kafka, runtime, true));
}

#[test]
fn a_mixed_group_led_by_nestjs_grows_and_shrinks_while_we_call() {
    on_kafka(|kafka, runtime| scaled(kafka, runtime, false));
}
