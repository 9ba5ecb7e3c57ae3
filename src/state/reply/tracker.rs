//! What a responder has finished: handlers end in any order, the position that may be given up is the lowest unfinished.
use std::collections::{BTreeMap, HashMap};

use crate::topic_partition::TopicPartition;

/// Invariant: every start is finished once; `floor` goes back only when records come again.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    partitions: HashMap<TopicPartition, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Handed to a handler and not finished, and how often: after a position was reset, records come again.
    open: BTreeMap<i64, u32>,
    /// One behind the highest offset that was started.
    next: i64,
}

impl Tracker {
    /// A record was handed to its handler. Offsets of a partition come in order, unless its position was reset.
    pub(crate) fn start(&mut self, partition: &TopicPartition, offset: i64) {
        let progress = self.partitions.entry(partition.clone()).or_default();
        *progress.open.entry(offset).or_default() += 1;
        progress.next = progress.next.max(offset + 1);
    }

    /// The handler has ended and its reply, if there is one, is acknowledged or given up.
    pub(crate) fn finish(&mut self, partition: &TopicPartition, offset: i64) {
        let Some(progress) = self.partitions.get_mut(partition) else { return };
        match progress.open.get_mut(&offset) {
            Some(1) => _ = progress.open.remove(&offset),
            Some(times) => *times -= 1,
            None => debug_assert!(false, "offset {offset} of {partition} finished twice"),
        }
    }

    /// The offset below which everything is finished.
    pub(crate) fn floor(&self, partition: &TopicPartition) -> Option<i64> {
        let progress = self.partitions.get(partition)?;
        Some(progress.open.first_key_value().map_or(progress.next, |(offset, _)| *offset))
    }

    /// How many handlers run.
    pub(crate) fn open(&self) -> usize {
        self.partitions
            .values()
            .flat_map(|progress| progress.open.values())
            .map(|times| *times as usize)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_lowest_unfinished_offset() {
        let (mut tracker, t) = (Tracker::default(), TopicPartition::new("t", 0));
        assert_eq!(tracker.floor(&t), None);
        for offset in [5, 6, 9] {
            tracker.start(&t, offset);
        }
        tracker.finish(&t, 6);
        assert_eq!((tracker.floor(&t), tracker.open()), (Some(5), 2));
        tracker.finish(&t, 5);
        assert_eq!(tracker.floor(&t), Some(9));
        tracker.finish(&t, 9);
        assert_eq!((tracker.floor(&t), tracker.open()), (Some(10), 0));
    }

    #[test]
    fn a_record_that_comes_again_is_finished_when_all_its_handlers_have_ended() {
        // Found by tests/fuzz: the second handler's end was one too many.
        let (mut tracker, t) = (Tracker::default(), TopicPartition::new("t", 0));
        for offset in [0, 1, 0] {
            tracker.start(&t, offset);
        }
        tracker.finish(&t, 0);
        assert_eq!((tracker.floor(&t), tracker.open()), (Some(0), 2));
        tracker.finish(&t, 0);
        tracker.finish(&t, 1);
        assert_eq!((tracker.floor(&t), tracker.open()), (Some(2), 0));
    }
}
