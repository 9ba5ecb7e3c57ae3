//! The reply partitions of a requester: where new calls point, and what is read on for the calls that pointed elsewhere.
//!
//! ```text
//!               positioned            another home took its place
//!   (nothing) -------------> Home ----------------------------------> Draining --------> (released)
//!                             ^     the same partitions again            |     its last call has ended
//!                             +------------------------------------------+
//! ```
//!
//! Whoever chooses homes never touches a position, and whoever reads never asks whether it still owns a partition.
//!
//! Invariants
//! - A topic has one home at most; it is positioned, and a call that points at it is counted until it has ended.
//! - A partition is released once: when no home that is left reads it.
//! - Without a call in flight nothing is draining.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::dialect::ReplyAddress;
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

/// A topic that no node knows for so long was deleted; for a shorter time, a node may only not have heard of it yet.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// A home, present or draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HomeId(u32);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    /// By number, which is free again when the home was released.
    slots: Vec<Option<Home>>,
    /// The present home of each topic.
    present: BTreeMap<Arc<str>, HomeId>,
    released: Vec<TopicPartition>,
}

#[derive(Debug)]
struct Home {
    address: Arc<ReplyAddress>,
    topic: Arc<str>,
    /// One, or all of the topic if the responder may choose.
    partitions: BTreeSet<i32>,
    /// Nil where no node told it.
    topic_id: Uuid,
    draining: bool,
    in_flight: u64,
    /// Since when the metadata does not know the topic.
    missing: Option<Instant>,
}

impl Homes {
    /// Where new calls point whose replies go to this topic.
    pub(crate) fn home(&self, topic: &str) -> Option<(HomeId, &Arc<ReplyAddress>)> {
        let id = *self.present.get(topic)?;
        Some((id, &self.get(id)?.address))
    }

    /// Of these partitions, those that nothing is read of yet: they have to be positioned first.
    pub(crate) fn unread(&self, topic: &str, partitions: &BTreeSet<i32>) -> BTreeSet<i32> {
        partitions.iter().copied().filter(|&partition| !self.reads(topic, partition)).collect()
    }

    /// These partitions are positioned: new calls point at them, and the topic's former home is read on until its last call ends.
    pub(crate) fn settle(&mut self, address: Arc<ReplyAddress>, partitions: BTreeSet<i32>, topic_id: Uuid) {
        let (topic, id) = (address.topic().into(), self.find_or_add(address, partitions, topic_id));
        if let Some(home) = self.get_mut(id) {
            home.draining = false;
        }
        let before = self.present.insert(topic, id);
        if let Some(before) = before.filter(|before| *before != id) {
            self.leave(before);
        }
    }

    /// One more call will point at these partitions, which need not be a home: they are read until it has ended.
    pub(crate) fn visit(&mut self, address: Arc<ReplyAddress>, partitions: BTreeSet<i32>) -> HomeId {
        let topic_id =
            self.iter().find(|(_, home)| *home.topic == *address.topic()).map(|(_, home)| home.topic_id);
        self.find_or_add(address, partitions, topic_id.unwrap_or(Uuid::nil()))
    }

