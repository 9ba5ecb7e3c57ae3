//! What can be asked of a consumer while it is being read from elsewhere.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::ListOffsetsRequest;

use super::driver::{Shared, now};
use crate::client::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::Purpose;
use crate::protocol::error_code::ErrorCode;
use crate::state::consumer::{
    ConsumerMetrics, EARLIEST, IsolationLevel, LATEST, Offset, OffsetPlan, Position, list_offsets,
};
use crate::state::membership::Subscription;
use crate::topic_partition::TopicPartition;

/// Controls a [`Consumer`](super::Consumer), which dereferences to it. Cheap to clone; does not keep the consumer alive.
///
/// Every method fails with [`ErrorKind::Closed`] once the consumer is gone, but for those that only look.
#[derive(Clone)]
pub struct ConsumerHandle {
    pub(super) shared: Arc<Shared>,
}

impl ConsumerHandle {
    /// Reads exactly these partitions from now on. Those that were read before go on where they are; new ones begin as
    /// `auto_offset_reset` says.
    pub fn assign(&self, partitions: impl IntoIterator<Item = impl Into<TopicPartition>>) -> Result<()> {
        let wanted: Vec<_> = partitions.into_iter().map(|partition| (partition.into(), None)).collect();
        self.alone()?.command(|machine, now| machine.assign(now, &wanted))
    }

    /// Reads exactly these partitions from now on, each from the given offset.
    pub fn assign_at(
        &self,
        partitions: impl IntoIterator<Item = (impl Into<TopicPartition>, impl Into<Offset>)>,
    ) -> Result<()> {
        let wanted: Vec<_> = partitions
            .into_iter()
            .map(|(partition, offset)| (partition.into(), Some(offset.into())))
            .collect();
        self.alone()?.command(|machine, now| machine.assign(now, &wanted))
    }

