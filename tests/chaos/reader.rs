//! Consumers that read all partitions while they are written, and note what they are handed out.
use std::sync::Arc;
use std::time::{Duration, Instant};

use milena::{Batch, Client, Consumer, ConsumerBuilder, IsolationLevel, Offset, OffsetReset};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::history::{Found, Reading};
use crate::numbered::Numbered;
use crate::places::{self, PLACES};
use crate::progress::Progress;

/// One kind of consumer.
struct Kind {
    name: &'static str,
    options: fn(ConsumerBuilder) -> ConsumerBuilder,
    /// Seeks, pauses, resumes and is made anew now and then.
    restless: bool,
}

static KINDS: [Kind; 3] = [
    Kind { name: "steady", options: |consumer| consumer, restless: false },
    Kind {
        name: "committed",
        options: |consumer| {
            consumer
                .isolation_level(IsolationLevel::ReadCommitted)
                .max_partition_fetch_bytes(32 << 10)
                .prefetch(256 << 10)
        },
        restless: false,
    },
    Kind { name: "restless", options: |consumer| consumer, restless: true },
];

/// Reads the log when all is over.
static LAST: Kind = Kind { name: "last", options: |consumer| consumer, restless: false };

pub(crate) const NAMES: [&str; 3] = ["steady", "committed", "restless"];

/// Where the log of each place ends, once that is known.
pub(crate) type Ends = watch::Receiver<Option<[i64; PLACES]>>;

/// Time to get to the end of the log once it is known.
const CATCH_UP: Duration = Duration::from_secs(120);

/// How long a restless reader leaves things as they are, in milliseconds.
const REST: std::ops::Range<u64> = 200..2_000;

/// Records that it goes back.
const BACK: std::ops::Range<i64> = 0..1_500;

/// What a reader was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) readings: Vec<Reading>,
    /// Errors, resets and damaged records: there should be none.
    pub(crate) troubles: Vec<String>,
}

struct Reader {
    kind: &'static Kind,
    client: Client,
    consumer: Consumer,
    /// Of each place.
    now: Vec<Reading>,
    told: Told,
}

/// The consumer of this index reads from the beginning to the end, when that is known.
pub(crate) async fn read(
    index: usize,
    client: Client,
    seed: u64,
    progress: Arc<Progress>,
    mut ends: Ends,
) -> Told {
    let mut random = StdRng::seed_from_u64(seed ^ (index as u64) << 8);
    let mut reader = Reader::new(&KINDS[index], client).await;
    let mut next_move = tokio::time::Instant::now();
    while ends.borrow_and_update().is_none() {
        tokio::select! {
            batch = reader.consumer.next() => {
                if let Some(place) = reader.take(batch) {
                    progress.has_read(index, place, reader.position(place));
                }
            }
            _ = ends.changed() => {}
            () = tokio::time::sleep_until(next_move), if reader.kind.restless => {
                reader.make_a_move(&mut random).await;
                next_move += Duration::from_millis(random.random_range(REST));
            }
        }
    }
    reader.resume();
    let ends = ends.borrow().expect("it is known now");
    reader.read_to(&ends).await
}

/// The whole log, by place.
pub(crate) async fn read_log(client: &Client, ends: &[i64; PLACES]) -> (Vec<Vec<Found>>, Vec<String>) {
    let told = Reader::new(&LAST, client.clone()).await.read_to(ends).await;
    (told.readings.into_iter().map(|reading| reading.found).collect(), told.troubles)
}

/// The end of each partition now.
pub(crate) async fn ends(client: &Client) -> milena::Result<[i64; PLACES]> {
    let consumer = client.consumer().assign(places::all()).build().await?;
    let found = consumer.end_offsets(places::all()).await?;
    consumer.close().await;
    let mut ends = [0; PLACES];
    for (partition, end) in found {
        ends[places::of(partition.topic(), partition.partition())] = end;
    }
    Ok(ends)
}

