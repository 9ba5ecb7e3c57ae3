//! Headers: how a request says where its reply goes, and how a reply says which call it ends.
//!
//! | | id | reply topic | reply partition | end of the answer | error |
//! | --- | --- | --- | --- | --- | --- |
//! | native | `rpc-id` | `rpc-reply-topic` | `rpc-reply-partition`, decimal | `rpc-end` | `rpc-status`, `rpc-error` |
//! | NestJS | `kafka_correlationId` | `kafka_replyTopic` | `kafka_replyPartition`, decimal | `kafka_nest-is-disposed` | `kafka_nest-err` |
//! | Spring | the same | the same | the same name, 4 bytes big-endian | first record | |
//! | Quarkus | `REPLY_CORRELATION_ID` | `REPLY_TOPIC` | `REPLY_PARTITION`, 4 bytes big-endian | first record | |
//!
//! Only the native headers know more: what kind of answer is wanted (`rpc-kind`, `rpc-credit`), which attempt this is
//! (`rpc-attempt`, `rpc-idem`), and in replies which item of a stream (`rpc-seq`), from whom (`rpc-responder`) and what that one
//! can do (`rpc-caps`).
//!
//! Every reader here takes any bytes: headers come from strangers.
mod nest_error;
mod reply;
mod request;

pub(crate) use nest_error::nest_message;
pub(crate) use reply::{ReadReply, ReplyHead, read_reply};
pub(crate) use request::{
    Asked, Control, ControlKind, Kind, Origin, ReplyAddress, RequestHead, control_headers, read_control,
    read_request,
};

const ID: &str = "rpc-id";
const REPLY_TOPIC: &str = "rpc-reply-topic";
const REPLY_PARTITION: &str = "rpc-reply-partition";
const DEADLINE: &str = "rpc-deadline";
const TIMEOUT: &str = "rpc-timeout";
const STATUS: &str = "rpc-status";
const ERROR: &str = "rpc-error";
const END: &str = "rpc-end";
const KIND: &str = "rpc-kind";
const CREDIT: &str = "rpc-credit";
const ATTEMPT: &str = "rpc-attempt";
const IDEMPOTENCY: &str = "rpc-idem";
const SEQUENCE: &str = "rpc-seq";
const RESPONDER: &str = "rpc-responder";
const CAPABILITIES: &str = "rpc-caps";

const KAFKA_ID: &str = "kafka_correlationId";
const KAFKA_REPLY_TOPIC: &str = "kafka_replyTopic";
const KAFKA_REPLY_PARTITION: &str = "kafka_replyPartition";
const NEST_ERROR: &str = "kafka_nest-err";
const NEST_DISPOSED: &str = "kafka_nest-is-disposed";

const QUARKUS_ID: &str = "REPLY_CORRELATION_ID";
const QUARKUS_REPLY_TOPIC: &str = "REPLY_TOPIC";
const QUARKUS_REPLY_PARTITION: &str = "REPLY_PARTITION";
const QUARKUS_ERROR: &str = "REPLY_ERROR";

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

/// What a responder understands beyond answering, as it announces in its replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Capabilities {
    /// A call that nobody waits for any more may be called off.
    pub(crate) cancel: bool,
    /// The items of a stream wait for credit.
    pub(crate) credit: bool,
    /// A request that comes again is not executed again.
    pub(crate) dedupe: bool,
}

impl Capabilities {
    fn text(self) -> &'static str {
        match (self.cancel, self.credit, self.dedupe) {
            (false, false, false) => "",
            (true, false, false) => "cancel",
            (false, true, false) => "credit",
            (true, true, false) => "cancel,credit",
            (false, false, true) => "dedupe",
            (true, false, true) => "cancel,dedupe",
            (false, true, true) => "credit,dedupe",
            (true, true, true) => "cancel,credit,dedupe",
        }
    }

    fn read(text: &[u8]) -> Self {
        let has = |name: &str| text.split(|&byte| byte == b',').any(|word| word == name.as_bytes());
        Self { cancel: has("cancel"), credit: has("credit"), dedupe: has("dedupe") }
    }
}

/// Names and values, in the order of the wire.
pub(crate) type HeaderList<'a> = Vec<(&'static str, &'a [u8])>;

/// A partition number in either spelling. Four digits are digits: no topic has 825 million partitions.
fn number(bytes: &[u8]) -> Result<i32, ()> {
    let number = match (decimal(bytes), <[u8; 4]>::try_from(bytes)) {
        (Some(number), _) => i32::try_from(number).map_err(drop)?,
        (None, Ok(binary)) => i32::from_be_bytes(binary),
        (None, Err(_)) => return Err(()),
    };
    if number < 0 { Err(()) } else { Ok(number) }
}

/// A number as text.
#[derive(Debug, Clone, Copy)]
struct Digits {
    text: [u8; 20],
    begin: usize,
}

impl Digits {
    fn of(mut number: u64) -> Self {
        let mut digits = Self { text: [b'0'; 20], begin: 20 };
        loop {
            digits.begin -= 1;
            digits.text[digits.begin] += (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[self.begin..]
    }
}

fn decimal(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
