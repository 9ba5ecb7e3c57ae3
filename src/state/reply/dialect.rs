//! Headers: how a request says where its reply goes, and how a reply says which call it ends.
//!
//! | | id | reply topic | reply partition | end of the answer | error |
//! | --- | --- | --- | --- | --- | --- |
//! | native | `rpc-id` | `rpc-reply-topic` | `rpc-reply-partition`, decimal | `rpc-end` | `rpc-status`, `rpc-error` |
//! | NestJS | `kafka_correlationId` | `kafka_replyTopic` | `kafka_replyPartition`, decimal | `kafka_nest-is-disposed` | `kafka_nest-err` |
//! | Spring | the same | the same | the same name, 4 bytes big-endian | first record | |
//! | Quarkus | `REPLY_CORRELATION_ID` | `REPLY_TOPIC` | `REPLY_PARTITION`, 4 bytes big-endian | first record | |
//!
//! Every reader here takes any bytes: headers come from strangers.

const ID: &str = "rpc-id";
const REPLY_TOPIC: &str = "rpc-reply-topic";
const REPLY_PARTITION: &str = "rpc-reply-partition";
const DEADLINE: &str = "rpc-deadline";
const TIMEOUT: &str = "rpc-timeout";
const STATUS: &str = "rpc-status";
const ERROR: &str = "rpc-error";
const END: &str = "rpc-end";

const KAFKA_ID: &str = "kafka_correlationId";
const KAFKA_REPLY_TOPIC: &str = "kafka_replyTopic";
const KAFKA_REPLY_PARTITION: &str = "kafka_replyPartition";
const NEST_ERROR: &str = "kafka_nest-err";
const NEST_DISPOSED: &str = "kafka_nest-is-disposed";

const QUARKUS_ID: &str = "REPLY_CORRELATION_ID";
const QUARKUS_REPLY_TOPIC: &str = "REPLY_TOPIC";
const QUARKUS_REPLY_PARTITION: &str = "REPLY_PARTITION";

/// The code of an error reply that gives none (gRPC's UNKNOWN).
pub(crate) const UNKNOWN: u16 = 2;

/// Which headers a requester puts on its requests. Replies are understood in every dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// All of them (about 350 bytes): milena, NestJS, Spring and Quarkus responders each find their own.
    ///
    /// NestJS and Spring use one name, `kafka_replyPartition`, for two encodings. It is sent twice, decimal text first,
    /// four bytes last: NestJS reads the first, Spring the last.
    #[default]
    Auto,
    /// milena's own headers, with the deadline.
    Native,
    /// NestJS microservices. Each request topic has a reply topic of its own by default, `<request topic>.reply`.
    Nest,
    /// Spring for Apache Kafka (`@SendTo`), with the id as text.
    Spring,
    /// Quarkus, SmallRye Reactive Messaging.
    Quarkus,
}

impl Dialect {
    fn native(self) -> bool {
        matches!(self, Self::Auto | Self::Native)
    }

    fn kafka(self) -> bool {
        matches!(self, Self::Auto | Self::Nest | Self::Spring)
    }

    fn quarkus(self) -> bool {
        matches!(self, Self::Auto | Self::Quarkus)
    }
}

/// The reply partition of a requester, in the spellings of all dialects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyAddress {
    topic: String,
    decimal: String,
    binary: [u8; 4],
}

impl ReplyAddress {
    pub(crate) fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), decimal: partition.to_string(), binary: partition.to_be_bytes() }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }
}

/// What the headers of one request say.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    id: &'a [u8],
    to: &'a ReplyAddress,
    deadline: String,
    timeout: String,
}

impl<'a> RequestHead<'a> {
    /// `deadline` is wall clock, `timeout` what is left until then, both in milliseconds.
    pub(crate) fn new(id: &'a [u8], to: &'a ReplyAddress, deadline: i64, timeout: u64) -> Self {
        Self { id, to, deadline: deadline.to_string(), timeout: timeout.to_string() }
    }