    fn find_or_add(
        &mut self,
        address: Arc<ReplyAddress>,
        partitions: BTreeSet<i32>,
        topic_id: Uuid,
    ) -> HomeId {
        let topic: Arc<str> = address.topic().into();
        let same =
            |home: &Home| (&home.topic, &home.partitions, home.topic_id) == (&topic, &partitions, topic_id);
        if let Some((id, _)) = self.iter().find(|(_, home)| same(home)) {
            return id;
        }
        let home = Home { address, topic, partitions, topic_id, draining: true, in_flight: 0, missing: None };
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(home);
        HomeId(u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// A call points at the home.
    pub(crate) fn begin(&mut self, id: HomeId) {
        if let Some(home) = self.get_mut(id) {
            home.in_flight += 1;
        }
    }

    /// A call that pointed at it has ended.
    pub(crate) fn end(&mut self, id: HomeId) {
        let Some(home) = self.get_mut(id) else { return };
        home.in_flight -= 1;
        if home.draining && home.in_flight == 0 {
            self.release(id);
        }
    }

    /// What topics have gained of which all partitions are read: these belong to their homes from now on.
    pub(crate) fn widen(&mut self, cluster: &Cluster) -> Vec<TopicPartition> {
        let mut gained = Vec::new();
        for home in self.slots.iter_mut().flatten().filter(|home| home.address.partition().is_none()) {
            let count = cluster.topic(&home.topic).map_or(0, |topic| topic.partitions.len());
            for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
                if home.partitions.insert(partition) {
                    gained.push(TopicPartition::new(home.topic.clone(), partition));
                }
            }
        }
        gained
    }

    /// Looks for topics that were deleted or created again, and gives up their homes: whose calls are to be ended.
    pub(crate) fn handle_metadata(&mut self, now: Instant, cluster: &Cluster) -> Vec<HomeId> {
        let mut gone = Vec::new();
        for (number, home) in self.slots.iter_mut().enumerate() {
            let Some(home) = home else { continue };
            let known = cluster.topic(&home.topic);
            let unknown = known.is_none_or(|topic| topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            let id = known.map_or(Uuid::nil(), |topic| topic.id);
            let created_again = !unknown && !id.is_nil() && !home.topic_id.is_nil() && id != home.topic_id;
            if unknown {
                home.missing.get_or_insert(now);
            } else {
                home.missing = None;
            }
            if created_again || home.missing.is_some_and(|since| now >= since + GONE_AFTER) {
                gone.push(HomeId(u32::try_from(number).unwrap_or(u32::MAX)));
            }
        }
        for &id in &gone {
            self.leave(id);
        }
        gone
    }

    /// When [`Homes::handle_metadata`] has something to say although nothing has changed.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.iter().filter_map(|(_, home)| home.missing).min().map(|since| since + GONE_AFTER)
    }

    /// A partition that nobody awaits a reply on any more.
    pub(crate) fn poll_release(&mut self) -> Option<TopicPartition> {
        self.released.pop()
    }

    // Looks

    /// The homes that this partition belongs to: whose calls a record on it may answer.
    pub(crate) fn of<'a>(&'a self, topic: &'a str, partition: i32) -> impl Iterator<Item = HomeId> + 'a {
        let on = move |home: &Home| *home.topic == *topic && home.partitions.contains(&partition);
        self.iter().filter(move |(_, home)| on(home)).map(|(id, _)| id)
    }

    /// All partitions that a reply to this address may come on.
    pub(crate) fn partitions(&self, address: &ReplyAddress) -> BTreeSet<i32> {
        let mut homes = self.iter().filter(|(_, home)| *home.address == *address);
        homes.next().map(|(_, home)| home.partitions.clone()).unwrap_or_default()
    }

    pub(crate) fn draining(&self) -> usize {
        self.iter().filter(|(_, home)| home.draining).count()
    }

    /// The partitions that replies are still awaited on.
    pub(crate) fn awaited(&self) -> BTreeMap<String, BTreeSet<i32>> {
        let mut awaited: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for (_, home) in self.iter().filter(|(_, home)| home.in_flight > 0) {
            awaited.entry(home.topic.to_string()).or_default().extend(&home.partitions);
        }
        awaited
    }

    /// No home any more: its calls, if there are any, are awaited.
    fn leave(&mut self, id: HomeId) {
        self.present.retain(|_, present| *present != id);
        let Some(home) = self.get_mut(id) else { return };
        home.draining = true;
        if home.in_flight == 0 {
            self.release(id);
        }
    }

    fn release(&mut self, id: HomeId) {
        let Some(home) = self.slots.get_mut(id.0 as usize).and_then(Option::take) else { return };
        for &partition in &home.partitions {
            if !self.reads(&home.topic, partition) {
                self.released.push(TopicPartition::new(home.topic.clone(), partition));
            }
        }
    }

    fn reads(&self, topic: &str, partition: i32) -> bool {
        self.of(topic, partition).next().is_some()
    }

    fn iter(&self) -> impl Iterator<Item = (HomeId, &Home)> {
        self.slots.iter().zip(0..).filter_map(|(home, number)| Some((HomeId(number), home.as_ref()?)))
    }

    fn get(&self, id: HomeId) -> Option<&Home> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: HomeId) -> Option<&mut Home> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests;
