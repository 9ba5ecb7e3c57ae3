//! The embedded broker answers as Apache Kafka does: one script of raw requests is played to both, in every version
//! that both know, and the answers are compared, but for ids, addresses and times that are each cluster's own.
mod groups;
mod java;
mod reading;
mod script;
mod topics;
mod wire;
mod writing;

use groups::moving::{Moves, partition_of};
use milena::broker::Broker;

use crate::support::kafka;

#[test]
fn the_embedded_broker_answers_as_kafka_does() {
    let Some(kafka) = kafka::shared(kafka::NEWEST, 1) else { return };
    let _calm = kafka.calm();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // As the settings of the real one.
    let broker = Broker::builder()
        .auto_create_topics(false)
        .config("group.min.session.timeout.ms", "1000")
        .config("group.consumer.session.timeout.ms", "6000")
        .config("group.consumer.heartbeat.interval.ms", "300");
    let broker = runtime.block_on(broker.start()).unwrap();
    let (embedded, real) =
        both(|| script::play(port(&broker.address())), || script::play(port(&kafka.bootstrap())));
    compare(&real, &embedded);
    assert!(real.len() > 500, "{} steps", real.len());
}

#[test]
fn coordinators_move_as_they_do_in_kafka() {
    let Some(kafka) = kafka::shared(kafka::NEWEST, 3) else { return };
    let _alone = kafka.faults();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::builder().nodes(3).start()).unwrap();
    let topic = kafka.topic("embedded-moves", 4);
    broker.create_topic(&topic, 4).unwrap();
    let ports = |addresses: &str| addresses.split(',').map(port).collect::<Vec<u16>>();
    let (embedded, real) = both(
        || {
            Moves::play(ports(&broker.address()), &topic, &|group, to| {
                broker.move_coordinator(group, to).unwrap();
            })
        },
        || {
            Moves::play(ports(&kafka.bootstrap()), &topic, &|group, to| {
                kafka.move_leader("__consumer_offsets", partition_of(group), to);
            })
        },
    );
    compare(&real, &embedded);
    assert!(real.len() > 25, "{} steps", real.len());
}

/// Both at once, since much of it is waiting.
fn both<T: Send>(one: impl FnOnce() -> T + Send, other: impl FnOnce() -> T) -> (T, T) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap(), other)
    })
}

fn port(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap()
}

fn compare(real: &[String], embedded: &[String]) {
    let differences: Vec<_> = real
        .iter()
        .zip(embedded)
        .filter(|(real, embedded)| real != embedded)
        .map(|(real, embedded)| format!("kafka:    {real}\nembedded: {embedded}"))
        .collect();
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    assert_eq!(real.len(), embedded.len(), "steps");
}
