//! Options of what a responder does with answers and failures.
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ResponderBuilder;
use super::answering::{Stored, Turn};
use super::running::Running;
use crate::error::{Error, ErrorKind, Result};
use crate::state::reply::dedupe::{Dedupe, Limits};
use crate::state::reply::dialect::Capabilities;

/// As the builder was told.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    pub(super) dead_letters: Option<String>,
    pub(super) dedupe: Option<Limits>,
}

impl Options {
    pub(super) fn check(&self, builder: &ResponderBuilder) -> Result<()> {
        match &self.dead_letters {
            Some(topic) if builder.handlers.contains_key(topic) => {
                let message = "the topic of dead letters cannot have a handler of the same responder";
                Err(Error::new(ErrorKind::Config, message).on_topic(topic.as_str()))
            }
            _ => Ok(()),
        }
    }
}

/// Where replies may go.
#[derive(Debug, Default)]
pub(super) struct ReplyTopics {
    names: HashSet<String>,
    prefixes: Vec<String>,
}

impl ReplyTopics {
    pub(super) fn allow(&self, topic: &str) -> bool {
        self.names.contains(topic) || self.prefixes.iter().any(|prefix| topic.starts_with(prefix))
    }
}

impl ResponderBuilder {
    /// Answers only to these reply topics; other requests are counted and not handled. A name that ends in `*` stands for
    /// all that begin so. Default: to whichever topic the request names, as far as this client may write there.
    pub fn reply_topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        let allowed = self.reply_topics.insert(ReplyTopics::default());
        for topic in topics.into_iter().map(Into::into) {
            match topic.strip_suffix('*') {
                Some(prefix) => allowed.prefixes.push(prefix.to_owned()),
                None => _ = allowed.names.insert(topic),
            }
        }
        self
    }

    /// Runs a handler again that returned a [retriable](super::Refusal::retriable) error: at most so many times, after `backoff`,
    /// which doubles each time up to 64 times its length. Default: never.
    ///
    /// While it waits, the request keeps its place among those that run at a time; others go on. No retry begins behind the
    /// caller's deadline. When all were in vain, the caller gets the error, and the request becomes a
    /// [dead letter](ResponderBuilder::dead_letter_topic). An error in the midst of a stream of answers ends the stream.
    pub fn retries(mut self, times: u32, backoff: Duration) -> Self {
        (self.output.retries, self.output.backoff) = (times, backoff);
        self
    }

    /// Writes what could not be handled to this topic: requests and events that cannot be read, whose handler panicked, or
    /// whose retries were in vain, and events whose handler returned an error. Default: they are only counted and logged.
    ///
    /// A dead letter is the record as it was, with the headers that Spring for Apache Kafka gives it: `kafka_dlt-original-topic`,
    /// `-partition`, `-offset`, `-timestamp` (numbers are big-endian), `-timestamp-type` and `-consumer-group`,
    /// `kafka_dlt-exception-fqcn` (here the status) and `-message`. The caller of a request gets its error reply all the same.
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.output.dead_letters = Some(topic.into());
        self
    }

    /// Answers a request that comes again from memory, and does not run its handler. Default: off.
    ///
    /// Requests are the same if they are for the same topic and have the same idempotency key, or if neither has one, the same id. While the
    /// first runs, the others wait for its answer; one from the same caller with the same id is dropped, since the first's answer
    /// serves it. Answers, streams included, and errors that the handler returned are kept; not so those that are retriable, and
    /// panics.
    ///
    /// At most `entries` answers are kept, of at most `bytes` in all, each for at most `age`. They are kept in this process only: a
    /// request that comes again after its partition went to another responder is executed again.
    pub fn dedupe(mut self, entries: usize, bytes: usize, age: Duration) -> Self {
        self.output.dedupe = Some(Limits { entries, bytes, age });
        self
    }
}

pub(super) type Window = Dedupe<Turn, Stored>;

/// What the handlers of a responder share about their answers.
#[derive(Debug)]
pub(super) struct Output {
    /// Group and instance.
    pub(super) name: String,
    pub(super) capabilities: Capabilities,
    pub(super) running: Running,
    window: Option<Mutex<Window>>,
}

impl Output {
    pub(super) fn new(group: &str, options: &Options) -> Self {
        let instance: u32 = rand::random();
        Self {
            name: format!("{group}/{instance:08x}"),
            capabilities: Capabilities { cancel: true, credit: true, dedupe: options.dedupe.is_some() },
            running: Running::default(),
            window: options.dedupe.map(|limits| Mutex::new(Dedupe::new(limits))),
        }
    }

    pub(super) fn window(&self) -> Option<MutexGuard<'_, Window>> {
        self.window.as_ref().map(|window| window.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
