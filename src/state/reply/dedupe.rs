//! Requests that come again are not executed again.
//!
//! A key is *running* from its first request on; when that has ended with something worth keeping, the key is *done*
//! until it is too old or others need the room; otherwise it is forgotten at once, and the next request runs.
//!
//! Invariants: at most `entries` keys are done, and what they keep is at most `bytes`; running keys do not count, there are no
//! more of them than handlers run.
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What is kept at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

/// What is added to the size of an answer and its key.
const OVERHEAD: usize = 128;

/// `W` waits for a running request, `T` is the answer of one that is done.
#[derive(Debug)]
pub(crate) struct Dedupe<W, T> {
    limits: Limits,
    entries: HashMap<Box<[u8]>, Entry<W, T>>,
    /// The keys that are done, the oldest first.
    done: VecDeque<(Instant, Box<[u8]>)>,
    bytes: usize,
}

#[derive(Debug)]
enum Entry<W, T> {
    Running(W),
    Done { answer: T, size: usize },
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<W, T> {
    /// Nothing: the request runs now, and [`Dedupe::finish`] is called when it has ended.
    New,
    Running(W),
    Done(T),
}

impl<W: Clone, T: Clone> Dedupe<W, T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, entries: HashMap::new(), done: VecDeque::new(), bytes: 0 }
    }

    /// A request with this key has come; `waiter` is for those that come while it runs.
    pub(crate) fn begin(&mut self, now: Instant, key: &[u8], waiter: impl FnOnce() -> W) -> Found<W, T> {
        self.shrink(now);
        match self.entries.get(key) {
            Some(Entry::Running(waiter)) => Found::Running(waiter.clone()),
            Some(Entry::Done { answer, .. }) => Found::Done(answer.clone()),
            None => {
                self.entries.insert(key.into(), Entry::Running(waiter()));
                Found::New
            }
        }
    }

    /// The request that runs has ended, with an answer and its size in bytes, or with nothing that may be kept.
    pub(crate) fn finish(&mut self, now: Instant, key: &[u8], answer: Option<(T, usize)>) {
        let running = self.entries.remove(key);
        debug_assert!(matches!(running, Some(Entry::Running(_))), "only what runs is finished");
        let Some((answer, size)) = answer else { return };
        let size = size.saturating_add(key.len()).saturating_add(OVERHEAD);
        if size > self.limits.bytes {
            return;
        }
        self.bytes += size;
        self.entries.insert(key.into(), Entry::Done { answer, size });
        self.done.push_back((now, key.into()));
        self.shrink(now);
    }

    fn shrink(&mut self, now: Instant) {
        while let Some((since, _)) = self.done.front() {
            let old = now.saturating_duration_since(*since) >= self.limits.age;
            if !old && self.done.len() <= self.limits.entries && self.bytes <= self.limits.bytes {
                return;
            }
            let Some((_, key)) = self.done.pop_front() else { return };
            if let Some(Entry::Done { size, .. }) = self.entries.remove(&key) {
                self.bytes -= size;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { entries: 3, bytes: 10_000, age: Duration::from_secs(60) };

    fn dedupe(limits: Limits) -> (Dedupe<u8, u32>, Instant) {
        (Dedupe::new(limits), Instant::now())
    }

    #[test]
    fn a_key_runs_once_and_is_answered_from_memory_afterwards() {
        let (mut dedupe, now) = dedupe(LIMITS);
        assert_eq!(dedupe.begin(now, b"a", || 1), Found::New);
        assert_eq!(dedupe.begin(now, b"a", || 2), Found::Running(1));
        assert_eq!(dedupe.begin(now, b"b", || 3), Found::New);
        dedupe.finish(now, b"a", Some((7, 1)));
        assert_eq!(dedupe.begin(now, b"a", || 4), Found::Done(7));
        assert_eq!(dedupe.begin(now, b"b", || 5), Found::Running(3));
    }

    #[test]
    fn what_ended_without_an_answer_runs_again() {
        let (mut dedupe, now) = dedupe(LIMITS);
        assert_eq!(dedupe.begin(now, b"a", || 1), Found::New);
        dedupe.finish(now, b"a", None);
        assert_eq!(dedupe.begin(now, b"a", || 1), Found::New);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_large_or_too_old() {
        let keep = |dedupe: &mut Dedupe<u8, u32>, now, key: &[u8], size| {
            assert_eq!(dedupe.begin(now, key, || 0), Found::New);
            dedupe.finish(now, key, Some((1, size)));
        };
        let known = |dedupe: &mut Dedupe<u8, u32>, now| {
            let known = (b'a'..=b'f').filter(|key| {
                let known = matches!(dedupe.begin(now, &[*key], || 0), Found::Done(_));
                if !known {
                    dedupe.finish(now, &[*key], None);
                }
                known
            });
            String::from_utf8(known.collect()).unwrap()
        };
        let (mut many, now) = dedupe(LIMITS);
        for key in [b"a", b"b", b"c", b"d"] {
            keep(&mut many, now, key, 1);
        }
        assert_eq!(known(&mut many, now), "bcd");
        // Larger than everything: not kept, and nothing else goes for it.
        keep(&mut many, now, b"e", 10_000);
        assert_eq!(known(&mut many, now), "bcd");
        keep(&mut many, now, b"f", 9_800);
        assert_eq!((known(&mut many, now).as_str(), many.bytes), ("f", 9_800 + 1 + OVERHEAD));

        let (mut old, now) = dedupe(LIMITS);
        keep(&mut old, now, b"a", 1);
        keep(&mut old, now + LIMITS.age / 2, b"b", 1);
        assert_eq!(known(&mut old, now + LIMITS.age), "b");
        assert_eq!(known(&mut old, now + LIMITS.age * 2), "");
        assert_eq!((old.bytes, old.entries.len(), old.done.len()), (0, 0, 0));
    }
}
