//! What a consumer's machine is told once, and the words for where to read.
use std::sync::Arc;
use std::time::Duration;

use crate::state::backoff::Backoff;

/// Where to begin reading a partition, or to go on.
///
/// ```
/// use milena::Offset;
///
/// assert_eq!(Offset::from(42), Offset::At(42));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Offset {
    /// At exactly this offset. Whether it is in the log shows when it is fetched.
    At(i64),
    /// At the oldest record there is.
    Beginning,
    /// Behind the newest record there is: only what is written later is read. With
    /// [`IsolationLevel::ReadCommitted`] that is the last stable offset, so that open transactions are not skipped.
    End,
    /// At the first record whose timestamp, in milliseconds since 1970-01-01 UTC, is at least this; the end if none is.
    Timestamp(i64),
}

impl From<i64> for Offset {
    fn from(offset: i64) -> Self {
        Self::At(offset)
    }
}

/// What to do where a partition has no position, or one that is no longer in the log (Kafka's `auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OffsetReset {
    /// Read from the oldest record (`earliest`). The default, because it skips nothing.
    #[default]
    Earliest,
    /// Read what is written from now on (`latest`, the default of Java and librdkafka).
    Latest,
    /// Report an error of kind [`ErrorKind::Position`](crate::ErrorKind::Position) (`none`).
    None,
}

/// Which records of transactions are handed out (Kafka's `isolation.level`, KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// All of them, also those of open and aborted transactions (`read_uncommitted`). The default, as Java's.
    #[default]
    ReadUncommitted,
    /// Only those of committed transactions; reading stops in front of an open one (`read_committed`).
    ReadCommitted,
}

/// Why reading did not go on where it had stopped, although the reset policy let it go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PositionReset {
    /// The offset that would have been read next.
    pub expected: i64,
    /// What had become of it.
    pub reason: ResetReason,
}

/// See [`PositionReset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// It was not in the log: retention removed it, or the log ends before it.
    OutOfRange,
    /// The log was cut off below it after an unclean leader election; what had been read there is not in the log (KIP-320).
    Truncated,
    /// The topic was deleted and created again.
    Recreated,
}

/// The options of a consumer, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) isolation: IsolationLevel,
    pub(crate) reset: OffsetReset,
    pub(crate) max_wait: Duration,
    /// For how long beyond `max_wait` a node may say nothing at all before its connection is taken for dead. `None`: until the request's
    /// time is over.
    pub(crate) silence: Option<Duration>,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) partition_max_bytes: i32,
    /// Bytes of batches that may wait to be handed out.
    pub(crate) prefetch: usize,
    /// Bytes that one batch may inflate to.
    pub(crate) max_batch: usize,
    pub(crate) check_crcs: bool,
    pub(crate) rack: Arc<str>,
    pub(crate) backoff: Backoff,
    /// How long a preferred replica is read before the leader is asked again.
    pub(crate) replica_age: Duration,
    /// How long a topic may be unknown before that is reported.
    pub(crate) grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            isolation: IsolationLevel::default(),
            reset: OffsetReset::default(),
            max_wait: Duration::from_millis(500),
            silence: None,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            prefetch: 64 << 20,
            max_batch: 128 << 20,
            check_crcs: true,
            rack: "".into(),
            backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) },
            replica_age: Duration::from_secs(300),
            grace: Duration::from_secs(30),
        }
    }
}
