//! The three clocks of a membership: when to send a sign of life, since when the coordinator sent none, since when the application is away.
use std::time::{Duration, Instant};

use super::Settings;

/// After a cooperative round a second one may follow at once; a member that kept all it had learns of it by a heartbeat, so the first
/// comes early.
const EARLY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Clocks {
    interval: Duration,
    session_timeout: Duration,
    max_poll_interval: Duration,
    /// When the last heartbeat left, and when the next is due.
    sent: Instant,
    heartbeat: Option<Instant>,
    /// When the coordinator has been silent for so long that it may be another.
    session: Option<Instant>,
    application: Application,
}

/// Where the application is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Application {
    /// It waits for records.
    Waiting,
    /// It works since then.
    Away(Instant),
    /// It has worked for too long, which was told.
    Late,
}

impl Clocks {
    pub(super) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            interval: settings.heartbeat_interval,
            session_timeout: settings.session_timeout,
            max_poll_interval: settings.max_poll_interval,
            sent: now,
            heartbeat: None,
            session: None,
            application: Application::Away(now),
        }
    }

    /// The coordinator says how often it wants to hear of this member. It counts from when it did, however late its answer was read.
    pub(super) fn every(&mut self, interval: Duration) {
        if std::mem::replace(&mut self.interval, interval) != interval {
            self.heartbeat = self.heartbeat.map(|_| self.sent + interval);
        }
    }

    /// The coordinator answered.
    pub(super) fn alive(&mut self, now: Instant) {
        self.session = Some(now + self.session_timeout);
    }

    /// The next heartbeat is an interval from now.
    pub(super) fn wait(&mut self, now: Instant) {
        self.sent = now;
        self.heartbeat = Some(now + self.interval);
    }

    /// The next heartbeat comes soon.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.heartbeat = Some(now + self.interval.min(EARLY));
    }

    /// The last one failed: again after `wait`.
    pub(super) fn again(&mut self, now: Instant, wait: Duration) {
        self.heartbeat = Some(now + wait.min(self.interval));
    }

    /// How long a heartbeat may take: it waits for nothing at the coordinator, and if that hangs, the session must not end before another
    /// one is found.
    pub(super) fn patience(&self) -> Duration {
        self.interval.max(self.session_timeout / 2)
    }

    /// There is nothing to keep alive.
    pub(super) fn stop(&mut self) {
        (self.heartbeat, self.session) = (None, None);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.heartbeat.is_some_and(|at| at <= now)
    }

    pub(super) fn heartbeat(&self) -> Option<Instant> {
        self.heartbeat
    }

    /// True once when the coordinator has been silent for the session timeout.
    pub(super) fn session_ended(&mut self, now: Instant) -> bool {
        let ended = self.session.is_some_and(|until| until <= now);
        if ended {
            self.alive(now);
        }
        ended
    }

    /// The application asks for records, and waits for them or not.
    pub(super) fn asked(&mut self, now: Instant, waiting: bool) {
        self.application = if waiting { Application::Waiting } else { Application::Away(now) };
    }

    /// The time it is too late by, told once when the application has been away for longer than `max_poll_interval`.
    pub(super) fn is_late(&mut self, now: Instant) -> Option<Duration> {
        let Application::Away(since) = self.application else { return None };
        let late = now.checked_duration_since(since + self.max_poll_interval)?;
        self.application = Application::Late;
        Some(late)
    }

    /// Whether it was away for too long, and is still.
    pub(super) fn is_absent(&self) -> bool {
        self.application == Application::Late
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let poll = match self.application {
            Application::Away(since) => Some(since + self.max_poll_interval),
            _ => None,
        };
        [self.session, poll].into_iter().flatten().min()
    }
}
