//! What a broker imitates: how many nodes, which release, which limits.
use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// A release of Apache Kafka, by the API versions its nodes advertise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // the name is the release
pub enum Release {
    V2_1,
    V2_4,
    V2_8,
    V3_0,
    V3_3,
    V3_6,
    V3_7,
    V3_9,
    V4_0,
    V4_1,
}

/// Highest versions by API key, one column a release from 2.1 to 4.1.
const HIGHEST: &[(i16, [i16; 10])] = &[
    (0, [7, 8, 9, 9, 9, 9, 10, 11, 12, 13]),
    (1, [10, 11, 12, 12, 13, 15, 16, 17, 17, 18]),
    (2, [4, 5, 6, 7, 7, 8, 8, 9, 10, 10]),
    (3, [7, 9, 11, 11, 12, 12, 12, 12, 13, 13]),
    (8, [6, 8, 8, 8, 8, 8, 9, 9, 9, 9]),
    (9, [5, 6, 7, 8, 8, 8, 9, 9, 9, 9]),
    (10, [2, 3, 3, 4, 4, 4, 4, 6, 6, 6]),
    (11, [3, 6, 7, 7, 9, 9, 9, 9, 9, 9]),
    (12, [2, 4, 4, 4, 4, 4, 4, 4, 4, 4]),
    (13, [2, 4, 4, 4, 5, 5, 5, 5, 5, 5]),
    (14, [2, 4, 5, 5, 5, 5, 5, 5, 5, 5]),
    (15, [2, 5, 5, 5, 5, 5, 5, 5, 6, 6]),
    (16, [2, 3, 4, 4, 4, 4, 4, 5, 5, 5]),
    (18, [2, 3, 3, 3, 3, 3, 3, 4, 4, 4]),
    (19, [3, 5, 7, 7, 7, 7, 7, 7, 7, 7]),
    (20, [3, 4, 6, 6, 6, 6, 6, 6, 6, 6]),
    (21, [1, 1, 2, 2, 2, 2, 2, 2, 2, 2]),
    (22, [1, 2, 4, 4, 4, 4, 4, 5, 5, 5]),
    (23, [2, 3, 4, 4, 4, 4, 4, 4, 4, 4]),
    (32, [2, 2, 4, 4, 4, 4, 4, 4, 4, 4]),
    (37, [1, 1, 3, 3, 3, 3, 3, 3, 3, 3]),
    (42, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
    (47, [-1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (60, [-1, -1, 0, 0, 0, 0, 1, 1, 2, 2]),
    (68, [-1, -1, -1, -1, -1, -1, 0, 0, 1, 1]),
    (69, [-1, -1, -1, -1, -1, -1, -1, 0, 1, 1]),
];

impl Release {
    pub(super) fn highest(self, key: i16) -> Option<i16> {
        let (_, row) = HIGHEST.iter().find(|(row_key, _)| *row_key == key)?;
        row.get(self as usize).copied().filter(|version| *version >= 0)
    }
}

/// Settings of the whole cluster, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) nodes: i32,
    pub(crate) seed: u64,
    pub(crate) release: Release,
    pub(crate) max_versions: BTreeMap<i16, i16>,
    pub(crate) auto_create_topics: bool,
    pub(crate) default_partitions: i32,
    pub(crate) default_replication: Option<i16>,
    pub(crate) min_insync_replicas: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_request_bytes: usize,
    pub(crate) fetch_sessions: usize,
    pub(crate) read_nearest_replica: bool,
    pub(crate) racks: bool,
    pub(crate) partial_batches: bool,
    /// How long followers take to copy what a leader appends, on average.
    pub(crate) replica_lag: Duration,
    pub(crate) offsets_partitions: i32,
    /// How long a new coordinator needs to read its groups.
    pub(crate) coordinator_load: Duration,
    pub(crate) initial_rebalance_delay: Duration,
    pub(crate) group_max_size: usize,
    pub(crate) consumer_group_max_size: usize,
    pub(crate) consumer_session_timeout: Duration,
    pub(crate) consumer_heartbeat_interval: Duration,
    /// In characters.
    pub(crate) offset_metadata_max: usize,
    /// The shortest and the longest allowed.
    pub(crate) session_timeouts: (Duration, Duration),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 1,
            seed: 0,
            release: Release::V4_1,
            max_versions: BTreeMap::new(),
            auto_create_topics: true,
            default_partitions: 1,
            default_replication: None,
            min_insync_replicas: 1,
            // Kafka's default of message.max.bytes: one MiB and room for the batch header.
            max_message_bytes: 1_048_588,
            // Kafka's default of socket.request.max.bytes.
            max_request_bytes: 100 * 1024 * 1024,
            fetch_sessions: 1000,
            read_nearest_replica: false,
            racks: false,
            partial_batches: false,
            replica_lag: Duration::ZERO,
            offsets_partitions: 50,
            coordinator_load: Duration::ZERO,
            // Kafka waits 3 s; tests would rather not.
            initial_rebalance_delay: Duration::ZERO,
            offset_metadata_max: 4096,
            group_max_size: i32::MAX as usize,
            consumer_group_max_size: i32::MAX as usize,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            session_timeouts: (Duration::from_secs(6), Duration::from_secs(30 * 60)),
        }
    }
}

