//! What time of day it is for a client: records are stamped and deadlines are told to others by it.
use std::time::{SystemTime, UNIX_EPOCH};

/// The system's clock; tests of calls have one that goes with the runtime's, as fast or slow as they like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum WallClock {
    #[default]
    System,
    /// It was `unix` at `since`.
    #[cfg(test)]
    Simulated { since: tokio::time::Instant, unix: i64 },
}

impl WallClock {
    /// Milliseconds since 1970-01-01 UTC.
    #[inline]
    pub(crate) fn now(&self) -> i64 {
        match self {
            Self::System => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
            }
            #[cfg(test)]
            Self::Simulated { since, unix } => unix + since.elapsed().as_millis() as i64,
        }
    }
}
