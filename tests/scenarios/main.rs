//! The scenarios in which replies get lost elsewhere, on real Kafka, with callers and responders as processes of their own that are
//! started, drained, killed and stopped by signals. The log of the reply topic decides what should have become of each call.
//!
//! A share of them: `cargo test --test scenarios`. All, in their full length, with counts:
//!
//! ```text
//! cargo test --release --test scenarios -- --ignored --nocapture --test-threads 1
//! ```
//!
//! Some of one letter, or of several: `MILENA_SCENARIOS=L,R` before it. What each does stands in `scenes.rs`; in short:
//!
//! | | |
//! | --- | --- |
//! | A, B, C, D, M | callers come and leave, are killed, restarted, stopped; partitions are added |
//! | E, F, L | nodes are killed, a coordinator hangs, a leader takes over that has lost what the last one acknowledged |
//! | H, J, P, T | first calls, replies at the deadline, dropped calls, streams |
//! | I, S | responders are killed |
//! | K | replies are deleted under their readers |
//! | O | ten times as many calls as can be answered |
//! | R | connections that stay open and carry nothing |
//!
//! Scenarios G, the cold rebalance, and N, other people's programs, are in `tests/interop`; Q, clocks that are minutes apart, needs a
//! clock that can be set and is in the simulation of calls.
mod actor;
mod book;
mod links;
mod process;
mod scenes;
mod stage;

#[allow(dead_code, unused_imports, unreachable_pub, reason = "of its faults only some happen here")]
#[path = "../support/fault_proxy/mod.rs"]
mod fault_proxy;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use support::kafka;

const SECOND: Duration = Duration::from_secs(1);

/// Microseconds since 1970: what processes of one machine agree on.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("before 586000")
}