    /// Reads all partitions of these topics from now on, also those that are added to the topics later: these from their beginning, as
    /// records may be in them before they are found.
    pub fn assign_topics(&self, topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Result<()> {
        let topics: Vec<_> = topics.into_iter().map(Into::into).collect();
        self.alone()?.command(|machine, now| machine.assign_topics(now, &topics))
    }

    /// Reads this partition too, from the offset given, or as `auto_offset_reset` says. The others are not disturbed. True if it was
    /// not read before; if it was, it seeks to the offset, if one is given.
    pub fn add_partition(&self, partition: impl Into<TopicPartition>, from: Option<Offset>) -> Result<bool> {
        self.alone()?.command(|machine, now| machine.add(now, partition.into(), from))
    }

    /// Reads this partition no more; what was fetched of it is thrown away. The others are not disturbed. True if it was read.
    pub fn remove_partition(&self, partition: impl Into<TopicPartition>) -> Result<bool> {
        self.alone()?.command(|machine, _| machine.remove(&partition.into()))
    }

    /// Wants to read these topics from now on, as a member of its group; none: it leaves the group. It is not waited for: the group
    /// rebalances. After an error that ended the membership it joins again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the consumer is in no group.
    pub fn subscribe(&self, topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Result<()> {
        let topics = Subscription::Topics(topics.into_iter().map(Into::into).collect());
        let cluster = self.shared.core.cluster();
        self.shared.command_all(|inner, now| match &mut inner.membership {
            Some(membership) => {
                membership.subscribe(now, topics, &cluster);
                Ok(())
            }
            None => Err(Error::new(ErrorKind::Config, "the consumer is in no group")),
        })?
    }

    /// Of a consumer without a group, which chooses itself what to read.
    fn alone(&self) -> Result<&Shared> {
        match self.shared.member {
            None => Ok(&self.shared),
            Some(_) => Err(Error::new(
                ErrorKind::Config,
                "the group assigns partitions: subscribe to topics instead",
            )),
        }
    }

    /// Goes on at another place. What was fetched is thrown away; an error that had halted the partition is forgotten.
    ///
    /// An offset that is not in the log is found out when it is fetched, and treated as `auto_offset_reset` says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the partition is not assigned.
    pub fn seek(&self, partition: impl Into<TopicPartition>, to: impl Into<Offset>) -> Result<()> {
        let partition = partition.into();
        let found = self.shared.command(|machine, _| machine.seek(&partition, to.into()))?;
        if found { Ok(()) } else { Err(unassigned(&partition)) }
    }

    /// Hands out nothing of this partition until [`ConsumerHandle::resume`]. What was fetched of it is kept, and no more is fetched.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the partition is not assigned.
    pub fn pause(&self, partition: impl Into<TopicPartition>) -> Result<()> {
        let partition = partition.into();
        let found = self.shared.command(|machine, _| machine.pause(&partition))?;
        if found { Ok(()) } else { Err(unassigned(&partition)) }
    }

    /// Ends [`ConsumerHandle::pause`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the partition is not assigned.
    pub fn resume(&self, partition: impl Into<TopicPartition>) -> Result<()> {
        let partition = partition.into();
        let found = self.shared.command(|machine, _| machine.resume(&partition))?;
        if found { Ok(()) } else { Err(unassigned(&partition)) }
    }

    /// The offset that will be handed out next. Waits until it is known: after `assign` at [`Offset::End`], a position means that
    /// nothing written from now on is missed.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `request_timeout`, which says so if the topic is unknown; [`ErrorKind::Config`] if the partition
    /// is not assigned; what halted the partition, if something did.
    ///
    /// Cancel safe: it only looks.
    pub async fn position(&self, partition: impl Into<TopicPartition>) -> Result<i64> {
        let partition = partition.into();
        let deadline = now() + self.shared.core.config().request_timeout;
        let mut changed = std::pin::pin!(self.shared.changed.notified());
        loop {
            changed.as_mut().enable();
            let position = self.shared.lock().machine.position(&partition);
            match position {
                _ if self.shared.is_closed() => return Err(Error::closed("the consumer")),
                Position::At(offset) => return Ok(offset),
                Position::Failed(error) => return Err(error),
                Position::Unassigned => return Err(unassigned(&partition)),
                Position::Pending => {}
            }
            if tokio::time::timeout_at(deadline.into(), changed.as_mut()).await.is_err() {
                return Err(self.unknown(&partition, "the position could not be looked up in time"));
            }
            changed.set(self.shared.changed.notified());
        }
    }

    /// The offset that is handed out next, if it is known now.
    pub(crate) fn known_position(&self, partition: &TopicPartition) -> Option<i64> {
        match self.shared.lock().machine.position(partition) {
            Position::At(offset) => Some(offset),
            _ => None,
        }
    }

    /// Where there is more to read behind what the partition halted at, if that can be told: the end of a batch that could not be read, or where
    /// the log differs from what was read.
    pub(crate) fn behind(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.lock().machine.behind(partition)
    }

    /// The partitions that are read, in no order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().machine.assignment()
    }

    /// Those of them that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared.lock().machine.paused()
    }

    /// The first offset of the partition and its high watermark, as the last fetch told them; `None` before the first, or if the
    /// partition is not assigned. No request is sent.
    pub fn watermarks(&self, partition: impl Into<TopicPartition>) -> Option<(i64, i64)> {
        self.shared.lock().machine.watermarks(&partition.into())
    }

    /// What the consumer did so far and holds now.
    pub fn metrics(&self) -> ConsumerMetrics {
        self.shared.lock().machine.metrics()
    }

    /// The offset of the oldest record of each partition, assigned or not.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if not all could be asked within `request_timeout`; otherwise what a node answered.
    ///
    /// Cancel safe: it only looks.
    pub async fn beginning_offsets(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.ends(partitions, EARLIEST).await
    }

    /// The offset behind the newest record of each partition, assigned or not: the high watermark, or with
    /// [`IsolationLevel::ReadCommitted`] the last stable offset.
    ///
    /// # Errors
    /// As [`ConsumerHandle::beginning_offsets`].
    ///
    /// Cancel safe: it only looks.
    pub async fn end_offsets(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.ends(partitions, LATEST).await
    }

    /// The offset of the first record of each partition whose timestamp, in milliseconds since 1970-01-01 UTC, is at least the given
    /// one; `None` if there is none. The partitions need not be assigned.
    ///
    /// # Errors
    /// As [`ConsumerHandle::beginning_offsets`].
    ///
    /// Cancel safe: it only looks.
    pub async fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (impl Into<TopicPartition>, i64)>,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>> {
        let times = times.into_iter().map(|(partition, time)| (partition.into(), time.max(0))).collect();
        let found = self.list(times).await?;
        Ok(found
            .into_iter()
            .map(|(partition, offset)| (partition, (offset >= 0).then_some(offset)))
            .collect())
    }

