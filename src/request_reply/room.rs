//! How many calls, and how many bytes of requests, may be in flight at a time.
use tokio::sync::{Semaphore, TryAcquireError};

use crate::error::{Error, ErrorKind, Result};

/// What is left of both.
#[derive(Debug)]
pub(super) struct Room {
    calls: Semaphore,
    bytes: Semaphore,
    /// A larger request takes all there is.
    max_bytes: u32,
    /// Whether a call without room waits for some.
    wait: bool,
}

impl Room {
    pub(super) fn new(calls: usize, max_bytes: u32, wait: bool) -> Self {
        let bytes = Semaphore::new(max_bytes as usize);
        Self { calls: Semaphore::new(calls), bytes, max_bytes, wait }
    }

    /// Takes the place of one call.
    ///
    /// Cancel safe. Calls get room in the order in which they asked for it.
    pub(super) async fn enter(&self, bytes: usize) -> Result<Place<'_>> {
        let bytes = self.bounded(bytes);
        if !self.wait {
            return self.take(bytes).map_err(full);
        }
        let closed = |_| Error::closed("requester");
        let call = self.calls.acquire().await.map_err(closed)?;
        let held = self.bytes.acquire_many(bytes).await.map_err(closed)?;
        // Given back by the place.
        call.forget();
        held.forget();
        Ok(Place { room: self, bytes })
    }

    /// The same, if there is room now.
    pub(super) fn try_enter(&self, bytes: usize) -> Option<Place<'_>> {
        self.take(self.bounded(bytes)).ok()
    }

    fn bounded(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.max_bytes)
    }

    fn take(&self, bytes: u32) -> Result<Place<'_>, TryAcquireError> {
        let (call, held) = (self.calls.try_acquire()?, self.bytes.try_acquire_many(bytes)?);
        call.forget();
        held.forget();
        Ok(Place { room: self, bytes })
    }
    /// Gives the room of one call back.
    pub(super) fn leave(&self, bytes: u32) {
        self.calls.add_permits(1);
        self.bytes.add_permits(bytes as usize);
    }

    /// Whoever waits for room is told that there will be none.
    pub(super) fn close(&self) {
        self.calls.close();
        self.bytes.close();
    }
}

fn full(error: TryAcquireError) -> Error {
    match error {
        TryAcquireError::Closed => Error::closed("requester"),
        TryAcquireError::NoPermits => {
            Error::new(ErrorKind::Full, "as many calls or bytes are in flight as may be").retriable(true)
        }
    }
}

/// The room that one call takes, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    room: &'a Room,
    bytes: u32,
}

impl Place<'_> {
    /// It stays taken until [`Room::leave`] is called with the bytes that this returns.
    pub(super) fn keep(self) -> u32 {
        std::mem::ManuallyDrop::new(self).bytes
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.leave(self.bytes);
    }
}
