//! milena on real Apache Kafka, judged by Kafka's own tools. Without Java or Maven each test says that it is skipped.
//!
//! One binary, so that its tests share their clusters.
#![allow(unreachable_pub, reason = "nothing here is public")]
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod callers;
mod calls;
mod codecs;
mod consume;
mod embedded;
mod faults;
mod groups;
mod idle;
mod legacy;
mod produce;
mod responders;
mod sample;
mod versions;

use std::time::Duration;

use milena::Client;
use support::kafka::{self, Cluster, Faults};

/// Longer than any test needs on a busy machine; a test that hangs fails here, with its name.
const LONGEST: Duration = Duration::from_secs(150);

/// Runs a test with the cluster that all tests of this release and size share, and a client of it. No test stops nodes
/// meanwhile.
fn on_calm_kafka(version: &'static str, nodes: usize, test: impl AsyncFnOnce(&Cluster, Client)) {
    let Some(kafka) = kafka::shared(version, nodes) else { return };
    let _calm = kafka.calm();
    run(async |client| test(kafka, client).await, kafka);
}

/// The same for a test that stops or pauses nodes: it is alone.
fn on_failing_kafka(
    version: &'static str,
    nodes: usize,
    test: impl AsyncFnOnce(&Cluster, &Faults<'_>, Client),
) {
    let Some(kafka) = kafka::shared(version, nodes) else { return };
    let faults = kafka.faults();
    run(async |client| test(kafka, &faults, client).await, kafka);
}

fn run(test: impl AsyncFnOnce(Client), kafka: &Cluster) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let test = async {
            let client = Client::connect(&kafka.bootstrap()).await.unwrap();
            test(client.clone()).await;
            client.close().await;
        };
        tokio::time::timeout(LONGEST, test).await.expect("the test hangs");
    });
}
