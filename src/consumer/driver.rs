//! The shell around the machine: requests out, answers in, and the one who waits for a batch woken.
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};
use tokio::sync::Notify;

use super::batch::Batch;
use super::event::ConsumerEvent;
use super::member::{Commits, Member};
use crate::client::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::{Answer, Completion, Outcome, Patience, Purpose};
use crate::protocol::fetch::{FetchRequest, FetchResponse, LAST_VERSION_BY_NAME};
use crate::protocol::header;
use crate::protocol::request::Request as _;
use crate::state::consumer::{
    Consumer as Machine, Event, FINAL_EPOCH, Handover, LANES, Limits, Request, Ticket, What, list_offsets,
    offset_for_leader_epoch,
};
use crate::state::group::Place;
use crate::state::membership::Membership;

/// What a consumer, its driver and its handles share.
pub(super) struct Shared {
    pub(super) this: Weak<Shared>,
    pub(super) core: Arc<Core>,
    limits: Limits,
    /// See the settings' field of this name.
    silence: Option<Duration>,
    inner: Mutex<Inner>,
    /// Topics whose metadata the client keeps fresh for this consumer. Taken before `inner`, and held while the client is told, so that two
    /// changes do not cross.
    interest: Mutex<BTreeSet<Arc<str>>>,
    /// Wakes the driver.
    pub(super) wake: Notify,
    /// Tells of every change of positions and of the end.
    pub(super) changed: Notify,
    /// Requests that failed, for the driver; bounded by the number under way.
    failed: Mutex<Vec<Arrival>>,
    closed: AtomicBool,
    /// The first of the numbers under which it fetches.
    pub(super) number: u32,
    /// What there is besides, if it is in a group.
    pub(super) member: Option<Member>,
}

pub(super) struct Inner {
    pub(super) machine: Machine,
    pub(super) membership: Option<Membership>,
    pub(super) commits: Commits,
    /// Whoever waits for the next batch.
    waiting: Option<Waker>,
    /// When the driver comes by itself.
    alarm: Option<Instant>,
}

/// Which answer belongs to a ticket.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Fetch,
    Offsets,
    Epochs,
}

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The first of the numbers that no other reader's connections and no other member's have.
pub(crate) fn number() -> u32 {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    NUMBERS.fetch_add(LANES as u32, Ordering::Relaxed)
}

/// Makes these the topics whose metadata the client keeps fresh for one who had others before.
pub(crate) fn follow(core: &Core, interest: &mut BTreeSet<Arc<str>>, topics: BTreeSet<Arc<str>>) {
    let came: Vec<_> = topics.difference(interest).cloned().collect();
    let went: Vec<_> = interest.difference(&topics).cloned().collect();
    if !came.is_empty() {
        core.want_topics(&came);
    }
    if !went.is_empty() {
        core.forget_topics(&went);
    }
    *interest = topics;
}

