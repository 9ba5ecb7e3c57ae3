//! A record that was read and is kept.
use bytes::Bytes;

use super::content::Content;
use super::{Headers, Record};

/// A record that was read and is kept: 48 bytes and one reference count on the bytes of its batch.
///
/// It keeps the whole inflated batch in memory, and of an uncompressed one the whole fetch response (at most `fetch_max_bytes`).
/// Whoever keeps few records for long should copy what is needed instead.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Key, value and headers as they stand in the batch; looked into on demand.
    content: Bytes,
    offset: i64,
    timestamp: i64,
}

impl OwnedRecord {
    /// `content` is of a batch that was validated.
    #[inline]
    pub(super) fn new(content: Bytes, offset: i64, timestamp: i64) -> Self {
        Self { content, offset, timestamp }
    }

    #[inline]
    fn content(&self) -> Content<'_> {
        Content(&self.content)
    }

    /// Its offset in the partition.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970-01-01 UTC, -1 if it has none.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key; `None` is null.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.content().key()
    }

    /// The value; `None` is null, a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.content().value()
    }

    /// The headers.
    #[inline]
    pub fn headers(&self) -> Headers<'_> {
        self.content().headers()
    }

    /// The key as bytes of its own, which share the batch's memory.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key().map(|key| self.content.slice_ref(key))
    }

    /// The value as bytes of its own, which share the batch's memory.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(|value| self.content.slice_ref(value))
    }

    /// The same content as a record to be sent, with its timestamp, without partition.
    pub fn to_record(&self) -> Record<'_> {
        self.content().to_record(self.timestamp)
    }
}

impl std::fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.content().debug("OwnedRecord", self.offset, self.timestamp, f)
    }
}
