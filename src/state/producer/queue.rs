//! One partition: its batches in order, and when the next may go.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::batch::{Batch, Stage};
use super::buffer::Look;
use super::{
    FORGOTTEN_AFTER, LEADER_MOVE_GRACE, MAX_IN_FLIGHT_IDEMPOTENT, ProducerIdentity, Settings, Ticket, earlier,
};
use crate::error::Error;
use crate::record::batch::Stamp;

/// The unsettled batches of a partition. See the module's own page for what always holds.
#[derive(Debug)]
pub(super) struct Queue<T> {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
    pub(super) leader: Option<i32>,
    leader_epoch: i32,
    /// In append order; those in flight come first, except while a retry waits for later ones to be answered.
    pub(super) batches: VecDeque<Batch<T>>,
    pub(super) in_flight: usize,
    /// Where those in flight are.
    node: i32,
    /// Attempts on the wire of batches that were given up.
    orphans: Vec<Ticket>,
    /// Sequence number behind the last settled batch.
    expected: i32,
    pub(super) identity: Option<ProducerIdentity>,
    /// This leader has stored a batch of this identity.
    established: bool,
    /// The identity is used only to settle what is unsure.
    pub(super) must_bump: bool,
    failures: u32,
    pub(super) backoff_until: Option<Instant>,
    /// Until when answers of the former leader are waited for.
    grace: Option<Instant>,
    last_settled: Option<Instant>,
    /// Why the last attempt failed, for the error of a batch that runs out of time.
    pub(super) last_error: Option<Error>,
    /// What the buffer held at the last look.
    pub(super) look: Look,
    /// Stands in the ready list of its leader.
    pub(super) listed: bool,
    /// The entry in the sender's table of deadlines.
    pub(super) timer: Option<Instant>,
}

/// What a partition could send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This batch.
    Queued(usize),
    /// Whatever is in the buffer.
    Buffered,
    Nothing,
}

