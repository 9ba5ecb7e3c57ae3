//! What a handler answers, and how an error travels back to the caller.
use std::fmt;

use bytes::Bytes;

use super::answer_stream::AnswerStream;
use super::message::Encode;
use crate::state::reply::dialect::nest_message;

/// The outcome of a request as a number: the codes of gRPC, which most people know.
///
/// It travels in the header `rpc-status`. Callers of other dialects see the message only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u16);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Its name, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// No error.
    OK = 0;
    /// The work was cancelled.
    CANCELLED = 1;
    /// An error of no particular class: what a handler's plain error becomes.
    UNKNOWN = 2;
    /// The request makes no sense, whatever the state of the system.
    INVALID_ARGUMENT = 3;
    /// The deadline passed before the work was done.
    DEADLINE_EXCEEDED = 4;
    /// What was asked for is not there.
    NOT_FOUND = 5;
    /// What should be made is there already.
    ALREADY_EXISTS = 6;
    /// The caller may not do this.
    PERMISSION_DENIED = 7;
    /// A limit is reached; also: the answer was too large for its topic.
    RESOURCE_EXHAUSTED = 8;
    /// The system is not in the state that this needs.
    FAILED_PRECONDITION = 9;
    /// The work was broken off, typically by a conflict.
    ABORTED = 10;
    /// Past the end.
    OUT_OF_RANGE = 11;
    /// Nobody offers this.
    UNIMPLEMENTED = 12;
    /// The responder is broken; also: its handler panicked.
    INTERNAL = 13;
    /// Not now; the same request may succeed later.
    UNAVAILABLE = 14;
    /// Data is lost or damaged.
    DATA_LOSS = 15;
    /// The caller did not say who it is.
    UNAUTHENTICATED = 16;
}

impl Status {
    /// The status with this number, named or not.
    pub fn new(code: u16) -> Self {
        Self(code)
    }

    /// Its number.
    pub fn code(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a handler answers: a value, and a key and headers if it wants.
///
/// Handlers mostly return something simpler that becomes one: see [`IntoAnswer`].
///
/// ```
/// use milena::Answer;
///
/// let answer = Answer::new("6").header("cached", "no");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub(super) value: Option<Bytes>,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Vec<(Bytes, Bytes)>,
}

impl Answer {
    /// An answer with this value.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// An answer whose value is null.
    pub fn null() -> Self {
        Self::default()
    }

    /// Sets the key; replies have none by default. It does not choose the partition: the caller does.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header, in front of those that belong to request-reply itself.
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// An error that a handler returns, on its way to the caller as an error reply.
///
/// Every error that can be displayed becomes one by `?`, with [`Status::UNKNOWN`].
///
/// ```
/// use milena::{Refusal, Status};
///
/// fn parse(text: &str) -> Result<u64, Refusal> {
///     if text.is_empty() {
///         return Err(Refusal::new(Status::INVALID_ARGUMENT, "empty"));
///     }
///     Ok(text.parse::<u64>()?)
/// }
/// assert_eq!(parse("").unwrap_err().status(), Status::INVALID_ARGUMENT);
/// assert_eq!(parse("x").unwrap_err().status(), Status::UNKNOWN);
/// ```
// Not `Display`, or the conversion from everything that is would overlap with the one from itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: Status,
    message: String,
    nature: Nature,
}

/// What else is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// It is the answer.
    Answer,
    /// The handler may run again.
    Passing,
    /// Somebody should look at the record, or at the handler.
    Poison,
    /// The same, and it is counted.
    Panic,
}

impl Refusal {
    /// An error reply with this status and message. [`Status::OK`] is no error and becomes [`Status::UNKNOWN`].
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        let status = if status == Status::OK { Status::UNKNOWN } else { status };
        Self { status, message: message.into(), nature: Nature::Answer }
    }

    /// Says that the same request may succeed a little later: the handler is run again, as
    /// [`ResponderBuilder::retries`](super::ResponderBuilder::retries) says, and the caller gets the error when that did not help.
    ///
    /// ```
    /// use milena::{Refusal, Status};
    ///
    /// let refusal = Refusal::new(Status::UNAVAILABLE, "the database restarts").retriable();
    /// assert!(refusal.is_retriable());
    /// ```
    pub fn retriable(mut self) -> Self {
        self.nature = Nature::Passing;
        self
    }

    /// Whether the handler may run again.
    pub fn is_retriable(&self) -> bool {
        self.nature == Nature::Passing
    }

    pub(super) fn poison(mut self) -> Self {
        self.nature = Nature::Poison;
        self
    }

    pub(super) fn panicked() -> Self {
        Self { nature: Nature::Panic, ..Self::new(Status::INTERNAL, "the handler panicked") }
    }

    pub(super) fn is_panic(&self) -> bool {
        self.nature == Nature::Panic
    }

    /// Whether it is what the handler answers, and not a failure.
    pub(super) fn is_answer(&self) -> bool {
        self.nature == Nature::Answer
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl<E: fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::new(Status::UNKNOWN, error.to_string())
    }
}

