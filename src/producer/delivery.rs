//! What became of a record: one completion per batch, shared by a small future per record.
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::Result;
use crate::state::producer::Outcome;

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The partition.
    pub partition: i32,
    /// The record's offset. `None` if the node did not tell it: with `acks=0` it never does, and it may have forgotten
    /// the place of a batch that was sent to it twice.
    pub offset: Option<i64>,
    /// The record's timestamp, in milliseconds since 1970-01-01 UTC: the node's own if the topic's `message.timestamp.type`
    /// says so, else the record's.
    pub timestamp: i64,
}

/// A record on its way: a future of the place where it was written.
///
/// It ends no later than `delivery_timeout` after the record was sent, plus scheduling slack. An error says with
/// [`Error::maybe_written`](crate::Error::maybe_written) whether the record may be in the log all the same.
///
/// Cancel safe, and free to be dropped: the record is sent either way.
#[derive(Debug)]
pub struct Delivery {
    completion: Arc<Completion>,
    timestamp: i64,
    index: u32,
    slot: Slot,
}

/// The place of a future among the wakers of its batch, once it was polled in vain. A number with a special one instead of an
/// `Option`: there is one in every delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slot {
    pub(super) const NONE: Self = Self(u32::MAX);
}

impl Delivery {
    pub(super) fn new(completion: Arc<Completion>, index: u32, timestamp: i64) -> Self {
        Self { completion, timestamp, index, slot: Slot::NONE }
    }

    /// The same for all that are in one batch, and so settled at the same time; for no others as long as this is kept.
    pub(crate) fn batch(&self) -> usize {
        Arc::as_ptr(&self.completion) as usize
    }
}

impl Future for Delivery {
    type Output = Result<Written>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.completion.poll(&mut this.slot, context) {
            Poll::Ready(settled) => {
                Poll::Ready(settled.of(this.completion.partition, this.index, this.timestamp))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Delivery {
    #[inline]
    fn drop(&mut self) {
        self.completion.forget(self.slot);
    }
}

/// The end of all records of one batch.
#[derive(Debug)]
pub(super) struct Completion {
    partition: i32,
    settled: OnceLock<Settled>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Parts of a divided batch that are settled before the rest.
    parts: Vec<Part>,
    wakers: Vec<Option<Waker>>,
}

#[derive(Debug)]
struct Part {
    first: u32,
    count: u32,
    outcome: Outcome,
}

/// How all records of a batch ended: usually in one part.
#[derive(Debug)]
pub(super) enum Settled {
    Whole(Outcome),
    Parts(Vec<PartOutcome>),
}

/// One part of a divided batch: place of its first record, and its end.
#[derive(Debug)]
pub(super) struct PartOutcome {
    first: u32,
    outcome: Outcome,
}

impl Completion {
    pub(super) fn new(partition: i32) -> Self {
        Self { partition, settled: OnceLock::new(), waiting: Mutex::default() }
    }

    /// As new, for the next batch.
    pub(super) fn reset(&mut self, partition: i32) {
        self.partition = partition;
        self.settled.take();
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        waiting.parts.clear();
        waiting.wakers.clear();
    }

    /// `count` of `total` records, from the one at `first`, are settled. All are woken when the last is: then it says so.
    pub(super) fn settle(&self, first: u32, count: u32, total: u32, outcome: Outcome) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = if count == total {
            Settled::Whole(outcome)
        } else {
            waiting.parts.push(Part { first, count, outcome });
            if waiting.parts.iter().map(|part| part.count).sum::<u32>() < total {
                return false;
            }
            let mut parts = std::mem::take(&mut waiting.parts);
            parts.sort_by_key(|part| part.first);
            Settled::Parts(
                parts
                    .into_iter()
                    .map(|part| PartOutcome { first: part.first, outcome: part.outcome })
                    .collect(),
            )
        };
        let already = self.settled.set(settled).is_err();
        debug_assert!(!already, "a batch ended twice");
        let mut wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.drain(..).flatten().for_each(Waker::wake);
        // The list has room for those of the next batch.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).wakers = wakers;
        true
    }

    /// Ready once every record of the batch is settled. `slot` belongs to who polls, until [`Completion::forget`].
    #[inline]
    pub(super) fn poll(&self, slot: &mut Slot, context: &mut Context<'_>) -> Poll<&Settled> {
        match self.settled.get() {
            Some(settled) => Poll::Ready(settled),
            None => self.wait(slot, context),
        }
    }

    fn wait(&self, slot: &mut Slot, context: &mut Context<'_>) -> Poll<&Settled> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // It is set under this lock, so it cannot slip in between.
        if let Some(settled) = self.settled.get() {
            return Poll::Ready(settled);
        }
        match waiting.wakers.get_mut(slot.0 as usize) {
            Some(Some(waker)) if waker.will_wake(context.waker()) => {}
            Some(waker) => *waker = Some(context.waker().clone()),
            None => {
                *slot = Slot(waiting.wakers.len() as u32);
                waiting.wakers.push(Some(context.waker().clone()));
            }
        }
        Poll::Pending
    }

    #[inline]
    pub(super) fn forget(&self, slot: Slot) {
        if slot != Slot::NONE && self.settled.get().is_none() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waker) = waiting.wakers.get_mut(slot.0 as usize) {
                *waker = None;
            }
        }
    }
}

impl Settled {
    fn of(&self, partition: i32, index: u32, timestamp: i64) -> Result<Written> {
        let (first, outcome) = match self {
            Self::Whole(outcome) => (0, outcome),
            Self::Parts(parts) => {
                // Parts lie next to each other and begin at 0, so there is one.
                let at = parts.partition_point(|part| part.first <= index).saturating_sub(1);
                (parts[at].first, &parts[at].outcome)
            }
        };
        match outcome {
            Outcome::Written { base_offset, log_append_time } => Ok(Written {
                partition,
                offset: base_offset.map(|base| base + i64::from(index - first)),
                timestamp: log_append_time.unwrap_or(timestamp),
            }),
            Outcome::Failed { error, culprits } => {
                let own = culprits.iter().find(|culprit| culprit.0 == index).map(|culprit| &culprit.1);
                Err(own.unwrap_or(error).clone())
            }
        }
    }
}

/// Waits until all records of a batch are settled, however.
#[derive(Debug)]
pub(super) struct End {
    pub(super) completion: Arc<Completion>,
    pub(super) slot: Slot,
}

impl Future for End {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.completion.poll(&mut this.slot, context).map(|_| ())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.completion.forget(self.slot);
    }
}
