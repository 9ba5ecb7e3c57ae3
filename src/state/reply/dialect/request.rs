//! The headers of a request, as its caller writes them and as a responder reads them.
use super::*;

/// The reply partition of a requester, in the spellings of all dialects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyAddress {
    topic: String,
    /// Decimal and binary. Without one, the requester reads all partitions and the responder may choose.
    partition: Option<(String, [u8; 4])>,
}

impl ReplyAddress {
    pub(crate) fn new(topic: impl Into<String>, partition: impl Into<Option<i32>>) -> Self {
        let partition = partition.into().map(|partition| (partition.to_string(), partition.to_be_bytes()));
        Self { topic: topic.into(), partition }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn partition(&self) -> Option<i32> {
        self.partition.as_ref().map(|(_, binary)| i32::from_be_bytes(*binary))
    }
}

/// What kind of answer a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// One reply.
    #[default]
    Unary,
    /// Any number of items, of which so many may be sent before more credit comes. `None`: as many as there are.
    Stream { credit: Option<u32> },
}

const STREAM: &[u8] = b"stream";
const CANCEL: &[u8] = b"cancel";
const GRANT: &[u8] = b"credit";

/// What the headers of one request say.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    id: &'a [u8],
    to: &'a ReplyAddress,
    deadline: Digits,
    timeout: Digits,
    stream: bool,
    credit: Option<Digits>,
    attempt: Option<Digits>,
    idempotency_key: Option<&'a [u8]>,
}

impl<'a> RequestHead<'a> {
    /// `deadline` is wall clock, `timeout` what is left until then, both in milliseconds.
    pub(crate) fn new(id: &'a [u8], to: &'a ReplyAddress, deadline: i64, timeout: u64) -> Self {
        Self {
            id,
            to,
            deadline: Digits::of(u64::try_from(deadline).unwrap_or(0)),
            timeout: Digits::of(timeout),
            stream: false,
            credit: None,
            attempt: None,
            idempotency_key: None,
        }
    }

    pub(crate) fn kind(mut self, kind: Kind) -> Self {
        (self.stream, self.credit) = match kind {
            Kind::Unary => (false, None),
            Kind::Stream { credit } => (true, credit.map(|credit| Digits::of(credit.into()))),
        };
        self
    }

    /// How many times the request was sent before.
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = (attempt > 0).then(|| Digits::of(attempt.into()));
        self
    }

    pub(crate) fn idempotency_key(mut self, key: Option<&'a [u8]>) -> Self {
        self.idempotency_key = key;
        self
    }

    pub(crate) fn headers(&self, dialect: Dialect) -> HeaderList<'_> {
        let mut headers: HeaderList<'_> = Vec::with_capacity(16);
        let topic = self.to.topic.as_bytes();
        let decimal = self.to.partition.as_ref().map(|(decimal, _)| decimal.as_bytes());
        let binary = self.to.partition.as_ref().map(|(_, binary)| &binary[..]);
        if dialect.native() {
            headers.extend([(ID, self.id), (REPLY_TOPIC, topic)]);
            headers.extend(decimal.map(|decimal| (REPLY_PARTITION, decimal)));
            headers.extend([(DEADLINE, self.deadline.as_bytes()), (TIMEOUT, self.timeout.as_bytes())]);
            headers.extend(self.stream.then_some((KIND, STREAM)));
            headers.extend(self.credit.as_ref().map(|credit| (CREDIT, credit.as_bytes())));
            headers.extend(self.attempt.as_ref().map(|attempt| (ATTEMPT, attempt.as_bytes())));
            headers.extend(self.idempotency_key.map(|key| (IDEMPOTENCY, key)));
        }
        if dialect.kafka() {
            headers.extend([(KAFKA_ID, self.id), (KAFKA_REPLY_TOPIC, topic)]);
            let (text, four_bytes) = (dialect != Dialect::Spring, dialect != Dialect::Nest);
            headers.extend(decimal.filter(|_| text).map(|decimal| (KAFKA_REPLY_PARTITION, decimal)));
            headers.extend(binary.filter(|_| four_bytes).map(|binary| (KAFKA_REPLY_PARTITION, binary)));
        }
        if dialect.quarkus() {
            headers.extend([(QUARKUS_ID, self.id), (QUARKUS_REPLY_TOPIC, topic)]);
            headers.extend(binary.map(|binary| (QUARKUS_REPLY_PARTITION, binary)));
        }
        headers
    }
}

/// A record that says something about a call that is under way; it follows its request into the same partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) id: Box<[u8]>,
    pub(crate) kind: ControlKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlKind {
    /// Nobody waits for the answer any more.
    Cancel,
    /// So many further items may be sent.
    Credit(u32),
}

/// The headers of a control record. They are native: nobody else knows such records.
pub(crate) fn control_headers(id: &[u8], kind: ControlKind) -> Vec<(&'static str, Vec<u8>)> {
    let (word, credit) = match kind {
        ControlKind::Cancel => (CANCEL, None),
        ControlKind::Credit(credit) => (GRANT, Some((CREDIT, credit.to_string().into_bytes()))),
    };
    [(ID, id.to_vec()), (KIND, word.to_vec())].into_iter().chain(credit).collect()
}

