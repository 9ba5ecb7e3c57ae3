//! What became of each call, and what should have: the log of the reply topic decides.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Counts, MILLISECOND, REPLIES};
use crate::broker::Broker;
use crate::error::{Error, ErrorKind, Result};

/// How much later than its deadline a call may end.
const SLACK: Duration = Duration::from_millis(250);

/// The book of one world.
#[derive(Debug)]
pub(super) struct Book {
    since: Instant,
    unix: i64,
    calls: Mutex<Vec<Entry>>,
    /// Callers that were killed, and when.
    dead: Mutex<BTreeMap<usize, Instant>>,
    /// When no promise about replies is held against a caller: it hung, or no leader could be reached.
    excused: Mutex<Vec<(Option<usize>, Instant, Instant)>>,
    /// How many times a handler ran for a call.
    runs: Mutex<BTreeMap<u64, u32>>,
    /// Deadlines are far enough away for every request to be answered, whatever happens to responders.
    all_are_answered: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    caller: usize,
    deadline: Instant,
    outcome: Option<(Instant, Outcome)>,
}

#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// The value of the reply.
    Reply(Vec<u8>),
    Failed(Error),
    /// The caller went away from it.
    Dropped,
}

/// What the reply to a call says.
pub(super) fn answer(token: u64) -> String {
    format!("{token}:{}", token.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Book {
    pub(super) fn new(since: Instant, unix: i64) -> Self {
        Self {
            since,
            unix,
            calls: Mutex::default(),
            dead: Mutex::default(),
            excused: Mutex::default(),
            runs: Mutex::default(),
            all_are_answered: AtomicBool::new(false),
        }
    }

    /// Enters a call; gives its token.
    pub(super) fn begin(&self, caller: usize, timeout: Duration) -> u64 {
        let mut calls = self.calls.lock().unwrap();
        calls.push(Entry { caller, deadline: Instant::now() + timeout, outcome: None });
        calls.len() as u64 - 1
    }

    pub(super) fn end(&self, token: u64, outcome: Outcome) {
        let entry = &mut self.calls.lock().unwrap()[token as usize];
        assert!(entry.outcome.is_none(), "twice: call {token} ended twice");
        entry.outcome = Some((Instant::now(), outcome));
    }

    pub(super) fn ended(result: Result<Vec<u8>>) -> Outcome {
        match result {
            Ok(value) => Outcome::Reply(value),
            Err(error) => Outcome::Failed(error),
        }
    }

    pub(super) fn died(&self, caller: usize) {
        self.dead.lock().unwrap().insert(caller, Instant::now());
    }

    /// From `begin` until now nothing could be expected, of this caller or of all.
    pub(super) fn excuse(&self, caller: Option<usize>, begin: Instant) {
        self.excused.lock().unwrap().push((caller, begin, Instant::now()));
    }

    pub(super) fn answers_all(&self) {
        self.all_are_answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn ran(&self, token: u64) {
        *self.runs.lock().unwrap().entry(token).or_default() += 1;
    }

    /// Holds what happened against the promises. `grace`: how long before its deadline a reply must be in the log.
    pub(super) fn check(&self, broker: &Broker, partitions: i32, grace: Duration) -> Result<Counts, String> {
        let replies = self.replies(broker, partitions);
        let (calls, dead) = (self.calls.lock().unwrap(), self.dead.lock().unwrap());
        let mut counts = Counts { calls: calls.len() as u64, ..Counts::default() };
        for (token, entry) in calls.iter().enumerate() {
            let token = token as u64;
            let died = dead.get(&entry.caller);
            let Some((at, outcome)) = &entry.outcome else {
                match died {
                    Some(_) => continue,
                    None => {
                        return Err(format!("endless: call {token} of caller {} did not end", entry.caller));
                    }
                }
            };
            if *at > entry.deadline + SLACK {
                return Err(format!(
                    "late: call {token} ended {:?} after its deadline",
                    *at - entry.deadline
                ));
            }
            let appended = replies.get(&token).copied();
            match outcome {
                Outcome::Reply(value) if *value != answer(token).into_bytes() => {
                    return Err(format!("wrong: call {token} got {:?}", String::from_utf8_lossy(value)));
                }
                Outcome::Reply(_) => counts.answered += 1,
                Outcome::Dropped => counts.dropped += 1,
                Outcome::Failed(error) => {
                    match error.kind() {
                        ErrorKind::Timeout => counts.timed_out += 1,
                        _ if died.is_some() => counts.closed += 1,
                        // Nothing that happens here is a reason for anything else.
                        _ => return Err(format!("failed: call {token} of caller {}: {error}", entry.caller)),
                    }
                    if appended.is_none() && self.all_are_answered.load(Ordering::Relaxed) {
                        return Err(format!(
                            "unanswered: call {token} ended with {error}, and there is no reply"
                        ));
                    }
                    if let Some(appended) = appended
                        && appended + grace <= entry.deadline.min(*at)
                        && !self.excuses(entry.caller, appended, *at)
                    {
                        return Err(format!(
                            "lost: the reply to call {token} of caller {} was in the log {:?} before its deadline, and \
                             at {:?} it ended with {error}",
                            entry.caller,
                            entry.deadline - appended,
                            *at - self.since
                        ));
                    }
                }
            }
        }
        Ok(counts)
    }

    fn excuses(&self, caller: usize, from: Instant, until: Instant) -> bool {
        self.excused.lock().unwrap().iter().any(|(who, begin, end)| {
            who.is_none_or(|who| who == caller) && *begin <= until && *end + 3 * super::SECOND >= from
        })
    }

    /// By token: when the first reply was appended.
    fn replies(&self, broker: &Broker, partitions: i32) -> BTreeMap<u64, Instant> {
        let mut replies: BTreeMap<u64, Instant> = BTreeMap::new();
        for partition in 0..partitions {
            for record in broker.log(REPLIES, partition).unwrap().records().unwrap() {
                let text = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
                let mut parts = text.split(':');
                let Some(token) = parts.next().and_then(|token| token.parse().ok()) else { continue };
                // Of a stream the last item counts.
                let place = parts.nth(1).and_then(|item| item.split_once('/'));
                if place.is_some_and(|(item, items)| {
                    item.parse::<u32>().ok().map(|item| item + 1) != items.parse().ok()
                }) {
                    continue;
                }
                let at =
                    self.since + MILLISECOND * u32::try_from(record.timestamp() - self.unix).unwrap_or(0);
                replies.entry(token).and_modify(|first| *first = at.min(*first)).or_insert(at);
            }
        }
        replies
    }

    /// The calls whose handler ran more than once.
    pub(super) fn repeated(&self) -> BTreeSet<u64> {
        self.runs.lock().unwrap().iter().filter(|(_, runs)| **runs > 1).map(|(token, _)| *token).collect()
    }
}
