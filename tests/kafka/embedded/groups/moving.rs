//! Coordinators that move while groups are in the middle of something.
use uuid::Uuid;

use super::consumer::{beat, joins};
use super::*;

/// How many partitions the offsets topic of the real cluster has.
const PARTITIONS: i32 = 4;

/// The partition of the offsets topic that a group belongs to.
pub fn partition_of(group: &str) -> i32 {
    let hash = group.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    hash.checked_abs().unwrap_or(0) % PARTITIONS
}

/// One of the two clusters: the ports of its nodes, and how a group is given to another node.
pub struct Moves<'a> {
    pub ports: Vec<u16>,
    pub to: &'a dyn Fn(&str, i32),
    pub topic: &'a str,
    lines: Vec<String>,
}

impl<'a> Moves<'a> {
    pub fn play(ports: Vec<u16>, topic: &'a str, to: &'a dyn Fn(&str, i32)) -> Vec<String> {
        let mut moves = Self { ports, to, topic, lines: Vec::new() };
        moves.classic();
        moves.consumer();
        moves.lines
    }

    fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// A connection to the node that keeps a group, once it answers for it.
    fn coordinator(&self, group: &str) -> (i32, Connection) {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        crate::support::kafka::wait_for("a coordinator", SOON, || {
            let mut any = Connection::open(self.ports[0]);
            let found = any.call(4, &request).coordinators.remove(0);
            if found.error_code != 0 {
                return Err(found.error_code.to_string());
            }
            let mut connection = Connection::open(self.ports[found.node_id.0 as usize - 1]);
            let described = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
            match connection.call(6, &described).groups[0].error_code {
                14..=16 => Err("not yet".to_owned()),
                _ => Ok((found.node_id.0, connection)),
            }
        })
    }

    /// Gives the group to the next node: a connection to that.
    fn moved(&self, group: &str) -> Connection {
        let (node, _) = self.coordinator(group);
        let next = node % 3 + 1;
        (self.to)(group, next);
        crate::support::kafka::wait_for("a moved coordinator", SOON, || match self.coordinator(group) {
            (node, connection) if node == next => Ok(connection),
            (node, _) => Err(format!("still {node}")),
        })
    }

    fn state(&mut self, label: &str, connection: &mut Connection, group: &str) {
        let request = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
        let found = connection.call(6, &request).groups.remove(0);
        self.say(format!("{label}: {} {} members", found.group_state, found.members.len()));
    }

    fn until(&self, connection: &mut Connection, group: &str, state: &str) {
        let request = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
        crate::support::kafka::wait_for(state, SOON, || {
            let found = connection.call(6, &request).groups.remove(0);
            if &*found.group_state == state { Ok(()) } else { Err(found.group_state.to_string()) }
        });
    }

    fn synced(&mut self, label: &str, answer: &SyncGroupResponse) {
        self.say(format!("{label}: {} {:?}", answer.error_code, answer.assignment));
    }

