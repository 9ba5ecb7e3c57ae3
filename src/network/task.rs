//! The only place where tasks begin.
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// The tasks of one public object, on the runtime it was built on.
///
/// Dropping it aborts them and returns at once; [`TaskSet::close`] waits until they have ended.
#[derive(Debug)]
pub(crate) struct TaskSet {
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl TaskSet {
    /// Of the runtime that polls the caller; call it from async code only.
    pub(crate) fn current() -> Self {
        Self::on(Handle::current())
    }

    fn on(runtime: Handle) -> Self {
        Self { runtime, tasks: Mutex::default() }
    }

    /// An empty set on the same runtime.
    pub(crate) fn child(&self) -> Self {
        Self::on(self.runtime.clone())
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Waits until every task has ended of itself. Dropping the future aborts what is left.
    pub(crate) async fn close(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
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
}