/// One answer: bytes, text, nothing (a null value), an [`Answer`], whatever can be [encoded](Encode), or a `Result` of one of
/// these.
pub trait IntoAnswer {
    /// Converts it.
    fn into_answer(self) -> Result<Answer, Refusal>;
}

impl<E: Encode> IntoAnswer for E {
    fn into_answer(self) -> Result<Answer, Refusal> {
        let unwritable =
            |error| Refusal::new(Status::INTERNAL, format!("the answer cannot be written: {error}"));
        let value = self.encode().map_err(|error| unwritable(error).poison())?;
        Ok(Answer { value, ..Answer::default() })
    }
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> Result<Answer, Refusal> {
        Ok(self)
    }
}

impl IntoAnswer for () {
    fn into_answer(self) -> Result<Answer, Refusal> {
        Ok(Answer::null())
    }
}

/// `None` is a null value.
impl<T: IntoAnswer> IntoAnswer for Option<T> {
    fn into_answer(self) -> Result<Answer, Refusal> {
        self.map_or_else(|| Ok(Answer::null()), IntoAnswer::into_answer)
    }
}

impl<T: IntoAnswer, E: Into<Refusal>> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Result<Answer, Refusal> {
        self.map_err(Into::into)?.into_answer()
    }
}

/// What a handler may return: whatever is [one answer](IntoAnswer), an [`AnswerStream`], or a `Result` of it.
pub trait IntoAnswers {
    /// Converts it.
    fn into_answers(self) -> Result<Answers, Refusal>;
}

/// What a handler answers: one [`Answer`], or an [`AnswerStream`].
#[derive(Debug)]
pub struct Answers(pub(super) Inner);

#[derive(Debug)]
pub(super) enum Inner {
    One(Answer),
    Many(AnswerStream),
}

impl<A: IntoAnswer> IntoAnswers for A {
    fn into_answers(self) -> Result<Answers, Refusal> {
        self.into_answer().map(|answer| Answers(Inner::One(answer)))
    }
}

impl IntoAnswers for AnswerStream {
    fn into_answers(self) -> Result<Answers, Refusal> {
        Ok(Answers(Inner::Many(self)))
    }
}

impl<E: Into<Refusal>> IntoAnswers for Result<AnswerStream, E> {
    fn into_answers(self) -> Result<Answers, Refusal> {
        self.map_err(Into::into)?.into_answers()
    }
}

/// For a handler that answers sometimes once and sometimes with a stream.
impl<E: Into<Refusal>> IntoAnswers for Result<Answers, E> {
    fn into_answers(self) -> Result<Answers, Refusal> {
        self.map_err(Into::into)
    }
}

/// The source of an [`Error`](crate::Error) of kind [`Reply`](crate::ErrorKind::Reply): what the responder answered
/// instead of a value.
///
/// ```
/// # fn show(error: milena::Error) {
/// use std::error::Error as _;
/// if let Some(reply) = error.source().and_then(|source| source.downcast_ref::<milena::ErrorReply>()) {
///     println!("{}: {}", reply.status(), reply.message());
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    status: Status,
    message: String,
    raw: Option<String>,
}

impl ErrorReply {
    pub(super) fn new(status: u16, message: &[u8]) -> Self {
        let message = String::from_utf8_lossy(message).into_owned();
        Self { status: Status(status), message, raw: None }
    }

    /// What a NestJS responder sends is mostly a JSON object, `{"status":"error","message":..}`.
    pub(super) fn of_nest(status: u16, error: &[u8]) -> Self {
        let plain = Self::new(status, error);
        match nest_message(&plain.message) {
            Some(message) => Self { message, raw: Some(plain.message), ..plain },
            None => plain,
        }
    }

    /// The responder's status; [`Status::UNKNOWN`] where its dialect has none.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The responder's message. Of the JSON object that a NestJS responder sends, it is the member `message`, if that is a
    /// string.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error as it came: the whole object, if a NestJS responder sent one.
    pub fn raw(&self) -> &str {
        self.raw.as_deref().unwrap_or(&self.message)
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for ErrorReply {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_handlers_return_becomes_an_answer() {
        assert_eq!("x".into_answer().unwrap(), Answer::new("x"));
        assert_eq!(().into_answer().unwrap(), Answer::null());
        assert_eq!(None::<String>.into_answer().unwrap(), Answer::null());
        let failed: Result<(), _> = "x".parse::<u8>().map(drop);
        assert_eq!(failed.into_answer().unwrap_err().message(), "invalid digit found in string");
        let refused: Result<String, Refusal> = Err(Refusal::new(Status::OK, "?"));
        assert_eq!(refused.into_answer().unwrap_err().status(), Status::UNKNOWN);
    }

    #[test]
    fn a_status_shows_its_name_and_number() {
        assert_eq!(Status::NOT_FOUND.to_string(), "NOT_FOUND (5)");
        assert_eq!(Status::new(77).to_string(), "status 77");
    }
}
