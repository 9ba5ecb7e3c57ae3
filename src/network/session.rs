//! One connection while it stands: requests out, answers in, deadlines kept.
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{Sleep, sleep_until};

use crate::error::{Error, ErrorKind};
use crate::network::call::{Answer, Completion, Failure, Patience, Purpose};
use crate::network::connector::Stream;
use crate::network::handshake::Established;
use crate::network::link::{Leave, Link, Submission, Work, now};
use crate::network::metrics::add;
use crate::network::reader::FrameReader;
use crate::network::writer::FrameWriter;
use crate::protocol::header;
use crate::protocol::version::{self, ApiVersions};
use crate::state::in_flight::InFlight;

/// While so many bytes wait to be written, requests stay in the queue, where they can still expire unsent.
const BACKLOG: u64 = 1024 * 1024;
/// A timer that has nothing to wait for.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With nothing under way: idle on one side or the other, or no longer wanted.
    Quietly(&'static str),
    /// While answers were due.
    Lost(Error),
}

/// A request that was queued for writing.
struct Waiting {
    completion: Completion,
    api_key: i16,
    version: i16,
    /// Where its frame begins in the stream of bytes.
    begin: u64,
    since: Instant,
    patience: Patience,
}

/// A future that ends with the connection.
pub(crate) struct Session<'a> {
    link: &'a Link,
    stream: Box<dyn Stream>,
    reader: FrameReader,
    writer: FrameWriter,
    versions: Arc<ApiVersions>,
    in_flight: InFlight<Waiting>,
    /// Requests without an answer, and where their frames end: complete when written.
    unanswered: VecDeque<(u64, Waiting)>,
    taken: Vec<Submission>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to, and when it ought to ring at the latest. It is set anew only to ring earlier; a ring
    /// that comes too early costs less than setting it with each request.
    armed: Instant,
    alarm: Instant,
    /// When a byte came last, and when it was last thought strange that none came.
    heard: Instant,
    doubted: Instant,
    /// Something was sent or received since the link was told.
    active: bool,
    /// Requests were left in the queue because too much waits to be written.
    held_back: bool,
    /// The connection is to end when nothing is under way any more.
    leaving: bool,
}

impl<'a> Session<'a> {
    pub(crate) fn new(link: &'a Link, established: Established) -> Self {
        let now = now();
        Self {
            link,
            stream: established.stream,
            reader: established.reader,
            writer: FrameWriter::default(),
            versions: established.versions,
            in_flight: InFlight::default(),
            unanswered: VecDeque::new(),
            taken: Vec::new(),
            timer: Box::pin(sleep_until((now + LONG).into())),
            armed: now + LONG,
            alarm: now,
            heard: now,
            doubted: now,
            active: true,
            held_back: false,
            leaving: false,
        }
    }

    /// Takes what waits in the queue, as far as it may be sent now.
    fn take(&mut self, now: Instant, cx: &Context<'_>) -> Result<(), Ended> {
        let mut inner = self.link.lock();
        inner.listen(cx);
        if std::mem::take(&mut self.active) {
            inner.state.touch(now);
        }
        match inner.leave {
            Leave::Now => return Err(Ended::Lost(Error::closed("the client"))),
            Leave::WhenDone if inner.queue.is_empty() && self.is_idle() => {
                return Err(Ended::Quietly("no longer wanted"));
            }
            _ => {}
        }
        let muted = inner.state.muted(now);
        // What a mute keeps back is to be sent yet.
        let leaving = inner.leave == Leave::WhenDone && (muted.is_none() || inner.queue.is_empty());
        let stayed = !std::mem::replace(&mut self.leaving, leaving);
        if leaving && stayed {
            self.alarm = now;
        }
        self.held_back = self.writer.backlog() >= BACKLOG;
        if muted.is_some() || self.held_back {
            let next = inner.queue.iter().map(|waiting| waiting.patience.deadline).min();
            for time in [muted, next].into_iter().flatten() {
                self.alarm = self.alarm.min(time);
            }
        } else {
            self.taken.extend(inner.queue.drain(..));
        }
        Ok(())
    }

