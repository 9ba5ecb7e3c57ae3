//! How a reply topic is opened: created if need be, a partition chosen, and the reader positioned before anybody asks.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::config::RequesterBuilder;
use super::group_home::GroupHome;
use super::home::{Home, Homes};
use super::reader::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::state::consumer::Offset;
use crate::state::reply::dialect::ReplyAddress;
use crate::topic_partition::TopicPartition;

/// Opens the reply topics of one requester, and moves it where its allocator says.
pub(super) struct Opening {
    config: RequesterBuilder,
    shared: Arc<Shared>,
    /// Chooses, if a group does.
    group: Option<GroupHome>,
    /// Held by the one who opens or moves.
    turn: Semaphore,
}

impl Opening {
    pub(super) fn new(config: RequesterBuilder, shared: Arc<Shared>, group: Option<GroupHome>) -> Self {
        Self { config, shared, group, turn: Semaphore::new(1) }
    }

    /// Tells the group, if there is one, of all these topics at once: each by itself would be a round of its own.
    pub(super) async fn announce(&self, topics: &BTreeSet<Cow<'_, str>>) -> Result<()> {
        if let Some(group) = &self.group {
            for topic in topics {
                self.config.partitions(topic).await?;
            }
            group.want(topics.iter().map(|topic| &**topic));
        }
        Ok(())
    }

    /// Leaves the group, if there is one.
    pub(super) async fn leave(&self) {
        if let Some(group) = &self.group {
            group.close().await;
        }
    }

    /// Sees to it that replies to new requests can come on this topic.
    ///
    /// Cancel safe.
    pub(super) async fn open(&self, topic: &str) -> Result<()> {
        let _turn = self.turn.acquire().await.map_err(|_| Error::closed("requester"))?;
        let is_open = self.shared.state().router.homes().home(topic).is_some();
        if is_open { Ok(()) } else { self.settle(topic).await }
    }

    /// Positions what the allocator wants to be the home now, then makes it the home.
    async fn settle(&self, topic: &str) -> Result<()> {
        let (config, consumer) = (&self.config, self.shared.consumer());
        let count = config.partitions(topic).await?;
        if let Some(group) = &self.group {
            group.want([topic]);
            group.chosen(topic, config.client.core().config().request_timeout).await?;
        }
        let (named, partitions) = config.choose(topic, count)?;
        let mut positioned = Positioned { shared: &self.shared, topic, partitions: BTreeSet::new() };
        loop {
            // What is read already has a position, and it is right.
            let unread = positioned.add(&partitions)?;
            for &partition in &unread {
                self.position(topic, partition).await?;
            }
            let state = &mut *self.shared.state();
            let homes = state.router.homes_mut();
            if homes.unread(topic, &partitions).is_subset(&positioned.partitions) {
                let known = config.client.core().cluster();
                let topic_id = known.topic(topic).map_or(Uuid::nil(), |known| known.id);
                homes.settle(Arc::new(ReplyAddress::new(topic, named)), partitions, topic_id);
                state.release(consumer);
                return Ok(());
            }
            // One that was read has been released meanwhile.
        }
    }

    /// Waits until the partition has a position. One that is lost again before anybody needed it is sought by the reader.
    async fn position(&self, topic: &str, partition: i32) -> Result<()> {
        let core = self.config.client.core().config();
        let (limit, mut failures) = (Instant::now() + core.request_timeout, 0);
        loop {
            match self.shared.consumer().position((topic, partition)).await {
                Err(error) if error.kind() == ErrorKind::Position && Instant::now() < limit => {
                    let wait = core.retry_backoff.after(failures, &mut rand::rng());
                    tokio::time::sleep(wait).await;
                    failures += 1;
                }
                positioned => return positioned.map(drop),
            }
        }
    }

    /// Moves homes as the allocator says, until the requester ends.
    pub(super) async fn follow(self: Arc<Self>, wanted: watch::Receiver<Homes>) {
        tokio::select! {
            () = self.shared.stopped() => {}
            () = self.move_on(wanted) => {}
        }
    }

    async fn move_on(&self, mut wanted: watch::Receiver<Homes>) {
        let backoff = self.config.client.core().config().retry_backoff;
        let mut failures = 0;
        loop {
            let topics: Vec<String> = wanted.borrow_and_update().keys().cloned().collect();
            let mut failed = false;
            for topic in topics {
                let Ok(_turn) = self.turn.acquire().await else { return };
                // What is not open yet will be opened where it belongs.
                let open = self.shared.state().router.homes().home(&topic).map(|(_, at)| at.partition());
                let Some(Some(present)) = open else { continue };
                // Who is left without a partition stays where it is.
                let there =
                    !matches!(wanted.borrow().get(&topic), Some(Home::Partition(to)) if *to != present);
                if !there && let Err(error) = self.settle(&topic).await {
                    tracing::warn!(%error, topic, "moving to another reply partition");
                    failed = true;
                }
            }
            failures = if failed { failures + 1 } else { 0 };
            let wait = backoff.after(failures, &mut rand::rng());
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(wait), if failed => {}
            }
        }
    }
}

/// Partitions that are positioned for a home that is not there yet: read no more, if it does not come.
struct Positioned<'a> {
    shared: &'a Shared,
    topic: &'a str,
    partitions: BTreeSet<i32>,
}

impl Positioned<'_> {
    /// Begins to read those of them that are not read yet.
    fn add(&mut self, wanted: &BTreeSet<i32>) -> Result<BTreeSet<i32>> {
        let state = self.shared.state();
        let mut unread = state.router.homes().unread(self.topic, wanted);
        unread.retain(|partition| !self.partitions.contains(partition));
        for &partition in &unread {
            self.partitions.insert(partition);
            self.shared.consumer().add_partition((self.topic, partition), Some(Offset::End))?;
        }
        Ok(unread)
    }
}

impl Drop for Positioned<'_> {
    fn drop(&mut self) {
        let state = self.shared.state();
        for partition in state.router.homes().unread(self.topic, &self.partitions) {
            // A consumer that is closed reads nothing anyhow.
            let _ = self.shared.consumer().remove_partition(TopicPartition::new(self.topic, partition));
        }
    }
}

#[cfg(test)]
mod tests;
