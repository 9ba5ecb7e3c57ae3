//! Fetch sessions (KIP-227): a node remembers what was asked, and only differences go over the wire.
use std::collections::{BTreeMap, HashSet};

use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch::{PartitionName, PlannedPartition};

/// What the node knows of this session, which is what the last request left it with.
///
/// ```text
///   id 0, epoch 0: full request, asks for a session
///   id n, epoch 1, 2, ..: differences only           (an answer with id 0: the node keeps no session)
///   id n, epoch 0: closes session n and asks for a new one   (after any failure)
/// ```
/// A partition that is not asked for any more is forgotten at once: the node would answer from its old offset again.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    sent: BTreeMap<usize, Sent>,
    by_id: bool,
    /// Full requests begin at another partition each time, or the last ones would starve behind a byte limit.
    turn: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) version: u64,
    pub(super) planned: PlannedPartition,
}

/// Tells the node to forget the session.
pub(crate) const FINAL_EPOCH: i32 = -1;

/// What goes into a request.
pub(super) struct Difference {
    pub(super) id: i32,
    pub(super) epoch: i32,
    pub(super) partitions: Vec<PlannedPartition>,
    pub(super) forgotten: Vec<PartitionName>,
}

impl Session {
    /// Turns what is wanted now, by slot, into a request.
    pub(super) fn ask(&mut self, wanted: BTreeMap<usize, Sent>, by_id: bool) -> Difference {
        if self.by_id != by_id {
            // A session speaks of topics either by name or by id.
            self.by_id = by_id;
            self.restart();
        }
        let mut difference =
            Difference { id: self.id, epoch: self.epoch, partitions: Vec::new(), forgotten: Vec::new() };
        if self.epoch == 0 {
            difference.partitions.extend(wanted.values().map(|sent| sent.planned.clone()));
            self.turn = self.turn.wrapping_add(1);
            let turn = self.turn % difference.partitions.len().max(1);
            difference.partitions.rotate_left(turn);
        } else {
            for (slot, sent) in &wanted {
                if self.sent.get(slot).is_none_or(|before| before.planned != sent.planned) {
                    difference.partitions.push(sent.planned.clone());
                }
            }
            let gone = |(slot, before): &(&usize, &Sent)| {
                wanted.get(slot).is_none_or(|now| now.planned.name != before.planned.name)
            };
            difference
                .forgotten
                .extend(self.sent.iter().filter(gone).map(|(_, sent)| sent.planned.name.clone()));
            if !difference.forgotten.is_empty() {
                // A partition may have come back in another slot, and nodes forget after they have added.
                let names: HashSet<_> = wanted.values().map(|sent| &sent.planned.name).collect();
                difference.forgotten.retain(|name| !names.contains(name));
            }
        }
        self.sent = wanted;
        difference
    }

    /// What the partition in `slot` was last asked with.
    pub(super) fn sent(&self, slot: usize) -> Option<&Sent> {
        self.sent.get(&slot)
    }

    /// Of the partitions that were last asked for.
    pub(super) fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.sent.keys().copied()
    }

    /// The request was answered without an error of its own.
    pub(super) fn answered(&mut self, id: i32) {
        if id == 0 || (self.epoch != 0 && id != self.id) {
            *self = Self {
                turn: self.turn,
                by_id: self.by_id,
                sent: std::mem::take(&mut self.sent),
                ..Self::default()
            };
            return;
        }
        self.id = id;
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
    }

    /// The node answered with an error of the whole request.
    pub(super) fn refused(&mut self, error: ErrorCode) {
        if error == ErrorCode::FETCH_SESSION_ID_NOT_FOUND {
            self.id = 0;
        }
        self.restart();
    }

    /// Ends the session, if there is one: its id, for a last request of epoch [`FINAL_EPOCH`].
    pub(super) fn close(&mut self) -> Option<i32> {
        let id = (self.epoch > 0).then_some(self.id);
        *self = Self::default();
        id
    }

    /// Whether the node took in the last request is unknown.
    pub(super) fn restart(&mut self) {
        self.epoch = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn wanted(partitions: &[(usize, i64)]) -> BTreeMap<usize, Sent> {
        partitions
            .iter()
            .map(|&(slot, offset)| {
                let name = PartitionName { topic: "t".into(), topic_id: Uuid::nil(), partition: slot as i32 };
                let planned =
                    PlannedPartition { name, offset, leader_epoch: 0, last_fetched_epoch: -1, max_bytes: 1 };
                (slot, Sent { version: 1, planned })
            })
            .collect()
    }

    fn told(difference: &Difference) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let mut partitions: Vec<i32> =
            difference.partitions.iter().map(|planned| planned.name.partition).collect();
        partitions.sort_unstable();
        let forgotten = difference.forgotten.iter().map(|name| name.partition).collect();
        (difference.id, difference.epoch, partitions, forgotten)
    }

    #[test]
    fn only_differences_are_sent_and_what_is_not_wanted_is_forgotten() {
        let mut session = Session::default();
        assert_eq!(told(&session.ask(wanted(&[(0, 0), (1, 0)]), true)), (0, 0, vec![0, 1], vec![]));
        session.answered(9);
        assert_eq!(told(&session.ask(wanted(&[(0, 5), (1, 0)]), true)), (9, 1, vec![0], vec![]));
        session.answered(9);
        assert_eq!(told(&session.ask(wanted(&[(0, 5)]), true)), (9, 2, vec![], vec![1]));
        session.answered(9);
        assert_eq!(told(&session.ask(wanted(&[(0, 5), (1, 0)]), true)), (9, 3, vec![1], vec![]));
    }

    #[test]
    fn partitions_that_exchange_their_slots_are_not_forgotten() {
        let mut session = Session::default();
        session.ask(wanted(&[(0, 0), (1, 0)]), true);
        session.answered(9);
        let mut exchanged = wanted(&[(0, 5), (1, 5)]);
        let (first, second) = (exchanged[&0].clone(), exchanged[&1].clone());
        exchanged.insert(0, second);
        exchanged.insert(1, first);
        assert_eq!(told(&session.ask(exchanged, true)), (9, 1, vec![0, 1], vec![]));
    }

    #[test]
    fn a_failure_closes_the_session_and_opens_another() {
        let mut session = Session::default();
        session.ask(wanted(&[(0, 0)]), true);
        session.answered(9);
        session.restart();
        assert_eq!(told(&session.ask(wanted(&[(0, 0)]), true)), (9, 0, vec![0], vec![]));
        session.answered(10);
        assert_eq!(told(&session.ask(wanted(&[(0, 1)]), true)), (10, 1, vec![0], vec![]));
        session.refused(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        assert_eq!(told(&session.ask(wanted(&[(0, 1)]), true)), (0, 0, vec![0], vec![]));
    }

    #[test]
    fn a_node_without_sessions_is_asked_in_full_each_time_from_another_partition_on() {
        let mut session = Session::default();
        let first = session.ask(wanted(&[(0, 0), (1, 0)]), true);
        session.answered(0);
        let second = session.ask(wanted(&[(0, 0), (1, 0)]), true);
        assert_eq!((second.id, second.epoch), (0, 0));
        assert_ne!(first.partitions, second.partitions);
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut session = Session { id: 4, epoch: i32::MAX, ..Session::default() };
        session.answered(4);
        assert_eq!(session.ask(wanted(&[]), false).epoch, 1);
    }
}
