//! Requests that wait at a node: a fetch for bytes, a produce request for its replicas, a join or sync for its group.
use std::time::Instant;

use super::handlers::{fetch, produce};
use super::{Call, Cluster, ConnectionId, State, Timer};

#[derive(Debug)]
pub(crate) struct Parked {
    /// None for a request that waits as long as it takes.
    timer: Option<(Instant, u64)>,
    call: Call,
    waiting: Waiting,
}

#[derive(Debug)]
pub(super) enum Waiting {
    Fetch(fetch::Plan),
    Produce(produce::Pending),
    /// The group answers it: `deliver`.
    Group,
}

impl Parked {
    pub(super) fn timer(&self) -> Option<(Instant, u64)> {
        self.timer
    }
}

impl Cluster {
    /// Lets the request of this call wait, until `until` at the most.
    pub(super) fn park(&mut self, call: Call, waiting: Waiting, until: Option<Instant>) {
        let id = call.connection;
        self.watch(id, &waiting);
        let timer = until.map(|until| self.set_timer(until, Timer::Parked(id)));
        self.set_state(id, State::Parked(Box::new(Parked { timer, call, waiting })));
    }

    /// Has the connection woken when a partition changes that its request waits for.
    fn watch(&mut self, id: ConnectionId, waiting: &Waiting) {
        match waiting {
            Waiting::Fetch(plan) => fetch::watch(self, id, plan),
            Waiting::Produce(pending) => pending.watch(self, id),
            Waiting::Group => {}
        }
    }

    /// The request that waits on a connection for its group's answer.
    pub(super) fn take_waiting_for_group(&mut self, id: ConnectionId) -> Option<Call> {
        let parked = self.take_parked(id)?;
        if matches!(parked.waiting, Waiting::Group) {
            return Some(parked.call);
        }
        self.set_state(id, State::Parked(parked));
        None
    }

    fn take_parked(&mut self, id: ConnectionId) -> Option<Box<Parked>> {
        let connection = self.connections.get_mut(&id)?;
        match std::mem::replace(&mut connection.state, State::Idle) {
            State::Parked(parked) => Some(parked),
            other => {
                connection.state = other;
                None
            }
        }
    }

    /// Something happened to a partition that the connection's request may wait for; `expired`: it has waited long enough.
    pub(super) fn look_at_parked(&mut self, now: Instant, id: ConnectionId, expired: bool) {
        let Some(mut parked) = self.take_parked(id) else { return };
        parked.call.now = now;
        let Parked { call, waiting, timer } = &mut *parked;
        let done = match waiting {
            Waiting::Fetch(plan) => match fetch::look(self, call, plan, expired) {
                Some(response) => {
                    self.answer(call, &response);
                    true
                }
                None => false,
            },
            Waiting::Produce(pending) => match pending.look(self, call, expired) {
                Some(response) => {
                    self.answer(call, &response);
                    true
                }
                None => false,
            },
            Waiting::Group => false,
        };
        if done {
            if let Some(timer) = timer {
                self.timers.remove(timer);
            }
        } else {
            self.watch(id, &parked.waiting);
            self.set_state(id, State::Parked(parked));
        }
    }
}
