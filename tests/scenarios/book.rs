//! What became of each call, and what should have: the log decides.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use crate::now;

/// A call may end so much later than its deadline, in microseconds. Meant for the client; a machine with two processors and three
/// nodes on it now and then takes longer to wake a process, so that lateness is counted and only a multiple of this fails.
const SLACK: u64 = 250_000;
const HOPELESS: u64 = 20 * SLACK;

/// What a call takes at most when nothing is wrong, in microseconds, on such a machine when it has much else to do.
const NORMAL: u64 = 2_000_000;

#[derive(Default)]
pub(crate) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    calls: BTreeMap<String, Call>,
    closed: BTreeSet<String>,
    dead: BTreeSet<String>,
    /// From when until when a caller was stopped.
    hung: Vec<(String, u64, u64)>,
    /// When nothing was wrong: calls begun then are answered at normal speed.
    calm: Vec<Range<u64>>,
    findings: Vec<String>,
    late_replies: u64,
    duplicates: u64,
    unwritten: u64,
}

struct Call {
    caller: String,
    sent: u64,
    deadline: u64,
    ended: u64,
    outcome: String,
}

/// What a scenario did.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) calls: usize,
    pub(crate) answered: usize,
    pub(crate) timed_out: usize,
    pub(crate) failed: usize,
    pub(crate) dropped: usize,
    /// There was no room for them.
    pub(crate) rejected: usize,
    /// Answered by what is not in the log any more.
    pub(crate) vanished: usize,
    /// Ended more than a quarter of a second after their deadline.
    pub(crate) late: usize,
    pub(crate) findings: Vec<String>,
    /// From the append of a reply to the end of its call, sorted, in microseconds.
    handed: Vec<u64>,
    late_replies: u64,
    duplicates: u64,
    unwritten: u64,
}

impl Book {
    pub(crate) fn call(&self, caller: &str, line: &str) {
        let fields: Vec<_> = line.splitn(5, ' ').collect();
        let [token, sent, deadline, ended, outcome] = fields[..] else { return };
        let number = |text: &str| text.parse().unwrap();
        let call = Call {
            caller: caller.to_owned(),
            sent: number(sent),
            deadline: number(deadline),
            ended: number(ended),
            outcome: outcome.to_owned(),
        };
        let mut pages = self.0.lock().unwrap();
        if pages.calls.insert(token.to_owned(), call).is_some() {
            pages.findings.push(format!("call {token} ended twice"));
        }
    }

    pub(crate) fn closed(&self, name: &str, counts: &str) {
        let counts: Vec<u64> = counts.split(' ').filter_map(|count| count.parse().ok()).collect();
        let mut pages = self.0.lock().unwrap();
        pages.closed.insert(name.to_owned());
        if counts[0] > 0 {
            pages.findings.push(format!("{name} left with {} calls in flight", counts[0]));
        }
        pages.late_replies += counts[1];
        pages.duplicates += counts[2];
        // Only a responder tells this.
        pages.unwritten += counts.get(4).unwrap_or(&0);
    }

    pub(crate) fn died(&self, name: &str) {
        self.0.lock().unwrap().dead.insert(name.to_owned());
    }

    pub(crate) fn hangs(&self, name: &str) {
        self.0.lock().unwrap().hung.push((name.to_owned(), now(), u64::MAX));
    }

    pub(crate) fn is_back(&self, name: &str) {
        let mut pages = self.0.lock().unwrap();
        let last = pages.hung.iter_mut().rev().find(|(who, _, until)| who == name && *until == u64::MAX);
        last.expect("it hangs").2 = now();
    }

    /// Nothing is wrong in this time.
    pub(crate) fn calm(&self, begun: Range<u64>) {
        self.0.lock().unwrap().calm.push(begun);
    }

    /// What calls took that were begun then and answered, sorted, in microseconds.
    pub(crate) fn times(&self, begun: &Range<u64>) -> Vec<u64> {
        let pages = self.0.lock().unwrap();
        let calls = pages.calls.values().filter(|call| begun.contains(&call.sent) && call.outcome == "reply");
        let mut times: Vec<_> = calls.map(|call| call.ended - call.sent).collect();
        times.sort_unstable();
        times
    }

