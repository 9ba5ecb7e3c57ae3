//! Producer id and epoch: asked for once, and again whenever a partition has to leave its epoch behind (KIP-360).
//!
//! ```text
//!  Wanted --poll--> Asked --answer--> Known --bump--> Wanted
//!    ^                |
//!    +--- failure ----+   after a backoff
//! ```
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
    /// To be asked for, at the earliest then.
    Wanted(Option<Instant>),
    Asked(Ticket),
    Known,
}

impl Identity {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { current: None, stage: Stage::Wanted(None), failures: 0, backoff }
    }

    /// What new batches are to carry: nothing while a newer one is being asked for.
    pub(super) fn known(&self) -> Option<ProducerIdentity> {
        self.current.filter(|_| self.stage == Stage::Known)
    }

    /// `old` cannot be used any more. Nothing happens if it is not the current one: then a newer one is there or on its way.
    pub(super) fn bump(&mut self, old: ProducerIdentity) {
        if self.known() == Some(old) {
            self.stage = Stage::Wanted(None);
        }
    }

    /// Whether it is time to ask; then the answer is awaited under `ticket`. Gives the identity to be bumped, if any.
    pub(super) fn poll(&mut self, now: Instant, ticket: Ticket) -> Option<ProducerIdentity> {
        match self.stage {
            Stage::Wanted(at) if at.is_none_or(|at| at <= now) => {
                self.stage = Stage::Asked(ticket);
                // An epoch that cannot rise is given up together with its id.
                let bumpable = self.current.filter(|identity| identity.epoch < i16::MAX);
                Some(bumpable.unwrap_or(ProducerIdentity::NONE))
            }
            _ => None,
        }
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
