//! What was finished of a partition: handlers end in any order, the position that may be given up is the lowest unfinished.
use std::collections::BTreeMap;

/// Invariant: every start is finished once at most; the floor goes back only when records come again.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Taken and not finished, and how often: after a position was reset, records come again.
    open: BTreeMap<i64, u32>,
    /// Behind the highest offset that was taken.
    next: i64,
}

impl Tracker {
    /// A record was taken. Offsets come in order, unless the position was reset.
    pub(crate) fn start(&mut self, offset: i64) {
        *self.open.entry(offset).or_default() += 1;
        self.pass(offset + 1);
    }

    /// There is nothing to do up to here but what was started.
    pub(crate) fn pass(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// It is dealt with, and its reply, if there is one, is acknowledged or given up.
    pub(crate) fn finish(&mut self, offset: i64) {
        match self.open.get_mut(&offset) {
            Some(1) => _ = self.open.remove(&offset),
            Some(times) => *times -= 1,
            None => debug_assert!(false, "offset {offset} finished twice"),
        }
    }

    /// The offset below which everything is finished. `None`: nothing was taken.
    pub(crate) fn floor(&self) -> Option<i64> {
        let lowest = self.open.first_key_value().map(|(offset, _)| *offset);
        lowest.or((self.next > 0).then_some(self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_lowest_unfinished_offset() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.floor(), None);
        for offset in [5, 6, 9] {
            tracker.start(offset);
        }
        tracker.finish(6);
        assert_eq!(tracker.floor(), Some(5));
        tracker.finish(5);
        assert_eq!(tracker.floor(), Some(9));
        tracker.finish(9);
        assert_eq!(tracker.floor(), Some(10));
        tracker.pass(12);
        assert_eq!(tracker.floor(), Some(12));
    }

    #[test]
    fn a_record_that_comes_again_is_finished_when_all_its_handlers_have_ended() {
        // Found by tests/fuzz: the second handler's end was one too many.
        let mut tracker = Tracker::default();
        for offset in [0, 1, 0] {
            tracker.start(offset);
        }
        tracker.finish(0);
        assert_eq!(tracker.floor(), Some(0));
        tracker.finish(0);
        tracker.finish(1);
        assert_eq!(tracker.floor(), Some(2));
    }
}
