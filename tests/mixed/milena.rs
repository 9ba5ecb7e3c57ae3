//! A member of a group with milena, which this test is itself when it is started as a process with arguments. What it is told and
//! what it tells: tests/partners/README.md.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::time::Duration;

use milena::{Client, Consumer, ConsumerEvent, TopicPartition};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::history::now;
use crate::scene::HEARTBEAT;

/// The environment variable with the arguments, a line each: those on the command line are the test runner's.
pub(crate) const ARGUMENTS: &str = "MILENA_MEMBER";

#[test]
#[ignore = "does something only in a process that other tests start"]
fn is_a_member_when_started_as_a_process() {
    let Ok(given) = std::env::var(ARGUMENTS) else { return };
    tracing::subscriber::set_global_default(crate::log::Log).unwrap();
    println!(); // the test runner's line ends here
    let args = given.lines().filter_map(|line| line.split_once('=')).collect();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(read(args));
}

async fn read(args: HashMap<&str, &str>) {
    let millis = |name| Duration::from_millis(args[name].parse().unwrap());
    let builder = Client::builder().client_id(args["name"]).metadata_max_age(Duration::from_secs(5));
    let client = builder.bootstrap(args["bootstrap"]).unwrap().build().await.unwrap();
    let mut builder = client
        .consumer()
        .group(args["group"])
        .topics(args["topics"].split(','))
        .session_timeout(millis("session"))
        .heartbeat_interval(HEARTBEAT)
        .fetch_max_wait(Duration::from_millis(100))
        .enable_auto_commit(args["commit"] == "auto")
        .auto_commit_interval(Duration::from_millis(100))
        .set("partition.assignment.strategy", args["assignor"])
        .unwrap();
    if let Some(instance) = args.get("instance") {
        builder = builder.group_instance_id(*instance);
    }
    let consumer = builder.build().await.unwrap();
    let mut member = Member {
        consumer,
        by_itself: args["commit"] == "auto",
        hold: millis("hold"),
        owned: BTreeSet::new(),
        uncommitted: BTreeMap::new(),
    };
    let mut end = end_of_input();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            event = member.consumer.next_event() => match event {
                Ok(event) => member.handle(event.expect("the client is open")).await,
                Err(error) => {
                    tell("trouble", json!({"what": format!("next: {error}")}));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            _ = tick.tick() => member.commit().await,
            _ = &mut end => break,
        }
    }
    // Nothing follows on the last batch that would say that it is finished.
    member.by_itself = false;
    member.commit().await;
    // From here on nothing is read; others get it when the group has heard of it.
    tell("revoked", json!({"partitions": member.owned.iter().map(name).collect::<Vec<_>>()}));
    member.consumer.close().await;
    client.close().await;
    tell("closed", json!({}));
}

struct Member {
    consumer: Consumer,
    hold: Duration,
    /// The consumer commits by itself what is finished, as it does unless it is told not to.
    by_itself: bool,
    owned: BTreeSet<TopicPartition>,
    uncommitted: BTreeMap<TopicPartition, i64>,
}

impl Member {
    async fn handle(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Batch(batch) => {
                let offsets: Vec<_> = batch.iter().map(|record| record.offset()).collect();
                tell("records", json!({"partition": name(batch.topic_partition()), "offsets": offsets}));
                self.uncommitted.insert(batch.topic_partition().clone(), batch.next_offset());
            }
            ConsumerEvent::Assigned(partitions) => {
                self.owned.extend(partitions.iter().cloned());
                tell_partitions("assigned", &partitions);
            }
            ConsumerEvent::Revoked(partitions) => {
                tokio::time::sleep(self.hold).await;
                self.commit().await;
                self.give_up("revoked", &partitions);
            }
            ConsumerEvent::Lost(partitions) => self.give_up("lost", &partitions),
            other => tell("trouble", json!({"what": format!("{other:?}")})),
        }
    }

    fn give_up(&mut self, how: &str, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.uncommitted.remove(partition);
        }
        tell_partitions(how, partitions);
    }

    /// What cannot be committed now stays, for the next attempt.
    async fn commit(&mut self) {
        if self.by_itself || self.uncommitted.is_empty() {
            return;
        }
        match self.consumer.commit().await {
            Ok(()) => {
                let offsets: Vec<_> = self
                    .uncommitted
                    .iter()
                    .map(|(partition, offset)| json!([partition.topic(), partition.partition(), offset]))
                    .collect();
                self.uncommitted.clear();
                tell("committed", json!({"offsets": offsets}));
            }
            Err(error) => tell("trouble", json!({"what": format!("commit: {error}")})),
        }
    }
}

fn end_of_input() -> oneshot::Receiver<()> {
    let (end, ends) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = end.send(());
    });
    ends
}

fn tell_partitions(event: &str, partitions: &[TopicPartition]) {
    if !partitions.is_empty() {
        tell(event, json!({"partitions": partitions.iter().map(name).collect::<Vec<_>>()}));
    }
}

fn tell(event: &str, mut more: Value) {
    more["at"] = json!(now());
    more["event"] = json!(event);
    println!("{more}");
}

fn name(partition: &TopicPartition) -> Value {
    json!([partition.topic(), partition.partition()])
}