impl Config {
    /// Sets a node's configuration by Kafka's own name.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<()> {
        fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T> {
            let wrong =
                |_| Error::new(ErrorKind::Config, format!("{key}: {value:?} is not a number in its range"));
            value.parse().map_err(wrong)
        }
        fn time(key: &str, value: &str) -> Result<Duration> {
            number(key, value).map(Duration::from_millis)
        }
        match key {
            "auto.create.topics.enable" => {
                self.auto_create_topics = value.parse().map_err(|_| {
                    Error::new(ErrorKind::Config, format!("{key}: {value:?} is neither true nor false"))
                })?;
            }
            "num.partitions" => self.default_partitions = number::<i32>(key, value)?.max(1),
            "default.replication.factor" => self.default_replication = Some(number(key, value)?),
            "min.insync.replicas" => self.min_insync_replicas = number(key, value)?,
            "message.max.bytes" => self.max_message_bytes = number(key, value)?,
            "socket.request.max.bytes" => self.max_request_bytes = number(key, value)?,
            "max.incremental.fetch.session.cache.slots" => self.fetch_sessions = number(key, value)?,
            "offsets.topic.num.partitions" => {
                self.offsets_partitions = number::<i32>(key, value)?.clamp(1, 1000);
            }
            "group.initial.rebalance.delay.ms" => self.initial_rebalance_delay = time(key, value)?,
            "offset.metadata.max.bytes" => self.offset_metadata_max = number(key, value)?,
            "group.consumer.max.size" => self.consumer_group_max_size = number(key, value)?,
            "group.consumer.session.timeout.ms" => self.consumer_session_timeout = time(key, value)?,
            "group.consumer.heartbeat.interval.ms" => self.consumer_heartbeat_interval = time(key, value)?,
            "group.max.size" => self.group_max_size = number(key, value)?,
            "group.min.session.timeout.ms" => self.session_timeouts.0 = time(key, value)?,
            "group.max.session.timeout.ms" => self.session_timeouts.1 = time(key, value)?,
            "replica.selector.class" => {
                self.read_nearest_replica = value.ends_with("RackAwareReplicaSelector")
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("the embedded broker has no option {key:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Highest version of an API that is served and advertised, `None` if the API is not offered at all.
    pub(crate) fn highest(&self, key: i16) -> Option<i16> {
        let highest = self.release.highest(key)?;
        match self.max_versions.get(&key) {
            Some(&max) if max < 0 => None,
            Some(&max) => Some(highest.min(max)),
            None => Some(highest),
        }
    }
}