    fn encode(&mut self, now: Instant) {
        let mut taken = std::mem::take(&mut self.taken);
        for submission in taken.drain(..) {
            let patience = submission.patience;
            if patience.deadline <= now {
                submission.fail(self.link.timed_out());
                continue;
            }
            let (build, completion) = match submission.work {
                Work::Versions(sender) => {
                    let _ = sender.send(Ok(self.versions.clone()));
                    continue;
                }
                Work::Request { build, completion } => (build, completion),
            };
            let correlation = self.in_flight.correlation();
            let built = build(&self.versions).and_then(|mut frame| {
                let len = frame.address_to(correlation)?;
                Ok((frame, len))
            });
            let (frame, len) = match built {
                Ok(built) => built,
                Err(error) => {
                    completion.finish(Err(Failure { error, sent: false }));
                    continue;
                }
            };
            let (api_key, version, answered) = (frame.api_key, frame.version, frame.answered);
            let (begin, end) = self.writer.push(frame, len);
            let waiting = Waiting { completion, api_key, version, begin, since: now, patience };
            let silent = patience.silence.map_or(patience.deadline, |silence| now + silence);
            let doubtful = now + self.link.shared.connect_timeout / 2;
            self.alarm = self.alarm.min(patience.deadline).min(silent).min(doubtful);
            if answered {
                self.in_flight.push(correlation, patience.deadline, waiting);
            } else {
                self.unanswered.push_back((end, waiting));
            }
            add(&self.link.shared.counters.requests, 1);
        }
        // Its room is used again.
        self.taken = taken;
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let before = self.writer.written();
        let result = self.writer.poll_write(cx, &mut self.stream);
        let written = self.writer.written() - before;
        if written > 0 {
            self.active = true;
            add(&self.link.shared.counters.bytes_out, written);
        }
        while self.unanswered.front().is_some_and(|(end, _)| *end <= self.writer.written()) {
            if let Some((_, waiting)) = self.unanswered.pop_front() {
                self.finish(waiting, Bytes::new());
            }
        }
        match result {
            Poll::Ready(Err(error)) => Err(Error::new(ErrorKind::Connect, "writing failed").caused_by(error)),
            _ => Ok(()),
        }
    }

