//! The requests of one connection that wait for their answers, in the order in which a node must answer them.
use std::collections::VecDeque;
use std::time::Instant;

/// Requests written or about to be written, oldest first. Correlation ids are handed out in this order and wrap.
///
/// Invariant: a node answers in order, so the next answer belongs to the oldest entry and to nothing else.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    waiting: VecDeque<Entry<T>>,
    next: i32,
}

#[derive(Debug)]
struct Entry<T> {
    correlation: i32,
    deadline: Instant,
    request: T,
}

/// An answer that no request, or not the oldest one, waits for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stray {
    #[error("the node answered correlation id {found}, but no request waits for an answer")]
    Unasked { found: i32 },
    #[error("the node answered correlation id {found} where {expected} was due")]
    OutOfOrder { expected: i32, found: i32 },
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next: 0 }
    }
}

impl<T> InFlight<T> {
    /// A correlation id for the next request.
    pub(crate) fn correlation(&mut self) -> i32 {
        let id = self.next;
        // Negative ids are legal, but some proxies and tools think otherwise.
        self.next = self.next.checked_add(1).unwrap_or(0);
        id
    }

    /// A request that was given this id waits for its answer now.
    pub(crate) fn push(&mut self, correlation: i32, deadline: Instant, request: T) {
        self.waiting.push_back(Entry { correlation, deadline, request });
    }

    /// The request whose answer comes next.
    pub(crate) fn oldest(&self) -> Option<&T> {
        self.waiting.front().map(|entry| &entry.request)
    }

    /// The request that an answer belongs to.
    pub(crate) fn answer(&mut self, found: i32) -> Result<T, Stray> {
        match self.waiting.front() {
            None => Err(Stray::Unasked { found }),
            Some(entry) if entry.correlation != found => {
                Err(Stray::OutOfOrder { expected: entry.correlation, found })
            }
            Some(_) => match self.waiting.pop_front() {
                Some(entry) => Ok(entry.request),
                None => Err(Stray::Unasked { found }),
            },
        }
    }

    /// The earliest time at which a request expires. Deadlines need not be in order, so this looks at all of them.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|entry| entry.deadline).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All that wait, oldest first, each with whether it has expired: the connection is lost to them.
    pub(crate) fn abandon(&mut self, now: Instant) -> impl Iterator<Item = (bool, T)> + '_ {
        self.waiting.drain(..).map(move |entry| (entry.deadline <= now, entry.request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn answers_are_matched_in_order_and_only_once() {
        let now = Instant::now();
        let mut in_flight = InFlight::default();
        for request in ["a", "b"] {
            let id = in_flight.correlation();
            in_flight.push(id, now, request);
        }
        assert_eq!(in_flight.answer(1), Err(Stray::OutOfOrder { expected: 0, found: 1 }));
        assert_eq!(in_flight.answer(0), Ok("a"));
        assert_eq!(in_flight.answer(1), Ok("b"));
        assert_eq!(in_flight.answer(1), Err(Stray::Unasked { found: 1 }));
    }

    #[test]
    fn the_earliest_deadline_counts_wherever_it_stands() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut in_flight = InFlight::default();
        in_flight.push(0, now + 3 * second, "slow");
        in_flight.push(1, now + second, "quick");
        assert_eq!(in_flight.next_deadline(), Some(now + second));
        let lost: Vec<_> = in_flight.abandon(now + second).collect();
        assert_eq!(lost, [(false, "slow"), (true, "quick")]);
        assert!(in_flight.is_empty() && in_flight.next_deadline().is_none());
    }

    #[test]
    fn correlation_ids_wrap_without_turning_negative() {
        let mut in_flight = InFlight::<()> { next: i32::MAX, ..InFlight::default() };
        assert_eq!((in_flight.correlation(), in_flight.correlation()), (i32::MAX, 0));
    }
}
