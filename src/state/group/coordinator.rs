//! Which node coordinates the group: asked of any node, forgotten when it turns out to be another.
//!
//! ```text
//!              ask                    answer
//!   Unknown ---------> Asking ----------------------> Known(node)
//!      ^                 | failed, none yet: back off     | lost: disconnected, or it says so itself
//!      +-----------------+--------------------------------+
//! ```
//!
//! A node that hangs is named as the coordinator until the cluster takes it for dead, and by itself until it learns of that. So those
//! that were silent for as long as a request may take are asked last, and not believed in for a moment.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;

use crate::state::backoff::Backoff;

/// The part of a session for which a silent node is not believed in: by then the cluster should have another coordinator, and the session
/// is not over.
const DOUBT: u32 = 6;

#[derive(Debug)]
pub(super) struct Coordinator {
    state: State,
    failures: u32,
    session_timeout: Duration,
    /// Nodes that let the time of a request pass, and when that was over.
    silent: BTreeMap<i32, Instant>,
}

#[derive(Debug)]
enum State {
    Unknown { not_before: Option<Instant> },
    Asking,
    Known(i32),
}

impl Coordinator {
    pub(super) fn new(session_timeout: Duration) -> Self {
        let state = State::Unknown { not_before: None };
        Self { state, failures: 0, session_timeout, silent: BTreeMap::new() }
    }

    pub(super) fn node(&self) -> Option<i32> {
        match self.state {
            State::Known(node) => Some(node),
            _ => None,
        }
    }

    /// Nodes that were silent within the last session.
    pub(super) fn silent(&self, now: Instant) -> Vec<i32> {
        let is_recent = |(_, at): &(&i32, &Instant)| **at + self.session_timeout > now;
        self.silent.iter().filter(is_recent).map(|(node, _)| *node).collect()
    }

    /// Whether `node` has just been silent, while another of these may know better. If it is named for longer than that, it is asked.
    pub(super) fn is_dubious<'a>(
        &self,
        now: Instant,
        node: i32,
        mut nodes: impl Iterator<Item = &'a i32>,
    ) -> bool {
        let silent = self.silent(now);
        self.silent.get(&node).is_some_and(|at| *at + self.session_timeout / DOUBT > now)
            && nodes.any(|node| !silent.contains(node))
    }

    /// `node` let the time of a request pass.
    pub(super) fn hung(&mut self, now: Instant, node: i32) {
        self.silent.insert(node, now);
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
            self.failed(now, backoff, random);
        }
    }

    /// The node did what a coordinator does.
    pub(super) fn proved(&mut self, node: i32) {
        self.failures = 0;
        self.silent.remove(&node);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Unknown { not_before } => not_before,
            _ => None,
        }
    }
}
