//! What a consumer is promised, checked against the logs.
use std::time::{Duration, Instant};

use super::super::truth::{Log, Truth};
use super::{Consuming, Reader, name};
use crate::state::consumer::{LANES, OffsetReset, Position, PositionReset, ResetReason};

impl Consuming {
    /// Notes what elections did to the places that readers have reached.
    pub(super) fn follow(&mut self, truth: &Truth) {
        for (partition, reader) in &mut self.readers {
            let log = truth.log(*partition);
            if reader.expected.is_some_and(|expected| expected <= log.start) {
                // Retention has removed what was cut off and what came in its place: no node knows of it any more.
                reader.may_be_silent = true;
            }
            if log.cuts > reader.cuts {
                (reader.cuts, reader.may_be_silent) = (log.cuts, reader.rootless);
                let at = log.cut.unwrap_or(0);
                if reader.expected.is_some_and(|expected| expected > at) {
                    reader.cut = Some(reader.cut.map_or(at, |before| before.min(at)));
                }
            }
        }
    }

    /// C4: a position moves with what is handed out, and otherwise not.
    pub(super) fn check_positions(&mut self, truth: &Truth) -> Result<(), String> {
        let committed = self.committed();
        for (partition, reader) in &mut self.readers {
            let Position::At(position) = self.machine.position(&name(*partition)) else { continue };
            let log = truth.log(*partition);
            match reader.expected {
                None => {
                    // A stale leader may know of an earlier one; nothing that is there may be skipped.
                    let most = if reader.first { log.start } else { log.end };
                    if position > most && log.cuts > 0 {
                        // The log was cut off while the answer was on its way.
                        (reader.cut, reader.may_be_silent) = (log.cut, true);
                    } else if position > most {
                        return Err(format!(
                            "C1: partition {partition}: begins at {position}, behind {most}"
                        ));
                    }
                    if position < reader.least && log.moved.is_none() && log.cuts == 0 {
                        return Err(format!(
                            "C1: partition {partition}: begins at {position}, where the end was {}",
                            reader.least
                        ));
                    }
                    reader.expected = Some(position);
                }
                // The position is gone from the log, or a stale leader lacks it, which nobody can tell without an epoch. What
                // follows from that is told with the next batch.
                Some(expected)
                    if reader.cut.is_some()
                        || (log.cuts > 0 && position < expected)
                        || reader.rootless
                        || expected < log.start
                        || expected > log.end => {}
                Some(expected) if position < expected => {
                    return Err(format!(
                        "C4: partition {partition}: the position goes from {expected} back to {position}"
                    ));
                }
                Some(expected) => {
                    let skipped = log.check_none_between(expected, position, committed);
                    skipped
                        .map_err(|what| format!("partition {partition}: by position {position}: {what}"))?;
                    // Markers and aborted records are passed without a word.
                    reader.expected = Some(position);
                }
            }
        }
        Ok(())
    }

    /// C3: what was fetched and waits stays within its bound, plus the first batches of answers, which come whole.
    pub(in super::super) fn check_memory(&self) -> Result<(), String> {
        let metrics = self.machine.metrics();
        let least = 16 << 10;
        let nodes = metrics.nodes.len().max(1);
        let bound = self.settings.prefetch.max(least * nodes.max(self.partitions as usize))
            + nodes * LANES * self.largest.min(least);
        match metrics.buffered_bytes as usize > bound {
            true => Err(format!("C3: {} bytes wait, and {bound} are allowed", metrics.buffered_bytes)),
            false => Ok(()),
        }
    }

    /// C2: what can be read of a partition whose leader is well comes promptly, whatever is wrong at other nodes.
    pub(in super::super) fn check_pending(
        &self,
        now: Instant,
        promptly: Duration,
        well: impl Fn(i32) -> Option<Instant>,
        truth: &Truth,
    ) -> Result<(), String> {
        let committed = self.committed();
        // Where the log was cut off the position may have gone elsewhere, which is told with the next record.
        let reading = self.readers.iter().filter(|(_, reader)| !reader.paused && reader.cut.is_none());
        for (partition, reader) in reading {
            let Some(since) = well(*partition) else { continue };
            let log = truth.log(*partition);
            let readable = if committed { log.stable } else { log.readable };
            let since = since.max(reader.since).max(self.busy_until);
            let from = reader.expected.unwrap_or(readable).max(log.start);
            if from >= readable {
                continue;
            }
            let mut due = log.entries.range(from..readable).filter(|(_, entry)| entry.is_for(committed));
            if let Some((offset, entry)) = due.next()
                && let Some(there) = if committed { entry.stable_since } else { entry.readable_since }
                && now > since.max(there) + promptly
            {
                return Err(format!(
                    "C2: partition {partition}: offset {offset} ({}) waits, and nothing is wrong at its leader",
                    entry.value
                ));
            }
        }
        Ok(())
    }

    /// Whether everything that can be read was handed out.
    pub(in super::super) fn is_done(&self, truth: &Truth) -> bool {
        let committed = self.committed();
        self.readers.len() == self.partitions as usize
            && self.readers.iter().all(|(partition, reader)| {
                let log = truth.log(*partition);
                let end = if committed { log.stable } else { log.readable };
                let latest = self.settings.reset == OffsetReset::Latest;
                let nothing_from = |from: i64| {
                    from > log.end
                        || (latest && (from < log.start || reader.cut.is_some()))
                        || log.check_none_between(from.max(log.start), end, committed).is_ok()
                };
                // What is left to be told comes with the next record, if it is told.
                reader.cut.filter(|_| !reader.may_be_silent).or(reader.expected).is_some_and(nothing_from)
            })
    }

    pub(in super::super) fn check_bytes(&self, calm: bool) -> Result<(), String> {
        let metrics = self.machine.metrics();
        let accounted = metrics.delivered_bytes
            + metrics.skipped_bytes
            + metrics.stale_bytes
            + metrics.cut_bytes
            + metrics.buffered_bytes;
        if metrics.fetched_bytes != accounted {
            return Err(format!(
                "C2: {} bytes were fetched, {accounted} are accounted for",
                metrics.fetched_bytes
            ));
        }
        if calm && metrics.stale_bytes > 0 {
            return Err(format!("C2: {} bytes were fetched for nothing", metrics.stale_bytes));
        }
        Ok(())
    }

    pub(in super::super) fn describe(&self) -> String {
        format!("{:?}\n{:?}", self.readers, self.machine)
    }
}

impl Reader {
    /// The consumer said that the position was gone: is that true, and where does it go on?
    pub(super) fn told(
        &mut self,
        reset: PositionReset,
        first: i64,
        latest: bool,
        log: &Log,
    ) -> Result<(), String> {
        let Some(expected) = self.expected else { return Ok(()) };
        let (cut, rootless) = (self.cut.take(), self.rootless);
        self.may_be_silent = false;
        let is_there =
            expected >= log.start && expected <= log.end && cut.is_none() && !rootless && log.cuts == 0;
        if is_there && reset.expected >= expected {
            return Err(format!("C1: a reset ({reset:?}) without reason: {expected} is in the log"));
        }
        self.expected = Some(match reset.reason {
            // Somewhere on the way it went to the end, as it was told to.
            _ if latest => first,
            // On from where the logs part; what both have may come again.
            ResetReason::Truncated => cut.map_or(first, |cut| cut.min(first)),
            _ => log.start.min(first),
        });
        Ok(())
    }
}
