//! Which node coordinates the group: asked of any node, forgotten when it turns out to be another.
//!
//! ```text
//!              ask                    answer
//!   Unknown ---------> Asking ----------------------> Known(node)
//!      ^                 | failed, none yet: back off     | lost: disconnected, or it says so itself
//!      +-----------------+--------------------------------+
//! ```
use std::time::Instant;

use rand::rngs::SmallRng;

use crate::state::backoff::Backoff;

#[derive(Debug)]
pub(super) struct Coordinator {
    state: State,
    failures: u32,
    /// The one before.
    former: Option<i32>,
}

#[derive(Debug)]
enum State {
    Unknown { not_before: Option<Instant> },
    Asking,
    Known(i32),
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self { state: State::Unknown { not_before: None }, failures: 0, former: None }
    }

    pub(super) fn node(&self) -> Option<i32> {
        match self.state {
            State::Known(node) => Some(node),
            _ => None,
        }
    }

    /// The node that was taken for the coordinator before it was lost.
    pub(super) fn former(&self) -> Option<i32> {
        self.former
    }

    /// Whether to ask now; the answer is awaited from here on.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let due =
            matches!(self.state, State::Unknown { not_before } if not_before.is_none_or(|at| at <= now));
        if due {
            self.state = State::Asking;
        }
        due
    }

    pub(super) fn found(&mut self, node: i32) {
        self.state = State::Known(node);
    }

    /// No node could be named.
    pub(super) fn failed(&mut self, now: Instant, backoff: &Backoff, random: &mut SmallRng) {
        self.failures = self.failures.saturating_add(1);
        self.state = State::Unknown { not_before: Some(now + backoff.after(self.failures, random)) };
    }

    /// `node` does not coordinate the group, or cannot be reached. What was learnt since is kept. It is asked for again after a wait
    /// that grows while the nodes that are named are of no use.
    pub(super) fn lost(&mut self, now: Instant, node: i32, backoff: &Backoff, random: &mut SmallRng) {
        if self.node() == Some(node) {
            self.former = Some(node);
            self.failed(now, backoff, random);
        }
    }

    /// The node did what a coordinator does.
    pub(super) fn proved(&mut self) {
        self.failures = 0;
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Unknown { not_before } => not_before,
            _ => None,
        }
    }
}
