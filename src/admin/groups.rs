//! Groups: which there are, who is in them, where they stand.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::consumer_group_describe_response as modern;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DescribeGroupsRequest,
    DescribeGroupsResponse, GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
};

use super::types::{text, topic_name};
use super::{API_TIMEOUT, Admin};
use crate::client::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::Purpose;
use crate::network::link::now;
use crate::protocol::consumer_protocol::Assignment;
use crate::protocol::error_code::ErrorCode;
use crate::state::group::{CommitPlan, CommittedOffset, Identity, PROTOCOL_TYPE, Place, Sender};
use crate::topic_partition::TopicPartition;

/// A group that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// `consumer`, `connect` and so on; empty for a group that has only committed offsets.
    pub protocol_type: String,
    /// `Stable`, `Empty`, `PreparingRebalance` and so on, as Kafka calls it; empty before Kafka 2.6.
    pub state: String,
    /// `classic` or `consumer` (KIP-848), as Kafka calls it; empty before Kafka 4.0.
    pub group_type: String,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// As in [`GroupListing::state`].
    pub state: String,
    /// As in [`GroupListing::protocol_type`].
    pub protocol_type: String,
    /// `classic` or `consumer` (KIP-848), whichever the node.
    pub group_type: String,
    /// The name of the assignor that is used, of a group of type `consumer` the coordinator's; empty while there is none.
    pub assignor: String,
    /// Sorted by id.
    pub members: Vec<GroupMemberDescription>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMemberDescription {
    /// The id that the coordinator gave it.
    pub id: String,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it was given to read, sorted; empty while the group of type `classic` rebalances, and for groups that are not of consumers.
    pub assignment: Vec<TopicPartition>,
    /// What it is to read once others have given it up, sorted; `None` in a group of type `classic`.
    pub target_assignment: Option<Vec<TopicPartition>>,
}

impl GroupMemberDescription {
    fn of_classic(member: &DescribedGroupMember) -> Self {
        let read = Assignment::decode(&member.member_assignment).unwrap_or_default();
        Self {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assignment: sorted(read.partitions.iter().map(|(topic, numbers)| (*topic, numbers.iter()))),
            target_assignment: None,
        }
    }

    fn of_modern(member: &modern::Member) -> Self {
        let read = |assignment: &modern::Assignment| {
            let topics = assignment.topic_partitions.iter();
            sorted(topics.map(|topic| (&*topic.topic_name.0, topic.partitions.iter().copied())))
        };
        Self {
            id: member.member_id.to_string(),
            instance_id: member.instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assignment: read(&member.assignment),
            target_assignment: Some(read(&member.target_assignment)),
        }
    }
}

fn sorted<'a>(topics: impl Iterator<Item = (&'a str, impl Iterator<Item = i32>)>) -> Vec<TopicPartition> {
    let partitions =
        topics.flat_map(|(topic, numbers)| numbers.map(move |number| TopicPartition::new(topic, number)));
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_unstable();
    partitions
}

fn by_id(members: impl Iterator<Item = GroupMemberDescription>) -> Vec<GroupMemberDescription> {
    let mut members: Vec<_> = members.collect();
    members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    members
}

