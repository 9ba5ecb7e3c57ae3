//! A group as its leader sees it: topics with their partitions, members with what they want and hold.
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::partitions::Partitions;
use crate::error::{Error, ErrorKind, Result};

/// More partitions than this are refused: several times what the largest clusters hold in all.
const MOST_PARTITIONS: i64 = 1 << 24;

/// A group whose partitions are to be assigned, built by a [`GroupBuilder`].
///
/// Topics and members are sorted by name and id, each there once, and all lists in them are sorted and without what does
/// not exist. So an assignor needs no care for its result to be the same whatever came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    topics: Vec<GroupTopic>,
    members: Vec<GroupMember>,
}

/// A topic that some member subscribes to or holds partitions of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupTopic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has; 0 if it does not exist.
    pub partitions: i32,
    /// For each partition the racks of its replicas (`broker.rack`), sorted; shorter or empty where they are not known.
    pub racks: Vec<Vec<Arc<str>>>,
}

/// A member as it described itself when it joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct GroupMember {
    /// The id the coordinator knows it by.
    pub member_id: String,
    /// `group.instance.id`, of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// The topics it subscribes to, as places in [`Group::topics`].
    pub topics: Vec<u32>,
    /// The partitions it says it holds (KIP-429).
    pub owned: Partitions,
    /// The generation that `owned` is of (KIP-792), `None` if it is not known.
    pub generation: Option<i32>,
    /// `client.rack` (KIP-881).
    pub rack: Option<Arc<str>>,
    /// What its assignor sent, see [`Assignor::user_data`](super::Assignor::user_data).
    pub user_data: Option<Bytes>,
}

impl Group {
    /// A builder of a group without topics and members.
    pub fn builder() -> GroupBuilder {
        GroupBuilder::default()
    }

    /// The topics, sorted by name.
    pub fn topics(&self) -> &[GroupTopic] {
        &self.topics
    }

    /// The members, sorted by id.
    pub fn members(&self) -> &[GroupMember] {
        &self.members
    }

    /// The place of a topic in [`topics`](Self::topics).
    pub fn topic(&self, name: &str) -> Option<usize> {
        self.topics.binary_search_by(|topic| (*topic.name).cmp(name)).ok()
    }

    /// The place of a member in [`members`](Self::members).
    pub fn member(&self, member_id: &str) -> Option<usize> {
        self.members.binary_search_by(|member| (*member.member_id).cmp(member_id)).ok()
    }

    /// For each topic the members that subscribe to it, in order.
    pub(super) fn subscribers(&self) -> Vec<Vec<u32>> {
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (member, topics) in self.members.iter().map(|member| &member.topics).enumerate() {
            topics.iter().for_each(|topic| subscribers[*topic as usize].push(member as u32));
        }
        subscribers
    }

    /// Members as range and round-robin count them off: static ones by instance id, then dynamic ones by member id.
    pub(super) fn static_first(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.members.len() as u32).collect();
        order.sort_by_key(|member| {
            let instance = self.members[*member as usize].instance_id.as_deref();
            (instance.is_none(), instance)
        });
        order
    }
}

/// Gathers a [`Group`] from names, in any order.
///
/// ```
/// use milena::assignor::{Assignor, Group, RangeAssignor};
///
/// let mut group = Group::builder();
/// group.topic("orders", 3);
/// group.member("a").subscribe("orders").own("orders", [0, 1, 2]).generation(7);
/// group.member("b").subscribe("orders");
/// let group = group.build()?;
///
/// let assignment = RangeAssignor.assign(&group);
/// let (orders, b) = (group.topic("orders").unwrap(), group.member("b").unwrap());
/// assert_eq!(assignment.partitions(b).iter().collect::<Vec<_>>(), [(orders, &[2][..])]);
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GroupBuilder {
    names: Names,
    topics: Vec<GroupTopic>,
    members: Vec<GroupMember>,
}

/// Topic names by the order in which they were met. Members tend to name the same topics in the same order, so that the next one
/// is guessed before it is looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    list: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
    guess: usize,
}

impl Names {
    fn place(&mut self, name: &str) -> u32 {
        let guess = if self.guess < self.list.len() { self.guess } else { 0 };
        if self.list.get(guess).is_some_and(|guessed| **guessed == *name) {
            self.guess = guess + 1;
            return guess as u32;
        }
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                let (shared, place) = (Arc::<str>::from(name), self.list.len() as u32);
                self.list.push(shared.clone());
                self.places.insert(shared, place);
                place
            }
        };
        self.guess = place as usize + 1;
        place
    }
}

/// Adds to a topic of a [`GroupBuilder`].
#[derive(Debug)]
pub struct TopicEntry<'a>(&'a mut GroupTopic);

