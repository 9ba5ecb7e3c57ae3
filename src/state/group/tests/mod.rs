//! A member in virtual time: what it asks, what it is answered, what it tells.
mod commits;
mod coordinator;
mod modern;
mod pitfalls;
mod rounds;
mod timers;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    BrokerId, DescribeGroupsResponse, FindCoordinatorResponse, GroupId, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupResponse, OffsetCommitResponse, OffsetFetchResponse, SyncGroupResponse, TopicName,
};
use uuid::Uuid;

use super::*;
use crate::assignor::{Assignor, CooperativeStickyAssignor, RangeAssignor};
use crate::protocol::consumer_protocol::{Assignment, NEWEST, Numbers, Subscription};
use crate::protocol::fetch::text;
use crate::state::backoff::Backoff;
use crate::state::metadata::{Node, Partition, Topic};

const SECOND: Duration = Duration::from_secs(1);

/// A member of group `g`, and what a test knows of it.
struct Trace {
    group: Group,
    now: Instant,
    start: Instant,
    /// Requests that were sent and not answered, oldest first.
    open: Vec<Request>,
    /// What went ahead of a JoinGroup to see whether the connection lives.
    probes: Vec<Request>,
}

fn settings(assignors: Vec<Arc<dyn Assignor>>) -> Settings {
    Settings {
        group: "g".into(),
        instance: None,
        session_timeout: 45 * SECOND,
        heartbeat_interval: 3 * SECOND,
        rebalance_timeout: 300 * SECOND,
        max_poll_interval: 300 * SECOND,
        request_timeout: 30 * SECOND,
        backoff: Backoff { first: Duration::from_millis(100), max: SECOND },
        assignors,
        rack: None,
        protocol: GroupProtocol::Classic,
        remote_assignor: None,
        regex: None,
    }
}

fn eager() -> Settings {
    settings(vec![Arc::new(RangeAssignor)])
}

fn cooperative() -> Settings {
    settings(vec![Arc::new(CooperativeStickyAssignor::default())])
}

fn names(partitions: &[i32]) -> Vec<TopicPartition> {
    partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect()
}

fn topics(topics: &[&str]) -> BTreeSet<Arc<str>> {
    topics.iter().map(|topic| Arc::from(*topic)).collect()
}

/// Tests know topics by their first letter.
fn id_of(topic: &str) -> Uuid {
    Uuid::from_u128(topic.bytes().next().map_or(0, u128::from))
}

