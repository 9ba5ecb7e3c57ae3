//! What a responder has finished: handlers end in any order, the position that may be given up is the lowest unfinished.
use std::collections::{BTreeSet, HashMap};

use crate::topic_partition::TopicPartition;

/// Invariant: every started offset is finished once; `floor` never goes back.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    partitions: HashMap<TopicPartition, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Handed to a handler and not finished.
    open: BTreeSet<i64>,
    /// One behind the highest offset that was started.
    next: i64,
}

impl Tracker {
    /// A record was handed to its handler. Offsets of a partition come in order.
    pub(crate) fn start(&mut self, partition: &TopicPartition, offset: i64) {
        let progress = self.partitions.entry(partition.clone()).or_default();
        progress.open.insert(offset);
        progress.next = progress.next.max(offset + 1);
    }

    /// The handler has ended and its reply, if there is one, is acknowledged or given up.
    pub(crate) fn finish(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(progress) = self.partitions.get_mut(partition) {
            let open = progress.open.remove(&offset);
            debug_assert!(open, "offset {offset} of {partition} finished twice");
        }
    }

    /// The offset below which everything is finished.
    pub(crate) fn floor(&self, partition: &TopicPartition) -> Option<i64> {
        let progress = self.partitions.get(partition)?;
        Some(progress.open.first().copied().unwrap_or(progress.next))
    }

    /// How many handlers run.
    pub(crate) fn open(&self) -> usize {
        self.partitions.values().map(|progress| progress.open.len()).sum()
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
}
