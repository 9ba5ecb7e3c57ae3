//! The table of pending calls: each call ends exactly once, by whoever removes it first.
//!
//! ```text
//!             reply | deadline | send failure | cancel | close | reply topic gone
//! (pending) -----------------------------------------------------------------------> (gone)      a later reply: late or duplicate
//! ```
//!
//! A call that takes several replies stays pending until one of them is the last.
//!
//! Invariants
//! - A waiter leaves the table once; nobody but who took it out may complete it.
//! - `pending` and `deadlines` hold the same calls.
//! - Memory is bounded by the calls in flight plus [`REMEMBERED`] numbers.
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::correlation::{ReplyCorrelation, ReplyId};
use super::homes::{HomeId, Homes};

/// How many calls that ended without a reply are remembered, to tell a late reply from a repeated one in the counts.
const REMEMBERED: usize = 4096;

/// A call in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Whose a reply is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Addressee<W> {
    /// This waiter's; the call has ended.
    Waiter(W),
    /// A call's that goes on.
    Taken,
    /// A call that ended before its reply came.
    Late,
    /// A call that was answered already: the responder ran twice, its producer retried, or an old position was read again.
    Duplicate,
    /// Nobody's here: another requester shares the partition, or this is no reply at all.
    Stranger,
}

/// Why a call was not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    /// It is in the table, or was.
    Known,
}

/// How many calls ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) registered: u64,
    pub(crate) answered: u64,
    pub(crate) timed_out: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) closed: u64,
    pub(crate) gone: u64,
    pub(crate) late: u64,
    pub(crate) duplicate: u64,
    pub(crate) stranger: u64,
}

/// The pending calls of one requester. `W` is whatever completes a call; the table only keeps it.
#[derive(Debug)]
pub(crate) struct Router<W> {
    correlation: ReplyCorrelation,
    homes: Homes,
    /// By number, hence by age.
    pending: BTreeMap<u64, Pending<W>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Calls that other requesters have sent.
    resumed: BTreeMap<ReplyId, u64>,
    next: u64,
    unanswered: BTreeSet<u64>,
    counts: Counts,
    closed: bool,
}

#[derive(Debug)]
struct Pending<W> {
    waiter: W,
    deadline: Instant,
    sent: i64,
    home: HomeId,
}

impl<W> Router<W> {
    pub(crate) fn new(correlation: ReplyCorrelation) -> Self {
        Self {
            correlation,
            homes: Homes::default(),
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            resumed: BTreeMap::new(),
            next: 0,
            unanswered: BTreeSet::new(),
            counts: Counts::default(),
            closed: false,
        }
    }

    /// Enters a call, before its request is sent: a reply may be there before the send returns. Its reply is awaited at `home`; `sent`
    /// is the wall clock in milliseconds. A closed table gives the waiter back.
    pub(crate) fn register_at(
        &mut self,
        home: HomeId,
        deadline: Instant,
        sent: i64,
        waiter: W,
    ) -> Result<(Ticket, ReplyId), W> {
        if self.closed {
            return Err(waiter);
        }
        let call = self.next;
        self.next += 1;
        self.counts.registered += 1;
        self.homes.begin(home);
        self.pending.insert(call, Pending { waiter, deadline, sent, home });
        self.deadlines.insert((deadline, call));
        Ok((Ticket(call), self.correlation.id(call)))
    }

    /// Enters a call that another requester has sent, under its own id.
    pub(crate) fn resume_at(
        &mut self,
        home: HomeId,
        id: ReplyId,
        deadline: Instant,
        sent: i64,
        waiter: W,
    ) -> Result<Ticket, Refused> {
        if self.correlation.call(&id).is_some() || self.resumed.contains_key(&id) {
            return Err(Refused::Known);
        }
        let (ticket, _) = self.register_at(home, deadline, sent, waiter).map_err(|_| Refused::Closed)?;
        self.resumed.insert(id, ticket.0);
        Ok(ticket)
    }

