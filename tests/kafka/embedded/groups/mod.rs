//! Consumer groups: membership, offsets, administration.
mod admin;
mod classic;
mod offsets;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::script::{Play, TOPIC, name};
use super::wire::Connection;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// A subscription to one topic, as consumers write it: version 0.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend(topic.as_bytes());
    bytes.extend([0xff; 4]);
    bytes.into()
}

fn join(group: &str, member: &str, instance: Option<&str>, protocols: &[(&str, &str)]) -> JoinGroupRequest {
    let protocol = |(name, topic): &(&str, &str)| {
        join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(subscription(topic))
    };
    JoinGroupRequest::default()
        .with_group_id(id(group))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.iter().map(protocol).collect())
        .with_reason(None)
}

fn sync(group: &str, member: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncGroupRequest {
    let given = |(member, bytes): &(&str, &str)| {
        sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::copy_from_slice(bytes.as_bytes()))
    };
    SyncGroupRequest::default()
        .with_group_id(id(group))
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_group_instance_id(None)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.iter().map(given).collect())
}

fn heartbeat(group: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(id(group))
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_group_instance_id(None)
}

/// Ids that each cluster makes up, by the order in which they came up.
#[derive(Default)]
struct Ids(Vec<String>);

impl Ids {
    fn name(&mut self, id: &str) -> String {
        if id.is_empty() {
            return "nobody".to_owned();
        }
        let at = self.0.iter().position(|known| known == id).unwrap_or_else(|| {
            self.0.push(id.to_owned());
            self.0.len() - 1
        });
        format!("m{at}")
    }

    fn joined(&mut self, answer: &JoinGroupResponse) -> String {
        let mut members: Vec<_> = answer
            .members
            .iter()
            .map(|member| {
                (self.name(&member.member_id), member.group_instance_id.clone(), member.metadata.len())
            })
            .collect();
        members.sort();
        format!(
            "{} generation {} {:?} {:?} leader {} member {} {members:?} skip {}",
            answer.error_code,
            answer.generation_id,
            answer.protocol_type.as_deref(),
            answer.protocol_name.as_deref(),
            self.name(&answer.leader),
            self.name(&answer.member_id),
            answer.skip_assignment
        )
    }
}

impl Play {
    pub(super) fn groups(&mut self) {
        self.coordinators();
        self.every_version();
        self.two_members();
        self.static_members();
        self.wrong_joins();
        self.commits();
        self.fetches();
        self.administration();
    }

    fn open(&self) -> Connection {
        Connection::open(self.port)
    }

    fn synced(&mut self, label: &str, answer: &SyncGroupResponse) {
        self.say(format!(
            "{label}: {} {:?} {:?} {:?}",
            answer.error_code, answer.protocol_type, answer.protocol_name, answer.assignment
        ));
    }

    /// Waits until a group is in a state: requests on other connections overtake each other.
    fn until(&mut self, group: &str, state: &str) {
        let request = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
        crate::support::kafka::wait_for(state, super::super::LONGEST, || {
            let group = self.connection.call(5, &request).groups.remove(0);
            if &*group.group_state == state { Ok(()) } else { Err(group.group_state.to_string()) }
        });
    }
}
