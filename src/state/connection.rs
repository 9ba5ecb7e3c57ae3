//! The life of the connection to one node for one purpose: when it may be opened, when it is muted, when it is idle.
//!
//! ```text
//! Closed --open--> Opening --opened--> Open --closed(quietly)--> Closed
//!    ^                | failed           | closed(lost)
//!    '----- wait of the backoff <--------'
//! ```
//!
//! Invariants: no attempt begins before the wait after the last failure is over; waits double with consecutive
//! failures; only an opened connection ends the series.
use std::time::{Duration, Instant};

use rand::Rng;

use crate::state::backoff::Backoff;

#[derive(Debug)]
pub(crate) struct Connection {
    backoff: Backoff,
    idle_timeout: Option<Duration>,
    /// Attempts that failed in a row, and connections lost.
    failures: u32,
    not_before: Option<Instant>,
    muted_until: Option<Instant>,
    /// When something was last sent or received.
    used: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(backoff: Backoff, idle_timeout: Option<Duration>) -> Self {
        Self { backoff, idle_timeout, failures: 0, not_before: None, muted_until: None, used: None }
    }

    /// When the next attempt may begin, if it must wait.
    pub(crate) fn open(&mut self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }

    /// How many attempts failed since the last connection.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The connection stands and the versions are known.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.failures = 0;
        self.not_before = None;
        self.used = Some(now);
    }

    /// No connection came about, or one was lost while it was needed.
    pub(crate) fn failed(&mut self, now: Instant, random: &mut impl Rng) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.backoff.after(self.failures, random));
        self.closed();
    }

    /// The connection ended with nothing under way: nobody's fault, so the next one need not wait.
    pub(crate) fn closed(&mut self) {
        self.muted_until = None;
        self.used = None;
    }

    /// A frame was written or read.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.used = Some(now);
    }

    /// Sends nothing more until then (KIP-219); a later time stands against an earlier one.
    pub(crate) fn mute(&mut self, until: Instant) {
        self.muted_until = self.muted_until.max(Some(until));
    }

    /// Until when nothing may be sent.
    pub(crate) fn muted(&mut self, now: Instant) -> Option<Instant> {
        self.muted_until = self.muted_until.filter(|until| *until > now);
        self.muted_until
    }

    /// When the open connection counts as idle if nothing happens until then.
    pub(crate) fn idle_at(&self) -> Option<Instant> {
        Some(self.used? + self.idle_timeout?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };

    #[test]
    fn attempts_wait_longer_after_each_failure_and_start_anew_after_a_success() {
        let (start, mut random) = (Instant::now(), rand::rngs::SmallRng::seed_from_u64(7));
        let mut connection = Connection::new(BACKOFF, None);
        assert_eq!(connection.open(start), None);
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            connection.failed(start, &mut random);
            let wait = connection.open(start).unwrap() - start;
            assert!(wait > last, "{wait:?} after {last:?}");
            last = wait;
        }
        assert_eq!(connection.open(start + last), None);
        connection.opened(start + last);
        connection.closed();
        assert_eq!((connection.open(start + last), connection.failures()), (None, 0));
        connection.failed(start, &mut random);
        assert!(connection.open(start).unwrap() - start <= Duration::from_millis(60));
    }

    #[test]
    fn a_mute_ends_by_itself_and_is_not_shortened() {
        let now = Instant::now();
        let mut connection = Connection::new(BACKOFF, None);
        connection.mute(now + Duration::from_secs(2));
        connection.mute(now + Duration::from_secs(1));
        assert_eq!(connection.muted(now + Duration::from_secs(1)), Some(now + Duration::from_secs(2)));
        assert_eq!(connection.muted(now + Duration::from_secs(2)), None);
        assert_eq!(connection.muted(now), None);
    }

    #[test]
    fn only_an_open_connection_grows_idle() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let mut connection = Connection::new(BACKOFF, Some(minute));
        assert_eq!(connection.idle_at(), None);
        connection.opened(now);
        connection.touch(now + minute);
        assert_eq!(connection.idle_at(), Some(now + 2 * minute));
        connection.closed();
        assert_eq!(connection.idle_at(), None);
    }
}
