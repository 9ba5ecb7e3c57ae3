//! Exponential backoff with jitter, from a generator that is passed in.
use std::time::Duration;

use rand::{Rng, RngExt};

/// Waits that double from `first` to `max`, each spread by 20 % either way (`retry.backoff.ms`, `retry.backoff.max.ms`,
/// KIP-580), so that clients that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The wait before try number `failures + 1`, after `failures` of them failed; 0 failures: no wait.
    pub(crate) fn after(&self, failures: u32, random: &mut impl Rng) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX).max(1);
        let wait = self.first.saturating_mul(factor).min(self.max);
        wait.mul_f64(random.random_range(0.8..=1.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_double_up_to_the_limit_and_never_overflow() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut random = rand::rngs::SmallRng::seed_from_u64(1);
        assert_eq!(backoff.after(0, &mut random), Duration::ZERO);
        for (failures, millis) in
            [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (33, 1000), (u32::MAX, 1000)]
        {
            let wait = backoff.after(failures, &mut random).as_millis();
            assert!(wait >= millis * 8 / 10 && wait <= millis * 12 / 10 + 1, "{failures}: {wait}");
        }
    }
}
