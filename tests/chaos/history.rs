//! What was told: to the writers about their records, to the readers about the log.
use std::time::Duration;

use crate::numbered::Numbered;

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged at this offset.
    Written(i64),
    /// Acknowledged without an offset: the node had forgotten the place of a batch that it got twice.
    WrittenSomewhere,
    /// Failed, and surely not in the log.
    NotWritten,
    /// Failed, and perhaps in the log.
    MaybeWritten,
    /// It did not end at all.
    Unsettled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) outcome: Outcome,
    /// When it was sent, since the beginning.
    pub(crate) sent: Duration,
    /// From the end of `send` to the end of the delivery.
    pub(crate) took: Duration,
}

/// All deliveries of one producer.
pub(crate) struct Written {
    pub(crate) writer: &'static str,
    pub(crate) delivery_timeout: Duration,
    /// By place of the partition, then by number.
    pub(crate) places: Vec<Vec<Delivered>>,
}

/// A record that was read, or none if it holds what nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: i64,
    pub(crate) what: Option<Numbered>,
}

/// What a reader was handed out of a partition without a seek or a restart between.
pub(crate) struct Reading {
    pub(crate) reader: &'static str,
    pub(crate) place: usize,
    pub(crate) from: i64,
    pub(crate) found: Vec<Found>,
    /// Whether it should go on to the end of the log.
    pub(crate) to_end: bool,
}

pub(crate) struct History {
    pub(crate) written: Vec<Written>,
    pub(crate) readings: Vec<Reading>,
    /// The log of each partition, as read when all was over, by its place.
    pub(crate) log: Vec<Vec<Found>>,
}