    async fn ends(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
        which: i64,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.list(partitions.into_iter().map(|partition| (partition.into(), which)).collect()).await
    }

    /// Asks the leaders until all have answered.
    async fn list(&self, mut wanted: BTreeMap<TopicPartition, i64>) -> Result<BTreeMap<TopicPartition, i64>> {
        let core = &self.shared.core;
        let deadline = now() + core.config().request_timeout;
        let read_committed = self.shared.lock().machine.settings().isolation == IsolationLevel::ReadCommitted;
        let backoff = core.config().retry_backoff;
        let mut failures = 0;
        let mut found = BTreeMap::new();
        loop {
            let (by_node, mut last) = self.by_leader(&wanted, deadline).await?;
            // One node after the other: this is not a hot path, and each answers at once.
            for (node, partitions) in by_node {
                let plan = OffsetPlan { read_committed, partitions };
                let call =
                    core.call::<ListOffsetsRequest>(Target::Node(node), Purpose::Rest, move |version| {
                        list_offsets(&plan, version)
                    });
                let response = match call.await {
                    Ok(response) => response,
                    Err(error) if error.is_retriable() => {
                        last = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                for topic in &response.topics {
                    for data in &topic.partitions {
                        let name = TopicPartition::new(&*topic.name.0, data.partition_index);
                        let code = ErrorCode::from(data.error_code);
                        if code.is_none() {
                            if wanted.remove(&name).is_some() {
                                found.insert(name, data.offset);
                            }
                            continue;
                        }
                        let error =
                            Error::broker(code, "the offset cannot be looked up").in_api("ListOffsets");
                        let error = error.on_partition(name.shared_topic().clone(), name.partition());
                        if !code.is_retriable() {
                            return Err(error);
                        }
                        last = Some(error);
                    }
                }
            }
            let Some(first) = wanted.keys().next() else { return Ok(found) };
            core.refresh();
            failures += 1;
            let wait = backoff.after(failures, &mut rand::rng());
            if now() + wait >= deadline {
                return Err(
                    last.unwrap_or_else(|| self.unknown(first, "the offset could not be looked up in time"))
                );
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// What to ask which node; and why some cannot be asked now.
    #[allow(clippy::type_complexity)] // two maps that go straight into a loop
    async fn by_leader(
        &self,
        wanted: &BTreeMap<TopicPartition, i64>,
        deadline: Instant,
    ) -> Result<(BTreeMap<i32, Vec<(TopicPartition, i32, i64)>>, Option<Error>)> {
        let mut by_node: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        let mut last = None;
        for (partition, time) in wanted {
            let topic = self.shared.core.topic(partition.topic(), deadline).await?;
            let known = usize::try_from(partition.partition()).ok().and_then(|at| topic.partitions.get(at));
            match known.and_then(|known| Some((known.leader?, known.leader_epoch))) {
                Some((leader, epoch)) => {
                    by_node.entry(leader).or_default().push((partition.clone(), epoch, *time));
                }
                None => last = Some(self.unknown(partition, "the partition has no leader")),
            }
        }
        Ok((by_node, last))
    }

    fn unknown(&self, partition: &TopicPartition, what: &str) -> Error {
        let cluster = self.shared.core.cluster();
        let error = match cluster.partition(partition.topic(), partition.partition()) {
            Some(known) if known.leader.is_some() => Error::new(ErrorKind::Timeout, what),
            Some(_) => Error::new(ErrorKind::Timeout, format!("{what}: it has no leader")),
            None => Error::new(ErrorKind::Timeout, format!("{what}: the topic or partition is unknown")),
        };
        error.on_partition(partition.shared_topic().clone(), partition.partition())
    }
}

impl std::fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerHandle").field("assignment", &self.assignment()).finish_non_exhaustive()
    }
}

fn unassigned(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::Config, "the partition is not assigned")
        .on_partition(partition.shared_topic().clone(), partition.partition())
}