/// Groups are known by their ids; each is asked for at its coordinator.
impl Admin {
    /// All groups that this client may see, by id: each node tells of those that it coordinates.
    ///
    /// Fails if a node cannot be asked, since its groups would be missing.
    ///
    /// Cancel safe: it only looks.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("orders", 1);
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// let admin = client.admin();
    /// admin.alter_group_offsets("billing", [(("orders", 0), 0)]).await?;
    /// for group in admin.list_groups().await? {
    ///     let members = admin.describe_group(&group.id).await?.members;
    ///     println!("{} has {} members and stands at {:?}", group.id, members.len(), admin.group_offsets(&group.id).await?);
    /// }
    /// admin.delete_groups(["billing"]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let core = self.client.core();
        let (until, mut failures) = (now() + API_TIMEOUT, 0);
        let mut groups: BTreeMap<String, GroupListing> = BTreeMap::new();
        let mut nodes: Vec<i32> = core.cluster().nodes.keys().copied().collect();
        while let Some(node) = nodes.last().copied() {
            let answer = core.call(Target::Node(node), Purpose::Rest, |_| ListGroupsRequest::default()).await;
            let listed = answer.and_then(|answer| match ErrorCode::from(answer.error_code) {
                ErrorCode::NONE => Ok(answer.groups),
                code => Err(Error::broker(code, "groups cannot be listed")),
            });
            match listed {
                Ok(listed) => {
                    nodes.pop();
                    groups.extend(listed.iter().map(|group| {
                        let listing = GroupListing {
                            id: group.group_id.to_string(),
                            protocol_type: group.protocol_type.to_string(),
                            state: group.group_state.to_string(),
                            group_type: group.group_type.to_string(),
                        };
                        (listing.id.clone(), listing)
                    }));
                }
                Err(error) if error.is_retriable() && self.wait(&mut failures, until).await => {
                    // One that is gone coordinates nothing.
                    let cluster = core.cluster();
                    nodes.retain(|node| cluster.nodes.contains_key(node));
                }
                Err(error) => return Err(error.in_api("ListGroups")),
            }
        }
        Ok(groups.into_values().collect())
    }

    /// A group and its members, by whichever protocol they are in it.
    ///
    /// Fails with `GROUP_ID_NOT_FOUND` if there is none.
    ///
    /// Cancel safe: it only looks.
    pub async fn describe_group(&self, id: &str) -> Result<GroupDescription> {
        let until = now() + API_TIMEOUT;
        match self.describe_modern(id).await {
            // A classic one, or a node that does not know the other kind, or has it switched off.
            Err(error)
                if error.kind() == ErrorKind::Unsupported
                    || [ErrorCode::GROUP_ID_NOT_FOUND, ErrorCode::UNSUPPORTED_VERSION]
                        .map(Some)
                        .contains(&error.code()) =>
            {
                self.describe_classic(id, until.saturating_duration_since(now())).await
            }
            described => described,
        }
    }

    /// Of the consumer protocol (KIP-848).
    async fn describe_modern(&self, id: &str) -> Result<GroupDescription> {
        let name = GroupId(text(id));
        let build = move |_| ConsumerGroupDescribeRequest::default().with_group_ids(vec![name.clone()]);
        let judge = |answer: ConsumerGroupDescribeResponse| {
            let group = answer.groups.into_iter().next().ok_or_else(left_out)?;
            done(group.error_code, || undescribed(id))?;
            Ok(GroupDescription {
                id: group.group_id.to_string(),
                state: group.group_state.to_string(),
                protocol_type: PROTOCOL_TYPE.to_owned(),
                group_type: "consumer".to_owned(),
                assignor: group.assignor_name.to_string(),
                members: by_id(group.members.iter().map(GroupMemberDescription::of_modern)),
            })
        };
        self.client.core().ask_coordinator(&id.into(), API_TIMEOUT, build, judge).await
    }

    async fn describe_classic(&self, id: &str, limit: Duration) -> Result<GroupDescription> {
        let name = GroupId(text(id));
        let build = move |_| DescribeGroupsRequest::default().with_groups(vec![name.clone()]);
        let judge = |answer: DescribeGroupsResponse| {
            let group = answer.groups.into_iter().next().ok_or_else(left_out)?;
            let code = match ErrorCode::from(group.error_code) {
                // Before version 6 a group that there is not is a dead one.
                ErrorCode::NONE if &*group.group_state == "Dead" => ErrorCode::GROUP_ID_NOT_FOUND,
                code => code,
            };
            done(code.code(), || undescribed(id))?;
            Ok(GroupDescription {
                id: group.group_id.to_string(),
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
                group_type: "classic".to_owned(),
                assignor: group.protocol_data.to_string(),
                members: by_id(group.members.iter().map(GroupMemberDescription::of_classic)),
            })
        };
        self.client.core().ask_coordinator(&id.into(), limit, build, judge).await
    }

    /// Deletes groups, with what they have committed.
    ///
    /// Fails with `NON_EMPTY_GROUP` if one has members, and with `GROUP_ID_NOT_FOUND` if there is none; those before it are deleted.
    ///
    /// Cancel safe: they may be deleted all the same.
    pub async fn delete_groups<T: AsRef<str>>(&self, ids: impl IntoIterator<Item = T>) -> Result<()> {
        let ids: Vec<Arc<str>> = ids.into_iter().map(|id| id.as_ref().into()).collect();
        for id in ids {
            let name = GroupId(text(&id));
            let build = move |_| DeleteGroupsRequest::default().with_groups_names(vec![name.clone()]);
            let judge = |answer: kafka_protocol::messages::DeleteGroupsResponse| {
                let result = answer.results.first().ok_or_else(left_out)?;
                done(result.error_code, || format!("the group {id} was not deleted"))
            };
            self.client
                .core()
                .ask_coordinator::<DeleteGroupsRequest, _>(&id, API_TIMEOUT, build, judge)
                .await?;
        }
        Ok(())
    }

    /// What a group has committed; nothing, if there is no such group. Offsets that open transactions are about to replace are waited for.
    ///
    /// Cancel safe: it only looks.
    pub async fn group_offsets(&self, id: &str) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        let found = self.client.core().group_offsets(&id.into(), None, API_TIMEOUT).await?;
        let found = found.into_iter().filter_map(|(name, place)| Some((name, CommittedOffset::from(place?))));
        Ok(found.collect())
    }

    /// Sets where a group stands in these partitions, forward or back. The group is made if there is none.
    ///
    /// Fails with `UNKNOWN_MEMBER_ID` while the group has members, who would commit over it.
    ///
    /// Cancel safe: they may be set all the same.
    pub async fn alter_group_offsets(
        &self,
        id: &str,
        offsets: impl IntoIterator<Item = (impl Into<TopicPartition>, impl Into<CommittedOffset>)>,
    ) -> Result<()> {
        let group: Arc<str> = id.into();
        let offsets = offsets.into_iter().map(|(name, offset)| (name.into(), Place::from(offset.into())));
        let sender = Sender { group: group.clone(), instance: None, identity: Identity::none() };
        let plan = CommitPlan { sender, offsets: offsets.collect() };
        if plan.offsets.is_empty() {
            return Ok(());
        }
        let build = move |version| plan.request(version);
        let judge = |answer: kafka_protocol::messages::OffsetCommitResponse| {
            let results = answer.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|of| (&*topic.name.0, of.partition_index, of.error_code))
            });
            each(results, "the offset was not set")
        };
        self.client.core().ask_coordinator::<OffsetCommitRequest, _>(&group, API_TIMEOUT, build, judge).await
    }

    /// Forgets where a group stands in these partitions.
    ///
    /// Fails with `GROUP_SUBSCRIBED_TO_TOPIC` where members read the topic, and with `GROUP_ID_NOT_FOUND` if there is no group.
    ///
    /// Cancel safe: they may be deleted all the same.
    pub async fn delete_group_offsets(
        &self,
        id: &str,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> Result<()> {
        let group: Arc<str> = id.into();
        let name = GroupId(text(id));
        let mut topics: BTreeMap<String, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for partition in partitions.into_iter().map(Into::into) {
            let entry = OffsetDeleteRequestPartition::default().with_partition_index(partition.partition());
            topics.entry(partition.topic().to_owned()).or_default().push(entry);
        }
        let topic = |(name, partitions): (String, _)| {
            OffsetDeleteRequestTopic::default().with_name(topic_name(&name)).with_partitions(partitions)
        };
        let topics: Vec<_> = topics.into_iter().map(topic).collect();
        let build =
            move |_| OffsetDeleteRequest::default().with_group_id(name.clone()).with_topics(topics.clone());
        let judge = |answer: kafka_protocol::messages::OffsetDeleteResponse| {
            done(answer.error_code, || format!("no offset of the group {id} was deleted"))?;
            let results = answer.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|of| (&*topic.name.0, of.partition_index, of.error_code))
            });
            each(results, "the offset was not deleted")
        };
        self.client.core().ask_coordinator::<OffsetDeleteRequest, _>(&group, API_TIMEOUT, build, judge).await
    }
}

fn left_out() -> Error {
    Error::new(ErrorKind::Protocol, "the answer leaves out the group that was asked about")
}

fn undescribed(id: &str) -> String {
    format!("the group {id} cannot be described")
}

fn done(code: i16, what: impl FnOnce() -> String) -> Result<()> {
    match ErrorCode::from(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(Error::broker(code, what())),
    }
}

/// The first partition with an error.
fn each<'a>(mut results: impl Iterator<Item = (&'a str, i32, i16)>, what: &str) -> Result<()> {
    results.try_for_each(|(topic, partition, code)| {
        done(code, || what.to_owned()).map_err(|error| error.on_partition(topic, partition))
    })
}
