//! Hostile bytes for every decoder: good inputs, changed at random, under promise A1 (no panic, no abort, no loop, no more
//! memory than a fixed multiple of the bytes) and under what each decoder promises besides.
//!
//! A part of it with every `cargo test`, from another seed each time. For long, in a build with all assertions:
//!
//! ```text
//! MILENA_FUZZ_SECONDS=1800 cargo test --profile fuzz --test fuzz for_long -- --ignored --nocapture
//! ```
//!
//! `MILENA_FUZZ_SEED` chooses the seed, `MILENA_FUZZ_TARGET` one target. A finding says how to repeat it.
#![allow(unsafe_code, dead_code, unreachable_pub, missing_docs, clippy::type_complexity)]

#[path = "../support/allocations.rs"]
mod allocations;
mod client;
mod corpus;
mod engine;
mod mutate;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../../src/protocol"]
mod protocol {
    pub(crate) mod primitives;
    pub(crate) mod request;
    pub(crate) mod shape;
}
mod random;
mod targets;

use std::env;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use engine::{Figures, Watch};
use targets::{Target, targets};

/// With every `cargo test`.
const SHORT: Duration = Duration::from_secs(8);
/// When asked for.
const LONG: Duration = Duration::from_secs(60);

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn every_decoder_for_a_moment() {
    run(SHORT);
}

#[test]
#[ignore = "takes as long as it is told to: see above"]
fn every_decoder_for_long() {
    run(setting("MILENA_FUZZ_SECONDS").map_or(LONG, Duration::from_secs));
}

#[test]
#[ignore = "a finding says how to call it"]
fn one_input() {
    let name: String = setting("MILENA_FUZZ_TARGET").expect("MILENA_FUZZ_TARGET");
    let file: String = setting("MILENA_FUZZ_INPUT").expect("MILENA_FUZZ_INPUT");
    let target = targets().into_iter().find(|target| target.name == name).expect("no such target");
    let input = std::fs::read(file).unwrap();
    let decoder = &target.decoder;
    let bytes = bytes::Bytes::copy_from_slice(&input);
    // First without a net, for the backtrace.
    println!("decoded: {}", (decoder.decode)(&bytes));
    println!("held: {:?}", (decoder.check)(&bytes));
    if let Err(fault) = engine::attempt(&target, &input, Duration::ZERO) {
        panic!("{fault:?}");
    }
}

/// All targets, each on a thread of its own.
fn run(time: Duration) {
    let only: Option<String> = setting("MILENA_FUZZ_TARGET");
    let mut targets = targets();
    targets.retain(|target| only.as_deref().is_none_or(|only| only == target.name));
    let seed = setting("MILENA_FUZZ_SEED").unwrap_or_else(rand::random);
    println!("MILENA_FUZZ_SEED={seed}: {} targets for {time:?}", targets.len());
    engine::catch_panics();
    let (watch, end) = (Watch::new(targets.len()), Instant::now() + time);
    let figures: Vec<Figures> = thread::scope(|scope| {
        let (targets, watch) = (&targets, &watch);
        let threads: Vec<_> = targets
            .iter()
            .enumerate()
            .map(|(at, target)| scope.spawn(move || engine::run(target, seed, end, (watch, at))))
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::park_timeout(Duration::from_millis(100));
            watch.look(targets, seed);
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    tell(&targets, &figures);
}

/// Prints a table; fails if there are findings or a target decodes nothing, or nothing but good inputs.
fn tell(targets: &[Target], figures: &[Figures]) {
    println!(
        "{:<20} {:>12} {:>8} {:>9} {:>12} {:>10} {:>12}",
        "target", "inputs", "decoded", "multiple", "most bytes", "of allowed", "slowest"
    );
    let mut wrong = Vec::new();
    for (target, run) in targets.iter().zip(figures) {
        let share = run.decoded as f64 / run.inputs.max(1) as f64;
        println!(
            "{:<20} {:>12} {:>7.1}% {:>8.1}x {:>12} {:>9.0}% {:>12?}",
            target.name,
            run.inputs,
            100.0 * share,
            run.multiple,
            run.most,
            100.0 * run.share,
            run.slowest
        );
        if run.inputs > 500 && !(0.01..0.99).contains(&share) {
            wrong.push(format!(
                "{}: {share:.4} of its inputs are decoded, which tries too little",
                target.name
            ));
        }
        wrong.extend(run.findings.iter().cloned());
    }
    assert!(wrong.is_empty(), "{} findings\n{}", wrong.len(), wrong.join("\n"));
}
