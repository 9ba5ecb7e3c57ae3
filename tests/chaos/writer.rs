//! Producers of many kinds, each of which writes numbered records to all partitions and notes what became of each.
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milena::{Client, Compression, Delivery, Producer, ProducerBuilder, ProducerMetrics, ProducerTopic};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::history::{Delivered, Outcome, Written};
use crate::numbered::Numbered;
use crate::places::{self, PLACES};
use crate::progress::Progress;

/// How a writer is connected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through the fault proxy, and gives up on an answer after 10 s.
    Patient,
    /// Through the fault proxy, and gives up on an answer after 2 s.
    Brisk,
    /// Straight to the nodes.
    Direct,
}

/// One kind of producer.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) route: Route,
    options: fn(ProducerBuilder) -> ProducerBuilder,
    delivery_timeout: Duration,
    /// Every so often some records go to one partition.
    every: Duration,
    records: RangeInclusive<u32>,
    sizes: std::ops::Range<usize>,
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Together some 1,800 records and half a megabyte in a second.
pub(crate) static KINDS: [Kind; 6] = [
    Kind {
        name: "plain",
        route: Route::Patient,
        options: |producer| producer.linger(Duration::ZERO),
        delivery_timeout: millis(120_000),
        every: millis(10),
        records: 1..=3,
        sizes: 10..200,
    },
    Kind {
        name: "lz4",
        route: Route::Patient,
        options: |producer| producer.compression(Compression::Lz4).linger(millis(5)),
        delivery_timeout: millis(60_000),
        every: millis(10),
        records: 1..=8,
        sizes: 50..400,
    },
    // Batches that take many packets, and linger.
    Kind {
        name: "zstd",
        route: Route::Patient,
        options: |producer| producer.compression(Compression::Zstd).linger(millis(20)).batch_size(256 << 10),
        delivery_timeout: millis(60_000),
        every: millis(100),
        records: 1..=80,
        sizes: 100..1_000,
    },
    // Gives records up while their fate is unknown.
    Kind {
        name: "short",
        route: Route::Brisk,
        options: |producer| producer.compression(Compression::Snappy).linger(millis(5)).batch_size(4 << 10),
        delivery_timeout: millis(6_000),
        every: millis(10),
        records: 1..=4,
        sizes: 10..300,
    },
    // Its sends wait for room whenever a node is slow.
    Kind {
        name: "tight",
        route: Route::Brisk,
        options: |producer| {
            producer
                .linger(Duration::ZERO)
                .batch_size(2 << 10)
                .buffer_memory(64 << 10)
                .max_request_size(32 << 10)
        },
        delivery_timeout: millis(8_000),
        every: millis(20),
        records: 1..=10,
        sizes: 10..400,
    },
    Kind {
        name: "direct",
        route: Route::Direct,
        options: |producer| producer.compression(Compression::Gzip).linger(millis(5)),
        delivery_timeout: millis(30_000),
        every: millis(20),
        records: 1..=8,
        sizes: 50..400,
    },
];

/// Deliveries of one partition that wait for their end.
const WAITING: usize = 1 << 15;

/// A delivery without an end, and a send without room, are waited for so much longer than they should take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Writer {
    kind: &'static Kind,
    producer: Producer,
    task: JoinHandle<(Written, Option<String>)>,
}

impl Writer {
    /// Writes until `enough`.
    pub(crate) async fn start(
        index: usize,
        client: &Client,
        seed: u64,
        progress: Arc<Progress>,
        enough: watch::Receiver<bool>,
    ) -> Self {
        let kind = &KINDS[index];
        let builder = client.producer().delivery_timeout(kind.delivery_timeout);
        let producer = (kind.options)(builder).build().await.expect("the options fit");
        let topics = places::all().map(|(topic, partition)| (producer.topic(topic), partition)).collect();
        let random = StdRng::seed_from_u64(seed ^ index as u64);
        let task = tokio::spawn(write(index, topics, random, progress, enough));
        Self { kind, producer, task }
    }

