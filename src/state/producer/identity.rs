//! Producer id and epoch: an id is asked for once, epochs are raised here (KIP-360).
//!
//! ```text
//!  Wanted --poll--> Asked --answer--> Known --replace, or the last epoch is used up--> Wanted
//!    ^                |               |   ^
//!    +--- failure ----+ after backoff +---+ bump: the next epoch of the same id
//! ```
//!
//! A node takes the next epoch of an id it knows from its producer without being asked, and from then on refuses what carries
//! an older one. So a request of the old epoch that arrives late, long after it was given up, cannot get in behind newer records;
//! under a new id it could. (Asked by a producer without transactions, Kafka never raises an epoch but gives out a new id.)
use std::time::Instant;

use rand::Rng;

use super::{ProducerIdentity, Ticket};
use crate::state::backoff::Backoff;

#[derive(Debug)]
pub(super) struct Identity {
    current: Option<ProducerIdentity>,
    stage: Stage,
    failures: u32,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// An id is to be asked for, at the earliest then.
    Wanted(Option<Instant>),
    Asked(Ticket),
    Known,
}

impl Identity {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { current: None, stage: Stage::Wanted(None), failures: 0, backoff }
    }

    /// What new batches are to carry: nothing while an id is being asked for.
    pub(super) fn known(&self) -> Option<ProducerIdentity> {
        self.current.filter(|_| self.stage == Stage::Known)
    }

    /// `old` is not for new batches any more: its next epoch is, or another id when it had its last one. Nothing happens if it is not
    /// the current one: then a newer one is there or on its way. Says whether there is a new epoch.
    pub(super) fn bump(&mut self, old: ProducerIdentity) -> bool {
        if self.known() != Some(old) {
            return false;
        }
        match old.epoch.checked_add(1) {
            Some(epoch) => self.current = Some(ProducerIdentity { epoch, ..old }),
            None => self.stage = Stage::Wanted(None),
        }
        self.known().is_some()
    }

    /// Nodes refuse the id of `old` in whatever epoch: another one is asked for, unless that was done.
    pub(super) fn replace(&mut self, old: ProducerIdentity) {
        if self.known().is_some_and(|known| known.id == old.id) {
            self.stage = Stage::Wanted(None);
        }
    }

    /// Whether it is time to ask; then the answer is awaited under `ticket`.
    pub(super) fn poll(&mut self, now: Instant, ticket: Ticket) -> bool {
        let is_due = matches!(self.stage, Stage::Wanted(at) if at.is_none_or(|at| at <= now));
        if is_due {
            self.stage = Stage::Asked(ticket);
        }
        is_due
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Wanted(at) => at,
            Stage::Asked(_) | Stage::Known => None,
        }
    }

    pub(super) fn handle_known(&mut self, ticket: Ticket, identity: ProducerIdentity) {
        if self.stage == Stage::Asked(ticket) {
            *self = Self { current: Some(identity), stage: Stage::Known, failures: 0, backoff: self.backoff };
        }
    }

    pub(super) fn handle_failure(&mut self, now: Instant, ticket: Ticket, random: &mut impl Rng) {
        if self.stage == Stage::Asked(ticket) {
            self.failures += 1;
            self.stage = Stage::Wanted(Some(now + self.backoff.after(self.failures, random)));
        }
    }
}