impl TopicEntry<'_> {
    /// The racks of the replicas of one partition, those that are down included.
    pub fn racks(self, partition: usize, racks: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        let mut racks: Vec<Arc<str>> = racks.into_iter().map(Into::into).collect();
        racks.sort_unstable();
        racks.dedup();
        if partition < usize::try_from(self.0.partitions).unwrap_or(0) {
            let known = self.0.racks.len().max(partition + 1);
            self.0.racks.resize(known, Vec::new());
            self.0.racks[partition] = racks;
        }
        self
    }
}

/// Adds to a member of a [`GroupBuilder`].
#[derive(Debug)]
pub struct MemberEntry<'a> {
    names: &'a mut Names,
    member: &'a mut GroupMember,
}

impl MemberEntry<'_> {
    /// `group.instance.id`; without it the member is dynamic.
    pub fn instance_id(self, instance_id: impl Into<String>) -> Self {
        self.member.instance_id = Some(instance_id.into());
        self
    }

    /// A topic it subscribes to.
    pub fn subscribe(self, topic: &str) -> Self {
        self.member.topics.push(self.names.place(topic));
        self
    }

    /// Partitions of a topic that it says it holds.
    pub fn own(self, topic: &str, partitions: impl IntoIterator<Item = i32>) -> Self {
        self.member.owned.extend(self.names.place(topic) as usize, partitions);
        self
    }

    /// The generation of what it says it holds; a negative one, and none, mean that it is not known.
    pub fn generation(self, generation: impl Into<Option<i32>>) -> Self {
        self.member.generation = generation.into().filter(|generation| *generation >= 0);
        self
    }

    /// `client.rack`; without it all racks are as good.
    pub fn rack(self, rack: impl Into<Arc<str>>) -> Self {
        self.member.rack = Some(rack.into());
        self
    }

    /// What its assignor sent.
    pub fn user_data(self, user_data: impl Into<Bytes>) -> Self {
        self.member.user_data = Some(user_data.into());
        self
    }
}

impl GroupBuilder {
    /// A topic with its number of partitions. One that is only named by members does not exist.
    pub fn topic(&mut self, name: &str, partitions: i32) -> TopicEntry<'_> {
        let place = self.names.place(name) as usize;
        self.cover();
        self.topics[place].partitions = partitions;
        TopicEntry(&mut self.topics[place])
    }

    /// A member by the id the coordinator knows it by.
    pub fn member(&mut self, member_id: impl Into<String>) -> MemberEntry<'_> {
        let place = self.members.len();
        self.members.push(GroupMember { member_id: member_id.into(), ..GroupMember::default() });
        MemberEntry { names: &mut self.names, member: &mut self.members[place] }
    }

    /// The names of all topics so far.
    pub fn topic_names(&self) -> impl Iterator<Item = &str> {
        self.names.list.iter().map(|name| &**name)
    }

    /// Puts everything in order.
    ///
    /// Of several members with one id, which no coordinator tells of, one counts. Claims of what does not exist are left out.
    ///
    /// # Errors
    ///
    /// Of [`ErrorKind::Config`](crate::ErrorKind::Config): a negative number of partitions, or more than 16,777,216 in all.
    pub fn build(mut self) -> Result<Group> {
        self.cover();
        let Self { names, mut topics, mut members } = self;
        if let Some(topic) = topics.iter().find(|topic| topic.partitions < 0) {
            let (name, count) = (&topic.name, topic.partitions);
            return Err(Error::new(ErrorKind::Config, format!("topic {name} has {count} partitions")));
        }
        let partitions: i64 = topics.iter().map(|topic| i64::from(topic.partitions)).sum();
        if partitions > MOST_PARTITIONS {
            let message = format!("{partitions} partitions in a group; {MOST_PARTITIONS} are the most");
            return Err(Error::new(ErrorKind::Config, message));
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let mut place = vec![0; topics.len()];
        for (new, topic) in topics.iter().enumerate() {
            place[names.places[&topic.name] as usize] = new as u32;
        }
        let in_order = place.is_sorted();
        let counts: Vec<i32> = topics.iter().map(|topic| topic.partitions).collect();
        for member in &mut members {
            if !in_order {
                member.topics.iter_mut().for_each(|topic| *topic = place[*topic as usize]);
            }
            if !member.topics.is_sorted_by(|a, b| a < b) {
                member.topics.sort_unstable();
                member.topics.dedup();
            }
            member.owned = std::mem::take(&mut member.owned).canonical(&place, &counts);
        }
        if !members.is_sorted_by(|a, b| a.member_id < b.member_id) {
            members.sort();
            members.dedup_by(|later, first| later.member_id == first.member_id);
        }
        Ok(Group { topics, members })
    }

    /// An entry for each topic that has a name.
    fn cover(&mut self) {
        let named = self.names.list.iter().skip(self.topics.len());
        self.topics.extend(named.map(|name| GroupTopic {
            name: name.clone(),
            partitions: 0,
            racks: Vec::new(),
        }));
    }
}
