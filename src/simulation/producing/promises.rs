//! What a producer is promised, checked against the logs and against what went over the wire.
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::truth::Truth;
use super::{Numbered, Producing, Sent};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::header::Answer;
use crate::protocol::produce;
use crate::record::batch::{RawBatch, sequence_after};

impl Producing {
    /// P2: a producer id, epoch and sequence number that may be known to a node names the same records for ever.
    pub(super) fn check_numbers(
        &mut self,
        ticket: crate::state::producer::Ticket,
        partition: i32,
        bytes: &Bytes,
    ) -> Result<(), String> {
        let header = RawBatch::single(bytes).map_err(|error| format!("no batch: {error}"))?.header;
        if header.producer_id < 0 {
            return Ok(());
        }
        let content = hash(bytes.get(61..).unwrap_or_default());
        let of_epoch = (partition, header.producer_id, header.producer_epoch);
        let (first, last) =
            ((of_epoch.0, of_epoch.1, of_epoch.2, 0), (of_epoch.0, of_epoch.1, of_epoch.2, i32::MAX));
        for (key, known) in self.numbered.range(first..=last) {
            let overlap = key.3 < sequence_after(header.base_sequence, header.count)
                && header.base_sequence < sequence_after(key.3, known.count);
            let same =
                key.3 == header.base_sequence && known.count == header.count && known.content == content;
            if overlap && !same && !known.unsettled.is_empty() {
                return Err(format!(
                    "P2: partition {partition}: sequence number {} of epoch {} names other records than before",
                    header.base_sequence, header.producer_epoch
                ));
            }
        }
        let key = (partition, header.producer_id, header.producer_epoch, header.base_sequence);
        let known =
            self.numbered.entry(key).or_insert(Numbered { content, count: header.count, unsettled: vec![] });
        (known.content, known.count) = (content, header.count);
        known.unsettled.push(ticket);
        Ok(())
    }

    /// An answer that proves that this attempt is not in the log frees the numbers of it.
    pub(super) fn settle_numbers(&mut self, ticket: crate::state::producer::Ticket, answer: &Answer) {
        let mut refused = Vec::new();
        let _ = produce::decode(&answer.body, answer.version, |part| {
            if is_refusal(part.error) {
                refused.push(part.partition);
            }
        });
        for (key, one) in &mut self.numbered {
            if refused.contains(&key.0) {
                one.unsettled.retain(|of| *of != ticket);
            }
        }
    }

    /// P1 and P2 at the moment when a delivery is settled: what is acknowledged is readable at its place, and what is said to be
    /// nowhere is nowhere.
    pub(in super::super) fn check_settled(&mut self, truth: &Truth) -> Result<(), String> {
        for at in std::mem::take(&mut self.unchecked) {
            let record = &self.records[at];
            self.check(record, truth)?;
            let log = truth.log(record.partition);
            let place = match record.end {
                Some(Ok(None)) => log.place(&record.value),
                Some(Ok(place)) => place,
                _ => None,
            };
            if self.settings.acks == -1 && place.is_some_and(|offset| offset >= log.readable) {
                return Err(format!("P1: {} is acknowledged before its replicas have it", record.value));
            }
        }
        Ok(())
    }

    fn check(&self, record: &Sent, truth: &Truth) -> Result<(), String> {
        let Sent { value, .. } = record;
        let log = truth.log(record.partition);
        match &record.end {
            None => Err(format!("P4: {value} is not settled")),
            Some(Ok(Some(offset))) => match log.entries.get(offset) {
                Some(entry) if entry.value == *value => Ok(()),
                Some(entry) => {
                    Err(format!("P1: {value} is acknowledged at {offset}, where {} lies", entry.value))
                }
                None => Err(format!("P1: {value} is acknowledged at {offset}, where nothing lies")),
            },
            Some(Ok(None)) if self.settings.acks != 0 && log.place(value).is_none() => {
                Err(format!("P1: {value} is acknowledged and in no log"))
            }
            Some(Ok(None)) => Ok(()),
            Some(Err(error)) if error.maybe_written() => Ok(()),
            Some(Err(error)) => match log.place(value) {
                Some(offset) => {
                    Err(format!("P2: {value} is said not to be written and lies at {offset}: {error}"))
                }
                None => Ok(()),
            },
        }
    }

    /// P4, and that no partition waits for another: a record whose leader has been well since `well` says is settled promptly.
    pub(in super::super) fn check_pending(
        &self,
        now: Instant,
        promptly: Duration,
        well: impl Fn(i32) -> Option<Instant>,
    ) -> Result<(), String> {
        let timeout = self.settings.delivery_timeout;
        for record in self.open.values().map(|at| &self.records[*at]) {
            if now > record.at + timeout {
                return Err(format!("P4: {} is not settled within {timeout:?}", record.value));
            }
            if let Some(since) = well(record.partition)
                && self.identified
                // A node answers one request after the other, so there may be a queue; it has to move.
                && now > record.at.max(since).max(self.progress[record.partition as usize]) + promptly
            {
                return Err(format!("C2: {} waits, and nothing is wrong at its leader", record.value));
            }
        }
        Ok(())
    }

    /// C3: what is reserved stays below the bound.
    pub(in super::super) fn check_memory(&self) -> Result<(), String> {
        match self.reserved > self.memory {
            true => Err(format!("C3: {} bytes are reserved of {}", self.reserved, self.memory)),
            false => Ok(()),
        }
    }

    pub(in super::super) fn is_done(&self) -> bool {
        self.open.is_empty() && self.waiting.is_none()
    }

    /// All promises, when everything has come to an end.
    pub(in super::super) fn check_end(&self, truth: &Truth, calm: bool) -> Result<(), String> {
        let (began, gave_up) = (self.sender.counters().epochs, self.counts()[0] < self.records.len() as u64);
        if calm && began > 1 && !gave_up {
            return Err(format!("P2: {began} producer epochs began, and nothing was wrong"));
        }
        for record in &self.records {
            self.check(record, truth)?;
        }
        if !self.abandoned && (self.reserved > 0 || !self.sender.is_idle()) {
            return Err(format!("C3: {} bytes are still reserved", self.reserved));
        }
        let own = format!("{}-", self.name);
        for (partition, log) in truth.logs().filter(|_| self.settings.idempotent) {
            let mut last: Option<&str> = None;
            for (offset, entry) in log.entries.iter().filter(|(_, entry)| entry.value.starts_with(&own)) {
                let prefix = &entry.value[..own.len() + 9];
                if last.is_some_and(|last| last >= prefix) {
                    return Err(format!(
                        "P3: partition {partition}: {prefix} at {offset} stands behind {last:?}"
                    ));
                }
                last = Some(prefix);
            }
        }
        Ok(())
    }

    /// Records acknowledged, given up as perhaps written, given up as surely not.
    pub(in super::super) fn counts(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for record in &self.records {
            let at = match &record.end {
                Some(Ok(_)) => 0,
                Some(Err(error)) if error.maybe_written() => 1,
                _ => 2,
            };
            counts[at] += 1;
        }
        counts
    }

    pub(in super::super) fn counters(&self) -> crate::state::producer::Counters {
        self.sender.counters()
    }
}

/// Whether a node that says so has surely not appended the batch, by Kafka's own sources.
fn is_refusal(code: ErrorCode) -> bool {
    [
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::MESSAGE_TOO_LARGE,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::UNKNOWN_PRODUCER_ID,
        ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
    ]
    .contains(&code)
}

fn hash(bytes: &[u8]) -> u64 {
    // FNV: the same on every machine.
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