impl Reader {
    async fn new(kind: &'static Kind, client: Client) -> Self {
        let now: Vec<_> = (0..PLACES).map(|place| reading(kind, place, 0)).collect();
        let consumer = consumer(kind, &client, [0; PLACES]).await;
        Self { kind, client, consumer, now, told: Told::default() }
    }

    /// The offset that comes next.
    fn position(&self, place: usize) -> i64 {
        let Reading { from, found, .. } = &self.now[place];
        found.last().map_or(*from, |found| found.offset + 1)
    }

    /// The place of the batch, if it is one.
    fn take(&mut self, next: milena::Result<Option<Batch>>) -> Option<usize> {
        let batch = match next {
            Ok(Some(batch)) => batch,
            Ok(None) => panic!("{}: the client is closed", self.kind.name),
            Err(error) => {
                self.trouble(format!("{error:?}"));
                return None;
            }
        };
        let place = places::of(batch.topic(), batch.partition());
        if let Some(reset) = batch.reset() {
            self.trouble(format!("{}: {reset:?}", places::name(place)));
        }
        for record in &batch {
            let read = Numbered::read(place, &record);
            self.now[place].found.push(Found { offset: record.offset(), what: read.as_ref().ok().copied() });
            if let Err(error) = read {
                self.trouble(format!("{} at {}: {error}", places::name(place), record.offset()));
            }
        }
        Some(place)
    }

    fn trouble(&mut self, what: String) {
        self.told.troubles.push(format!("{}: {what}", self.kind.name));
    }

    async fn make_a_move(&mut self, random: &mut StdRng) {
        let place = random.random_range(0..PLACES);
        let partition = places::all().nth(place).expect("a place");
        let back = (self.position(place) - random.random_range(BACK)).max(0);
        self.resume();
        match random.random_range(0..5) {
            0 | 1 => {
                self.consumer.seek(partition, back).expect("it is assigned");
                self.begin_at(place, back);
            }
            2 => {
                // What was fetched ahead is fetched again.
                self.consumer.seek(partition, self.position(place)).expect("it is assigned");
            }
            3 => self.consumer.pause(partition).expect("it is assigned"),
            _ => {
                let mut positions = [0; PLACES];
                for (place, position) in positions.iter_mut().enumerate() {
                    *position = (self.position(place) - random.random_range(BACK) / 10).max(0);
                    self.begin_at(place, *position);
                }
                self.consumer = consumer(self.kind, &self.client, positions).await;
            }
        }
    }

    fn begin_at(&mut self, place: usize, offset: i64) {
        let mut ended = std::mem::replace(&mut self.now[place], reading(self.kind, place, offset));
        ended.to_end = false;
        if !ended.found.is_empty() {
            self.told.readings.push(ended);
        }
    }

    fn resume(&self) {
        for paused in self.consumer.paused() {
            self.consumer.resume(paused).expect("it is assigned");
        }
    }

    async fn read_to(mut self, ends: &[i64; PLACES]) -> Told {
        let deadline = Instant::now() + CATCH_UP;
        while let Some(place) = (0..PLACES).find(|place| self.position(*place) < ends[*place]) {
            match tokio::time::timeout_at(deadline.into(), self.consumer.next()).await {
                Ok(batch) => drop(self.take(batch)),
                Err(_) => {
                    let (place, end) = (places::name(place), ends[place]);
                    let metrics = self.consumer.metrics();
                    self.trouble(format!("not at {end} in {place} within {CATCH_UP:?}: {metrics:?}"));
                    break;
                }
            }
        }
        self.consumer.close().await;
        self.told.readings.extend(self.now);
        self.told
    }
}

fn reading(kind: &Kind, place: usize, from: i64) -> Reading {
    Reading { reader: kind.name, place, from, found: vec![], to_end: true }
}

/// Nothing may move a position but the reader itself.
async fn consumer(kind: &Kind, client: &Client, positions: [i64; PLACES]) -> Consumer {
    let assigned = places::all().zip(positions).map(|(partition, offset)| (partition, Offset::At(offset)));
    let builder = client.consumer().assign_at(assigned).auto_offset_reset(OffsetReset::None);
    (kind.options)(builder).build().await.expect("the options fit")
}