    /// Reads until nothing is there: it returns with the reason why the connection ends.
    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let before = self.reader.received();
            let frame = self.reader.poll_frame(cx, &mut self.stream);
            let received = self.reader.received() - before;
            if received > 0 {
                self.heard = now;
                add(&self.link.shared.counters.bytes_in, received);
            }
            match ready!(frame) {
                Ok(Some(frame)) => {
                    if let Err(error) = self.answer(frame) {
                        return Poll::Ready(Ended::Lost(error));
                    }
                }
                Ok(None) if self.is_idle() => {
                    return Poll::Ready(Ended::Quietly("the node closed it while idle"));
                }
                Ok(None) => {
                    let message = "the node closed the connection before it answered";
                    return Poll::Ready(Ended::Lost(Error::new(ErrorKind::Connect, message)));
                }
                Err(error) => return Poll::Ready(Ended::Lost(error)),
            }
        }
    }

    fn answer(&mut self, frame: Bytes) -> Result<(), Error> {
        self.active = true;
        let found = header::correlation(&frame)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "an answer without a correlation id"))?;
        let waiting = self.in_flight.answer(found).map_err(|stray| {
            Error::new(ErrorKind::Protocol, "an answer that matches no request").caused_by(stray)
        })?;
        add(&self.link.shared.counters.answers, 1);
        match header::body(frame, waiting.api_key, waiting.version) {
            Ok(body) => {
                self.finish(waiting, body);
                Ok(())
            }
            Err(error) => {
                let error = error.at_address(&*self.link.text);
                waiting.completion.finish(Err(Failure { error: error.clone().unsure(), sent: true }));
                Err(error)
            }
        }
    }

    fn finish(&self, waiting: Waiting, body: Bytes) {
        let address = self.link.text.clone();
        waiting.completion.finish(Ok(Answer { version: waiting.version, body, address }));
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.unanswered.is_empty() && self.writer.is_empty()
    }

    /// When the connection has been silent for too long for the request whose answer is next. A node that has left the cluster, which is what
    /// others make of one that hangs, or that lives elsewhere now, is not waited for until the deadline: another has taken its place.
    fn silent(&self) -> Option<Instant> {
        let oldest = self.in_flight.oldest()?;
        let gone = self.leaving.then_some(self.link.shared.connect_timeout);
        let silence = [oldest.patience.silence, gone].into_iter().flatten().min()?;
        Some(self.heard.max(oldest.since) + silence)
    }

    /// When it is strange that no answer comes, though it may still: whether the node has left the cluster is worth a look at the metadata,
    /// again and again, as others take their time to find that out. A rebalance may take as long as it likes.
    fn doubtful(&self) -> Option<Instant> {
        let oldest =
            self.in_flight.oldest().filter(|_| !matches!(self.link.purpose, Purpose::Rebalance(_)))?;
        Some(self.heard.max(oldest.since).max(self.doubted) + self.link.shared.connect_timeout / 2)
    }

    /// What is due now, and the alarm for what is due next.
    fn ring(&mut self, now: Instant) -> Result<(), Ended> {
        let silent = self.silent();
        if silent.is_some_and(|silent| silent <= now) {
            let message = "the node is silent: the connection is taken for dead";
            return Err(Ended::Lost(Error::new(ErrorKind::Connect, message)));
        }
        if self.doubtful().is_some_and(|doubtful| doubtful <= now) {
            self.doubted = now;
            self.link.shared.node_lost.notify_one();
        }
        let doubtful = self.doubtful();
        let unwritten = self.unanswered.iter().map(|(_, waiting)| waiting.patience.deadline);
        let deadline = self.in_flight.next_deadline().into_iter().chain(unwritten).min();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Ended::Lost(Error::new(ErrorKind::Timeout, "no answer in time")));
        }
        let mut expired = Vec::new();
        let mut inner = self.link.lock();
        if std::mem::take(&mut self.active) {
            inner.state.touch(now);
        }
        let queued = inner.expire(now, &mut expired);
        let idle = inner.state.idle_at();
        let muted = inner.state.muted(now);
        let waits = !inner.queue.is_empty();
        drop(inner);
        for submission in expired {
            submission.fail(self.link.timed_out());
        }
        if idle.is_some_and(|idle| idle <= now) && self.is_idle() && !waits {
            return Err(Ended::Quietly("idle for too long"));
        }
        // A connection that is busy now begins to be idle at the earliest now.
        let idle = idle
            .map(|idle| if idle <= now { now + LONG.min(self.link.shared.connect_timeout) } else { idle });
        self.alarm = [deadline, silent, doubtful, queued, idle, muted]
            .into_iter()
            .flatten()
            .fold(now + LONG, Instant::min);
        Ok(())
    }

    /// Keeps time: rings the alarm when it is due, and registers for the next one.
    fn keep_time(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut rang = false;
        loop {
            if self.alarm < self.armed {
                self.armed = self.alarm;
                self.timer.as_mut().reset(self.armed.into());
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(rang);
            }
            rang = true;
            let now = now();
            self.armed = now + 2 * LONG;
            self.ring(now)?;
        }
    }

    /// Tells everybody who waits that the connection is gone.
    fn give_up(&mut self, error: &Error) {
        let (now, written) = (now(), self.writer.written());
        let address = &self.link.text;
        let unanswered =
            self.unanswered.drain(..).map(|(_, waiting)| (waiting.patience.deadline <= now, waiting));
        for (expired, waiting) in self.in_flight.abandon(now).chain(unanswered) {
            let sent = written > waiting.begin;
            let mut error = match (expired, error.kind()) {
                (true, _) => {
                    add(&self.link.shared.counters.timeouts, 1);
                    Error::new(ErrorKind::Timeout, "no answer in time")
                }
                (false, ErrorKind::Timeout) => Error::new(
                    ErrorKind::Connect,
                    "the connection was closed because an earlier request got no answer",
                ),
                (false, _) => error.clone(),
            };
            error = error.at_address(&**address).in_api(version::name(waiting.api_key));
            if sent {
                error = error.unsure();
            }
            waiting.completion.finish(Err(Failure { error, sent }));
        }
    }
}

impl Future for Session<'_> {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        let mut step = || -> Result<(), Ended> {
            loop {
                let now = now();
                this.take(now, cx)?;
                this.encode(now);
                let written = this.write(cx);
                // What a node had to say before it hung up explains more than a failed write.
                if let Poll::Ready(ended) = this.read(now, cx) {
                    return Err(ended);
                }
                written.map_err(Ended::Lost)?;
                // A mute that is over, or room after a backlog, lets more be taken.
                let room = this.held_back && this.writer.backlog() < BACKLOG;
                let done = this.leaving && this.is_idle();
                if !this.keep_time(cx)? && !room && !done {
                    return Ok(());
                }
            }
        };
        match step() {
            Ok(()) => Poll::Pending,
            Err(ended) => {
                let error = match &ended {
                    Ended::Lost(error) => error.clone().at_address(&*this.link.text),
                    Ended::Quietly(_) => {
                        Error::new(ErrorKind::Connect, "the connection was closed while idle")
                    }
                };
                this.give_up(&error);
                Poll::Ready(ended)
            }
        }
    }
}