    pub(crate) fn headers(&self, dialect: Dialect) -> Vec<(&'static str, &[u8])> {
        let mut headers: Vec<(&'static str, &[u8])> = Vec::with_capacity(12);
        let (topic, decimal, binary) =
            (self.to.topic.as_bytes(), self.to.decimal.as_bytes(), &self.to.binary);
        if dialect.native() {
            headers.extend([(ID, self.id), (REPLY_TOPIC, topic), (REPLY_PARTITION, decimal)]);
            headers.extend([(DEADLINE, self.deadline.as_bytes()), (TIMEOUT, self.timeout.as_bytes())]);
        }
        if dialect.kafka() {
            headers.extend([(KAFKA_ID, self.id), (KAFKA_REPLY_TOPIC, topic)]);
            if dialect != Dialect::Spring {
                headers.push((KAFKA_REPLY_PARTITION, decimal));
            }
            if dialect != Dialect::Nest {
                headers.push((KAFKA_REPLY_PARTITION, binary));
            }
        }
        if dialect.quarkus() {
            headers.extend([(QUARKUS_ID, self.id), (QUARKUS_REPLY_TOPIC, topic)]);
            headers.push((QUARKUS_REPLY_PARTITION, binary));
        }
        headers
    }
}

/// Which names the caller used, hence which it understands in the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Native,
    /// NestJS or Spring.
    Kafka,
    Quarkus,
}

/// Who asked, and where the reply goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    names: Names,
    /// Echoed as it came: it may be text, a UUID in bytes, or anything.
    id: Box<[u8]>,
    pub(crate) topic: String,
    /// Without one, the partitioner chooses: the caller reads all partitions.
    pub(crate) partition: Option<i32>,
    /// Wall clock of the caller, in milliseconds.
    pub(crate) deadline: Option<i64>,
    /// What the caller had left when it sent, in milliseconds.
    pub(crate) timeout: Option<u64>,
}

/// What a record on a request topic is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Request(Origin),
    /// No id or no reply topic: nobody waits for an answer.
    Event,
    /// A request whose reply address cannot be read.
    Unanswerable,
}

/// The value of the last header of each name wins, as in Java's `lastHeader`.
#[derive(Default)]
struct Found<'a> {
    id: Option<&'a [u8]>,
    topic: Option<&'a [u8]>,
    partition: Option<&'a [u8]>,
}

/// Reads the headers of a record on a request topic.
pub(crate) fn read_request<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Asked {
    let (mut native, mut kafka, mut quarkus) = (Found::default(), Found::default(), Found::default());
    let (mut deadline, mut timeout) = (None, None);
    for (name, value) in headers {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let slot = match name {
            ID => &mut native.id,
            REPLY_TOPIC => &mut native.topic,
            REPLY_PARTITION => &mut native.partition,
            KAFKA_ID => &mut kafka.id,
            KAFKA_REPLY_TOPIC => &mut kafka.topic,
            KAFKA_REPLY_PARTITION => &mut kafka.partition,
            QUARKUS_ID => &mut quarkus.id,
            QUARKUS_REPLY_TOPIC => &mut quarkus.topic,
            QUARKUS_REPLY_PARTITION => &mut quarkus.partition,
            DEADLINE => &mut deadline,
            TIMEOUT => &mut timeout,
            _ => continue,
        };
        *slot = value;
    }
    for (names, found) in [(Names::Native, native), (Names::Kafka, kafka), (Names::Quarkus, quarkus)] {
        let (Some(id), Some(topic)) = (found.id, found.topic) else { continue };
        let (Ok(topic), Ok(partition)) =
            (std::str::from_utf8(topic), found.partition.map(number).transpose())
        else {
            return Asked::Unanswerable;
        };
        return Asked::Request(Origin {
            names,
            id: id.into(),
            topic: topic.to_owned(),
            partition,
            deadline: deadline.and_then(decimal),
            timeout: timeout.and_then(decimal).and_then(|left| u64::try_from(left).ok()),
        });
    }
    Asked::Event
}

impl Origin {
    /// What is left for the answer in milliseconds; negative: the caller has given up. `None`: it did not say.
    pub(crate) fn left(&self, now: i64) -> Option<i64> {
        let left = self.deadline?.saturating_sub(now);
        // A clock that is behind the caller's must not stretch the time.
        Some(self.timeout.map_or(left, |timeout| left.min(i64::try_from(timeout).unwrap_or(i64::MAX))))
    }
}

