//! Where a group stands in a partition, as it is told to the coordinator and as it is told to users.
use std::sync::Arc;

/// What is committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the record to read next.
    pub(crate) offset: i64,
    /// The leader epoch of the record before it, -1 if unknown.
    pub(crate) epoch: i32,
    pub(crate) metadata: Arc<str>,
}

/// What a group has committed of a partition.
///
/// ```
/// use milena::CommittedOffset;
///
/// assert_eq!(CommittedOffset::from(42).offset, 42);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The offset of the record to read next.
    pub offset: i64,
    /// The leader epoch of the record before it, if it is known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// A text of the application, empty if there is none. Kafka takes up to 4096 bytes (`offset.metadata.max.bytes`).
    pub metadata: Arc<str>,
}

impl CommittedOffset {
    /// The same with a text of the application.
    pub fn metadata(mut self, metadata: impl Into<Arc<str>>) -> Self {
        self.metadata = metadata.into();
        self
    }
}

impl From<i64> for CommittedOffset {
    fn from(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: "".into() }
    }
}

impl From<Place> for CommittedOffset {
    fn from(Place { offset, epoch, metadata }: Place) -> Self {
        Self { offset, leader_epoch: (epoch >= 0).then_some(epoch), metadata }
    }
}

impl From<CommittedOffset> for Place {
    fn from(CommittedOffset { offset, leader_epoch, metadata }: CommittedOffset) -> Self {
        Self { offset, epoch: leader_epoch.unwrap_or(-1), metadata }
    }
}