fn cluster(counts: &[(&str, usize)]) -> Arc<Cluster> {
    let topic = |(name, count): &(&str, usize)| {
        let partition = Partition {
            leader: Some(1),
            leader_epoch: 0,
            replicas: vec![1],
            in_sync: vec![1],
            error: ErrorCode::NONE,
        };
        let topic = Topic {
            name: (*name).into(),
            id: id_of(name),
            error: if *count == 0 { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { ErrorCode::NONE },
            internal: false,
            partitions: vec![partition; *count],
        };
        (Arc::from(*name), Arc::new(topic))
    };
    let node = Node { id: 1, host: "n".into(), port: 1, rack: None };
    Arc::new(Cluster {
        generation: 1,
        nodes: [(1, node)].into(),
        topics: counts.iter().map(topic).collect(),
        ..Cluster::default()
    })
}

fn assignment(partitions: &[i32]) -> bytes::Bytes {
    let partitions = if partitions.is_empty() { vec![] } else { vec![("t", Numbers::Plain(partitions))] };
    Assignment { partitions, user_data: None }.encode(NEWEST)
}

fn subscription(topics: &[&str], owned: &[i32], generation: i32) -> bytes::Bytes {
    let owned = if owned.is_empty() { vec![] } else { vec![("t", Numbers::Plain(owned))] };
    let generation = Some(generation).filter(|generation| *generation >= 0);
    Subscription { topics: topics.to_vec(), owned, generation, ..Subscription::default() }.encode(NEWEST)
}

fn place(offset: i64) -> Place {
    Place { offset, epoch: 4, metadata: "".into() }
}

impl Trace {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut group = Group::new(now, settings, 7);
        group.handle_metadata(now, &cluster(&[("t", 4)]));
        group.subscribe(now, topics(&["t"]), None);
        Self { group, now, start: now, open: Vec::new(), probes: Vec::new() }
    }

    /// Sends what is due.
    fn poll(&mut self) {
        while let Some(request) = self.group.poll_request(self.now) {
            let probe = matches!(request.what, What::Probe(_));
            if probe { &mut self.probes } else { &mut self.open }.push(request);
        }
    }

    /// What was sent and waits to be answered, by name.
    fn waiting(&mut self) -> Vec<&'static str> {
        self.poll();
        let name = |request: &Request| match request.what {
            What::Find(_) => "find",
            What::Probe(_) => "probe",
            What::Describe(_) => "describe",
            What::Join(_) => "join",
            What::Sync(_) => "sync",
            What::Heartbeat(_) => "heartbeat",
            What::Leave(_) => "leave",
            What::Beat(_) => "beat",
            What::Commit(_) => "commit",
            What::Fetch(_) => "fetch",
        };
        self.open.iter().map(name).collect()
    }

    /// Takes out the oldest request of a kind.
    fn take(&mut self, name: &str) -> Request {
        let waiting = self.waiting();
        let at = waiting.iter().position(|found| *found == name);
        self.open.remove(at.unwrap_or_else(|| panic!("no {name} among {waiting:?}")))
    }

    fn answer(&mut self, request: &Request, answer: Answer) {
        self.group.handle_response(self.now, request.ticket, Ok(answer));
        self.poll();
    }

    fn break_off(&mut self, name: &str) {
        self.end(name, ErrorKind::Connect);
    }

    /// The request was not answered: the connection was lost, or its time passed.
    fn end(&mut self, name: &str, kind: ErrorKind) {
        let request = self.take(name);
        let error = Error::new(kind, "no answer");
        self.group.handle_response(self.now, request.ticket, Err(error));
        self.poll();
    }

    /// Time passes, deadline by deadline.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.group.next_deadline().filter(|at| *at <= until) {
            assert!(at > self.now || !self.open.is_empty() || at >= self.start, "time stands still");
            self.now = self.now.max(at);
            self.group.handle_deadline(self.now);
            self.poll();
            assert!(self.group.next_deadline().is_none_or(|next| next > self.now), "it wakes for nothing");
        }
        self.now = until;
        self.poll();
    }

    fn find(&mut self) {
        self.find_at(1);
    }

    /// Which node was asked.
    fn find_at(&mut self, node: i32) -> Option<i32> {
        let request = self.take("find");
        let found = FindCoordinatorResponse::default().with_node_id(BrokerId(node));
        self.answer(&request, Answer::Find(found));
        request.node
    }

    fn join_as(&mut self, code: ErrorCode, change: impl FnOnce(JoinGroupResponse) -> JoinGroupResponse) {
        let request = self.take("join");
        let What::Join(plan) = &request.what else { unreachable!() };
        let answer = JoinGroupResponse::default()
            .with_error_code(code.code())
            .with_protocol_type(Some("consumer".into()))
            .with_protocol_name(Some(text(&plan.protocols[0].0)));
        self.answer(&request, Answer::Join(change(answer)));
    }

    fn join_fails(&mut self, code: ErrorCode) {
        self.join_as(code, |answer| answer);
    }

    /// As a follower `me`.
    fn joined(&mut self, generation: i32) {
        self.join_as(ErrorCode::NONE, |answer| {
            answer.with_generation_id(generation).with_member_id("me".into()).with_leader("another".into())
        });
    }

    /// As the leader `me` of these members.
    fn leads(&mut self, generation: i32, members: &[(&'static str, bytes::Bytes)]) {
        let member = |(id, metadata): &(&'static str, bytes::Bytes)| {
            JoinGroupResponseMember::default()
                .with_member_id((*id).into())
                .with_group_instance_id(None)
                .with_metadata(metadata.clone())
        };
        let members = members.iter().map(member).collect();
        self.join_as(ErrorCode::NONE, |answer| {
            answer
                .with_generation_id(generation)
                .with_member_id("me".into())
                .with_leader("me".into())
                .with_members(members)
        });
    }

    fn sync_as(&mut self, code: ErrorCode, assignment: bytes::Bytes) {
        let request = self.take("sync");
        let answer = SyncGroupResponse::default()
            .with_error_code(code.code())
            .with_protocol_type(None)
            .with_protocol_name(None)
            .with_assignment(assignment);
        self.answer(&request, Answer::Sync(answer));
    }

    fn synced(&mut self, partitions: &[i32]) {
        self.sync_as(ErrorCode::NONE, assignment(partitions));
    }

    /// The whole group as its coordinator has it, all members subscribed to `t`.
    fn described(&mut self, state: &'static str, members: &[(&'static str, &[i32])]) {
        let request = self.take("describe");
        let member = |(id, partitions): &(&'static str, &[i32])| {
            DescribedGroupMember::default()
                .with_member_id((*id).into())
                .with_member_metadata(subscription(&["t"], &[], -1))
                .with_member_assignment(assignment(partitions))
        };
        let group = DescribedGroup::default()
            .with_group_state(state.into())
            .with_members(members.iter().map(member).collect());
        self.answer(&request, Answer::Describe(DescribeGroupsResponse::default().with_groups(vec![group])));
    }

    fn beats(&mut self, code: ErrorCode) {
        let request = self.take("heartbeat");
        self.answer(&request, Answer::Heartbeat(HeartbeatResponse::default().with_error_code(code.code())));
    }

    /// Answers a commit of one partition.
    fn committed(&mut self, code: ErrorCode) {
        let request = self.take("commit");
        let What::Commit(plan) = &request.what else { unreachable!() };
        let topics = plan.offsets.keys().map(|name| {
            let partition = OffsetCommitResponsePartition::default()
                .with_partition_index(name.partition())
                .with_error_code(code.code());
            OffsetCommitResponseTopic::default()
                .with_name(TopicName(text(name.topic())))
                .with_partitions(vec![partition])
        });
        self.answer(&request, Answer::Commit(OffsetCommitResponse::default().with_topics(topics.collect())));
    }

    /// Answers what is asked about topic `t` with these: partition, offset, code.
    fn fetched(&mut self, code: ErrorCode, entries: &[(i32, i64, ErrorCode)]) {
        let request = self.take("fetch");
        let partition = |(partition, offset, code): &(i32, i64, ErrorCode)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(4)
                .with_error_code(code.code())
        };
        let topic = OffsetFetchResponseTopics::default()
            .with_name(TopicName("t".into()))
            .with_partitions(entries.iter().map(partition).collect());
        let group = OffsetFetchResponseGroup::default()
            .with_group_id(GroupId("g".into()))
            .with_error_code(code.code())
            .with_topics(vec![topic]);
        self.answer(&request, Answer::Fetch(OffsetFetchResponse::default().with_groups(vec![group])));
    }

    /// What it told since the last look, in words.
    fn told(&mut self) -> Vec<String> {
        self.poll();
        let list = |partitions: &[TopicPartition]| {
            partitions.iter().map(|name| format!(" {}", name.partition())).collect::<String>()
        };
        let mut told = Vec::new();
        while let Some(event) = self.group.poll_event() {
            told.extend(match event {
                Event::Topics => None,
                Event::Refresh => Some("refresh".into()),
                Event::Warned(error) => Some(format!("warned {}", error.code().map_or("", ErrorCode::name))),
                Event::Assigned(partitions) => Some(format!("assigned{}", list(&partitions))),
                Event::Revoke(partitions) => Some(format!("revoke{}", list(&partitions))),
                Event::Lost(partitions) => Some(format!("lost{}", list(&partitions))),
                Event::Failed(error) => Some(format!("failed {}", error.code().map_or("", ErrorCode::name))),
                Event::Committed { id, done, error } => {
                    let error = error.map(|error| {
                        let retriable = if error.is_retriable() { " retriable" } else { "" };
                        format!(" {}{retriable}", error.code().map_or("", ErrorCode::name))
                    });
                    Some(format!("commit {id}: {}{}", done.len(), error.unwrap_or_default()))
                }
                Event::Offset(name, found) => Some(match found {
                    Ok(place) => format!("{} at {:?}", name.partition(), place.map(|place| place.offset)),
                    Err(error) => {
                        format!("{}: {}", name.partition(), error.code().map_or("", ErrorCode::name))
                    }
                }),
            });
        }
        self.poll();
        told
    }

    fn revoked(&mut self) {
        self.group.revoked();
        self.poll();
    }

    fn commit(&mut self, id: u64, partition: i32, offset: i64) {
        let offsets = BTreeMap::from([(names(&[partition]).remove(0), place(offset))]);
        self.group.commit(id, offsets, self.now + 30 * SECOND);
        self.poll();
    }

    /// A stable member that owns these.
    fn stable(settings: Settings, partitions: &[i32]) -> Self {
        let mut trace = Self::new(settings);
        trace.find();
        trace.joined(1);
        trace.synced(partitions);
        trace.told();
        assert!(trace.group.is_stable());
        trace
    }

    /// The subscription in the JoinGroup that waits.
    fn subscription(&mut self) -> (Vec<String>, Vec<i32>, Option<i32>, Identity) {
        let request = self.take("join");
        let What::Join(plan) = &request.what else { unreachable!() };
        let (bytes, identity) = (plan.protocols[0].1.clone(), plan.sender.identity.clone());
        let subscription = Subscription::decode(&bytes).unwrap();
        let topics = subscription.topics.iter().map(|topic| (*topic).to_owned()).collect();
        let owned = subscription.owned.iter().flat_map(|(_, numbers)| numbers.iter()).collect();
        let generation = subscription.generation;
        self.open.insert(0, request);
        (topics, owned, generation, identity)
    }
}