    fn classic(&mut self) {
        let group = "embedded-moves";
        let topic = self.topic;
        let again = |connection: &Connection| connection.again();
        let (_, mut first) = self.coordinator(group);
        let mut second = again(&first);
        let mut ids = Ids::default();
        let range = [("range", topic)];
        let a = first.call(9, &join(group, "", None, &range)).member_id.to_string();
        first.call(9, &join(group, &a, None, &range));
        first.call(5, &sync(group, &a, 1, &[(&a, "A")]));
        let b = second.call(9, &join(group, "", None, &range)).member_id.to_string();
        second.send(9, &join(group, &b, None, &range));
        self.until(&mut first, group, "PreparingRebalance");
        first.call(9, &join(group, &a, None, &range));
        second.receive::<JoinGroupRequest>(9);
        first.call(5, &sync(group, &a, 2, &[(&a, "A"), (&b, "B")]));
        second.call(5, &sync(group, &b, 2, &[]));
        self.state("stable", &mut first, group);

        second.send(9, &join(group, &b, None, &[("range", "other")]));
        self.until(&mut first, group, "PreparingRebalance");
        let mut new = self.moved(group);
        let answer = second.receive::<JoinGroupRequest>(9);
        self.say(format!("a join was parked: {}", ids.joined(&answer)));
        let code = first.call(4, &heartbeat(group, &a, 2)).error_code;
        self.say(format!("heartbeat at the old one: {code}"));
        let answer = first.call(5, &sync(group, &a, 2, &[]));
        self.synced("sync at the old one", &answer);
        let answer = first.call(9, &join(group, &a, None, &range));
        self.say(format!("join at the old one: {} {:?}", answer.error_code, answer.member_id.is_empty()));
        for (name, member) in [("a", &a), ("b", &b)] {
            let code = new.call(4, &heartbeat(group, member, 2)).error_code;
            self.say(format!("heartbeat of {name} at the new one: {code}"));
            let answer = new.call(5, &sync(group, member, 2, &[]));
            self.synced("sync at the new one", &answer);
        }

        // A generation without its assignment is lost, and so is an id that was only given out.
        let (mut first, mut second, mut third) = (again(&new), again(&new), again(&new));
        second.send(9, &join(group, &b, None, &[("range", "other")]));
        self.until(&mut new, group, "PreparingRebalance");
        first.call(9, &join(group, &a, None, &range));
        let answer = second.receive::<JoinGroupRequest>(9);
        self.say(format!("next generation: {}", answer.generation_id));
        second.send(5, &sync(group, &b, 3, &[]));
        let c = third.call(9, &join(group, "", None, &range)).member_id.to_string();
        let mut new = self.moved(group);
        let answer = second.receive::<SyncGroupRequest>(5);
        self.synced("a sync was parked", &answer);
        for generation in [2, 3] {
            let answer = new.call(5, &sync(group, &a, generation, &[]));
            self.synced("sync after that", &answer);
        }
        let answer = new.call(9, &join(group, &c, None, &range));
        self.say(format!("join with an id that was given out: {}", answer.error_code));
        let request = LeaveGroupRequest::default().with_group_id(id(group)).with_members(
            [a, b]
                .iter()
                .map(|member| {
                    let one = leave_group_request::MemberIdentity::default().with_group_instance_id(None);
                    one.with_member_id(text(member)).with_reason(None)
                })
                .collect(),
        );
        new.call(5, &request);
        self.state("left", &mut new, group);
        let mut new = self.moved(group);
        // What Kafka describes lags behind what it loaded; what it checks does not.
        let partition = offset_commit_request::OffsetCommitRequestPartition::default();
        let committed = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition.with_committed_offset(7).with_committed_leader_epoch(-1)]);
        let commit = OffsetCommitRequest::default()
            .with_group_id(id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_group_instance_id(None)
            .with_topics(vec![committed]);
        let code = new.call(9, &commit).topics[0].partitions[0].error_code;
        self.say(format!("committed while empty: {code}"));
        let mut new = self.moved(group);
        let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(id(group))
            .with_member_id(None)
            .with_member_epoch(-1)
            .with_topics(None);
        let fetch = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
        let found = new.call(9, &fetch).groups.remove(0);
        let offsets: Vec<_> = found.topics.iter().map(|topic| topic.partitions[0].committed_offset).collect();
        self.say(format!("offsets after a move: {} {offsets:?}", found.error_code));
    }

    fn beaten(
        &mut self,
        label: &str,
        connection: &mut Connection,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Vec<(Uuid, Vec<i32>)> {
        let answer = connection.call(1, request);
        let assigned = answer.assignment.map(|assigned| assigned.topic_partitions);
        let assigned = assigned
            .map(|topics| topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect());
        let count = assigned
            .as_ref()
            .map(|topics: &Vec<(Uuid, Vec<i32>)>| topics.iter().map(|(_, all)| all.len()).sum::<usize>());
        self.say(format!(
            "{label}: {} epoch {} {count:?} partitions",
            answer.error_code, answer.member_epoch
        ));
        assigned.unwrap_or_default()
    }

    fn consumer(&mut self) {
        let group = "embedded-moves-848";
        let topic = self.topic;
        let (_, mut first) = self.coordinator(group);
        self.beaten("a joins", &mut first, &joins(group, "a", &[topic]));
        self.beaten("b joins", &mut first, &joins(group, "b", &[topic]));
        let kept = self.beaten("a has to revoke", &mut first, &beat(group, "a", 2));
        let mut new = self.moved(group);
        self.beaten("a at the old one", &mut first, &beat(group, "a", 2));
        self.beaten("b waits", &mut new, &beat(group, "b", 3));
        self.beaten("a has not revoked", &mut new, &beat(group, "a", 2));
        let owned = kept.into_iter().map(|(topic, partitions)| {
            consumer_group_heartbeat_request::TopicPartitions::default()
                .with_topic_id(topic)
                .with_partitions(partitions)
        });
        let revoked = beat(group, "a", 2).with_topic_partitions(Some(owned.collect()));
        self.beaten("a revoked", &mut new, &revoked);
        self.beaten("b gets", &mut new, &beat(group, "b", 3));
        let mut new = self.moved(group);
        self.beaten("b leaves", &mut new, &beat(group, "b", -1));
        self.beaten("a gets", &mut new, &beat(group, "a", 3));
    }
}
