//! The options of a consumer.
use std::sync::Arc;
use std::time::Duration;

use super::Consumer;
use super::driver::{Shared, now};
use super::options::GroupOptions;
use crate::client::Core;
use crate::client::config::value;
use crate::error::{Error, ErrorKind, Result};
use crate::state::consumer::{Consumer as Machine, IsolationLevel, Offset, OffsetReset, Settings};
use crate::state::membership::Subscription;
use crate::topic_partition::TopicPartition;

/// Options of a consumer, checked by [`ConsumerBuilder::build`]. Each names its key in Kafka's configuration;
/// [`ConsumerBuilder::set`] takes them by that name.
#[derive(Clone)]
pub struct ConsumerBuilder {
    core: Arc<Core>,
    settings: Settings,
    partitions: Vec<(TopicPartition, Option<Offset>)>,
    topics: Vec<Arc<str>>,
    pub(super) group: GroupOptions,
}

/// Below this the buffers hold less than a batch of usual size.
const LEAST_PREFETCH: usize = 64 << 10;

impl ConsumerBuilder {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let config = core.config();
        let default = Settings::default();
        let settings = Settings {
            max_wait: default.max_wait.min(config.request_timeout),
            rack: config.client_rack.clone().unwrap_or_else(|| "".into()),
            backoff: config.retry_backoff,
            replica_age: config.metadata_max_age,
            grace: config.request_timeout,
            ..default
        };
        Self { core, settings, partitions: Vec::new(), topics: Vec::new(), group: GroupOptions::default() }
    }

    /// Reads these partitions, from where `auto_offset_reset` says. May be called several times, also with
    /// [`ConsumerBuilder::assign_at`].
    pub fn assign(mut self, partitions: impl IntoIterator<Item = impl Into<TopicPartition>>) -> Self {
        self.partitions.extend(partitions.into_iter().map(|partition| (partition.into(), None)));
        self
    }

    /// Reads these partitions, each from the given offset.
    pub fn assign_at(
        mut self,
        partitions: impl IntoIterator<Item = (impl Into<TopicPartition>, impl Into<Offset>)>,
    ) -> Self {
        let partitions = partitions.into_iter();
        self.partitions.extend(partitions.map(|(partition, offset)| (partition.into(), Some(offset.into()))));
        self
    }

    /// Reads these topics: in a [`group`](ConsumerBuilder::group) what the group gives it of them. Without one every consumer that asks
    /// for a topic reads all partitions of it, also those that are added later: these from their beginning.
    ///
    /// A topic need not exist yet. If it is unknown for `request_timeout`, [`Consumer::next`] says so once in that time.
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Where to begin without a given offset, and what to do when a position is not in the log any more (`auto.offset.reset`).
    /// Default [`OffsetReset::Earliest`], which skips nothing; Java and librdkafka begin at the latest.
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.settings.reset = reset;
        self
    }

    /// Which records of transactions are handed out (`isolation.level`, KIP-98). Default [`IsolationLevel::ReadUncommitted`], as
    /// Java; librdkafka reads committed ones.
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.settings.isolation = level;
        self
    }

    /// How long a node may hold a fetch back while it has less than `fetch_min_bytes` (`fetch.max.wait.ms`). Default 500 ms, or
    /// the client's `request_timeout` if that is shorter. New records end the wait at once, so a long one costs no latency.
    pub fn fetch_max_wait(mut self, wait: Duration) -> Self {
        self.settings.max_wait = wait;
        self
    }

    /// Takes a connection for dead on which a node has said nothing for this long although [`ConsumerBuilder::fetch_max_wait`] was over.
    pub(crate) fn silence(mut self, silence: Duration) -> Self {
        self.settings.silence = Some(silence);
        self
    }

    /// Bytes a node gathers before it answers, until `fetch_max_wait` is over (`fetch.min.bytes`). Default 1.
    pub fn fetch_min_bytes(mut self, bytes: i32) -> Self {
        self.settings.min_bytes = bytes;
        self
    }

    /// Bytes of records in one answer, but for a first batch that is larger (`fetch.max.bytes`, KIP-74). Default 50 MiB.
    pub fn fetch_max_bytes(mut self, bytes: i32) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// Bytes of one partition in one answer, but for a first batch that is larger (`max.partition.fetch.bytes`). Default 1 MiB.
    pub fn max_partition_fetch_bytes(mut self, bytes: i32) -> Self {
        self.settings.partition_max_bytes = bytes;
        self
    }

    /// Bytes of batches that wait to be handed out, as fetched, over all nodes and partitions (librdkafka's
    /// `queued.max.messages.kbytes`). Default 64 MiB. Batches are inflated one at a time when they are handed out, so memory is bounded by
    /// this, one batch of at most `max_batch` bytes, and for each node the last batch of an answer, which nodes send whole.
    pub fn prefetch(mut self, bytes: usize) -> Self {
        self.settings.prefetch = bytes;
        self
    }

    /// Bytes that one batch may inflate to; a larger one is an error of kind [`ErrorKind::Corrupt`], and no more memory is taken for
    /// it. Default 128 MiB. Kafka has no such option.
    pub fn max_batch(mut self, bytes: usize) -> Self {
        self.settings.max_batch = bytes;
        self
    }

    /// Whether the checksum of every batch is compared (`check.crcs`). Default true, as Java.
    pub fn check_crcs(mut self, check: bool) -> Self {
        self.settings.check_crcs = check;
        self
    }

    /// Where this consumer stands, so that it reads from a replica near by (`client.rack`, KIP-392). Default: the client's.
    pub fn client_rack(mut self, rack: impl Into<Arc<str>>) -> Self {
        self.settings.rack = rack.into();
        self
    }

    /// Sets an option by Kafka's name, from text: those of a group, and `auto.offset.reset`, `isolation.level`, `fetch.max.wait.ms`, `fetch.min.bytes`,
    /// `fetch.max.bytes`, `max.partition.fetch.bytes`, `queued.max.messages.kbytes`, `check.crcs`, `client.rack`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unknown name or a value that does not fit.
    pub fn set(mut self, key: &str, text: &str) -> Result<Self> {
        if self.group.set(key, text)? {
            return Ok(self);
        }
        let settings = &mut self.settings;
        match key {
            "auto.offset.reset" => {
                let words = [
                    ("earliest", OffsetReset::Earliest),
                    ("beginning", OffsetReset::Earliest),
                    ("latest", OffsetReset::Latest),
                    ("end", OffsetReset::Latest),
                    ("none", OffsetReset::None),
                    ("error", OffsetReset::None),
                ];
                settings.reset = value::one_of(key, text, &words)?;
            }
            "isolation.level" => {
                let words = [
                    ("read_uncommitted", IsolationLevel::ReadUncommitted),
                    ("read_committed", IsolationLevel::ReadCommitted),
                ];
                settings.isolation = value::one_of(key, text, &words)?;
            }
            "fetch.max.wait.ms" | "fetch.wait.max.ms" => settings.max_wait = value::millis(key, text)?,
            "fetch.min.bytes" => settings.min_bytes = value::integer(key, text)?,
            "fetch.max.bytes" => settings.max_bytes = value::integer(key, text)?,
            "max.partition.fetch.bytes" => settings.partition_max_bytes = value::integer(key, text)?,
            "queued.max.messages.kbytes" => {
                settings.prefetch = value::integer::<usize>(key, text)?.saturating_mul(1 << 10);
            }
            "check.crcs" => settings.check_crcs = value::boolean(key, text)?,
            "client.rack" => settings.rack = text.into(),
            _ => return Err(Error::new(ErrorKind::Config, format!("unknown option of a consumer: {key}"))),
        }
        Ok(self)
    }

    /// Starts the consumer. It returns at once: metadata and positions are looked up meanwhile, and
    /// [`ConsumerHandle::position`](super::ConsumerHandle::position) waits for one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if options do not go together; [`ErrorKind::Closed`] if the client is closed.
    ///
    /// Cancel safe.
    pub async fn build(self) -> Result<Consumer> {
        self.check()?;
        if self.core.is_closed() {
            return Err(Error::closed("the client"));
        }
        let Self { core, settings, partitions, topics, group } = self;
        let (pattern, regex) = (group.pattern.clone(), group.regex.is_some());
        let membership = group.membership(now(), &core, &settings.rack);
        let cluster = core.cluster();
        let shared = Shared::new(core, Machine::new(settings, rand::random()), membership);
        shared.command_all(|inner, now| match (&mut inner.membership, pattern) {
            (Some(membership), Some(pattern)) => {
                membership.subscribe(now, Subscription::Matching(pattern), &cluster);
            }
            (Some(membership), None) if regex => membership.subscribe(now, Subscription::Regex, &cluster),
            (Some(membership), None) => {
                membership.subscribe(now, Subscription::Topics(topics.into_iter().collect()), &cluster);
            }
            (None, _) if topics.is_empty() => inner.machine.assign(now, &partitions),
            (None, _) => inner.machine.assign_topics(now, &topics),
        })?;
        Ok(Consumer::new(shared))
    }

    fn check(&self) -> Result<()> {
        let Settings { max_wait, min_bytes, max_bytes, partition_max_bytes, prefetch, max_batch, .. } =
            self.settings;
        let invalid = |message: &str| Err(Error::new(ErrorKind::Config, message));
        self.group.check(!self.topics.is_empty(), !self.partitions.is_empty())?;
        if !self.topics.is_empty() && !self.partitions.is_empty() {
            return invalid("a consumer reads either topics or assigned partitions");
        }
        if self.partitions.iter().any(|(partition, _)| partition.partition() < 0) {
            return invalid("a partition's number cannot be negative");
        }
        if max_bytes < 1 || partition_max_bytes < 1 || min_bytes < 0 {
            return invalid(
                "fetch_max_bytes and max_partition_fetch_bytes must be above zero, fetch_min_bytes not below",
            );
        }
        if max_wait > self.core.config().request_timeout || max_wait.as_millis() > i32::MAX as u128 {
            return invalid("fetch_max_wait must not be above request_timeout");
        }
        if prefetch < LEAST_PREFETCH {
            return invalid("prefetch must be at least 64 KiB");
        }
        if max_batch == 0 || max_batch > u32::MAX as usize {
            return invalid("max_batch must be above zero and below 4 GiB");
        }
        Ok(())
    }
}

impl std::fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("settings", &self.settings)
            .field("partitions", &self.partitions)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}