    /// Waits until all deliveries have ended. Besides, what should not have happened.
    pub(crate) async fn end(self, troubles: &mut Vec<String>) -> (Written, ProducerMetrics) {
        let (written, trouble) = self.task.await.expect("a writer does not panic");
        let mut trouble_of = |what: String| troubles.push(format!("{}: {what}", self.kind.name));
        trouble.into_iter().for_each(&mut trouble_of);
        let metrics = self.producer.metrics();
        let (sent, settled) = (
            written.places.iter().map(Vec::len).sum::<usize>() as u64,
            metrics.records_written + metrics.records_failed,
        );
        if sent != settled {
            trouble_of(format!("{sent} deliveries ended, and its metrics count {settled}"));
        }
        match tokio::time::timeout(PATIENCE, self.producer.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => trouble_of(format!("close: {error:?}")),
            Err(_) => trouble_of("close hangs".to_owned()),
        }
        (written, metrics)
    }
}

async fn write(
    index: usize,
    topics: Vec<(ProducerTopic, i32)>,
    mut random: StdRng,
    progress: Arc<Progress>,
    enough: watch::Receiver<bool>,
) -> (Written, Option<String>) {
    let kind = &KINDS[index];
    let (mut queues, mut settling, mut numbers) = (Vec::new(), Vec::new(), [0; PLACES]);
    for place in 0..PLACES {
        let (queue, waiting) = mpsc::channel(WAITING);
        queues.push(queue);
        settling.push(tokio::spawn(settle(index, place, waiting, progress.clone())));
    }
    let mut tick = tokio::time::interval(kind.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut trouble = None;
    'writing: while !*enough.borrow() {
        tick.tick().await;
        let place = random.random_range(0..PLACES);
        let (topic, partition) = &topics[place];
        for _ in 0..random.random_range(kind.records.clone()) {
            let content =
                Numbered { writer: index as u8, number: numbers[place] }.content(place, &kind.sizes);
            let send = topic.send(content.record().partition(*partition));
            // There is room again when the oldest deliveries have ended.
            let delivery = match tokio::time::timeout(kind.delivery_timeout + PATIENCE, send).await {
                Ok(Ok(delivery)) => delivery,
                other => {
                    trouble = Some(format!("send of number {}: {other:?}", numbers[place]));
                    break 'writing;
                }
            };
            numbers[place] += 1;
            queues[place].send((Instant::now(), delivery)).await.expect("a settler does not panic");
        }
    }
    drop(queues);
    let mut places = Vec::new();
    for settled in settling {
        places.push(settled.await.expect("a settler does not panic"));
    }
    (Written { writer: kind.name, delivery_timeout: kind.delivery_timeout, places }, trouble)
}

/// Waits for the deliveries of one partition in the order of their sending. That finds each late one and no other: an
/// earlier one, for which a later one waits here, must end before it.
async fn settle(
    writer: usize,
    place: usize,
    mut waiting: mpsc::Receiver<(Instant, Delivery)>,
    progress: Arc<Progress>,
) -> Vec<Delivered> {
    let mut settled = Vec::new();
    while let Some((sent, delivery)) = waiting.recv().await {
        let deadline = sent + KINDS[writer].delivery_timeout + PATIENCE;
        let outcome = match tokio::time::timeout_at(deadline.into(), delivery).await {
            Err(_) => Outcome::Unsettled,
            Ok(Ok(written)) => written.offset.map_or(Outcome::WrittenSomewhere, Outcome::Written),
            Ok(Err(error)) if error.maybe_written() => Outcome::MaybeWritten,
            Ok(Err(_)) => Outcome::NotWritten,
        };
        if let Outcome::Written(offset) = outcome {
            progress.acknowledged(writer, place, offset);
        }
        settled.push(Delivered { outcome, sent: sent - progress.begun, took: sent.elapsed() });
    }
    settled
}