    /// A record with this id was read from a reply partition. `last` is asked whether it ends the call of this waiter: one that takes
    /// several replies has taken it in then.
    pub(crate) fn handle_record(&mut self, id: &[u8], last: impl FnOnce(&W) -> bool) -> Addressee<W> {
        let call = self.correlation.call(id).filter(|&call| call < self.next);
        let call = call.or_else(|| self.resumed.get(id).copied());
        let Some(call) = call else {
            return self.handle_stranger();
        };
        if let Entry::Occupied(pending) = self.pending.entry(call) {
            if !last(&pending.get().waiter) {
                return Addressee::Taken;
            }
            let pending = pending.remove();
            self.counts.answered += 1;
            Addressee::Waiter(self.forget(call, pending))
        } else if self.unanswered.remove(&call) {
            self.counts.late += 1;
            Addressee::Late
        } else {
            self.counts.duplicate += 1;
            Addressee::Duplicate
        }
    }

    /// A record with this id was read, and no call takes more than one.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) fn handle_reply(&mut self, id: &[u8]) -> Addressee<W> {
        self.handle_record(id, |_| true)
    }

    /// A record without any id was read from a reply partition.
    pub(crate) fn handle_stranger(&mut self) -> Addressee<W> {
        self.counts.stranger += 1;
        Addressee::Stranger
    }

    /// The next call whose deadline has passed, earliest first. To be asked until it answers `None`.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<W> {
        let &(deadline, call) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.counts.timed_out += 1;
        self.remove_unanswered(call)
    }

    /// Nobody waits for the call any more.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        let waiter = self.remove_unanswered(ticket.0)?;
        self.counts.cancelled += 1;
        Some(waiter)
    }

    /// The caller has all the replies that it wants.
    pub(crate) fn finish(&mut self, ticket: Ticket) -> Option<W> {
        let waiter = self.remove(ticket.0)?;
        self.counts.answered += 1;
        Some(waiter)
    }

    /// The request surely was not sent.
    pub(crate) fn fail(&mut self, ticket: Ticket) -> Option<W> {
        let waiter = self.remove_unanswered(ticket.0)?;
        self.counts.failed += 1;
        Some(waiter)
    }

    /// Ends all calls; later ones are refused.
    pub(crate) fn close(&mut self) -> Vec<W> {
        self.refuse();
        self.deadlines.clear();
        self.resumed.clear();
        self.counts.closed += self.pending.len() as u64;
        let pending = std::mem::take(&mut self.pending).into_values();
        pending.inspect(|pending| self.homes.end(pending.home)).map(|pending| pending.waiter).collect()
    }

    /// Ends the calls whose replies were awaited at these homes, which are gone with their topic.
    pub(crate) fn abandon(&mut self, homes: &[HomeId]) -> Vec<W> {
        let pending = self.pending.iter().filter(|(_, pending)| homes.contains(&pending.home));
        let calls: Vec<u64> = pending.map(|(call, _)| *call).collect();
        self.counts.gone += calls.len() as u64;
        calls.into_iter().filter_map(|call| self.remove_unanswered(call)).collect()
    }

    /// The id of a call that this requester has sent.
    pub(crate) fn id(&self, ticket: Ticket) -> ReplyId {
        self.correlation.id(ticket.0)
    }

    /// Refuses new calls; those pending go on.
    pub(crate) fn refuse(&mut self) {
        self.closed = true;
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// When the oldest call was sent whose reply is awaited on this partition: no reply there that matters is older.
    pub(crate) fn oldest(&self, topic: &str, partition: i32) -> Option<i64> {
        let homes: Vec<_> = self.homes.of(topic, partition).collect();
        let pending = self.pending.values().filter(|pending| homes.contains(&pending.home));
        pending.map(|pending| pending.sent).min()
    }

    pub(crate) fn homes(&self) -> &Homes {
        &self.homes
    }

    pub(crate) fn homes_mut(&mut self) -> &mut Homes {
        &mut self.homes
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn remove(&mut self, call: u64) -> Option<W> {
        let pending = self.pending.remove(&call)?;
        Some(self.forget(call, pending))
    }

    /// What else is known of a call that was pending.
    fn forget(&mut self, call: u64, pending: Pending<W>) -> W {
        self.deadlines.remove(&(pending.deadline, call));
        self.homes.end(pending.home);
        if !self.resumed.is_empty() {
            self.resumed.retain(|_, resumed| *resumed != call);
        }
        pending.waiter
    }

    fn remove_unanswered(&mut self, call: u64) -> Option<W> {
        let waiter = self.remove(call)?;
        self.unanswered.insert(call);
        if self.unanswered.len() > REMEMBERED {
            self.unanswered.pop_first();
        }
        Some(waiter)
    }
}

#[cfg(test)]
mod tests;
