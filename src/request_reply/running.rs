//! The requests that run and may be told something by their callers.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::state::reply::dialect::{Control, ControlKind};

type Calls = HashMap<Box<[u8]>, watch::Sender<Orders>>;

/// By the ids of their calls; a call that is executed twice at a time has one entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Calls>>);

/// What a caller has said since its request.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    cancelled: bool,
    credit: u64,
}

impl Running {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on until the result is dropped, the caller is heard.
    pub(super) fn enter(&self, id: &[u8]) -> Line {
        let mut calls = self.calls();
        let orders = match calls.get(id) {
            Some(orders) => orders.subscribe(),
            None => {
                let (sender, orders) = watch::channel(Orders::default());
                calls.insert(id.into(), sender);
                orders
            }
        };
        Line { running: self.clone(), id: id.into(), orders }
    }

    /// What a caller says of a request that does not run is not kept: it has ended, or runs elsewhere.
    pub(super) fn control(&self, control: &Control) {
        if let Some(orders) = self.calls().get(&control.id) {
            orders.send_modify(|orders| match control.kind {
                ControlKind::Cancel => orders.cancelled = true,
                ControlKind::Credit(credit) => orders.credit = orders.credit.saturating_add(credit.into()),
            });
        }
    }
}

/// What one execution of a request hears from its caller.
#[derive(Debug)]
pub(super) struct Line {
    running: Running,
    id: Box<[u8]>,
    orders: watch::Receiver<Orders>,
}

impl Line {
    /// Waits until the caller says that nobody waits for the answer.
    pub(super) async fn cancelled(&self) {
        if self.orders.clone().wait_for(|orders| orders.cancelled).await.is_err() {
            // The sender is in the table as long as this is.
            std::future::pending().await
        }
    }

    /// Whether credit for more than so many items was granted after the request.
    pub(super) fn has_credit_above(&self, items: u64) -> bool {
        self.orders.borrow().credit > items
    }

    /// Waits until credit for more than so many items was granted after the request.
    pub(super) async fn credit_above(&self, items: u64) {
        let _ = self.orders.clone().wait_for(|orders| orders.credit > items).await;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut calls = self.running.calls();
        // The clones of this one are gone: the futures that hold them borrow it.
        if calls.get(&self.id).is_some_and(|orders| orders.receiver_count() == 1) {
            calls.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_those_that_run_hear_their_callers() {
        let running = Running::default();
        let control = |id: &[u8], kind| running.control(&Control { id: id.into(), kind });
        control(b"a", ControlKind::Cancel);
        let (line, again, other) = (running.enter(b"a"), running.enter(b"a"), running.enter(b"b"));
        control(b"a", ControlKind::Credit(2));
        control(b"a", ControlKind::Credit(u32::MAX));
        line.credit_above(2).await;
        again.credit_above(u64::from(u32::MAX) + 1).await;
        drop(line);
        control(b"a", ControlKind::Cancel);
        again.cancelled().await;
        let quiet = tokio::time::timeout(std::time::Duration::ZERO, other.cancelled()).await;
        assert!(quiet.is_err(), "the order was for another");
        drop((again, other));
        assert!(running.calls().is_empty());
        let later = running.enter(b"a");
        assert!(tokio::time::timeout(std::time::Duration::ZERO, later.cancelled()).await.is_err());
    }
}