/// How the answer to one request ended: 0 and no message, or an error.
#[derive(Debug)]
pub(crate) struct ReplyHead<'a> {
    origin: &'a Origin,
    status: String,
    error: Option<(&'a str, String)>,
}

impl<'a> ReplyHead<'a> {
    pub(crate) fn ok(origin: &'a Origin) -> Self {
        Self { origin, status: "0".to_owned(), error: None }
    }

    pub(crate) fn error(origin: &'a Origin, status: u16, message: &'a str) -> Self {
        Self { origin, status: status.to_string(), error: Some((message, nest_error(message))) }
    }

    /// In the caller's dialect; the last (and only) record of the answer. Nothing that looks like a reply topic is
    /// among them, or the caller would take the reply for a request.
    pub(crate) fn headers(&self) -> Vec<(&'static str, &[u8])> {
        let id = &*self.origin.id;
        match (self.origin.names, &self.error) {
            (Names::Native, None) => vec![(ID, id), (STATUS, self.status.as_bytes()), (END, b"")],
            (Names::Native, Some((message, _))) => {
                vec![(ID, id), (STATUS, self.status.as_bytes()), (ERROR, message.as_bytes()), (END, b"")]
            }
            // Spring ignores what it does not know.
            (Names::Kafka, None) => vec![(KAFKA_ID, id), (NEST_DISPOSED, &[0])],
            (Names::Kafka, Some((_, json))) => {
                vec![(KAFKA_ID, id), (NEST_ERROR, json.as_bytes()), (NEST_DISPOSED, &[0])]
            }
            (Names::Quarkus, None) => vec![(QUARKUS_ID, id)],
            (Names::Quarkus, Some((message, _))) => {
                vec![(QUARKUS_ID, id), ("REPLY_ERROR", message.as_bytes())]
            }
        }
    }
}

/// What the headers of a reply say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadReply<'a> {
    pub(crate) id: Option<&'a [u8]>,
    /// The code and the message of an error reply.
    pub(crate) error: Option<(u16, &'a [u8])>,
}

/// Reads the headers of a record on a reply topic, whoever wrote it.
pub(crate) fn read_reply<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> ReadReply<'a> {
    let (mut native, mut kafka, mut quarkus) = (None, None, None);
    let (mut status, mut message, mut nest) = (None, None, None);
    for (name, value) in headers {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let slot = match name {
            ID => &mut native,
            KAFKA_ID => &mut kafka,
            QUARKUS_ID => &mut quarkus,
            STATUS => &mut status,
            ERROR => &mut message,
            // An error whatever its value.
            NEST_ERROR => {
                nest = Some(value.unwrap_or_default());
                continue;
            }
            _ => continue,
        };
        *slot = value;
    }
    let status =
        status.map(|text| decimal(text).and_then(|code| u16::try_from(code).ok()).unwrap_or(UNKNOWN));
    let error = match status {
        Some(0) | None => nest.map(|text| (UNKNOWN, text)),
        Some(code) => Some((code, message.or(nest).unwrap_or_default())),
    };
    ReadReply { id: native.or(kafka).or(quarkus), error }
}

/// A partition number in either spelling. Four digits are digits: no topic has 825 million partitions.
fn number(bytes: &[u8]) -> Result<i32, ()> {
    let number = match (decimal(bytes), <[u8; 4]>::try_from(bytes)) {
        (Some(number), _) => i32::try_from(number).map_err(drop)?,
        (None, Ok(binary)) => i32::from_be_bytes(binary),
        (None, Err(_)) => return Err(()),
    };
    if number < 0 { Err(()) } else { Ok(number) }
}

fn decimal(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The object that NestJS makes of an exception.
fn nest_error(message: &str) -> String {
    use std::fmt::Write as _;
    let mut json = String::with_capacity(message.len() + 32);
    json.push_str(r#"{"status":"error","message":""#);
    for character in message.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            control if control < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push_str("\"}");
    json
}

#[cfg(test)]
mod tests;