/// Who asked, and where the reply goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// One that the caller understands; never [`Dialect::Auto`].
    pub(crate) dialect: Dialect,
    /// Echoed as it came: it may be text, a UUID in bytes, or anything.
    pub(crate) id: Box<[u8]>,
    pub(crate) topic: String,
    /// Without one, the partitioner chooses: the caller reads all partitions.
    pub(crate) partition: Option<i32>,
    /// Wall clock of the caller, in milliseconds.
    pub(crate) deadline: Option<i64>,
    /// What the caller had left when it sent, in milliseconds.
    pub(crate) timeout: Option<u64>,
    pub(crate) kind: Kind,
    /// How many times it was sent before.
    pub(crate) attempt: u32,
    pub(crate) idempotency_key: Option<Box<[u8]>>,
}

impl Origin {
    /// What is left for the answer in milliseconds; negative: the caller has given up. `None`: it did not say. `appended`: when the
    /// node wrote it down, if that is known; then the caller's clock does not matter. `age`: it is no older than that, whatever clocks say.
    pub(crate) fn left(&self, now: i64, appended: Option<i64>, age: Option<i64>) -> Option<i64> {
        let timeout = self.timeout.map(|timeout| i64::try_from(timeout).unwrap_or(i64::MAX));
        let end = match (appended, timeout) {
            (Some(appended), Some(timeout)) => appended.saturating_add(timeout),
            _ => self.deadline?,
        };
        let left = end.saturating_sub(now);
        let Some(timeout) = timeout else { return Some(left) };
        // A clock that is behind the caller's must not stretch the time, one that is ahead of it must not end it.
        let least = age.map_or(i64::MIN, |age| timeout.saturating_sub(age));
        Some(left.max(least).min(timeout))
    }

    /// What two requests have in common that want to be executed once.
    pub(crate) fn dedupe_key(&self) -> &[u8] {
        self.idempotency_key.as_deref().unwrap_or(&self.id)
    }
}

/// What a record on a request topic is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Request(Origin),
    /// No id or no reply topic: nobody waits for an answer.
    Event,
    /// Belongs to a request that came before.
    Control(Control),
    /// A request whose reply address cannot be read, or a control record that says nothing.
    Unanswerable,
}

/// The value of the last header of each name wins, as in Java's `lastHeader`.
#[derive(Default)]
struct Found<'a> {
    id: Option<&'a [u8]>,
    topic: Option<&'a [u8]>,
    partition: Option<&'a [u8]>,
}

impl Found<'_> {
    /// NestJS and Spring share their names, not their encodings.
    fn nest_or_spring(&self) -> Dialect {
        match self.partition {
            Some(partition) if decimal(partition).is_some() => Dialect::Nest,
            Some(_) => Dialect::Spring,
            // Spring's default is a UUID in bytes, NestJS always sends text.
            None if self.id.is_some_and(|id| id.len() == 16 && !id.is_ascii()) => Dialect::Spring,
            None => Dialect::Nest,
        }
    }
}

/// Reads the headers of a record on a request topic that may be a control record; quick with those that are none.
pub(crate) fn read_control<'a>(
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
) -> Option<Control> {
    if !headers.clone().any(|(name, _)| name == KIND.as_bytes()) {
        return None;
    }
    match read_request(headers) {
        Asked::Control(control) => Some(control),
        _ => None,
    }
}

/// Reads the headers of a record on a request topic.
pub(crate) fn read_request<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Asked {
    let (mut native, mut kafka, mut quarkus) = (Found::default(), Found::default(), Found::default());
    let (mut deadline, mut timeout, mut kind, mut credit, mut attempt, mut key) =
        (None, None, None, None, None, None);
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
            KIND => &mut kind,
            CREDIT => &mut credit,
            ATTEMPT => &mut attempt,
            IDEMPOTENCY => &mut key,
            _ => continue,
        };
        *slot = value;
    }
    let credit = credit.and_then(decimal).map(|credit| u32::try_from(credit).unwrap_or(u32::MAX));
    let control = match (kind, credit) {
        (Some(CANCEL), _) => Some(Some(ControlKind::Cancel)),
        (Some(GRANT), credit) => Some(credit.map(ControlKind::Credit)),
        _ => None,
    };
    if let Some(control) = control {
        return match (native.id, control) {
            (Some(id), Some(kind)) => Asked::Control(Control { id: id.into(), kind }),
            _ => Asked::Unanswerable,
        };
    }
    let nest_or_spring = kafka.nest_or_spring();
    for (dialect, found) in [(Dialect::Native, native), (nest_or_spring, kafka), (Dialect::Quarkus, quarkus)]
    {
        let (Some(id), Some(topic)) = (found.id, found.topic) else { continue };
        let (Ok(topic), Ok(partition)) =
            (std::str::from_utf8(topic), found.partition.map(number).transpose())
        else {
            return Asked::Unanswerable;
        };
        return Asked::Request(Origin {
            dialect,
            id: id.into(),
            topic: topic.to_owned(),
            partition,
            deadline: deadline.and_then(decimal),
            timeout: timeout.and_then(decimal).and_then(|left| u64::try_from(left).ok()),
            kind: if kind == Some(STREAM) { Kind::Stream { credit } } else { Kind::Unary },
            attempt: attempt
                .and_then(decimal)
                .map_or(0, |attempt| u32::try_from(attempt).unwrap_or(u32::MAX)),
            idempotency_key: key.map(Into::into),
        });
    }
    Asked::Event
}
