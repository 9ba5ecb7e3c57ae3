//! The headers of a reply, as a responder writes them and as its caller reads them.
use super::*;

/// What one record of an answer is.
#[derive(Debug)]
pub(crate) struct ReplyHead<'a> {
    origin: &'a Origin,
    /// Of a record that is not the whole answer.
    sequence: Option<Digits>,
    end: bool,
    error: Option<Failure<'a>>,
    responder: Option<&'a str>,
    capabilities: Capabilities,
}

#[derive(Debug)]
struct Failure<'a> {
    status: Digits,
    message: &'a str,
    /// As NestJS makes it of an exception.
    json: String,
}

impl<'a> ReplyHead<'a> {
    /// An item; more will come. Items are counted from 0.
    pub(crate) fn item(origin: &'a Origin, sequence: u64) -> Self {
        Self::new(origin, Some(sequence), false)
    }

    /// An item, and the end of the answer.
    pub(crate) fn last(origin: &'a Origin, sequence: u64) -> Self {
        // One that is alone need not be counted.
        Self::new(origin, Some(sequence).filter(|&sequence| sequence > 0), true)
    }

    /// The end, without an item; only for an answer that was announced as a stream, or whose items are all sent.
    pub(crate) fn end(origin: &'a Origin, sequence: u64) -> Self {
        Self::new(origin, Some(sequence), true)
    }

    /// An error; nothing comes after it.
    pub(crate) fn error(origin: &'a Origin, sequence: u64, status: u16, message: &'a str) -> Self {
        let error = Failure { status: Digits::of(status.into()), message, json: nest_error(message) };
        Self { error: Some(error), ..Self::last(origin, sequence) }
    }

    fn new(origin: &'a Origin, sequence: Option<u64>, end: bool) -> Self {
        let sequence = sequence.map(Digits::of);
        Self { origin, sequence, end, error: None, responder: None, capabilities: Capabilities::default() }
    }

    /// Who answers, so that a caller can tell the answers of several groups apart.
    pub(crate) fn responder(mut self, name: &'a str, capabilities: Capabilities) -> Self {
        (self.responder, self.capabilities) = (Some(name), capabilities);
        self
    }

    /// In the caller's dialect. Nothing that looks like a reply topic is among them, or the caller would take the reply
    /// for a request.
    pub(crate) fn headers(&self) -> HeaderList<'_> {
        let id = &*self.origin.id;
        let mut headers: HeaderList<'_> = Vec::with_capacity(6);
        match self.origin.dialect {
            Dialect::Native | Dialect::Auto => {
                let status = self.error.as_ref().map_or(&b"0"[..], |error| error.status.as_bytes());
                headers.extend([(ID, id), (STATUS, status)]);
                headers.extend(self.error.as_ref().map(|error| (ERROR, error.message.as_bytes())));
                headers.extend(self.sequence.as_ref().map(|number| (SEQUENCE, number.as_bytes())));
                headers.extend(self.responder.map(|name| (RESPONDER, name.as_bytes())));
                let capabilities = Some(self.capabilities.text()).filter(|text| !text.is_empty());
                headers.extend(capabilities.map(|text| (CAPABILITIES, text.as_bytes())));
                headers.extend(self.end.then_some((END, &b""[..])));
            }
            // Spring ignores what it does not know.
            Dialect::Nest | Dialect::Spring => {
                headers.push((KAFKA_ID, id));
                headers.extend(self.error.as_ref().map(|error| (NEST_ERROR, error.json.as_bytes())));
                headers.extend(self.end.then_some((NEST_DISPOSED, &[0][..])));
            }
            Dialect::Quarkus => {
                headers.push((QUARKUS_ID, id));
                headers.extend(self.error.as_ref().map(|error| (QUARKUS_ERROR, error.message.as_bytes())));
            }
        }
        headers
    }
}

/// The object that NestJS makes of an exception.
pub(super) fn nest_error(message: &str) -> String {
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

/// What the headers of a reply say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReadReply<'a> {
    pub(crate) id: Option<&'a [u8]>,
    /// By whose names the id was found.
    pub(crate) dialect: Option<Dialect>,
    /// The code and the message of an error reply.
    pub(crate) error: Option<(u16, &'a [u8])>,
    /// It says itself that it is the last; an error always is. Spring and Quarkus never say so.
    pub(crate) end: bool,
    /// The place in the stream; only native replies have one.
    pub(crate) sequence: Option<u64>,
    pub(crate) responder: Option<&'a [u8]>,
    pub(crate) capabilities: Capabilities,
    /// It names a reply topic: somebody uses one topic for both, and this is a request.
    pub(crate) is_request: bool,
}

/// Reads the headers of a record on a reply topic, whoever wrote it.
pub(crate) fn read_reply<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> ReadReply<'a> {
    let (mut native, mut kafka, mut quarkus) = (None, None, None);
    let (mut status, mut message, mut sequence) = (None, None, None);
    let (mut nest, mut quarkus_error, mut disposed) = (None, None, false);
    let mut reply = ReadReply::default();
    for (name, value) in headers {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let slot = match name {
            ID => &mut native,
            KAFKA_ID => &mut kafka,
            QUARKUS_ID => &mut quarkus,
            STATUS => &mut status,
            ERROR => &mut message,
            SEQUENCE => &mut sequence,
            RESPONDER => &mut reply.responder,
            // Of these it counts that they are there, whatever their values.
            END => {
                reply.end = true;
                continue;
            }
            NEST_DISPOSED => {
                disposed = true;
                continue;
            }
            NEST_ERROR => {
                nest = Some(value.unwrap_or_default());
                continue;
            }
            QUARKUS_ERROR => {
                quarkus_error = Some(value.unwrap_or_default());
                continue;
            }
            REPLY_TOPIC | KAFKA_REPLY_TOPIC | QUARKUS_REPLY_TOPIC => {
                reply.is_request = true;
                continue;
            }
            CAPABILITIES => {
                reply.capabilities = Capabilities::read(value.unwrap_or_default());
                continue;
            }
            _ => continue,
        };
        *slot = value;
    }
    let nest_or_spring = if disposed || nest.is_some() { Dialect::Nest } else { Dialect::Spring };
    let by_name = [(native, Dialect::Native), (kafka, nest_or_spring), (quarkus, Dialect::Quarkus)];
    let found = by_name.into_iter().find_map(|(id, dialect)| Some((id?, dialect)));
    (reply.id, reply.dialect) = found.unzip();
    let status =
        status.map(|text| decimal(text).and_then(|code| u16::try_from(code).ok()).unwrap_or(UNKNOWN));
    reply.error = match status {
        Some(0) | None => nest.or(quarkus_error).map(|text| (UNKNOWN, text)),
        Some(code) => Some((code, message.or(nest).unwrap_or_default())),
    };
    reply.end |= disposed || reply.error.is_some();
    reply.sequence = match reply.dialect {
        Some(Dialect::Native) => {
            let written = sequence.and_then(decimal).and_then(|number| u64::try_from(number).ok());
            // An answer of one record is not counted.
            written.or(reply.end.then_some(0))
        }
        _ => None,
    };
    reply
}
