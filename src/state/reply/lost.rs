//! Partitions whose position was lost: when each is sought again, so that nobody asks without a pause.
//!
//! The first time it is sought at once; while nothing comes of it, waits grow. Each partition waits for itself.
use std::collections::BTreeMap;
use std::time::Instant;

use rand::rngs::SmallRng;

use crate::state::backoff::Backoff;
use crate::topic_partition::TopicPartition;

/// Where reading goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoOn {
    /// Before the oldest reply that is awaited there: to read twice hurts nobody.
    Before,
    /// At this offset, behind what cannot be read.
    At(i64),
    /// At the end: nobody can tell where that ends which cannot be read.
    End,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LostPositions {
    backoff: Backoff,
    random: SmallRng,
    partitions: BTreeMap<TopicPartition, Lost>,
}

#[derive(Debug)]
struct Lost {
    /// Times it was lost since something was read of it.
    failures: u32,
    seek: Option<(Instant, GoOn)>,
}

impl LostPositions {
    pub(crate) fn new(backoff: Backoff, random: SmallRng) -> Self {
        Self { backoff, random, partitions: BTreeMap::new() }
    }

    /// Nothing is read of the partition until it is sought.
    pub(crate) fn lose(&mut self, now: Instant, partition: TopicPartition, to: GoOn) {
        let lost = self.partitions.entry(partition).or_insert(Lost { failures: 0, seek: None });
        lost.seek = Some((now + self.backoff.after(lost.failures, &mut self.random), to));
        lost.failures = lost.failures.saturating_add(1);
    }

    /// Something was read of it.
    pub(crate) fn read(&mut self, partition: &TopicPartition) {
        // Nearly always there is nothing to look for.
        if !self.partitions.is_empty() {
            self.partitions.remove(partition);
        }
    }

    /// What is to be sought now.
    pub(crate) fn poll_seek(&mut self, now: Instant) -> Option<(TopicPartition, GoOn)> {
        let due = |lost: &Lost| lost.seek.is_some_and(|(at, _)| at <= now);
        let (partition, lost) = self.partitions.iter_mut().find(|(_, lost)| due(lost))?;
        let (_, to) = lost.seek.take()?;
        Some((partition.clone(), to))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.partitions.values().filter_map(|lost| Some(lost.seek?.0)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn each_partition_is_sought_at_once_and_then_after_growing_waits() {
        let second = Duration::from_secs(1);
        let backoff = Backoff { first: second, max: second * 8 };
        let mut lost = LostPositions::new(backoff, SmallRng::seed_from_u64(1));
        let (first, other) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..4 {
            lost.lose(now, first.clone(), GoOn::Before);
            let at = lost.next_deadline().unwrap();
            waits.push((at - now).as_secs_f64().round());
            assert!(at == now || lost.poll_seek(at - Duration::from_nanos(1)).is_none());
            now = at;
            assert_eq!(lost.poll_seek(now), Some((first.clone(), GoOn::Before)));
            assert_eq!((lost.poll_seek(now), lost.next_deadline()), (None, None));
        }
        assert!(
            waits[0] == 0.0 && waits[1] >= 0.8 && waits[2] > waits[1] && waits[3] > waits[2],
            "{waits:?}"
        );
        // Another one does not wait for it, and reading ends the waits.
        lost.lose(now, other.clone(), GoOn::At(7));
        assert_eq!(lost.poll_seek(now), Some((other, GoOn::At(7))));
        lost.read(&first);
        lost.lose(now, first.clone(), GoOn::End);
        assert_eq!(lost.poll_seek(now), Some((first, GoOn::End)));
    }
}
