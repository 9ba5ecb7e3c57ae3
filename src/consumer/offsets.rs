//! Where a group stands: what is finished, what is committed.
use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::handle::ConsumerHandle;
use super::member::Commit;
use crate::error::{Error, ErrorKind, Result};
use crate::state::group::CommittedOffset;
use crate::topic_partition::TopicPartition;

impl ConsumerHandle {
    /// Says that the application is done with everything of a partition before an offset, that of the record to be read next. What
    /// is committed from now on, automatically or not, may cover it. An offset below what is finished already says nothing new.
    ///
    /// Where [`ConsumerBuilder::enable_auto_offset_store`](super::ConsumerBuilder::enable_auto_offset_store) is left on, the next call of
    /// [`Consumer::next`](super::Consumer::next) says so for the batch before.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the consumer is in no group, does not own the partition, or was not handed so much of it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("orders", 1);
    /// # let values = ["a", "b"].map(milena::Record::value);
    /// # broker.append("orders", 0, &values);
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// let mut consumer = client.consumer().group("billing").topics(["orders"]).build().await?;
    /// let batch = consumer.next().await?.expect("the consumer is open");
    /// let first = batch.iter().next().unwrap().offset();
    /// consumer.finish(batch.topic_partition(), first + 1)?;
    /// consumer.handle().commit().await?;
    /// assert_eq!(consumer.committed([("orders", 0)]).await?[&("orders", 0).into()].as_ref().unwrap().offset, 1);
    /// # Ok(()) }
    /// ```
    pub fn finish(
        &self,
        partition: impl Into<TopicPartition>,
        before: impl Into<CommittedOffset>,
    ) -> Result<()> {
        let (partition, before) = (partition.into(), before.into());
        if self.shared.is_closed() {
            return Err(Error::closed("the consumer"));
        }
        match &mut self.shared.lock().membership {
            Some(membership) => membership.finish(&partition, before.offset, Some(&before.metadata))?,
            None => return Err(groupless()),
        }
        // It may be what a revocation waits for.
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Commits what is finished and was not committed yet. The commit has begun when this returns; waiting for its end is not necessary.
    /// While the group rebalances it waits for the end of that. Of a partition that has been committed further already, nothing is.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`]: the consumer is in no group.
    /// - [`ErrorKind::Broker`]: the coordinator refuses, with its code. After `REBALANCE_IN_PROGRESS` that
    ///   [is retriable](Error::is_retriable) the offsets are committed with the next commit, if the partitions are still owned then;
    ///   otherwise they are another member's business.
    /// - [`ErrorKind::Timeout`]: it did not succeed within `request_timeout`.
    ///
    /// Cancel safe: the commit goes on.
    pub fn commit(&self) -> Commit {
        self.begin_commit(false)
    }

    /// Gives up what was told to be revoked, of a consumer that [holds](super::ConsumerBuilder::hold_revoked) it.
    pub(crate) fn release(&self) {
        let released = self.shared.command_all(|inner, now| {
            if let Some(membership) = &mut inner.membership {
                membership.release(&mut inner.machine, now);
            }
        });
        // Of a consumer that is closed nothing is held.
        drop(released);
    }

    /// Why the consumer is in no group any more, unless it was closed.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.shared.lock().membership.as_ref().and_then(|membership| membership.failure().cloned())
    }

    pub(super) fn begin_commit(&self, all: bool) -> Commit {
        let begun = self.shared.command_all(|inner, now| {
            let membership = inner.membership.as_mut().ok_or_else(groupless)?;
            if all {
                membership.finish_all();
            }
            let (sender, end) = oneshot::channel();
            let id = membership.commit(&inner.machine, now);
            inner.commits.insert(id, sender);
            Ok(end)
        });
        match begun.and_then(|begun| begun) {
            Ok(end) => Commit::begun(end),
            Err(error) => Commit::refused(error),
        }
    }

    /// What the group has committed of these partitions, owned or not; `None` where that is nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the consumer is in no group; [`ErrorKind::Timeout`] if the coordinator could not be asked within
    /// `request_timeout`, or open transactions hold the offsets back; otherwise what it answered.
    ///
    /// Cancel safe: it only looks.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, Option<CommittedOffset>>> {
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        let group = self.shared.lock().membership.as_ref().map(|membership| membership.group().id().clone());
        let group = group.ok_or_else(groupless)?;
        let core = &self.shared.core;
        let limit = core.config().request_timeout;
        let found = core.group_offsets(&group, Some(partitions.clone()), limit).await?;
        let mut offsets: BTreeMap<_, _> = partitions.into_iter().map(|partition| (partition, None)).collect();
        for (partition, place) in found {
            if let Some(slot) = offsets.get_mut(&partition) {
                *slot = place.map(CommittedOffset::from);
            }
        }
        Ok(offsets)
    }
}

fn groupless() -> Error {
    Error::new(ErrorKind::Config, "the consumer is in no group")
}
