//! Request-reply with NestJS and Spring Kafka programs as they are, in both directions, on one real Kafka: who asks and who answers is a
//! process of its own, kept under tests/partners. One whose runtime is not here is left out, which is said.
//!
//! Every dialect and every handler with NestJS 11 and Spring is a test, as are strange requests, the cold rebalance in which NestJS loses
//! its reply, and a group of NestJS clients and of requesters of ours that grows and shrinks. NestJS 12, more calls and more rounds are a command:
//!
//! ```text
//! cargo test --test interop all_of_it -- --ignored --nocapture
//! ```
#![allow(unreachable_pub, reason = "nothing here is public")]
#[path = "../support/mod.rs"]
mod support;

mod answers;
mod asks;
mod cold;
mod group;
mod ours;
mod partner;
mod side;
mod strange;
mod verbs;

use support::kafka::{self, Cluster, NEWEST};

/// Shows a scene on the one node that all tests share, with milena's runtime beside it.
fn on_kafka(show: impl FnOnce(&Cluster, &tokio::runtime::Runtime)) {
    let Some(kafka) = kafka::shared(NEWEST, 1) else { return };
    let _calm = kafka.calm();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    show(kafka, &runtime.expect("a runtime"));
}

/// What takes longer than CI has: NestJS 12, a thousand calls each way, ten cold rebalances.
#[test]
#[ignore = "takes ten minutes"]
fn all_of_it() {
    on_kafka(|kafka, runtime| {
        for partner in partner::Partner::ALL {
            asks::to(kafka, runtime, partner, 1000);
            answers::from(kafka, runtime, partner, 1000);
        }
        (0..10).for_each(|_| cold::costs_only_them(kafka, runtime));
    });
}
