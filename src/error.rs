//! The one error type: a kind, the broker's code, where it happened, and what it means for the caller.
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::protocol::error_code::ErrorCode;

/// `std::result::Result` with milena's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and whether it is worth trying again.
///
/// Cheap to clone: all deliveries of a batch share one.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    code: Option<ErrorCode>,
    address: Option<String>,
    api: Option<&'static str>,
    topic: Option<Arc<str>>,
    partition: Option<i32>,
    retriable: Option<bool>,
    maybe_written: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The rough class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option or an argument is wrong; nothing was sent.
    Config,
    /// No connection: the name does not resolve, nobody listens, the connection was lost.
    Connect,
    /// A time limit passed.
    Timeout,
    /// The peer's bytes do not follow the Kafka protocol.
    Protocol,
    /// The node does not offer the API, the version or the feature that is needed, or this build lacks it.
    Unsupported,
    /// A node answered with an error code.
    Broker,
    /// A record cannot be sent as it is, for instance because it is too large.
    Record,
    /// A batch in the log is damaged: wrong checksum, unknown codec, impossible lengths.
    Corrupt,
    /// The position to read from is not in the log, and no reset policy covers it.
    Position,
    /// The value of a message cannot be encoded or decoded.
    Message,
    /// A request was answered with an error by the responder's application.
    Reply,
    /// A group has no partition left for this member.
    Starved,
    /// What a call waited for cannot come any more: its reply topic was deleted, or deleted and created again.
    Gone,
    /// As much is in flight as may be, and the call was not to wait.
    Full,
    /// The handle was closed, or its driver ended.
    Closed,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            code: None,
            address: None,
            api: None,
            topic: None,
            partition: None,
            retriable: None,
            maybe_written: false,
            source: None,
        }))
    }

    /// An error code that a node answered, with what was attempted.
    pub(crate) fn broker(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Broker, message).with(|inner| inner.code = Some(code))
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("{what} is closed"))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Where it happened; who said so first was closest.
    pub(crate) fn at_address(self, address: impl Into<String>) -> Self {
        self.with(|inner| inner.address = inner.address.take().or_else(|| Some(address.into())))
    }

    /// In which call; a failed handshake stays one although a call waited for it.
    pub(crate) fn in_api(self, api: &'static str) -> Self {
        self.with(|inner| inner.api = inner.api.or(Some(api)))
    }

    pub(crate) fn on_topic(self, topic: impl Into<Arc<str>>) -> Self {
        self.with(|inner| inner.topic = Some(topic.into()))
    }

    pub(crate) fn on_partition(self, topic: impl Into<Arc<str>>, partition: i32) -> Self {
        self.on_topic(topic).with(|inner| inner.partition = Some(partition))
    }

    /// Says what [`Error::is_retriable`] answers, where the kind and the code do not decide it.
    pub(crate) fn retriable(self, retriable: bool) -> Self {
        self.with(|inner| inner.retriable = Some(retriable))
    }

    /// Marks that the record or the request may have taken effect although no answer said so.
    pub(crate) fn unsure(self) -> Self {
        self.with(|inner| inner.maybe_written = true)
    }

    pub(crate) fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source: Box<dyn StdError + Send + Sync> = source.into();
        self.with(|inner| inner.source = Some(Arc::from(source)))
    }

    /// The rough class.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The code that a node answered, if one did.
    pub fn code(&self) -> Option<ErrorCode> {
        self.0.code
    }

    /// The topic it is about.
    pub fn topic(&self) -> Option<&str> {
        self.0.topic.as_deref()
    }

    /// The partition it is about.
    pub fn partition(&self) -> Option<i32> {
        self.0.partition
    }

    /// The address of the node it happened at.
    pub fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// Kafka's name of the API that was called.
    pub fn api(&self) -> Option<&'static str> {
        self.0.api
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retriable(&self) -> bool {
        self.0.retriable.unwrap_or(match self.0.kind {
            ErrorKind::Connect | ErrorKind::Timeout => true,
            ErrorKind::Broker => self.0.code.is_some_and(ErrorCode::is_retriable),
            _ => false,
        })
    }

    /// Whether a time limit passed.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout || self.0.code == Some(ErrorCode::REQUEST_TIMED_OUT)
    }

    /// Whether the handle was closed.
    pub fn is_closed(&self) -> bool {
        self.0.kind == ErrorKind::Closed
    }

    /// Whether the record or request may be in the log although this error was reported: it was handed to a socket,
    /// and no answer settled it. Never so for requests that only ask.
    pub fn maybe_written(&self) -> bool {
        self.0.maybe_written && !self.0.api.is_some_and(only_asks)
    }
}

/// Whether a request of this API leaves the node as it was.
fn only_asks(api: &str) -> bool {
    const OTHERS: [&str; 6] =
        ["ApiVersions", "Fetch", "FindCoordinator", "Metadata", "OffsetFetch", "OffsetForLeaderEpoch"];
    api.starts_with("Describe") || api.starts_with("List") || OTHERS.contains(&api)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(&inner.message)?;
        if let Some(code) = inner.code {
            write!(f, ": {code}")?;
        }
        let mut open = " [";
        let mut part = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            let result = write!(f, "{open}{name} {value}");
            open = ", ";
            result
        };
        if let Some(address) = &inner.address {
            part(f, "node", address)?;
        }
        if let Some(api) = inner.api {
            part(f, "api", &api)?;
        }
        if let Some(topic) = &inner.topic {
            part(f, "topic", topic)?;
        }
        if let Some(partition) = inner.partition {
            part(f, "partition", &partition)?;
        }
        if self.maybe_written() {
            part(f, "may be written:", &"yes")?;
        }
        if open == ", " {
            f.write_str("]")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_where_it_happened() {
        let error = Error::broker(ErrorCode::NOT_LEADER_OR_FOLLOWER, "produce failed")
            .at_address("127.0.0.1:9092")
            .in_api("Produce")
            .on_partition("orders", 3)
            .unsure();
        assert_eq!(
            error.to_string(),
            "produce failed: NOT_LEADER_OR_FOLLOWER (6) [node 127.0.0.1:9092, api Produce, topic orders, partition 3, \
             may be written: yes]"
        );
        assert!(error.is_retriable() && error.maybe_written() && !error.is_timeout());
    }
}
