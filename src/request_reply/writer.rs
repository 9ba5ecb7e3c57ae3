//! Writes what answers one request, in order, to where its caller wants it.
use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Inner;
use super::answer_stream::AnswerStream;
use super::answering::Kept;
use super::handler::{Outcome, poll_item};
use super::running::Line;
use super::serve::Serving;
use super::{Answer, Answers, Refusal, Status};
use crate::error::{Error, ErrorKind, Result};
use crate::producer::Delivery;
use crate::protocol::error_code::ErrorCode;
use crate::record::Record;
use crate::state::reply::dialect::{Dialect, Kind, Origin, ReplyHead};
use crate::state::reply::intake::Ticket;

/// How long a reply may wait beyond its caller's deadline: clocks differ.
const GRACE: Duration = Duration::from_millis(100);
/// How long a reply may wait for its topic to be known, for room in the producer and for credit, if its caller set no deadline.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// How long a partition is waited for that the topic does not have: its number may have been raised a moment ago.
const PARTITION_WAIT: Duration = Duration::from_secs(2);
/// How many items of a stream may wait for their acknowledgements.
const AHEAD: usize = 32;
/// How long an item is held back to learn whether it is the last, where an end of its own would be taken for an item.
const HOLD: Duration = Duration::from_millis(100);
/// Longer messages of errors are cut: an error reply must always fit.
const MESSAGE_LIMIT: usize = 16 << 10;

impl Serving {
    /// Hands the only answer to the producer, if that takes no waiting.
    pub(super) fn answer_at_once(
        &self,
        origin: &Origin,
        outcome: Outcome,
    ) -> Result<(Answer, Delivery), Outcome> {
        let answer = match (outcome, origin.kind) {
            (Ok(Answers(Inner::One(answer))), Kind::Unary) => answer,
            (outcome, _) => return Err(outcome),
        };
        let head = ReplyHead::last(origin, 0).responder(&self.output.name, self.output.capabilities);
        match self.producer().topic(&origin.topic).send_at_once(&record(origin, &answer, &head)) {
            Some(delivery) => Ok((answer, delivery)),
            None => Err(Ok(Answers(Inner::One(answer)))),
        }
    }

    /// Whether the place that a caller wants its replies at is there, as far as is known.
    pub(super) fn is_routable(&self, origin: &Origin) -> bool {
        let cluster = self.config.client.core().cluster();
        let count = cluster.topic(&origin.topic).map_or(0, |topic| topic.partitions.len());
        usize::try_from(origin.partition.unwrap_or(0)).is_ok_and(|partition| partition < count)
    }

    /// One for a caller that reads all of them: always the same, as long as the topic does not grow.
    fn any_partition(&self, origin: &Origin) -> i32 {
        let cluster = self.config.client.core().cluster();
        let count = cluster.topic(&origin.topic).map_or(1, |topic| topic.partitions.len().max(1));
        let hash =
            origin.id.iter().fold(0, |hash: usize, byte| hash.wrapping_mul(31).wrapping_add((*byte).into()));
        i32::try_from(hash % count).unwrap_or(0)
    }
}

/// A record of an answer, as it goes to the caller.
fn record<'a>(origin: &Origin, answer: &'a Answer, head: &'a ReplyHead<'_>) -> Record<'a> {
    let mut record = Record::tombstone();
    (record.key, record.value) = (answer.key.as_deref(), answer.value.as_deref());
    record.partition = origin.partition;
    record.headers.extend(answer.headers.iter().map(|(name, value)| (&name[..], Some(&value[..]))));
    record.headers.extend(head.headers().into_iter().map(|(name, value)| (name.as_bytes(), Some(value))));
    record
}

pub(super) struct Writer<'a> {
    serving: &'a Serving,
    origin: &'a Origin,
    ticket: Ticket,
    deadline: Option<Instant>,
    /// Of the next record.
    sequence: u64,
    /// Where the records go, if there are several and the caller reads all partitions: only those of one are read in order.
    partition: Option<i32>,
    unsettled: VecDeque<(u64, Delivery)>,
}

