//! The main job, as `milena demo` does it: on embedded nodes, on a real node, and on three real nodes of which one dies.
//!
//! The figures, on Kafka 4.3.1 and with an optimised program (five runs each, then one caller at rest):
//!
//! ```text
//! cargo test --release -p milena-cli --test demo -- --ignored --nocapture --test-threads 1
//! ```
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

#[path = "../../tests/support/mod.rs"]
mod support;

use support::kafka::{self, Cluster, NEWEST, available, shared};

const RUNS: usize = 5;

fn start(args: &[&str]) -> Child {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_milena"));
    demo.arg("demo").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    demo.spawn().unwrap()
}

/// The number behind this word, or a few words, at the beginning of a line.
fn number(said: &str, name: &str) -> Option<usize> {
    let line = said.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().find_map(|word| word.parse().ok())
}

/// Every call was answered, as the program says and as its exit code says.
fn answered(output: Output, calls: usize) -> String {
    let (said, reason) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{reason}");
    let counts = ["sent", "answered", "lost"].map(|name| number(&said, name));
    assert_eq!(counts, [Some(calls), Some(calls), Some(0)], "{said}");
    said.into_owned()
}

fn demo(args: &[&str], calls: usize) -> String {
    let count = calls.to_string();
    answered(start(&[args, &["--calls", &count]].concat()).wait_with_output().unwrap(), calls)
}

/// The first lines in one.
fn figures(said: &str) -> String {
    let lines = said.lines().take(7).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join(", ")
}

#[test]
fn every_call_is_answered_while_callers_die_in_their_group_and_embedded_nodes_stop() {
    let said = demo(&[], 5_000);
    assert!(number(&said, "killed") > Some(0), "{said}");
    assert!(number(&said, "group") > Some(1), "{said}");
}

#[test]
fn every_call_is_answered_by_real_kafka() {
    let Some(kafka) = shared(NEWEST, 1) else { return };
    demo(&["--bootstrap", &kafka.bootstrap()], 2_000);
}

#[test]
#[ignore = "figures"]
fn figures_on_one_real_node() {
    if !available() {
        return;
    }
    let kafka = Cluster::start(NEWEST, 1).unwrap();
    let address = kafka.bootstrap();
    for run in 1..=RUNS {
        println!("one node, run {run}: {}", figures(&demo(&["--bootstrap", &address], 20_000)));
    }
    for (concurrency, calls) in [("1", 5_000), ("64", 20_000), ("256", 50_000)] {
        for run in 1..=RUNS {
            let calm = ["--bootstrap", &address, "--calm", "--callers", "1", "--concurrency", concurrency];
            println!(
                "one node at rest, {concurrency} at a time, run {run}: {}",
                figures(&demo(&calm, calls))
            );
        }
    }
}

#[test]
#[ignore = "figures"]
fn figures_on_three_real_nodes_of_which_one_is_killed() {
    if !available() {
        return;
    }
    let kafka = Cluster::start(NEWEST, 3).unwrap();
    let faults = kafka.faults();
    for run in 1..=RUNS {
        let killed = run as i32 % 3 + 1;
        let child = start(&["--bootstrap", &kafka.bootstrap()]);
        kafka::let_pass(Duration::from_secs(3));
        faults.kill(killed);
        let said = answered(child.wait_with_output().unwrap(), 20_000);
        println!("three nodes, node {killed} killed, run {run}: {}", figures(&said));
        faults.restart(killed);
        faults.wait_until_healed();
    }
}