impl Shared {
    pub(super) fn new(core: Arc<Core>, machine: Machine, membership: Option<Membership>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            core,
            limits: Limits::from(machine.settings()),
            silence: machine.settings().silence,
            member: membership.is_some().then(Member::default),
            inner: Mutex::new(Inner {
                machine,
                membership,
                commits: Commits::default(),
                waiting: None,
                alarm: None,
            }),
            interest: Mutex::default(),
            failed: Mutex::default(),
            wake: Notify::new(),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
            number: number(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command of the application, then lets the driver see to what follows from it.
    pub(super) fn command<T>(&self, command: impl FnOnce(&mut Machine, Instant) -> T) -> Result<T> {
        self.command_all(|inner, now| command(&mut inner.machine, now))
    }

    pub(super) fn command_all<T>(&self, command: impl FnOnce(&mut Inner, Instant) -> T) -> Result<T> {
        if self.is_closed() {
            return Err(Error::closed("the consumer"));
        }
        let result = command(&mut self.lock(), now());
        self.follow_topics();
        self.changed.notify_waiters();
        self.wake.notify_one();
        Ok(result)
    }

    /// Tells the client of which topics it has to know.
    pub(super) fn follow_topics(&self) {
        let mut interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics = BTreeSet::new();
        if !self.is_closed() {
            let inner = self.lock();
            topics.extend(inner.machine.topics());
            topics.extend(inner.membership.iter().flat_map(|membership| membership.group().topics()));
        }
        follow(&self.core, &mut interest, topics);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nothing is handed out any more; whoever waits learns of it. Orderly means that nodes are told, in the background.
    pub(super) fn close(&self, orderly: bool) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // A drop may come when the thread ends, and the runtime's clock is gone: to let go, any time will do.
        let now = if orderly { now() } else { Instant::now() };
        let (waiting, last) = {
            let mut inner = self.lock();
            if orderly {
                self.leave(&mut inner, now);
            }
            inner.machine.close(now);
            let last: Vec<_> = std::iter::from_fn(|| inner.machine.poll_request(now)).collect();
            (inner.waiting.take(), last)
        };
        self.release();
        if orderly {
            last.into_iter().for_each(|request| self.submit(now, request));
            // The last commit and the farewell leave before anything is waited for.
            self.drive_member(now);
        }
        self.follow_topics();
        self.forget_all_topics();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        self.changed.notify_waiters();
        self.wake.notify_one();
    }

    /// Nothing is fetched any more.
    fn release(&self) {
        for lane in 0..LANES as u32 {
            self.core.release(Purpose::Fetch(self.number + lane));
        }
        if self.member.is_some() {
            self.core.release(Purpose::Rebalance(self.number));
        }
    }

    /// The next batch, or what else happened if the application is `listening`. All happens within one poll, so that giving up in
    /// between is impossible.
    pub(super) fn poll_next(
        &self,
        cx: &mut Context<'_>,
        listening: bool,
    ) -> Poll<Result<Option<ConsumerEvent>>> {
        loop {
            let now = now();
            let taken = {
                let inner = &mut *self.lock();
                if let Some(membership) = inner.membership.as_mut().filter(|_| !self.is_closed()) {
                    if listening && let Some(notice) = membership.take_notice(now) {
                        return Poll::Ready(Ok(Some(notice.into())));
                    }
                    if let Some(error) = membership.failure() {
                        return Poll::Ready(Err(error.clone()));
                    }
                }
                match inner.machine.take(now) {
                    _ if self.is_closed() => return Poll::Ready(Ok(None)),
                    Some(Handover::Batch(taken)) => taken,
                    Some(Handover::Error(error)) => return Poll::Ready(Err(error)),
                    None => {
                        inner.waiting = Some(cx.waker().clone());
                        if inner.machine.has_work() {
                            self.wake.notify_one();
                        }
                        return Poll::Pending;
                    }
                }
            };
            // The work is done on this thread and without the lock.
            let opened = taken.open(&self.limits);
            let (batch, has_work) = {
                let inner = &mut *self.lock();
                let batch = inner.machine.commit(now, &taken, opened);
                if let (Some((batch, _)), Some(membership)) = (&batch, &mut inner.membership) {
                    let (offset, epoch) = (batch.next_offset(), batch.header().leader_epoch);
                    let place = Place { offset, epoch, metadata: "".into() };
                    membership.handed(now, &taken.name, taken.position, place);
                }
                (batch, inner.machine.has_work())
            };
            if has_work {
                self.wake.notify_one();
            }
            if let Some((batch, before)) = batch {
                let batch = Batch::new(taken.name, batch, before, taken.high_watermark, taken.reset);
                return Poll::Ready(Ok(Some(ConsumerEvent::Batch(batch))));
            }
        }
    }

    /// The end of a request. An answer is taken in at once, on the task of its connection: the next fetch and the application do not
    /// wait for the driver. That is for failures, which may come from within a submission.
    fn arrive(&self, ticket: Ticket, kind: Kind, outcome: Outcome) {
        if self.is_closed() {
            return;
        }
        let failed = outcome.is_err();
        let arrival = read(ticket, kind, outcome);
        if failed {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
            self.wake.notify_one();
        } else {
            self.take_in([arrival], false);
        }
    }

    /// Takes in what arrived, sends what follows, wakes who waits. The driver is told when to come again at the latest.
    fn take_in(&self, arrived: impl IntoIterator<Item = Arrival>, is_driver: bool) -> Option<Instant> {
        let now = now();
        let mut inner = self.lock();
        let machine = &mut inner.machine;
        let mut looked_up = false;
        for arrival in arrived {
            looked_up |= !matches!(arrival, Arrival::Fetch(..));
            match arrival {
                Arrival::Fetch(ticket, answer) => machine.handle_fetch(now, ticket, answer),
                Arrival::Offsets(ticket, answer) => machine.handle_offsets(now, ticket, answer),
                Arrival::Epochs(ticket, answer) => machine.handle_epochs(now, ticket, answer),
            }
        }
        let requests: Vec<_> = std::iter::from_fn(|| machine.poll_request(now)).collect();
        let events: Vec<_> = std::iter::from_fn(|| machine.poll_event()).collect();
        let deadline = machine.next_deadline();
        let ready = machine.is_ready() || inner.membership.as_ref().is_some_and(Membership::has_notice);
        let waiting = if ready { inner.waiting.take() } else { None };
        let sooner = deadline.is_some_and(|deadline| inner.alarm.is_none_or(|alarm| deadline < alarm));
        if is_driver {
            inner.alarm = deadline;
        }
        drop(inner);
        if sooner && !is_driver {
            self.wake.notify_one();
        }
        // The next fetch leaves before the application begins with what arrived.
        for request in requests {
            self.submit(now, request);
        }
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        for event in events {
            match event {
                Event::Refresh => self.core.refresh(),
                Event::Leader { topic, partition, leader, epoch, endpoint } => {
                    self.core.leader_hint(&topic, partition, leader, epoch, endpoint);
                }
                Event::Throttle { node, until } => {
                    for lane in 0..LANES as u32 {
                        self.core.throttle(node, Purpose::Fetch(self.number + lane), until);
                    }
                }
            }
        }
        if looked_up {
            self.changed.notify_waiters();
        }
        deadline
    }

    fn submit(&self, now: Instant, request: Request) {
        let config = self.core.config();
        let client_id = config.client_id.clone();
        let (node, ticket) = (request.node, request.ticket);
        // Not kept alive by what is under way: a fetch may be parked for long.
        let shared = self.this.clone();
        let completion = |kind| {
            Completion::new(move |outcome| {
                if let Some(shared) = shared.upgrade() {
                    shared.arrive(ticket, kind, outcome);
                }
            })
        };
        let deadline = now + config.request_timeout;
        match request.what {
            What::Fetch { lane, plan } => {
                // Sessions are ended from elsewhere: the connections they were used on are gone by then.
                let purpose = match plan.session_epoch {
                    FINAL_EPOCH => Purpose::Rest,
                    _ if self.is_closed() => return,
                    _ => Purpose::Fetch(self.number + lane as u32),
                };
                let silence = self.silence.map(|silence| silence + plan.max_wait);
                let patience = Patience { deadline: deadline + plan.max_wait, silence };
                let most = if plan.by_id { i16::MAX } else { LAST_VERSION_BY_NAME };
                let completion = completion(Kind::Fetch);
                self.core.submit(
                    node,
                    purpose,
                    patience,
                    move |versions| {
                        let version = versions.choose_at_most::<FetchRequest>(most)?;
                        header::encode(&plan.request(version), version, &client_id)
                    },
                    completion,
                );
                // On two threads it may have been closed since it was asked above, and the connection just released is made again.
                if self.is_closed() && purpose != Purpose::Rest {
                    self.release();
                }
            }
            What::Offsets(plan) => self.core.submit(
                node,
                Purpose::Rest,
                deadline,
                move |versions| {
                    let version = versions.choose::<ListOffsetsRequest>()?;
                    header::encode(&list_offsets(&plan, version), version, &client_id)
                },
                completion(Kind::Offsets),
            ),
            What::Epochs(plan) => self.core.submit(
                node,
                Purpose::Rest,
                deadline,
                move |versions| {
                    let version = versions.choose::<OffsetForLeaderEpochRequest>()?;
                    header::encode(&offset_for_leader_epoch(&plan, version), version, &client_id)
                },
                completion(Kind::Epochs),
            ),
        }
    }
}

/// The consumer's one task, made before it begins: however it ends, if only by its runtime before its first turn, nobody is left waiting.
pub(super) struct Driver(pub(super) Arc<Shared>);

impl Driver {
    pub(super) async fn run(self) {
        let shared = &self.0;
        let mut cluster = shared.core.watch_cluster();
        cluster.mark_changed();
        let mut client_closed = shared.core.watch_closed();
        while !shared.is_closed() {
            // What the group gives is read from at once, so it comes first.
            let member = shared.drive_member(now());
            let failed = std::mem::take(&mut *shared.failed.lock().unwrap_or_else(PoisonError::into_inner));
            let deadline = shared.take_in(failed, true).into_iter().chain(member).min();
            let mut until: Pin<Box<dyn Future<Output = ()> + Send>> = match deadline {
                Some(deadline) => Box::pin(tokio::time::sleep_until(deadline.into())),
                None => Box::pin(std::future::pending()),
            };
            tokio::select! {
                () = shared.wake.notified() => {}
                _ = client_closed.wait_for(|closed| *closed) => return,
                changed = cluster.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = cluster.borrow_and_update().clone();
                    let inner = &mut *shared.lock();
                    inner.machine.handle_metadata(now(), &snapshot);
                    if let Some(membership) = &mut inner.membership {
                        membership.handle_metadata(now(), &snapshot);
                    }
                }
                () = &mut until => {
                    let inner = &mut *shared.lock();
                    inner.machine.handle_deadline(now());
                    if let Some(membership) = &mut inner.membership {
                        membership.handle_deadline(&mut inner.machine, now());
                    }
                }
            }
        }
        shared.farewell(&mut client_closed).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.close(false);
    }
}

enum Arrival {
    Fetch(Ticket, Result<FetchResponse>),
    Offsets(Ticket, Result<kafka_protocol::messages::ListOffsetsResponse>),
    Epochs(Ticket, Result<kafka_protocol::messages::OffsetForLeaderEpochResponse>),
}

fn read(ticket: Ticket, kind: Kind, outcome: Outcome) -> Arrival {
    let answer = outcome.map_err(|failure| failure.error);
    match kind {
        Kind::Fetch => Arrival::Fetch(ticket, answer.and_then(|answer| read_fetch(&answer))),
        Kind::Offsets => {
            Arrival::Offsets(ticket, answer.and_then(|answer| header::decode::<ListOffsetsRequest>(&answer)))
        }
        Kind::Epochs => Arrival::Epochs(
            ticket,
            answer.and_then(|answer| header::decode::<OffsetForLeaderEpochRequest>(&answer)),
        ),
    }
}

fn read_fetch(answer: &Answer) -> Result<FetchResponse> {
    FetchResponse::decode(&answer.body, answer.version).map_err(|malformed| {
        Error::new(ErrorKind::Protocol, format!("malformed answer to Fetch version {}", answer.version))
            .in_api(FetchRequest::NAME)
            .at_address(&*answer.address)
            .caused_by(malformed)
    })
}
