//! Compares what writers and readers were told with the log, record by record.
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::history::{Delivered, Found, History, Outcome, Reading, Written};
use crate::numbered::Numbered;

/// How much later than its `delivery_timeout` a delivery may end: the machine has other things to do.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

/// The ways to break a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breach {
    /// Acknowledged and not in the log (P1).
    Lost,
    /// Acknowledged and in the log, but not at the offset that was told (P1).
    WrongOffset,
    /// Twice in the log.
    Duplicated,
    /// In the log behind a record that was sent later (P3).
    OutOfOrder,
    /// In the log although the delivery said that it surely is not (P2).
    Denied,
    /// In the log, and nobody wrote it, or not so.
    Foreign,
    /// The log has no record at an offset (this test makes no transactions, and nothing is removed).
    Hole,
    /// The delivery did not end (P4).
    Unsettled,
    /// The delivery ended too late (P4).
    Late,
    /// A reader was handed out something else than the log has there (C1).
    Misread,
    /// A reader did not get to the end of the log (C1).
    Unread,
}

/// One broken promise.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) breach: Breach,
    place: usize,
    /// When the delivery in question ended, if there is one.
    pub(crate) at: Option<Duration>,
    what: String,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) written: usize,
    pub(crate) acknowledged: usize,
    pub(crate) not_written: usize,
    pub(crate) maybe_written: usize,
    /// Of the maybe written, those in the log.
    pub(crate) written_after_all: usize,
    pub(crate) in_log: usize,
    pub(crate) read: usize,
    /// The longest time by which a delivery outlived its timeout.
    pub(crate) latest: Duration,
    pub(crate) slowest: Duration,
    pub(crate) findings: Vec<Finding>,
}

pub(crate) fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    for (place, log) in history.log.iter().enumerate() {
        let copies = verdict.walk(history, place, log);
        for (writer, written) in history.written.iter().enumerate() {
            verdict.compare(place, written, &copies[writer]);
        }
    }
    for reading in &history.readings {
        verdict.reread(reading, &history.log[reading.place]);
    }
    verdict
}

/// The offset of each of a writer's records in one partition, by number.
type Copies = Vec<Option<i64>>;

impl Verdict {
    pub(crate) fn count(&self, breaches: &[Breach]) -> usize {
        self.findings.iter().filter(|finding| breaches.contains(&finding.breach)).count()
    }

    fn find(&mut self, breach: Breach, place: usize, what: String) {
        self.findings.push(Finding { breach, place, at: None, what });
    }

    fn find_of(&mut self, breach: Breach, place: usize, delivered: &Delivered, what: &str) {
        let Delivered { outcome, sent, took } = delivered;
        let (seconds, after, at) = (sent.as_secs_f64(), took.as_secs_f64(), Some(*sent + *took));
        let what = format!("{what} (sent at {seconds:.1} s, {outcome:?} after {after:.1} s)");
        self.findings.push(Finding { breach, place, at, what });
    }

    /// From one end of a partition's log to the other: order and copies.
    fn walk(&mut self, history: &History, place: usize, log: &[Found]) -> Vec<Copies> {
        let mut copies: Vec<Copies> =
            history.written.iter().map(|written| vec![None; written.places[place].len()]).collect();
        // Of each writer the highest number so far, and its offset.
        let mut highest: Vec<Option<(u32, i64)>> = vec![None; history.written.len()];
        for (index, found) in log.iter().enumerate() {
            let Found { offset, what } = *found;
            if offset != index as i64 {
                self.find(Breach::Hole, place, format!("offset {offset} comes where {index} should be"));
            }
            self.in_log += 1;
            let Some(Numbered { writer, number }) = what else {
                self.find(Breach::Foreign, place, format!("offset {offset} holds what nobody wrote"));
                continue;
            };
            let writer = usize::from(writer);
            let Some(copy) = copies.get_mut(writer).and_then(|of| of.get_mut(number as usize)) else {
                let what =
                    format!("offset {offset} holds number {number} of writer {writer}, who never sent it");
                self.find(Breach::Foreign, place, what);
                continue;
            };
            let Written { writer: name, places, .. } = &history.written[writer];
            let delivered = &places[place][number as usize];
            if let Some(first) = copy {
                let what = format!("{name} number {number}: at {first} and again at {offset}");
                self.find_of(Breach::Duplicated, place, delivered, &what);
                continue;
            }
            *copy = Some(offset);
            match highest[writer] {
                Some((before, at)) if before > number => {
                    let what = format!("{name} number {number} at {offset}: behind number {before} at {at}");
                    self.find_of(Breach::OutOfOrder, place, delivered, &what);
                }
                _ => highest[writer] = Some((number, offset)),
            }
        }
        copies
    }

    /// What a writer was told about its records in one partition, and where they are.
    fn compare(&mut self, place: usize, written: &Written, copies: &Copies) {
        let name = written.writer;
        for ((number, delivered), at) in written.places[place].iter().enumerate().zip(copies) {
            let Delivered { outcome, took, .. } = delivered;
            self.written += 1;
            let breach = match (outcome, at) {
                (Outcome::Written(offset), Some(at)) if offset != at => Some(Breach::WrongOffset),
                (Outcome::Written(_) | Outcome::WrittenSomewhere, None) => Some(Breach::Lost),
                (Outcome::NotWritten, Some(_)) => Some(Breach::Denied),
                (Outcome::Unsettled, _) => Some(Breach::Unsettled),
                _ => None,
            };
            if let Some(breach) = breach {
                let at = at.map_or("nowhere".to_owned(), |at| format!("at {at}"));
                self.find_of(breach, place, delivered, &format!("{name} number {number} is {at}"));
            }
            match outcome {
                Outcome::Written(_) | Outcome::WrittenSomewhere => {
                    self.acknowledged += 1;
                    self.slowest = self.slowest.max(*took);
                }
                Outcome::NotWritten => self.not_written += 1,
                Outcome::MaybeWritten => {
                    self.maybe_written += 1;
                    self.written_after_all += usize::from(at.is_some());
                }
                Outcome::Unsettled => {}
            }
            let late = took.saturating_sub(written.delivery_timeout);
            self.latest = self.latest.max(late);
            if late > SLACK {
                let what = format!("{name} number {number}: the limit is {:?}", written.delivery_timeout);
                self.find_of(Breach::Late, place, delivered, &what);
            }
        }
    }

    /// What a reader was handed out, next to the log; up to the first difference.
    fn reread(&mut self, reading: &Reading, log: &[Found]) {
        let Reading { reader, place, from, found, to_end } = reading;
        self.read += found.len();
        let start = usize::try_from(*from).unwrap_or_default().min(log.len());
        let expected = &log[start..];
        if let Some((got, wanted)) = found
            .iter()
            .zip(expected.iter().map(Some).chain(std::iter::repeat(None)))
            .find(|(got, wanted)| Some(*got) != *wanted)
        {
            let what = format!("{reader}, reading from {from}: {got:?} where the log has {wanted:?}");
            self.find(Breach::Misread, *place, what);
        } else if *to_end && found.len() < expected.len() {
            let (read, all) = (start + found.len(), log.len());
            let what = format!("{reader}, reading from {from}: came to {read}, and the log ends at {all}");
            self.find(Breach::Unread, *place, what);
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}: {}", self.breach, crate::places::name(self.place), self.what)
    }
}
