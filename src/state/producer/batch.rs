//! A batch in the sender's hands, until each of its records is settled.
use std::time::Instant;

use bytes::Bytes;

use super::Ticket;
use super::buffer::Closed;
use crate::protocol::primitives::Malformed;
use crate::record::batch::{Stamp, restamp, sequence_after};
use crate::record::builder::{BatchBuilder, split};
use crate::record::{BatchError, Compression};

/// Records that are sent, and settled, together.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) tag: T,
    /// Place of its first record in the batch that the application filled: not 0 behind a split.
    pub(super) first: u32,
    pub(super) count: i32,
    /// Records of the batch that the application filled.
    pub(super) total: u32,
    pub(super) created: Instant,
    /// Memory that is given back when it is settled.
    pub(super) reserved: usize,
    /// Bytes before compression.
    pub(super) size: usize,
    content: Content,
    pub(super) stage: Stage,
    /// Producer id, epoch and sequence its bytes carry.
    pub(super) stamp: Option<Stamp>,
    pub(super) attempts: u32,
    /// An attempt may have been stored, and no answer told.
    pub(super) unsure: bool,
}

#[derive(Debug)]
enum Content {
    Open(BatchBuilder),
    /// Being compressed elsewhere.
    Away,
    Sealed(Bytes),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Being compressed, under this number.
    Sealing(u64),
    Queued,
    InFlight(Ticket),
}

impl<T: Clone> Batch<T> {
    pub(super) fn new(closed: Closed<T>) -> Self {
        Self {
            tag: closed.tag,
            first: 0,
            count: closed.builder.count(),
            total: closed.builder.count() as u32,
            created: closed.opened,
            reserved: closed.reserved,
            size: closed.builder.len(),
            content: Content::Open(closed.builder),
            stage: Stage::Queued,
            stamp: None,
            attempts: 0,
            unsure: false,
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.stage, Stage::InFlight(_))
    }

    /// Bytes it takes in a request.
    pub(super) fn len(&self) -> usize {
        match &self.content {
            Content::Sealed(bytes) => bytes.len(),
            Content::Open(_) | Content::Away => self.size,
        }
    }

    /// The sequence number behind its last record.
    pub(super) fn next_sequence(&self) -> Option<i32> {
        self.stamp.map(|stamp| sequence_after(stamp.base_sequence, self.count))
    }

    /// Hands out what is to be compressed; [`Batch::sealed`] brings it back.
    pub(super) fn send_away(&mut self, number: u64) -> Option<BatchBuilder> {
        match std::mem::replace(&mut self.content, Content::Away) {
            Content::Open(builder) => {
                self.stage = Stage::Sealing(number);
                Some(builder)
            }
            other => {
                self.content = other;
                None
            }
        }
    }

    pub(super) fn sealed(&mut self, bytes: Bytes) {
        self.content = Content::Sealed(bytes);
        self.stage = Stage::Queued;
    }

    /// Compresses on the spot.
    pub(super) fn seal(&mut self, codec: Compression, level: Option<i32>) -> Result<(), BatchError> {
        if let Content::Open(_) = self.content
            && let Content::Open(builder) = std::mem::replace(&mut self.content, Content::Away)
        {
            self.content = Content::Sealed(builder.seal(codec, level, Stamp::NONE)?);
        }
        Ok(())
    }

    /// The final bytes under this stamp. A batch that carries it already is not touched.
    pub(super) fn stamped(&mut self, stamp: Stamp) -> Result<Bytes, BatchError> {
        debug_assert!(!self.unsure || self.stamp == Some(stamp), "an unsure batch changes");
        let bytes = match std::mem::replace(&mut self.content, Content::Away) {
            Content::Open(builder) => builder.seal(Compression::None, None, stamp)?,
            Content::Sealed(bytes) if self.stamp == Some(stamp) => bytes,
            Content::Sealed(bytes) => restamp(bytes, stamp)?,
            Content::Away => {
                return Err(Malformed { what: "the batch is being compressed", left: 0 }.into());
            }
        };
        self.content = Content::Sealed(bytes.clone());
        self.stamp = Some(stamp);
        Ok(bytes)
    }

    /// Two batches with its records, in order; itself again if it has one record only.
    #[expect(clippy::result_large_err, reason = "the batch goes back to its owner, by value as it came")]
    pub(super) fn split(self) -> Result<(Self, Option<Self>), (Self, BatchError)> {
        let Content::Sealed(bytes) = &self.content else { return Ok((self, None)) };
        let (first, second) = match split(bytes, self.size) {
            Ok(Some(halves)) => halves,
            Ok(None) => return Ok((self, None)),
            Err(error) => return Err((self, error)),
        };
        let half = |builder: BatchBuilder, first: u32, reserved| {
            let closed = Closed { builder, tag: self.tag.clone(), opened: self.created, reserved };
            Self { first, total: self.total, ..Self::new(closed) }
        };
        // The memory is that of the whole until its last record is settled.
        let first = half(first, self.first, 0);
        let second = half(second, self.first + first.count as u32, self.reserved);
        Ok((first, Some(second)))
    }

    /// The buffer, to be used again once nobody else reads it.
    pub(super) fn into_bytes(self) -> Option<Bytes> {
        match self.content {
            Content::Sealed(bytes) => Some(bytes),
            Content::Open(_) | Content::Away => None,
        }
    }
}
