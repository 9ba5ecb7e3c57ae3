//! The group coordinator, request by request.
use super::*;
use crate::broker::cluster::group::OFFSETS_TOPIC;
use crate::protocol::error_code::ErrorCode;

mod admin;
mod classic;
mod consumer;
mod fixed;
mod moving;
mod offsets;
mod timing;

pub(super) const GROUP: &str = "g";
/// The session timeout of members that say nothing else.
pub(super) const SESSION: Duration = Duration::from_secs(10);
/// Their rebalance timeout.
pub(super) const REBALANCE: Duration = Duration::from_secs(60);

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Joins with these protocols; each has its own name as the subscription, and `mark`.
pub(super) fn join_request(
    member: &str,
    instance: Option<&str>,
    protocols: &[&str],
    mark: &str,
) -> JoinGroupRequest {
    let protocol = |name: &&str| {
        join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(format!("{name}{mark}").into())
    };
    JoinGroupRequest::default()
        .with_group_id(id(GROUP))
        .with_session_timeout_ms(SESSION.as_millis() as i32)
        .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.iter().map(protocol).collect())
        .with_reason(None)
}

pub(super) fn sync_request(member: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncGroupRequest {
    let given = |(member, bytes): &(&str, &str)| {
        sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::copy_from_slice(bytes.as_bytes()))
    };
    SyncGroupRequest::default()
        .with_group_id(id(GROUP))
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_group_instance_id(None)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.iter().map(given).collect())
}

impl Rig {
    /// A cluster with a coordinator, and as many connections to it.
    pub(super) fn groups<const N: usize>(config: Config) -> (Self, [ConnectionId; N]) {
        let mut rig = Self::new(config);
        rig.cluster.ensure_offsets_topic(rig.now);
        let node = rig.cluster.coordinator(GROUP).unwrap();
        let connections = [(); N].map(|()| rig.connect(node));
        (rig, connections)
    }

    /// Sends a join of the newest version, and gives the answer if there is one at once.
    pub(super) fn join(
        &mut self,
        connection: ConnectionId,
        request: &JoinGroupRequest,
    ) -> Option<JoinGroupResponse> {
        self.send(connection, 9, request);
        self.answer::<JoinGroupRequest>(connection, 9)
    }

    pub(super) fn joined(&mut self, connection: ConnectionId) -> JoinGroupResponse {
        self.answer::<JoinGroupRequest>(connection, 9).expect("the join phase is over")
    }

    /// The id that a new dynamic member gets.
    pub(super) fn member_id(&mut self, connection: ConnectionId) -> String {
        let response = self.join(connection, &join_request("", None, &["range"], "")).unwrap();
        assert_eq!(ErrorCode::from(response.error_code), ErrorCode::MEMBER_ID_REQUIRED);
        response.member_id.to_string()
    }

    pub(super) fn sync(
        &mut self,
        connection: ConnectionId,
        request: &SyncGroupRequest,
    ) -> Option<(ErrorCode, Bytes)> {
        self.send(connection, 5, request);
        self.synced(connection)
    }

    pub(super) fn synced(&mut self, connection: ConnectionId) -> Option<(ErrorCode, Bytes)> {
        let response = self.answer::<SyncGroupRequest>(connection, 5)?;
        Some((response.error_code.into(), response.assignment))
    }

    pub(super) fn heartbeat(&mut self, connection: ConnectionId, member: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest::default()
            .with_group_id(id(GROUP))
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_group_instance_id(None);
        self.call(connection, 4, &request).error_code.into()
    }

    /// Leaves, and gives the code of the one member.
    pub(super) fn leave(
        &mut self,
        connection: ConnectionId,
        member: &str,
        instance: Option<&str>,
    ) -> ErrorCode {
        let leaving = leave_group_request::MemberIdentity::default()
            .with_member_id(text(member))
            .with_group_instance_id(instance.map(text))
            .with_reason(None);
        let request = LeaveGroupRequest::default().with_group_id(id(GROUP)).with_members(vec![leaving]);
        let response = self.call(connection, 5, &request);
        assert_eq!(response.error_code, 0);
        response.members[0].error_code.into()
    }

    pub(super) fn state(&self) -> &'static str {
        self.cluster.groups.by_id[GROUP].state()
    }

    /// Two members `a` (the leader) and `b` of a stable group, with their assignments `A` and `B`: ids and generation.
    pub(super) fn two(&mut self, [first, second]: [ConnectionId; 2]) -> (String, String, i32) {
        let a = self.member_id(first);
        assert_eq!(self.join(first, &join_request(&a, None, &["range"], "")).unwrap().generation_id, 1);
        let b = self.member_id(second);
        assert!(self.join(second, &join_request(&b, None, &["range"], "")).is_none());
        assert!(self.join(first, &join_request(&a, None, &["range"], "")).unwrap().members.len() == 2);
        let generation = self.joined(second).generation_id;
        assert!(self.sync(second, &sync_request(&b, generation, &[])).is_none());
        let assignments = [(&*a, "A"), (&*b, "B")];
        let synced = self.sync(first, &sync_request(&a, generation, &assignments));
        assert_eq!(synced, Some((ErrorCode::NONE, "A".into())));
        assert_eq!(self.synced(second), Some((ErrorCode::NONE, "B".into())));
        assert_eq!(self.state(), "Stable");
        (a, b, generation)
    }
}
