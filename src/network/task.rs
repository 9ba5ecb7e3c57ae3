//! The only place where tasks begin.
use std::future::{Future, poll_fn};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// The tasks of one public object, on the runtime it was built on.
///
/// Dropping it aborts them and returns at once; [`TaskSet::close`] waits until they have ended.
#[derive(Debug)]
pub(crate) struct TaskSet {
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
    /// Held by the one who waits for the tasks: the set wakes the last to ask only.
    turn: Semaphore,
}

impl TaskSet {
    /// Of the runtime that polls the caller; call it from async code only.
    pub(crate) fn current() -> Self {
        Self::on(Handle::current())
    }

    fn on(runtime: Handle) -> Self {
        Self { runtime, tasks: Mutex::default(), turn: Semaphore::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty set on the same runtime.
    pub(crate) fn child(&self) -> Self {
        Self::on(self.runtime.clone())
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.lock();
        // Those that ended meanwhile need not be remembered.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime)
    }

    /// Work that computes, on a thread that may be kept busy. It is not aborted with the set, so it must be short.
    pub(crate) fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn_blocking(work)
    }

    /// Tells all tasks to end at their next await.
    pub(crate) fn abort(&self) {
        self.lock().abort_all();
    }

    /// Waits until every task has ended of itself, as everybody may who asks.
    ///
    /// Cancel safe: the tasks go on.
    pub(crate) async fn close(&self) {
        // It is never closed, so that this cannot fail.
        let _turn = self.turn.acquire().await;
        while poll_fn(|cx| self.lock().poll_join_next(cx)).await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct OnDrop(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            let _ = self.0.take().map(|sender| sender.send(()));
        }
    }

    #[tokio::test]
    async fn dropping_the_set_ends_its_tasks() {
        let (sender, ended) = tokio::sync::oneshot::channel();
        let tasks = TaskSet::current();
        let guard = OnDrop(Some(sender));
        tasks.spawn(async move {
            let _guard = guard;
            std::future::pending().await
        });
        drop(tasks);
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn close_waits_for_all_tasks() {
        let tasks = TaskSet::current();
        let done = Arc::new(std::sync::atomic::AtomicU32::new(0));
        for _ in 0..3 {
            let done = done.clone();
            tasks.spawn(async move {
                tokio::task::yield_now().await;
                done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            });
        }
        tasks.close().await;
        assert_eq!(done.load(std::sync::atomic::Ordering::Relaxed), 3);
    }
    #[tokio::test]
    async fn a_close_that_was_dropped_ended_the_tasks_and_a_second_one_did_not_wait() {
        let tasks = TaskSet::current();
        let (sender, last) = tokio::sync::oneshot::channel::<()>();
        let (done, ended) = tokio::sync::oneshot::channel();
        tasks.spawn(async move {
            let _ = last.await;
            let _ = done.send(());
        });
        let mut closes = [0, 1, 2].map(|_| Box::pin(tasks.close()));
        for close in &mut closes {
            assert!(poll_once(close).await.is_pending());
        }
        let [first, second, third] = closes;
        drop(first);
        sender.send(()).unwrap();
        tokio::join!(second, third);
        ended.await.unwrap();
    }

    async fn poll_once(future: &mut (impl Future<Output = ()> + Unpin)) -> std::task::Poll<()> {
        poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
    }
}
