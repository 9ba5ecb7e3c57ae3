//! What a member of a group that chooses homes says when it joins, and what it learns: an [`Assignor`] with a memory.
//!
//! The memory belongs to the process and not to its membership: a member that was shut out goes on with its home, and claims it when it
//! joins again.
//!
//! Invariants
//! - A home, once there, stays until an assignment names another one or none.
//! - What is claimed was given to this member by some generation, in a topic that is still the same.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub(crate) use crate::assignor::reply::weight;
use crate::assignor::reply::wire::{self, Claim, Hold, TopicClaims, TopicId};
use crate::assignor::reply::{self, Spread};
use crate::assignor::{Assignor, Group, GroupAssignment, RebalanceProtocol, nest};
use crate::state::metadata::Cluster;

/// The partitions that replies are still awaited on, for each topic.
pub(crate) type Pins = Arc<dyn Fn() -> BTreeMap<String, BTreeSet<i32>> + Send + Sync>;

/// How a group chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// `reply-sticky`: members of milena.
    ReplySticky,
    /// `NestReplyPartitionAssigner`: also members of NestJS.
    Nest,
}

/// See the module.
pub(crate) struct HomeClaims {
    strategy: Strategy,
    pins: Pins,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    /// What the last JoinGroup asked for.
    joined: BTreeSet<String>,
    cluster: Arc<Cluster>,
}

/// What is known of a reply topic.
#[derive(Default)]
struct Topic {
    home: Option<i32>,
    /// By partition the generation that gave or confirmed it, and the topic that it was.
    given: BTreeMap<i32, i32>,
    id: TopicId,
}

impl HomeClaims {
    pub(crate) fn new(strategy: Strategy, pins: Pins) -> Self {
        Self { strategy, pins, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Topics that were deleted and made again are others.
    pub(crate) fn handle_metadata(&self, cluster: &Arc<Cluster>) {
        self.state().cluster = cluster.clone();
    }

    /// The home of each topic that was heard of; `None`: there is none for this member.
    pub(crate) fn homes(&self) -> BTreeMap<String, Option<i32>> {
        self.state().topics.iter().map(|(topic, of)| (topic.clone(), of.home)).collect()
    }
}

impl State {
    fn id(&self, topic: &str) -> TopicId {
        self.cluster.topic(topic).map(|topic| *topic.id.as_bytes()).unwrap_or_default()
    }

    fn claims(
        &self,
        topics: &[&str],
        owned: &[(&str, &[i32])],
        pins: &BTreeMap<String, BTreeSet<i32>>,
    ) -> Bytes {
        let topics = topics.iter().filter_map(|topic| {
            let of = self.topics.get(*topic)?;
            let pinned = pins.get(*topic);
            let owned = owned.iter().find(|(name, _)| name == topic).map_or(&[][..], |(_, numbers)| numbers);
            let claims = of.given.iter().filter_map(|(&partition, &generation)| {
                let hold = match () {
                    () if of.home == Some(partition) => Hold::Home,
                    () if pinned.is_some_and(|pinned| pinned.contains(&partition)) => Hold::Pinned,
                    () if owned.contains(&partition) => Hold::Spare,
                    () => return None,
                };
                Some(Claim { partition, generation, hold })
            });
            Some(TopicClaims { topic, id: of.id, claims: claims.collect() })
        });
        wire::encode_claims(&topics.collect::<Vec<_>>())
    }

    /// Takes in what `reply-sticky` gave.
    fn settle(&mut self, assigned: &[(&str, &[i32])], told: &[wire::Given<'_>], generation: i32) {
        for given in told.iter().filter(|given| given.starved || given.home.is_some()) {
            if !given.lost.is_empty() {
                tracing::warn!(target: "milena::request_reply", topic = given.topic, lost = ?given.lost,
                    "another member has the newer claim to reply partitions; calls under way are answered all the same");
            }
            let assigned = assigned.iter().find(|(name, _)| *name == given.topic);
            let assigned = assigned.map_or(&[][..], |(_, numbers)| numbers);
            // A home may be told before another has given it up.
            let held = assigned.iter().chain(&given.home).map(|partition| (*partition, generation));
            let of = Topic { home: given.home, given: held.collect(), id: self.id(given.topic) };
            self.topics.insert(given.topic.to_owned(), of);
        }
    }
}

impl Assignor for HomeClaims {
    fn name(&self) -> &str {
        match self.strategy {
            Strategy::ReplySticky => reply::NAME,
            Strategy::Nest => nest::NAME,
        }
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        match self.strategy {
            Strategy::ReplySticky => &[RebalanceProtocol::Cooperative],
            Strategy::Nest => &[RebalanceProtocol::Eager],
        }
    }

    fn user_data(&self, topics: &[&str], owned: &[(&str, &[i32])], _: Option<i32>) -> Option<Bytes> {
        let pins = (self.pins)();
        let mut state = self.state();
        state.joined = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Some(match self.strategy {
            Strategy::ReplySticky => state.claims(topics, owned, &pins),
            Strategy::Nest => {
                let homes = topics.iter().filter_map(|topic| Some((*topic, state.topics.get(*topic)?.home?)));
                nest::encode_claims(homes).into()
            }
        })
    }

    fn assign(&self, group: &Group) -> GroupAssignment {
        match self.strategy {
            Strategy::ReplySticky => {
                let state = self.state();
                reply::plan(group, |topic| state.id(topic), Spread::None)
            }
            Strategy::Nest => nest::assign(group),
        }
    }

    fn on_assignment(&self, partitions: &[(&str, &[i32])], user_data: Option<&[u8]>, generation: i32) {
        let state = &mut *self.state();
        match self.strategy {
            // What cannot be read comes from no leader there is: nothing is changed.
            Strategy::ReplySticky => {
                let told = user_data.and_then(wire::decode_given).unwrap_or_default();
                state.settle(partitions, &told, generation);
            }
            Strategy::Nest => {
                for topic in &state.joined {
                    let numbers = partitions.iter().find(|(name, _)| name == topic);
                    let numbers = numbers.map_or(&[][..], |(_, numbers)| numbers);
                    let of = state.topics.entry(topic.clone()).or_default();
                    // A leader of NestJS may add lower ones; the home that is claimed next need not move for that.
                    let stays = of.home.filter(|home| numbers.contains(home));
                    of.home = stays.or(numbers.iter().min().copied());
                }
            }
        }
    }
}

impl std::fmt::Debug for HomeClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HomeClaims").field("strategy", &self.strategy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
