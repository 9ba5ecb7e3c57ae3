//! How a run is set up: drawn once from its seed.
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::client::BACKOFF;
use crate::broker::Release;
use crate::broker::config::Config;
use crate::record::Compression;
use crate::state::{consumer, producer};

mod groups;

pub(super) use groups::{Division, GroupPlan};

/// What kind of a run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Nothing goes wrong: all is prompt, and nothing is fetched twice.
    Calm,
    /// One node hangs for long, the others must not notice.
    OneSick,
    /// Everything goes wrong that a client must survive without losing a record.
    Storm,
    /// The logs themselves change: retention, compaction, unclean elections. Only readers, who must be told.
    Unclean,
}

/// How a run is set up.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) weather: Weather,
    pub(super) nodes: i32,
    pub(super) partitions: i32,
    pub(super) delay: Duration,
    pub(super) window: usize,
    pub(super) length: Duration,
    pub(super) request_timeout: Duration,
    pub(super) metadata_max_age: Duration,
    /// Bytes of a batch, and of all that are not settled.
    pub(super) memory: (usize, usize),
    pub(super) producers: Vec<producer::Settings>,
    pub(super) consumers: Vec<consumer::Settings>,
    pub(super) release: Release,
    replica_lag: Duration,
    min_in_sync: usize,
    partial: bool,
    sessions: usize,
    racks: bool,
    /// Most of what goes wrong is that requests arrive long after the client has lost the connection.
    pub(super) late_requests: bool,
    /// Records are so large that more waits to be read than a client may hold.
    pub(super) bulk: bool,
    pub(super) group: Option<GroupPlan>,
    /// How much goes wrong.
    pub(super) between_faults: Duration,
    pub(super) between_sends: Duration,
    pub(super) between_commands: Option<Duration>,
    pub(super) between_writes: Duration,
}

pub(super) fn millis(random: &mut SmallRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

impl Plan {
    pub(super) fn new(random: &mut SmallRng) -> Self {
        let weather = match random.random_range(0..20) {
            0..2 => Weather::Calm,
            2..6 => Weather::OneSick,
            6..9 => Weather::Unclean,
            _ => Weather::Storm,
        };
        let least = if weather == Weather::OneSick { 2 } else { 1 };
        let releases =
            [Release::V2_1, Release::V2_4, Release::V2_8, Release::V3_6, Release::V3_9, Release::V4_0];
        let request_timeout = millis(random, 800..4000);
        let mut plan = Self {
            weather,
            nodes: random.random_range(least..5),
            partitions: random.random_range(1..6),
            delay: Duration::from_micros(random.random_range(50..8000)),
            window: random.random_range(500..60_000),
            length: millis(random, 3000..10_000),
            request_timeout,
            metadata_max_age: millis(random, 2000..100_000),
            memory: (random.random_range(100..3000), random.random_range(4000..60_000)),
            producers: Vec::new(),
            consumers: Vec::new(),
            release: if random.random_bool(0.6) {
                Release::V4_1
            } else {
                releases[random.random_range(0..6)]
            },
            replica_lag: if random.random_bool(0.6) { millis(random, 1..80) } else { Duration::ZERO },
            min_in_sync: random.random_range(1..3),
            partial: random.random_bool(0.4),
            sessions: if random.random_bool(0.8) { 1000 } else { random.random_range(0..3) },
            racks: random.random_bool(0.15),
            group: None,
            late_requests: random.random_bool(0.1),
            bulk: random.random_bool(0.1),
            between_faults: millis(random, 60..2500),
            between_sends: millis(random, 20..200),
            between_commands: random.random_bool(0.5).then(|| millis(random, 200..3000)),
            between_writes: millis(random, 60..1500),
        };
        if plan.late_requests {
            plan.length += millis(random, 5000..15_000);
        }
        if plan.bulk {
            plan.between_writes = millis(random, 20..200);
        }
        plan.min_in_sync = plan.min_in_sync.min(plan.nodes as usize);
        if weather == Weather::Calm {
            plan.between_commands = None;
            // From time to time the leader is asked again, while a fetch is parked at the replica.
            plan.racks = false;
        }
        let producers = if weather == Weather::Unclean { 0 } else { random.random_range(1..3) };
        plan.producers = (0..producers).map(|_| plan.producer(random)).collect();
        plan.consumers = (0..random.random_range(1..3)).map(|_| plan.consumer(random)).collect();
        plan
    }

    fn producer(&self, random: &mut SmallRng) -> producer::Settings {
        let linger = if random.random_bool(0.5) { Duration::ZERO } else { millis(random, 1..30) };
        producer::Settings {
            acks: -1,
            idempotent: true,
            linger,
            max_request_size: random.random_range(2000..100_000),
            compression: if random.random_bool(0.3) { Compression::Lz4 } else { Compression::None },
            level: None,
            delivery_timeout: linger + self.request_timeout + millis(random, 500..6000),
            request_timeout: self.request_timeout,
            max_in_flight: random.random_range(1..=5),
            backoff: BACKOFF,
        }
    }

    fn consumer(&self, random: &mut SmallRng) -> consumer::Settings {
        let small = |random: &mut SmallRng, small: std::ops::Range<i32>, large| {
            if random.random_bool(0.4) { random.random_range(small) } else { large }
        };
        consumer::Settings {
            isolation: match random.random_bool(0.5) {
                true => consumer::IsolationLevel::ReadCommitted,
                false => consumer::IsolationLevel::ReadUncommitted,
            },
            reset: match random.random_bool(0.7) {
                true => consumer::OffsetReset::Earliest,
                false => consumer::OffsetReset::Latest,
            },
            max_wait: millis(random, 20..600),
            min_bytes: 1,
            max_bytes: small(random, 100..5000, 50 << 20),
            partition_max_bytes: small(random, 100..5000, 1 << 20),
            prefetch: small(random, 1000..60_000, 1 << 20) as usize,
            max_batch: 1 << 20,
            rack: if self.racks { "rack-2".into() } else { "".into() },
            backoff: BACKOFF,
            // In practice minutes; it must not be shorter than the backoff of a replica that hangs.
            replica_age: millis(random, 6000..20_000),
            ..consumer::Settings::default()
        }
    }

    pub(super) fn config(&self, seed: u64) -> Config {
        Config {
            nodes: self.nodes,
            seed,
            release: self.release,
            auto_create_topics: false,
            min_insync_replicas: self.min_in_sync,
            fetch_sessions: self.sessions,
            read_nearest_replica: self.racks,
            racks: self.racks,
            partial_batches: self.partial,
            replica_lag: self.replica_lag,
            consumer_session_timeout: self
                .group
                .map_or(Duration::from_secs(45), |group| group.session_timeout),
            consumer_heartbeat_interval: self
                .group
                .map_or(Duration::from_secs(5), |group| group.heartbeat_interval),
            ..Config::default()
        }
    }

    pub(super) fn is_calm(&self) -> bool {
        self.weather == Weather::Calm
    }

    /// Nodes before Kafka 2.4 tell no leader epochs that can be relied on: nobody could tell a stale leader, or a log that was cut off.
    pub(super) fn has_epochs(&self) -> bool {
        self.release > Release::V2_1
    }

    /// Within what time everything happens that nothing stands in the way of.
    pub(super) fn promptly(&self) -> Duration {
        // A node that hangs may be the first one that is asked for metadata; another one is, after a second.
        if self.is_calm() { Duration::from_secs(3) } else { Duration::from_secs(6) }
    }
}
