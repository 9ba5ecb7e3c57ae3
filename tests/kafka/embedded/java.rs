//! Java's own consumers and tools on the embedded broker's groups.
use milena::Record;
use milena::broker::{Api, Broker};
use std::process::{Child, Stdio};

use crate::LONGEST;
use crate::support::kafka;

const RECORDS: usize = 20;

fn broker() -> (tokio::runtime::Runtime, Broker) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = Broker::builder()
        .nodes(3)
        .config("group.consumer.session.timeout.ms", "3000")
        .config("group.consumer.heartbeat.interval.ms", "200");
    let broker = runtime.block_on(broker.start()).unwrap();
    broker.create_topic("orders", 4).unwrap();
    for at in 0..RECORDS {
        let value = format!("order {at}");
        broker.append("orders", at as i32 % 4, &[Record::value(value.as_str())]).unwrap();
    }
    (runtime, broker)
}

/// The lines that a tool prints, sorted.
fn lines(printed: &str) -> Vec<&str> {
    let mut lines: Vec<_> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.sort();
    lines
}

fn consumes(protocol: &str, more: &[&str]) {
    let Some(kafka) = kafka::shared(kafka::NEWEST, 1) else { return };
    let (runtime, broker) = broker();
    let address = broker.address();
    let setting = format!("group.protocol={protocol}");
    let mut args = vec!["--bootstrap-server", &*address, "--group", "billing", "--max-messages", "20"];
    args.extend(["--command-property", &setting, "--command-property", "auto.offset.reset=earliest"]);
    args.extend(["--timeout-ms", "60000"]);
    args.extend(more);
    let printed = kafka.tool("ConsoleConsumer", &args, &[]);
    let expected: Vec<String> = (0..RECORDS).map(|at| format!("order {at}")).collect();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected.sort();
    assert_eq!(lines(&printed), expected);
    let asked = |api| broker.requests(api) > 0;
    let used = (asked(Api::JOIN_GROUP), asked(Api::CONSUMER_GROUP_HEARTBEAT));
    assert_eq!(used, (protocol == "classic", protocol == "consumer"));
    // It has left, and committed what it read.
    let group = broker.group("billing").unwrap();
    assert_eq!((group.state(), group.members().len()), ("Empty", 0));
    let committed: Vec<_> = group.offsets().values().map(|committed| committed.offset).collect();
    assert_eq!(committed, [5; 4]);

    let tool = |args: &[&str]| {
        let mut all = vec!["--bootstrap-server", &*address];
        all.extend(args);
        kafka.tool("ConsumerGroupCommand", &all, &[])
    };
    assert_eq!(lines(&tool(&["--list"])), ["billing"]);
    let described = tool(&["--describe", "--group", "billing", "--offsets"]);
    let lag = |line: &&str| line.starts_with("billing") && line.split_whitespace().nth(5) == Some("0");
    assert_eq!(described.lines().filter(lag).count(), 4, "{described}");
    let state = tool(&["--describe", "--group", "billing", "--state"]);
    assert!(state.contains("Empty"), "{state}");
    tool(&["--reset-offsets", "--to-offset", "2", "--group", "billing", "--topic", "orders:1", "--execute"]);
    assert_eq!(broker.group("billing").unwrap().committed("orders", 1).unwrap().offset, 2);
    tool(&["--delete-offsets", "--group", "billing", "--topic", "orders:1"]);
    assert_eq!(broker.group("billing").unwrap().committed("orders", 1), None);
    tool(&["--delete", "--group", "billing"]);
    assert_eq!(broker.group("billing"), None);
    drop((broker, runtime));
}

#[test]
fn a_java_consumer_of_the_classic_protocol() {
    consumes("classic", &["--topic", "orders"]);
}

#[test]
fn a_java_consumer_of_the_consumer_protocol() {
    consumes("consumer", &["--topic", "orders"]);
}

#[test]
fn a_java_consumer_with_a_pattern() {
    consumes("consumer", &["--include", "ord.*"]);
}

/// A console consumer in the background, killed when dropped.
struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn member(kafka: &kafka::Cluster, address: &str, settings: &[&str]) -> Member {
    let mut java = kafka.release().java(&kafka.release().tool("ConsoleConsumer"));
    java.args(["--bootstrap-server", address, "--group", "billing", "--topic", "orders"]);
    settings.iter().for_each(|setting| {
        java.args(["--command-property", setting]);
    });
    Member(java.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Waits until a group is stable, with so many partitions for each of its members.
fn until(broker: &Broker, what: &str, loads: &[usize]) {
    kafka::wait_for(what, LONGEST, || {
        let group = broker.group("billing").ok_or("none yet")?;
        let mut found: Vec<_> = group.members().iter().map(|member| member.assignment().len()).collect();
        found.sort();
        match group.state() == "Stable" && found == loads {
            true => Ok(()),
            false => Err(format!("{} {found:?}", group.state())),
        }
    });
}

fn shares(settings: &[&str]) {
    let Some(kafka) = kafka::shared(kafka::NEWEST, 1) else { return };
    let (_runtime, broker) = broker();
    let address = broker.address();
    let _first = member(kafka, &address, settings);
    until(&broker, "one member", &[4]);
    let second = member(kafka, &address, settings);
    until(&broker, "a second member", &[2, 2]);
    // A killed member is missed after its session, a coordinator that moves is found again.
    drop(second);
    let node = broker.coordinator("billing").unwrap();
    broker.move_coordinator("billing", node % 3 + 1).unwrap();
    until(&broker, "a killed member to be missed", &[4]);
    let fetched = broker.requests(Api::OFFSET_FETCH);
    let third = member(kafka, &address, settings);
    until(&broker, "a third member", &[2, 2]);
    if settings.contains(&"group.protocol=consumer") {
        // Java gives up if it is unknown at the moment when it asks for its offsets, and that moment cannot be told from here.
        return;
    }
    // One whose session is over joins again, once it knows its offsets.
    kafka::wait_for("its offsets", LONGEST, || match broker.requests(Api::OFFSET_FETCH) > fetched {
        true => Ok(()),
        false => Err("not yet".to_owned()),
    });
    let leaving = broker.group("billing").unwrap().members()[1].id().to_owned();
    broker.expire_member("billing", &leaving).unwrap();
    until(&broker, "a member whose session was over", &[2, 2]);
    drop(third);
}

#[test]
fn java_members_of_the_classic_protocol_share_a_group() {
    shares(&["group.protocol=classic", "session.timeout.ms=6000", "heartbeat.interval.ms=200"]);
}

#[test]
fn java_members_that_are_cooperative_share_a_group() {
    shares(&[
        "group.protocol=classic",
        "session.timeout.ms=6000",
        "heartbeat.interval.ms=200",
        "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
    ]);
}

#[test]
fn java_members_of_the_consumer_protocol_share_a_group() {
    shares(&["group.protocol=consumer"]);
}
