//! Three real nodes that are killed, paused and robbed of their leaderships, behind links that are cut, slowed, held and
//! refused. Numbered records are written and read meanwhile, and in the end the log is compared, record by record, with what
//! everybody was told.
//!
//! Two minutes of it are a test; as many as wanted are a command:
//!
//! ```text
//! MILENA_CHAOS_MINUTES=30 cargo test --release --test chaos -- --ignored --nocapture
//! ```
//!
//! `MILENA_CHAOS_SEED` repeats a schedule of faults. What they hit is up to the machine.
#![allow(unreachable_pub, reason = "nothing here is public")]
#[path = "../support/fault_proxy/mod.rs"]
mod fault_proxy;
#[path = "../support/mod.rs"]
mod support;

mod history;
mod numbered;
mod places;
mod progress;
mod proxy;
mod reader;
mod report;
mod schedule;
mod storm;
mod verdict;
mod writer;

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milena::Client;
use tokio::sync::watch;

use fault_proxy::FaultProxy;
use history::History;
use progress::Progress;
use report::Report;
use storm::Events;
use support::kafka::{self, Cluster};
use writer::{Route, Writer};

#[test]
fn two_minutes_of_chaos_cost_no_record_no_order_and_no_delivery() {
    chaos(2.0, "MILENA_CHAOS_SEED={seed} cargo test --test chaos two_minutes");
}

#[test]
#[ignore = "takes MILENA_CHAOS_MINUTES, 30 unless it is set"]
fn chaos_for_as_long_as_wanted() {
    let minutes = env::var("MILENA_CHAOS_MINUTES").map_or(30.0, |minutes| minutes.parse().expect("minutes"));
    chaos(
        minutes,
        "MILENA_CHAOS_SEED={seed} MILENA_CHAOS_MINUTES={minutes} cargo test --release --test chaos -- --ignored --nocapture",
    );
}

fn chaos(minutes: f64, command: &str) {
    if !kafka::available() {
        return;
    }
    let seed = match env::var("MILENA_CHAOS_SEED") {
        Ok(seed) => seed.parse().expect("MILENA_CHAOS_SEED is a number"),
        Err(_) => rand::random_range(0..1_000_000),
    };
    let command = command.replace("{seed}", &seed.to_string()).replace("{minutes}", &minutes.to_string());
    println!("to repeat the schedule: {command}");
    let kafka = Cluster::start(kafka::NEWEST, places::NODES).unwrap_or_else(|error| panic!("Kafka: {error}"));
    places::create(&kafka);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let good = runtime.block_on(weather(&kafka, seed, Duration::from_secs_f64(minutes * 60.0)));
    assert!(good, "promises were broken; the same schedule again: {command}");
}

/// Writes and reads while everything happens, then compares. Whether all promises were kept.
async fn weather(kafka: &Cluster, seed: u64, time: Duration) -> bool {
    let ports = kafka.ports();
    let own = kafka::free_ports(ports.len()).expect("free ports");
    let proxy =
        Arc::new(FaultProxy::start(ports.into_iter().zip(own), seed).await.expect("the proxy listens"));
    let patient = client(kafka, Some(&proxy), 10).await;
    let brisk = client(kafka, Some(&proxy), 2).await;
    let reading = client(kafka, Some(&proxy), 5).await;
    let direct = client(kafka, None, 30).await;

    let names: Vec<_> = writer::KINDS.iter().map(|kind| kind.name).collect();
    let progress = Arc::new(Progress::new(&names, &reader::NAMES));
    let events = Arc::new(Events::new(progress.begun));
    let (enough, writing) = watch::channel(false);
    let (end, ends) = watch::channel(None);
    let mut writers = Vec::new();
    for (index, kind) in writer::KINDS.iter().enumerate() {
        let client = match kind.route {
            Route::Patient => &patient,
            Route::Brisk => &brisk,
            Route::Direct => &direct,
        };
        writers.push(Writer::start(index, client, seed, progress.clone(), writing.clone()).await);
    }
    let readers: Vec<_> = (0..reader::NAMES.len())
        .map(|index| reader::read(index, reading.clone(), seed, progress.clone(), ends.clone()))
        .map(tokio::spawn)
        .collect();

    let weathered = storm::blow(kafka, &proxy, seed, Instant::now() + time, &progress, &events).await;
    let took = progress.begun.elapsed();
    enough.send_replace(true);
    let (mut written, mut producers, mut troubles) = (Vec::new(), Vec::new(), Vec::new());
    for writer in writers {
        let (told, metrics) = writer.end(&mut troubles).await;
        written.push(told);
        producers.push(metrics);
    }
    let last = client(kafka, None, 30).await;
    let log_ends = reader::ends(&last).await.expect("the ends of the log");
    end.send_replace(Some(log_ends));
    let mut readings = Vec::new();
    for reader in readers {
        let told = reader.await.expect("a reader does not panic");
        readings.extend(told.readings);
        troubles.extend(told.troubles);
    }
    let (log, damaged) = reader::read_log(&last, &log_ends).await;
    troubles.extend(damaged);
    if reader::ends(&last).await.expect("the ends of the log") != log_ends {
        troubles.push("the log has grown after all deliveries had ended".to_owned());
    }

    let history = History { written, readings, log };
    let verdict = verdict::judge(&history);
    let report = Report {
        seed,
        took,
        history: &history,
        verdict: &verdict,
        weathered: &weathered,
        events: &events.all(),
        progress: &progress,
        producers: &producers,
        clients: &[patient.metrics(), brisk.metrics(), reading.metrics(), direct.metrics()],
        passed: &proxy.passed(),
        troubles: &troubles,
    };
    report.print();
    if !report.is_good() {
        report.diagnose();
    }
    for client in [patient, brisk, reading, direct, last] {
        client.close().await;
    }
    report.is_good()
}

async fn client(kafka: &Cluster, proxy: Option<&Arc<FaultProxy>>, request_timeout: u64) -> Client {
    let request_timeout = Duration::from_secs(request_timeout);
    let mut builder = Client::builder().bootstrap(&kafka.bootstrap()).expect("addresses");
    builder =
        builder.request_timeout(request_timeout).connect_timeout(request_timeout.min(Duration::from_secs(3)));
    if let Some(proxy) = proxy {
        builder = builder.connector(proxy.connector());
    }
    builder.build().await.expect("the cluster is up")
}
