//! Every public future dropped at each of its await points: what its docs promise then holds, the next call works, and no task
//! and no connection is left. On one thread, in memory and with a paused clock, so that hanging nodes cost no time.
#![allow(clippy::async_yields_async, reason = "what is dropped later is handed over as it is")]
mod admin;
mod broker;
mod client;
mod closes;
mod connecting;
mod consumer;
mod crew;
mod dropped;
mod drops;
mod groups;
mod outside;
mod producer;
mod replies;
mod requester;
mod responder;
mod sockets;
mod stage;

use std::collections::BTreeSet;
use std::fs;

use dropped::{Stage, add, drop_at_each_await, faults};
use milena::broker::{Api, Broker, BrokerBuilder, Fault};
use milena::{Client, Record, Result};
use stage::{again, alive, builder, until, within};

/// A future that is not dropped anywhere here is found by name.
#[test]
fn no_public_future_is_forgotten() {
    let root = env!("CARGO_MANIFEST_DIR");
    let list = fs::read_to_string(format!("{root}/testdata/public-api.txt")).unwrap();
    let public: BTreeSet<&str> = list.lines().filter_map(future).collect();
    assert!(public.len() > 30, "the list is read wrongly: {public:?}");

    let files = fs::read_dir(format!("{root}/tests/cancellation")).unwrap();
    let texts: Vec<String> = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    // Each case begins with the name of what it drops.
    let cases = texts.iter().flat_map(|text| text.split("\"milena::").skip(1));
    let named: Vec<String> =
        cases.map(|case| format!("milena::{}", case.split('"').next().unwrap())).collect();
    let covered: BTreeSet<&str> =
        named.iter().map(String::as_str).filter(|name| !name.ends_with([':', '}'])).collect();

    let forgotten: Vec<_> = public.difference(&covered).collect();
    assert!(forgotten.is_empty(), "dropped nowhere in tests/cancellation: {forgotten:?}");
    let gone: Vec<_> = covered.difference(&public).collect();
    assert!(gone.is_empty(), "no public future has this name: {gone:?}");
}

/// The name of the future, function or type, that a line of the list is about.
fn future(line: &str) -> Option<&str> {
    let makes = |line: &str| {
        line.contains(") -> impl ") && !line.contains(") -> impl core::iter::")
            || line.contains(") -> core::pin::Pin<")
    };
    let name = match line.strip_prefix("pub async fn ") {
        Some(name) => name,
        None if line.starts_with("pub fn ") && makes(line) => line.strip_prefix("pub fn ")?,
        None if line.starts_with("impl") => {
            let of = ["::Future for ", "::IntoFuture for ", "::Stream for "];
            of.iter().find_map(|of| line.split_once(of))?.1
        }
        None => return None,
    };
    name.split(['(', '<']).next()
}