/// What a record of an answer is.
#[derive(Clone, Copy)]
enum Part<'a> {
    Item(&'a Answer),
    Last(&'a Answer),
    End,
    Error(Status, &'a str),
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        serving: &'a Serving,
        origin: &'a Origin,
        deadline: Option<Instant>,
        ticket: Ticket,
    ) -> Self {
        Self { serving, origin, ticket, deadline, sequence: 0, partition: None, unsettled: VecDeque::new() }
    }

    /// Writes the only answer.
    pub(super) async fn one(&mut self, answer: &Answer) -> Result<()> {
        let sent = self.last(answer).await;
        self.or_too_large(sent).await
    }

    /// Does what can be done about the only answer, which was written and refused.
    pub(super) async fn one_failed(&mut self, answer: &Answer, error: Error) -> Result<()> {
        let sent = self.or_again(Part::Last(answer), Err(error)).await;
        self.or_too_large(sent).await
    }

    /// Writes an error, which ends the answer.
    pub(super) async fn refuse(&mut self, refusal: &Refusal) -> Result<()> {
        self.serving.count(|metrics| metrics.refused += 1);
        let message = refusal.message();
        let message = &message[..message.floor_char_boundary(MESSAGE_LIMIT)];
        self.close(Part::Error(refusal.status(), message)).await
    }

    /// Writes the items of a stream, and its end. Gives the error that ended it, if one did.
    pub(super) async fn many(
        &mut self,
        items: AnswerStream,
        line: Option<&Line>,
        kept: &mut Option<Kept>,
    ) -> Result<Option<Refusal>> {
        let (deadline, limit) = (self.deadline, self.limit());
        let pump = self.pump(items, line, kept);
        let ended = match deadline {
            Some(_) => {
                timeout_at(limit, pump).await.unwrap_or_else(|_| Err(late("the caller's deadline passed")))
            }
            None => pump.await,
        };
        match ended {
            Err(error) => self.or_too_large(Err(error)).await.map(|()| None),
            ended => ended,
        }
    }

    async fn pump(
        &mut self,
        mut items: AnswerStream,
        line: Option<&Line>,
        kept: &mut Option<Kept>,
    ) -> Result<Option<Refusal>> {
        let (dialect, kind) = (self.origin.dialect, self.origin.kind);
        let one_is_enough = matches!((dialect, kind), (Dialect::Spring, _) | (Dialect::Native, Kind::Unary));
        let hold = if matches!(dialect, Dialect::Nest | Dialect::Spring) { HOLD } else { Duration::ZERO };
        let mut item = next(&mut items).await;
        loop {
            let answer = match item {
                Some(Ok(answer)) => answer,
                Some(Err(refusal)) => return self.refuse(&refusal).await.map(|()| Some(refusal)),
                // Nobody there could tell an end from an item.
                None if dialect == Dialect::Quarkus && self.sequence > 0 => {
                    return self.settle().await.map(|()| None);
                }
                None => return self.close(Part::End).await.map(|()| None),
            };
            if let Some(all) = kept {
                all.push(&answer);
                if self.serving.config.output.dedupe.is_none_or(|limits| all.size > limits.bytes) {
                    *kept = None;
                }
            }
            self.credit(line).await?;
            let known_last = one_is_enough || items.is_spent();
            let following = if known_last { Some(None) } else { peek(&mut items, hold).await };
            if let Some(None) = following {
                return self.last(&answer).await.map(|()| None);
            }
            self.put(Part::Item(&answer)).await?;
            item = match following {
                Some(following) => following,
                None => next(&mut items).await,
            };
        }
    }

    /// Waits until the caller has room for the next item.
    async fn credit(&self, line: Option<&Line>) -> Result<()> {
        let (Some(line), Kind::Stream { credit: Some(first) }) = (line, self.origin.kind) else {
            return Ok(());
        };
        let Some(more) = self.sequence.checked_sub(first.into()) else { return Ok(()) };
        if line.has_credit_above(more) {
            return Ok(());
        }
        let _parked = self.serving.park(self.ticket);
        let granted = timeout_at(self.limit(), line.credit_above(more)).await;
        granted.map_err(|_| late("no credit for the next item came in time"))
    }

    /// Writes an item, and that it is the last.
    async fn last(&mut self, answer: &Answer) -> Result<()> {
        let stream =
            matches!((self.origin.dialect, self.origin.kind), (Dialect::Native, Kind::Stream { .. }));
        if stream && answer.value.is_none() {
            // A null value at the end of a stream is the end alone.
            self.put(Part::Item(answer)).await?;
            return self.close(Part::End).await;
        }
        self.close(Part::Last(answer)).await
    }

    /// Writes the end, and waits until all is acknowledged.
    async fn close(&mut self, part: Part<'_>) -> Result<()> {
        let alone = self.sequence == 0;
        self.put(part).await?;
        let sent = self.settle().await;
        if alone { self.or_again(part, sent).await } else { sent }
    }

    /// The only record is written once more if it may be in the log and is still waited for.
    async fn or_again(&mut self, part: Part<'_>, sent: Result<()>) -> Result<()> {
        let awaited = self.deadline.is_none_or(|deadline| Instant::now() < deadline);
        if awaited && sent.as_ref().is_err_and(Error::maybe_written) {
            // Twice in the log hurts nobody, not to be there does.
            self.put(part).await?;
            return self.settle().await;
        }
        sent
    }

    async fn settle(&mut self) -> Result<()> {
        while !self.unsettled.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<()> {
        let Some((sequence, delivery)) = self.unsettled.pop_front() else { return Ok(()) };
        if let Err(error) = delivery.await {
            // What comes next stands in its place.
            self.sequence = sequence;
            self.unsettled.clear();
            return Err(error);
        }
        Ok(())
    }

    /// An answer that does not fit becomes an error that does.
    async fn or_too_large(&mut self, sent: Result<()>) -> Result<()> {
        match sent {
            Err(error) if is_too_large(&error) => {
                let message = "the answer is too large for its topic";
                self.refuse(&Refusal::new(Status::RESOURCE_EXHAUSTED, message)).await
            }
            sent => sent,
        }
    }

    async fn put(&mut self, part: Part<'_>) -> Result<()> {
        let (origin, sequence, output) = (self.origin, self.sequence, &self.serving.output);
        let empty = Answer::null();
        let (answer, head) = match part {
            Part::Item(answer) => (answer, ReplyHead::item(origin, sequence)),
            Part::Last(answer) => (answer, ReplyHead::last(origin, sequence)),
            Part::End => (&empty, ReplyHead::end(origin, sequence)),
            Part::Error(status, message) => {
                (&empty, ReplyHead::error(origin, sequence, status.code(), message))
            }
        };
        let head = head.responder(&output.name, output.capabilities);
        let mut record = record(origin, answer, &head);
        if origin.partition.is_none() && (sequence > 0 || matches!(part, Part::Item(_))) {
            let any = || self.serving.any_partition(origin);
            record.partition = Some(*self.partition.get_or_insert_with(any));
        }
        let delivery = self.send(record).await?;
        self.unsettled.push_back((sequence, delivery));
        self.sequence += 1;
        if self.unsettled.len() > AHEAD {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Hands a record to the producer; nearly always that is done at once. A caller may name a topic or a partition that
    /// does not exist; it must not hold its place for as long as it likes.
    async fn send(&self, record: Record<'_>) -> Result<Delivery> {
        let mut sending = pin!(self.serving.producer().send(&self.origin.topic, record));
        if let Some(sent) = at_once(|context| sending.as_mut().poll(context)).await {
            return sent;
        }
        let limit = self.limit();
        loop {
            // Meanwhile the metadata are refreshed, if something is missing in them.
            let pause = (Instant::now() + PARTITION_WAIT).min(limit);
            if let Ok(sent) = timeout_at(pause, &mut sending).await {
                return sent;
            }
            let cluster = self.serving.config.client.core().cluster();
            let known = cluster.topic(&self.origin.topic).is_some_and(|topic| !topic.partitions.is_empty());
            if Instant::now() >= limit || known && !self.serving.is_routable(self.origin) {
                return Err(late("the reply could not be sent in time").on_topic(self.origin.topic.as_str()));
            }
        }
    }

    /// Until when something is waited for that the answer needs.
    fn limit(&self) -> Instant {
        let now = Instant::now();
        self.deadline
            .map_or(now + SEND_LIMIT, |deadline| deadline.max(now) + self.serving.config.clock_skew + GRACE)
    }
}

fn late(what: &str) -> Error {
    Error::new(ErrorKind::Timeout, what)
}

async fn next(items: &mut AnswerStream) -> Option<Result<Answer, Refusal>> {
    std::future::poll_fn(|context| poll_item(items, context)).await
}

/// What is ready without waiting.
async fn at_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    std::future::poll_fn(|context| match poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The next item or the end, if it comes within `hold`.
async fn peek(items: &mut AnswerStream, hold: Duration) -> Option<Option<Result<Answer, Refusal>>> {
    match at_once(|context| poll_item(items, context)).await {
        None if !hold.is_zero() => timeout(hold, next(items)).await.ok(),
        item => item,
    }
}

/// For its topic or for this producer; a partition that is not there says where, too.
fn is_too_large(error: &Error) -> bool {
    error.kind() == ErrorKind::Record && error.partition().is_none()
        || matches!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE))
}