impl<T: Clone> Queue<T> {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            topic_id: Uuid::nil(),
            partition,
            leader: None,
            leader_epoch: -1,
            batches: VecDeque::new(),
            in_flight: 0,
            node: -1,
            orphans: Vec::new(),
            expected: 0,
            identity: None,
            established: false,
            must_bump: false,
            failures: 0,
            backoff_until: None,
            grace: None,
            last_settled: None,
            last_error: None,
            look: Look::default(),
            listed: false,
            timer: None,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.batches.is_empty() || self.look.oldest.is_some()
    }

    /// What may be sent to the leader now, as far as this partition is concerned.
    pub(super) fn next(&self, now: Instant, settings: &Settings) -> Next {
        let at = self.in_flight;
        if self.leader.is_none() || at >= self.limit(now, settings) {
            return Next::Nothing;
        }
        if at > 0 && Some(self.node) != self.leader {
            return Next::Nothing;
        }
        if self.backoff_until.is_some_and(|until| until > now) {
            return Next::Nothing;
        }
        if !self.batches.iter().take(at).all(Batch::is_in_flight) {
            // Something is to be sent again, and a later batch has not been answered yet.
            return Next::Nothing;
        }
        if self.must_bump {
            // One at a time, and only to learn what became of them. One that stands behind a batch that surely is not in the
            // log is refused by the node, or recognised.
            let unsure = self.batches.iter().position(|batch| batch.unsure).filter(|_| at == 0);
            return unsure.map_or(Next::Nothing, Next::Queued);
        }
        match self.batches.get(at) {
            Some(batch) if matches!(batch.stage, Stage::Sealing(_)) => Next::Nothing,
            Some(_) => Next::Queued(at),
            None => Next::Buffered,
        }
    }

    /// How many batches may be in flight.
    fn limit(&self, now: Instant, settings: &Settings) -> usize {
        if !settings.idempotent {
            return if settings.acks == 0 { usize::MAX } else { 1 };
        }
        let forgotten = self.in_flight == 0
            && self.last_settled.is_some_and(|at| now.saturating_duration_since(at) > FORGOTTEN_AFTER);
        if self.established && !forgotten { MAX_IN_FLIGHT_IDEMPOTENT } else { 1 }
    }

    /// The stamp for the batch at `at`, all before it being in flight.
    pub(super) fn stamp(&self, at: usize) -> Stamp {
        let Some(identity) = self.identity else { return Stamp::NONE };
        if let Some(batch) = self.batches.get(at)
            && batch.unsure
            && let Some(stamp) = batch.stamp
        {
            return stamp;
        }
        let before = at.checked_sub(1).and_then(|before| self.batches.get(before));
        let sequence = before.map_or(Some(self.expected), Batch::next_sequence);
        identity.stamp(sequence.unwrap_or(self.expected))
    }

    /// Whether a new identity can be taken over: nothing is on the wire, and nothing unsure is left to settle.
    pub(super) fn is_drained(&self) -> bool {
        self.in_flight == 0 && self.orphans.is_empty() && !self.batches.iter().any(|batch| batch.unsure)
    }

    pub(super) fn adopt(&mut self, identity: ProducerIdentity) {
        debug_assert!(self.is_drained());
        self.identity = Some(identity);
        self.expected = 0;
        self.established = false;
        self.must_bump = false;
    }

    pub(super) fn sent(&mut self, at: usize, ticket: Ticket, node: i32) {
        if let Some(batch) = self.batches.get_mut(at) {
            batch.stage = Stage::InFlight(ticket);
            batch.attempts += 1;
            self.in_flight += 1;
            self.node = node;
        }
    }

    /// The batch that this request carries. `None` if it was given up or sent elsewhere meanwhile; the attempt is then over.
    pub(super) fn find(&mut self, ticket: Ticket) -> Option<usize> {
        let at = self.batches.iter().position(|batch| batch.stage == Stage::InFlight(ticket));
        if at.is_none() {
            self.orphans.retain(|orphan| *orphan != ticket);
        }
        at
    }

    /// The batch at `at` is in the log.
    pub(super) fn written(&mut self, now: Instant, at: usize) -> Option<Batch<T>> {
        let batch = self.remove(at)?;
        if at == 0 {
            self.expected = batch.next_sequence().unwrap_or(self.expected);
        } else if self.identity.is_some() {
            // It overtook another: the numbers of that one do not fit the log any more.
            self.must_bump = true;
        }
        self.established = true;
        self.failures = 0;
        self.backoff_until = None;
        self.last_settled = Some(now);
        self.last_error = None;
        Some(batch)
    }

    /// The batch at `at` goes again. `unsure`: the attempt that ended may have been stored.
    pub(super) fn requeue(&mut self, at: usize, unsure: bool) {
        if let Some(batch) = self.batches.get_mut(at) {
            if batch.is_in_flight() {
                self.in_flight -= 1;
                batch.stage = Stage::Queued;
            }
            batch.unsure |= unsure;
        }
    }

    pub(super) fn back_off(&mut self, until: impl FnOnce(u32) -> Instant) {
        self.failures = self.failures.saturating_add(1);
        self.backoff_until = Some(until(self.failures));
    }

    /// The batch at `at` is not sent any more. Says whether it may be in the log.
    pub(super) fn give_up(&mut self, at: usize) -> Option<(Batch<T>, bool)> {
        let ticket = match self.batches.get(at)?.stage {
            Stage::InFlight(ticket) => Some(ticket),
            Stage::Sealing(_) | Stage::Queued => None,
        };
        let batch = self.remove(at)?;
        self.orphans.extend(ticket);
        let unsure = batch.unsure || ticket.is_some();
        // Numbers that no node saw are free again, unless batches behind it carry the ones that follow.
        if self.identity.is_some() && (unsure || self.in_flight > 0) {
            self.must_bump = true;
        }
        Some((batch, unsure))
    }

    fn remove(&mut self, at: usize) -> Option<Batch<T>> {
        let batch = self.batches.remove(at)?;
        self.in_flight -= usize::from(batch.is_in_flight());
        Some(batch)
    }

    /// What metadata or a hint says of the partition.
    pub(super) fn handle_leader(&mut self, now: Instant, leader: Option<i32>, epoch: i32) {
        if leader == self.leader && epoch == self.leader_epoch {
            return;
        }
        if leader != self.leader {
            self.established = false;
        }
        self.leader = leader;
        self.leader_epoch = epoch;
        // A new leader deserves an attempt at once.
        self.backoff_until = None;
        self.failures = 0;
        let elsewhere = leader.is_some_and(|leader| leader != self.node);
        let waiting = self.in_flight > 0 || !self.orphans.is_empty();
        self.grace = (elsewhere && waiting).then(|| now + LEADER_MOVE_GRACE);
    }

    /// Stops waiting for a former leader that is silent.
    pub(super) fn leave_former_leader(&mut self, now: Instant) {
        if self.grace.is_none_or(|grace| grace > now) {
            return;
        }
        self.grace = None;
        self.orphans.clear();
        for at in 0..self.batches.len() {
            if self.batches.get(at).is_some_and(Batch::is_in_flight) {
                self.requeue(at, true);
            }
        }
    }

    /// When to look at the partition again if nothing else happens.
    pub(super) fn next_deadline(&self, now: Instant, settings: &Settings) -> Option<Instant> {
        let oldest = earlier(self.batches.front().map(|batch| batch.created), self.look.oldest);
        let expires = oldest.map(|oldest| oldest + settings.delivery_timeout);
        let backoff = self.backoff_until.filter(|until| *until > now && self.has_work());
        let linger = self.look.oldest.map(|opened| opened + settings.linger).filter(|due| *due > now);
        earlier(earlier(expires, self.grace), earlier(backoff, linger))
    }
}
