//! What members say to each other: subscriptions read and written, and the assignment that the leader makes of them.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;

use crate::assignor::{Assignor, Group, GroupAssignment};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::consumer_protocol::{Assignment, NEWEST, Numbers, Subscription, TopicNumbers};
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::Cluster;
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

    /// How many partitions the topics have.
    pub(super) fn counts(&self, cluster: &Cluster) -> BTreeMap<Arc<str>, usize> {
        let count = |topic: &Arc<str>| (topic.clone(), partitions(cluster, topic).unwrap_or(0));
        self.topics.iter().map(count).collect()
    }

    /// What each member gets, by its id.
    pub(super) fn assign(
        &self,
        assignor: &dyn Assignor,
        cluster: &Cluster,
    ) -> Result<Vec<(Arc<str>, Bytes)>> {
        let read = |member: &'_ JoinGroupResponseMember| {
            Subscription::decode(&member.metadata).map(|of| of.rack.is_some())
        };
        // Racks are of no use where no member says where it stands.
        let racks = self.members.iter().any(|member| read(member).unwrap_or(false));
        let mut group = Group::builder();
        for topic in &self.topics {
            let count = partitions(cluster, topic).unwrap_or(0);
            let mut entry = group.topic(topic, i32::try_from(count).unwrap_or(i32::MAX));
            if racks {
                for (at, partition) in
                    cluster.topic(topic).iter().flat_map(|topic| topic.partitions.iter().enumerate())
                {
                    let nodes = partition.replicas.iter().filter_map(|node| cluster.nodes.get(node));
                    entry = entry.racks(at, nodes.filter_map(|node| node.rack.clone()));
                }
            }
        }
        for member in &self.members {
            let mut entry = group.member(&*member.member_id);
            if let Some(instance) = &member.group_instance_id {
                entry = entry.instance_id(&**instance);
            }
            let Ok(subscription) = Subscription::decode(&member.metadata) else { continue };
            for topic in subscription.topics {
                entry = entry.subscribe(topic);
            }
            for (topic, numbers) in subscription.owned {
                entry = entry.own(topic, numbers.iter());
            }
            entry = entry.generation(subscription.generation);
            if let Some(rack) = subscription.rack.filter(|rack| !rack.is_empty()) {
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
