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

use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::state::backoff::Backoff;

/// The part of a session for which a silent node is not believed in, and a node is waited for that is to name the coordinator: several such
/// waits and half a session for the heartbeat that showed the silence have to fit into one.
const HASTE: u32 = 6;

#[derive(Debug)]
pub(super) struct Coordinator {
    state: State,
    failures: u32,
    session_timeout: Duration,
    /// Nodes that let the time of a request pass, and when that was over; -1 is whichever was asked when anybody would do.
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

    /// How long a node may take to name the coordinator: there are others to ask, and the session goes on.
    pub(super) fn patience(&self) -> Duration {
        self.session_timeout / HASTE
    }

    /// Since when the node is silent, if that is within the last session.
    fn silent_since(&self, now: Instant, node: i32) -> Option<Instant> {
        self.silent.get(&node).copied().filter(|at| *at + self.session_timeout > now)
    }

    /// Whom of `nodes` to ask. While nobody was silent: anybody (`None`). Else one that was not, or whose silence is the oldest.
    pub(super) fn whom<'a>(
        &self,
        now: Instant,
        nodes: impl Iterator<Item = &'a i32>,
        random: &mut SmallRng,
    ) -> Option<i32> {
        if !self.silent.keys().any(|node| self.silent_since(now, *node).is_some()) {
            return None;
        }
        // In their order, not that of a hash table: chance comes from the seed alone.
        let mut nodes: Vec<i32> = nodes.copied().collect();
        nodes.sort_unstable();
        nodes.into_iter().min_by_key(|node| (self.silent_since(now, *node), random.random::<u32>()))
    }

    /// Whether `node` has just been silent, while another of these may know better. If it is named for longer than that, it is asked.
    pub(super) fn is_dubious<'a>(
        &self,
        now: Instant,
        node: i32,
        mut nodes: impl Iterator<Item = &'a i32>,
    ) -> bool {
        self.silent_since(now, node).is_some_and(|at| at + self.patience() > now)
            && nodes.any(|node| self.silent_since(now, *node).is_none())
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
