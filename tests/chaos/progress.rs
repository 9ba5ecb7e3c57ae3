//! How far everybody is while the test runs, and who has stood still for how long.
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::places::{self, PLACES};

pub(crate) struct Progress {
    pub(crate) begun: Instant,
    writers: Vec<Lane>,
    readers: Vec<Lane>,
    /// Without an acknowledgement to any writer.
    unacknowledged: Mutex<Standstill>,
}

/// How far one writer or reader has come.
struct Lane {
    name: &'static str,
    /// By place: the highest acknowledged offset, or the next one to read.
    offsets: [AtomicI64; PLACES],
    standstill: Mutex<Standstill>,
}

/// The longest time in which nothing moved in a partition.
#[derive(Clone, Copy)]
pub(crate) struct Standstill {
    last: [Instant; PLACES],
    pub(crate) longest: Duration,
    pub(crate) place: usize,
    pub(crate) ended: Instant,
}

impl Standstill {
    fn new() -> Self {
        let now = Instant::now();
        Self { last: [now; PLACES], longest: Duration::ZERO, place: 0, ended: now }
    }

    fn moved(&mut self, place: usize) {
        let now = Instant::now();
        let gap = now - self.last[place];
        self.last[place] = now;
        if gap > self.longest {
            (self.longest, self.place, self.ended) = (gap, place, now);
        }
    }
}

impl Progress {
    pub(crate) fn new(writers: &[&'static str], readers: &[&'static str]) -> Self {
        let lanes = |names: &[&'static str]| {
            let lane = |name: &&'static str| Lane {
                name,
                offsets: [const { AtomicI64::new(-1) }; PLACES],
                standstill: Mutex::new(Standstill::new()),
            };
            names.iter().map(lane).collect()
        };
        Self {
            begun: Instant::now(),
            writers: lanes(writers),
            readers: lanes(readers),
            unacknowledged: Mutex::new(Standstill::new()),
        }
    }

    pub(crate) fn acknowledged(&self, writer: usize, place: usize, offset: i64) {
        self.writers[writer].offsets[place].fetch_max(offset, Relaxed);
        lock(&self.unacknowledged).moved(place);
    }

    pub(crate) fn has_read(&self, reader: usize, place: usize, next: i64) {
        self.readers[reader].offsets[place].store(next, Relaxed);
        lock(&self.readers[reader].standstill).moved(place);
    }

    /// The highest acknowledged offset of each place.
    pub(crate) fn reached(&self) -> [i64; PLACES] {
        let of = |place: usize| self.writers.iter().map(|lane| lane.offsets[place].load(Relaxed)).max();
        std::array::from_fn(|place| of(place).unwrap_or(-1))
    }

    /// The first writer without an acknowledgement, or reader without a record, beyond these offsets.
    pub(crate) fn behind(&self, reached: &[i64; PLACES]) -> Option<String> {
        let lanes = self.writers.iter().chain(&self.readers);
        let mut all = lanes.flat_map(|lane| (0..PLACES).map(move |place| (lane, place)));
        all.find(|(lane, place)| lane.offsets[*place].load(Relaxed) <= reached[*place]).map(
            |(lane, place)| {
                let at = lane.offsets[place].load(Relaxed);
                format!(
                    "{} is at {at} in {}, and not beyond {}",
                    lane.name,
                    places::name(place),
                    reached[place]
                )
            },
        )
    }

    pub(crate) fn longest_without_acknowledgement(&self) -> Standstill {
        *lock(&self.unacknowledged)
    }

    /// Of all readers, by name.
    pub(crate) fn longest_without_reading(&self) -> (&'static str, Standstill) {
        let lanes = self.readers.iter().map(|lane| (lane.name, *lock(&lane.standstill)));
        lanes.max_by_key(|(_, standstill)| standstill.longest).expect("there are readers")
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