    pub(crate) fn must_have_closed(&self, name: &str, well: bool) {
        let mut pages = self.0.lock().unwrap();
        if !well || !pages.closed.contains(name) {
            pages.findings.push(format!("{name} did not leave in good order"));
        }
    }

    /// Holds the calls against the log: by token, when its first reply was appended, in microseconds. `grace`: so long before its deadline
    /// a reply must be there. `cut`: some of the log was deleted.
    pub(crate) fn judge(&self, log: &BTreeMap<String, u64>, cut: bool, grace: Duration) -> Verdict {
        let mut pages = self.0.lock().unwrap();
        let mut verdict = Verdict { findings: std::mem::take(&mut pages.findings), ..Verdict::default() };
        (verdict.late_replies, verdict.duplicates) = (pages.late_replies, pages.duplicates);
        verdict.unwritten = pages.unwritten;
        let grace = grace.as_micros() as u64;
        for (token, call) in &pages.calls {
            verdict.calls += 1;
            let stops = pages.hung.iter().filter(|(who, from, until)| {
                *who == call.caller && *from <= call.ended && until.saturating_add(SLACK) >= call.sent
            });
            // When it could last go on.
            let resumed = stops.map(|(_, _, until)| *until).max();
            let hung = resumed.is_some();
            if pages.calm.iter().any(|time| time.contains(&call.sent))
                && (call.outcome != "reply" || call.ended - call.sent > NORMAL)
            {
                let (took, outcome) = ((call.ended - call.sent) / 1_000, &call.outcome);
                verdict
                    .findings
                    .push(format!("call {token}, when nothing was wrong: {outcome} after {took} ms"));
            }
            if call.ended > call.deadline + SLACK && !hung {
                verdict.late += 1;
                if call.ended > call.deadline + HOPELESS {
                    verdict
                        .findings
                        .push(format!("call {token} ended {} ms late", (call.ended - call.deadline) / 1_000));
                }
            }
            let appended = log.get(token).copied();
            match call.outcome.split(' ').next().unwrap_or_default() {
                "reply" => {
                    verdict.answered += 1;
                    match appended {
                        Some(appended) if !hung => verdict.handed.push(call.ended.saturating_sub(appended)),
                        Some(_) => {}
                        None if cut => verdict.vanished += 1,
                        None => {
                            verdict.findings.push(format!("call {token}: a reply that is not in the log"))
                        }
                    }
                    continue;
                }
                "wrong" => verdict.findings.push(format!("call {token}: {}", call.outcome)),
                "dropped" => verdict.dropped += 1,
                "Timeout" => verdict.timed_out += 1,
                "Full" => verdict.rejected += 1,
                _ => verdict.failed += 1,
            }
            if let Some(appended) = appended
                && call.outcome != "dropped"
                && appended.max(resumed.unwrap_or(0)).saturating_add(grace) <= call.deadline.min(call.ended)
            {
                verdict.findings.push(format!(
                    "lost: the reply to {token} was in the log {} ms before its deadline: {}",
                    (call.deadline - appended) / 1_000,
                    call.outcome
                ));
            }
        }
        verdict.handed.sort_unstable();
        verdict
    }
}

impl Verdict {
    pub(crate) fn percentile(&self, per_mille: usize) -> Duration {
        let at = (self.handed.len() * per_mille / 1_000).min(self.handed.len().saturating_sub(1));
        Duration::from_micros(self.handed.get(at).copied().unwrap_or_default())
    }

    pub(crate) fn later_than(&self, limit: Duration) -> usize {
        let limit = limit.as_micros() as u64;
        self.handed.len() - self.handed.partition_point(|time| *time <= limit)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls: {} answered, {} timed out, {} failed, {} dropped, {} without room, {} ended late; from the log to the caller p50 {:?}, \
             p99 {:?}, p99.9 {:?}, slowest {:?}, {} later than 1 s; {} replies late, {} twice, {} not in the log any more, {} not written",
            self.calls,
            self.answered,
            self.timed_out,
            self.failed,
            self.dropped,
            self.rejected,
            self.late,
            self.percentile(500),
            self.percentile(990),
            self.percentile(999),
            self.percentile(1_000),
            self.later_than(crate::SECOND),
            self.late_replies,
            self.duplicates,
            self.vanished,
            self.unwritten
        )
    }
}
