//! What a call gives.
use crate::consumer::ConsumerRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Headers;
use crate::state::reply::answerers::Answerer;
use crate::state::reply::dialect::{Dialect, read_reply};

use super::{Decode, ErrorReply};

/// The reply to a request.
///
/// It shares the memory of the fetch it came with (see [`ConsumerRecord`]): copy what is to be kept for long.
#[derive(Debug, Clone)]
pub struct Reply {
    record: ConsumerRecord,
    answerer: Answerer,
}

impl Reply {
    pub(super) fn new(record: ConsumerRecord, answerer: Answerer) -> Self {
        Self { record, answerer }
    }

    pub(super) fn answerer(&self) -> Answerer {
        self.answerer
    }

    /// The value; a null value reads as empty, see [`Reply::is_null`].
    pub fn value(&self) -> &[u8] {
        self.record.value().unwrap_or_default()
    }

    /// Whether the value is null: the responder answered nothing.
    pub fn is_null(&self) -> bool {
        self.record.value().is_none()
    }

    /// The value as text, with U+FFFD for bytes that are none.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.value())
    }

    /// The value, decoded.
    ///
    /// # Errors
    /// [`ErrorKind::Message`]: the value is something else.
    pub fn decode<D: Decode>(&self) -> Result<D> {
        D::decode(self.record.value()).map_err(|error| {
            Error::new(ErrorKind::Message, "the reply cannot be read")
                .on_partition(self.record.topic(), self.record.partition())
                .caused_by(error)
        })
    }

    /// The value, read from JSON as [`Json`](super::Json) does; feature `json`.
    ///
    /// # Errors
    /// [`ErrorKind::Message`]: the value is something else.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        self.decode().map(|super::Json(value)| value)
    }

    /// The key; replies mostly have none.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    /// The headers, those of request-reply itself among them.
    pub fn headers(&self) -> Headers<'_> {
        self.record.headers()
    }

    /// The record as it was read.
    pub fn record(&self) -> &ConsumerRecord {
        &self.record
    }
}

impl AsRef<[u8]> for Reply {
    fn as_ref(&self) -> &[u8] {
        self.value()
    }
}

/// The error that an error reply becomes.
pub(super) fn refused(record: &ConsumerRecord, status: u16, message: &[u8]) -> Error {
    let reply = match read_reply(record.headers()).dialect {
        Some(Dialect::Nest) => ErrorReply::of_nest(status, message),
        _ => ErrorReply::new(status, message),
    };
    Error::new(ErrorKind::Reply, "the responder answered with an error")
        .on_partition(record.topic(), record.partition())
        .retriable(false)
        .caused_by(reply)
}
