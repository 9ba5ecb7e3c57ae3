//! The harness itself: real clusters start, answer, lose nodes and heal. Beside it `serve`, a cluster for use by hand:
//!
//! ```text
//! MILENA_NODES=3 KAFKA_VERSION=4.3.1 cargo test --test kafka_cluster -- --ignored --nocapture serve
//! ```
//!
//! It prints the address and the process ids, writes them to `target/kafka-serve.txt`, and serves until standard input
//! closes or that file is removed.
mod support;

use std::io::{Read, Write};
use std::time::Duration;
use std::{env, fs, io, thread};

use support::kafka::{self, Cluster, TopicSpec};

#[test]
fn one_node_starts_and_makes_topics() {
    let Some(kafka) = kafka::shared(kafka::NEWEST, 1) else { return };
    let topic = kafka.topic("harness", 3);
    let topology = kafka.topology(&[&topic]).unwrap();
    assert_eq!(topology.nodes.len(), 1);
    assert_eq!(topology.topics[0].partitions.len(), 3);
    assert_eq!(kafka.leader(&topic, 2), 1);
}

#[test]
fn three_nodes_lose_one_and_heal() {
    let Some(kafka) = kafka::shared(kafka::NEWEST, 3) else { return };
    let faults = kafka.faults();
    kafka.create_topic(&TopicSpec { name: "led-by-two", assignment: &[&[2, 3, 1]], ..TopicSpec::default() });
    assert_eq!(kafka.leader("led-by-two", 0), 2);
    faults.kill(2);
    assert_eq!(kafka.running().len(), 2);
    kafka::wait_for("another leader", Duration::from_secs(60), || match kafka.leader("led-by-two", 0) {
        2 => Err("still node 2".into()),
        leader => Ok(leader),
    });
    faults.restart(2);
    faults.wait_until_healed();
    assert_eq!(kafka.running().len(), 3);
    kafka.move_leader("led-by-two", 0, 2);
    assert_eq!(kafka.leader("led-by-two", 0), 2);
}

#[test]
#[ignore = "runs until standard input closes or target/kafka-serve.txt is removed"]
fn serve() {
    let nodes = env::var("MILENA_NODES").map_or(1, |count| count.parse().unwrap());
    let version = env::var("KAFKA_VERSION").unwrap_or_else(|_| kafka::NEWEST.to_owned());
    let kafka = Cluster::start(&version, nodes).unwrap();
    let mut text = format!("{}\n", kafka.bootstrap());
    for (node, port, pid) in kafka.running() {
        text += &format!("node {node} port {port} pid {pid}\n");
    }
    let note = kafka::target_dir().join("kafka-serve.txt");
    fs::write(&note, &text).unwrap();
    io::stderr().write_all(text.as_bytes()).unwrap();
    let (closed, told) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    while note.exists() && told.recv_timeout(Duration::from_millis(200)).is_err() {}
    let _ = fs::remove_file(note);
}
