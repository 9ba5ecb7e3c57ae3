//! Records one by one.
use std::borrow::BorrowMut;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::{Consumer, ConsumerRecord};
use crate::error::Result;

/// The records of a consumer, one by one and owned. Ends when the client is closed; goes on after an error, as
/// [`Consumer::next`] does.
#[derive(Debug)]
pub struct RecordStream<C> {
    consumer: C,
}

impl<C: BorrowMut<Consumer>> RecordStream<C> {
    pub(super) fn new(consumer: C) -> Self {
        Self { consumer }
    }

    /// The consumer, to control it.
    pub fn consumer(&self) -> &Consumer {
        self.consumer.borrow()
    }
}

impl<C: BorrowMut<Consumer> + Unpin> Stream for RecordStream<C> {
    type Item = Result<ConsumerRecord>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let consumer = self.consumer.borrow_mut();
        loop {
            consumer.drop_lost_rest();
            if let Some(record) = consumer.rest.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(record)));
            }
            consumer.rest = None;
            let batch = ready!(pin!(consumer.next()).poll(cx));
            match batch {
                Ok(Some(batch)) => consumer.rest = Some(batch.into_iter()),
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}
