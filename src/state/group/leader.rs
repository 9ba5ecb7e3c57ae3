//! What members say to each other: subscriptions read and written, and the assignment that the leader makes of them.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;

use crate::assignor::{Assignor, Group, GroupAssignment};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::consumer_protocol::{Assignment, NEWEST, Numbers, Subscription, TopicNumbers};
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::{Cluster, Partition};
use crate::topic_partition::TopicPartition;

/// The members of a round, as their leader is told of them.
#[derive(Debug)]
pub(super) struct Round {
    members: Vec<JoinGroupResponseMember>,
    /// All topics that members subscribe to.
    pub(super) topics: BTreeSet<Arc<str>>,
    /// The group keeps the assignment that it has.
    pub(super) skip: bool,
}

impl Round {
    pub(super) fn read(group: &str, members: &[JoinGroupResponseMember], skip: bool) -> Self {
        let mut topics = BTreeSet::new();
        for member in members {
            match Subscription::decode(&member.metadata) {
                Ok(subscription) => topics.extend(subscription.topics.into_iter().map(Arc::from)),
                Err(error) => {
                    tracing::warn!(target: "milena::group", group, member = &*member.member_id, %error,
                    "a member's subscription cannot be read: it gets nothing")
                }
            }
        }
        Self { members: members.to_vec(), topics, skip }
    }

    /// Whether all that is known of the topics will be known now.
    pub(super) fn is_known(&self, cluster: &Cluster) -> bool {
        self.topics.iter().all(|topic| partitions(cluster, topic).is_some())
    }

    /// What each member gets, by its id.
    pub(super) fn assign(
        &self,
        assignor: &dyn Assignor,
        cluster: &Cluster,
    ) -> Result<Vec<(Arc<str>, Bytes)>> {
        let mut subscriptions: Vec<_> =
            self.members.iter().map(|member| Subscription::decode(&member.metadata).ok()).collect();
        for subscription in subscriptions.iter_mut().flatten() {
            subscription.rack = subscription.rack.filter(|rack| !rack.is_empty());
        }
        // Racks are of no use where no member says where it stands.
        let racks = subscriptions.iter().flatten().any(|subscription| subscription.rack.is_some());
        let mut group = Group::builder();
        for topic in &self.topics {
            let count = partitions(cluster, topic).unwrap_or(0);
            let mut entry = group.topic(topic, i32::try_from(count).unwrap_or(i32::MAX));
            if racks {
                for (at, partition) in known(cluster, topic).iter().enumerate() {
                    entry = entry.racks(at, racks_of(cluster, partition).cloned());
                }
            }
        }
        for (member, subscription) in self.members.iter().zip(subscriptions) {
            let mut entry = group.member(&*member.member_id);
            if let Some(instance) = &member.group_instance_id {
                entry = entry.instance_id(&**instance);
            }
            let Some(subscription) = subscription else { continue };
            for topic in subscription.topics {
                entry = entry.subscribe(topic);
            }
            for (topic, numbers) in subscription.owned {
                entry = entry.own(topic, numbers.iter());
            }
            entry = entry.generation(subscription.generation);
            if let Some(rack) = subscription.rack {
                entry = entry.rack(rack);
            }
            if let Some(data) = subscription.user_data {
                entry.user_data(member.metadata.slice_ref(data));
            }
        }
        let group = group.build()?;
        let assignment = assignor.assign(&group);
        check(assignor, &group, &assignment)?;
        let members = group.members().iter().enumerate().map(|(at, member)| {
            let topics = group.topics();
            let partitions = assignment.partitions(at).iter();
            let partitions =
                partitions.map(|(topic, numbers)| (&*topics[topic].name, Numbers::Plain(numbers)));
            let user_data = assignment.user_data(at).map(|data| &data[..]);
            let assignment = Assignment { partitions: partitions.collect(), user_data };
            (member.member_id.as_str().into(), assignment.encode(NEWEST))
        });
        Ok(members.collect())
    }
}

/// An assignor is anybody's code: what it hands out is looked at before it is believed.
fn check(assignor: &dyn Assignor, group: &Group, assignment: &GroupAssignment) -> Result<()> {
    let wrong =
        |what: String| Err(Error::new(ErrorKind::Config, format!("the assignor {} {what}", assignor.name())));
    let mut taken: Vec<Vec<bool>> = group
        .topics()
        .iter()
        .map(|topic| vec![false; usize::try_from(topic.partitions).unwrap_or(0)])
        .collect();
    for (at, member) in group.members().iter().enumerate() {
        for (topic, numbers) in assignment.partitions(at).iter() {
            let Some(known) = group.topics().get(topic) else {
                return wrong(format!("gives {} partitions of a topic that there is not", member.member_id));
            };
            let subscribes = u32::try_from(topic).is_ok_and(|topic| member.topics.contains(&topic));
            for number in numbers {
                let slot = usize::try_from(*number).ok().and_then(|number| taken[topic].get_mut(number));
                match slot {
                    Some(taken) if !*taken && subscribes => *taken = true,
                    Some(true) => return wrong(format!("gives {}-{number} to two members", known.name)),
                    Some(_) => {
                        return wrong(format!(
                            "gives {}-{number} to {}, which does not subscribe to it",
                            known.name, member.member_id
                        ));
                    }
                    None => {
                        return wrong(format!("gives away {}-{number}, which does not exist", known.name));
                    }
                }
            }
        }
    }
    Ok(())
}

