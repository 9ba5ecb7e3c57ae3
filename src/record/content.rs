//! What a record carries, as it stands in a batch.
use std::fmt;

use super::{Headers, Record};
use crate::protocol::primitives::{Cursor, Malformed};

/// Key, value and headers of a record of a validated batch, looked into on demand: whoever needs the value only
/// pays for nothing else.
#[derive(Clone, Copy)]
pub(super) struct Content<'a>(pub(super) &'a [u8]);

impl<'a> Content<'a> {
    /// Sees that key, value and all headers are there, and nothing else.
    pub(super) fn validate(self) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(self.0);
        cursor.varint_bytes()?;
        cursor.varint_bytes()?;
        Headers::parse(cursor.rest())?.validate()
    }

    #[inline(always)]
    pub(super) fn key(self) -> Option<&'a [u8]> {
        Cursor::new(self.0).varint_bytes().unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn value(self) -> Option<&'a [u8]> {
        let mut cursor = Cursor::new(self.0);
        cursor.varint_bytes().and_then(|_key| cursor.varint_bytes()).unwrap_or_default()
    }

    #[inline]
    pub(super) fn headers(self) -> Headers<'a> {
        let mut cursor = Cursor::new(self.0);
        let skipped = cursor.varint_bytes().and_then(|_key| cursor.varint_bytes());
        skipped.and_then(|_value| Headers::parse(cursor.rest())).unwrap_or_else(|_| Headers::none())
    }

    pub(super) fn to_record(self, timestamp: i64) -> Record<'a> {
        let mut record = Record::tombstone().headers(self.headers());
        record.key = self.key();
        record.value = self.value();
        record.timestamp = (timestamp >= 0).then_some(timestamp);
        record
    }

    pub(super) fn debug(
        self,
        name: &str,
        offset: i64,
        timestamp: i64,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.debug_struct(name)
            .field("offset", &offset)
            .field("timestamp", &timestamp)
            .field("key", &self.key())
            .field("value", &self.value())
            .field("headers", &self.headers())
            .finish()
    }
}