/// How many partitions a topic has; `None` if nothing is known of it yet.
pub(super) fn partitions(cluster: &Cluster, topic: &str) -> Option<usize> {
    let topic = cluster.topic(topic)?;
    match topic.error {
        // What was known of it may stand beside this.
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Some(0),
        error if topic.partitions.is_empty() && error.is_retriable() => None,
        _ => Some(topic.partitions.len()),
    }
}

/// The partitions of a topic, as far as they are known.
fn known<'a>(cluster: &'a Cluster, topic: &str) -> &'a [Partition] {
    cluster.topic(topic).map_or(&[], |topic| &topic.partitions)
}

/// The racks of a partition's replicas, of those whose nodes are there.
fn racks_of<'a>(cluster: &'a Cluster, partition: &'a Partition) -> impl Iterator<Item = &'a Arc<str>> {
    partition.replicas.iter().filter_map(|node| cluster.nodes.get(node)?.rack.as_ref())
}

/// Whether the nodes of all replicas are known.
fn is_told(cluster: &Cluster, partition: &Partition) -> bool {
    let replicas = &partition.replicas;
    !replicas.is_empty() && replicas.iter().all(|node| cluster.nodes.contains_key(node))
}

/// A topic as it was when a leader gave it out.
#[derive(Debug)]
pub(super) struct Layout {
    count: usize,
    /// For each partition the racks of its replicas, `None` if a node of theirs was away; empty if racks do not matter.
    racks: Vec<Option<BTreeSet<Arc<str>>>>,
}

impl Layout {
    /// As the topics are now.
    pub(super) fn of(
        topics: &BTreeSet<Arc<str>>,
        cluster: &Cluster,
        racks: bool,
    ) -> BTreeMap<Arc<str>, Self> {
        let layout = |topic: &Arc<str>| {
            let partitions = known(cluster, topic).iter().filter(|_| racks);
            let racks = partitions.map(|partition| {
                is_told(cluster, partition).then(|| racks_of(cluster, partition).cloned().collect())
            });
            let racks = racks.collect();
            (topic.clone(), Self { count: self::partitions(cluster, topic).unwrap_or(0), racks })
        };
        topics.iter().map(layout).collect()
    }

    /// Whether the topic is another now; `Some(false)` if it is not there, which may be for a moment only.
    pub(super) fn change(&self, cluster: &Cluster, topic: &str) -> Option<bool> {
        let count = partitions(cluster, topic)?;
        let moved = |(before, partition): (&Option<BTreeSet<Arc<str>>>, &Partition)| {
            // A node that is away is still where it was, wherever that is (KAFKA-20778), and one that is back is no news.
            let Some(before) = before else { return false };
            racks_of(cluster, partition).any(|rack| !before.contains(rack))
                || is_told(cluster, partition)
                    && before.iter().any(|rack| racks_of(cluster, partition).all(|now| now != rack))
        };
        let moved = || self.racks.iter().zip(known(cluster, topic)).any(moved);
        (count != self.count || moved()).then_some(count > 0)
    }
}

/// Partitions by topic, as messages name them.
pub(super) struct ByTopic<'a>(Vec<(&'a str, Vec<i32>)>);

impl<'a> ByTopic<'a> {
    pub(super) fn new(partitions: &'a BTreeSet<TopicPartition>) -> Self {
        let mut topics: Vec<(&str, Vec<i32>)> = Vec::new();
        for partition in partitions {
            match topics.last_mut().filter(|(topic, _)| *topic == partition.topic()) {
                Some((_, numbers)) => numbers.push(partition.partition()),
                None => topics.push((partition.topic(), vec![partition.partition()])),
            }
        }
        Self(topics)
    }

    pub(super) fn slices(&self) -> Vec<(&str, &[i32])> {
        self.0.iter().map(|(topic, numbers)| (*topic, &numbers[..])).collect()
    }
}

/// What this member tells the leader. The same things are the same bytes: others are a reason for a round.
pub(super) fn subscription(
    assignor: &dyn Assignor,
    topics: &BTreeSet<Arc<str>>,
    held: (&BTreeSet<TopicPartition>, Option<i32>),
    cooperative: bool,
    rack: Option<&str>,
) -> Bytes {
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let (held, generation) = held;
    let held = ByTopic::new(held);
    let held = held.slices();
    let user_data = assignor.user_data(&topics, &held, generation);
    let owned: TopicNumbers<'_> = match cooperative {
        true => held.iter().map(|(topic, numbers)| (*topic, Numbers::Plain(numbers))).collect(),
        // Under the eager protocol nobody holds anything while the group is joined.
        false => Vec::new(),
    };
    Subscription { topics, user_data: user_data.as_deref(), owned, generation, rack }.encode(NEWEST)
}

/// What this member is given, and the bytes for its assignor.
pub(super) fn assignment(bytes: &Bytes, group: &str) -> Result<(BTreeSet<TopicPartition>, Option<Bytes>)> {
    let malformed = |what: String| {
        let message = format!("the leader of group {group} sent an assignment that cannot be read: {what}");
        Error::new(ErrorKind::Protocol, message).in_api("SyncGroup")
    };
    if bytes.is_empty() {
        tracing::warn!(target: "milena::group", group, "the leader left this member out: it gets nothing");
    }
    let read = Assignment::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    let mut assigned = BTreeSet::new();
    for (topic, numbers) in read.partitions {
        let topic: Arc<str> = topic.into();
        for number in numbers.iter() {
            if number < 0 {
                return Err(malformed(format!("partition {number} of {topic}")));
            }
            assigned.insert(TopicPartition::new(topic.clone(), number));
        }
    }
    Ok((assigned, read.user_data.map(|data| bytes.slice_ref(data))))
}
