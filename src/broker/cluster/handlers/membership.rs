//! JoinGroup 0-9, SyncGroup 0-5, Heartbeat 0-4, LeaveGroup 0-5: the classic protocol.
//!
//! JoinGroup: 1 added the rebalance timeout, 4 the id that is given out first, 5 the instance id, 7 the protocol type in
//! answers, 9 the assignment to skip. SyncGroup: 3 instance id, 5 protocol type and name. Heartbeat: 3 instance id.
//! LeaveGroup: 3 many members at once.
use std::sync::Arc;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::group::classic::{Terms, refused_join, refused_sync};
use super::super::group::joining::Arrival;
use super::super::group::{Answers, Group, Members};
use super::super::{Call, Cluster, Reply};
use super::Handle;
use crate::protocol::error_code::ErrorCode;

/// The first version of SyncGroup that must say which protocol it is about.
const NAMES_PROTOCOL: i16 = 5;

/// Whether this node serves a group, unless a fault says otherwise.
pub(super) fn check(cluster: &Cluster, call: &Call, group: &str) -> Result<(), ErrorCode> {
    if let Some(code) = call.injected_at_all() {
        return Err(code);
    }
    if group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    cluster.check_writable(call, group)
}

pub(super) fn named(group: &GroupId) -> Vec<Arc<str>> {
    vec![Arc::from(group.as_str())]
}

impl Handle for JoinGroupRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        named(&self.group_id)
    }

    fn handle(mut self, cluster: &mut Cluster, call: &Call) -> Reply<JoinGroupResponse> {
        let (least, most) = cluster.config.session_timeouts;
        let session = super::super::millis(self.session_timeout_ms);
        let checked = match check(cluster, call, &self.group_id) {
            Ok(()) if !(least..=most).contains(&session) => Err(ErrorCode::INVALID_SESSION_TIMEOUT),
            Ok(()) => admits(cluster, &self),
            refused => refused,
        };
        if let Err(code) = checked {
            let mut response = refused_join(self.member_id, code).with_throttle_time_ms(call.throttle_ms());
            if call.version < 7 {
                response.protocol_name = Some(StrBytes::default());
            }
            return Reply::Now(response);
        }
        if call.version == 0 {
            self.rebalance_timeout_ms = self.session_timeout_ms;
        }
        let fresh = cluster.new_member_id(self.group_instance_id.as_deref().unwrap_or(&call.client));
        let arrival = Arrival {
            now: call.now,
            connection: call.connection,
            version: call.version,
            client: call.client.clone(),
            fresh: StrBytes::from_string(fresh),
        };
        let terms = cluster.join_terms();
        cluster.park_for_group(call);
        cluster.with_group(call.now, &self.group_id, |group, out| {
            if let Some(group) = group.classic_mut() {
                group.join(&arrival, &self, terms, out);
            }
        });
        Reply::Later
    }
}

/// Whether there is, or can be, a classic group for this member to join.
fn admits(cluster: &mut Cluster, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
    let Some(group) = cluster.groups.by_id.get_mut(request.group_id.as_str()) else {
        return if request.member_id.is_empty() { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) };
    };
    match group.consumer() {
        Some(_) if !group.is_empty() => Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        Some(_) if !request.member_id.is_empty() => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        Some(_) => {
            group.members = Members::default();
            Ok(())
        }
        None => Ok(()),
    }
}

impl Handle for SyncGroupRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        named(&self.group_id)
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<SyncGroupResponse> {
        let named =
            call.version < NAMES_PROTOCOL || self.protocol_type.is_some() && self.protocol_name.is_some();
        let checked = match named {
            true => check(cluster, call, &self.group_id).and_then(|()| known(cluster, &self.group_id)),
            false => Err(call.injected_at_all().unwrap_or(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)),
        };
        if let Err(code) = checked {
            return Reply::Now(refused_sync(code).with_throttle_time_ms(call.throttle_ms()));
        }
        cluster.park_for_group(call);
        cluster.with_group(call.now, &self.group_id, |group, out| {
            if let Some(group) = group.classic_mut() {
                group.sync(call.now, call.connection, &self, out);
            }
        });
        Reply::Later
    }
}

fn known(cluster: &Cluster, group: &str) -> Result<(), ErrorCode> {
    cluster.groups.get(group).and_then(Group::classic).map(drop).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
}

impl Handle for HeartbeatRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        named(&self.group_id)
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<HeartbeatResponse> {
        let checked = match check(cluster, call, &self.group_id) {
            // A node that is cut off goes on from memory.
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) if cluster.groups.cut_off => Ok(()),
            checked => checked,
        };
        let heard = checked.and_then(|()| known(cluster, &self.group_id)).and_then(|()| {
            cluster.with_group(call.now, &self.group_id, |group, _| match group.classic_mut() {
                Some(group) => group.heartbeat(call.now, &self),
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            })
        });
        let code = match heard {
            // Nothing is known yet, so nobody is turned away.
            Ok(()) | Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) if call.injected_at_all().is_none() => 0,
            Ok(()) => 0,
            Err(code) => code.code(),
        };
        let response = HeartbeatResponse::default().with_throttle_time_ms(call.throttle_ms());
        Reply::Now(response.with_error_code(code))
    }
}

impl Handle for LeaveGroupRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        named(&self.group_id)
    }

    fn handle(mut self, cluster: &mut Cluster, call: &Call) -> Reply<LeaveGroupResponse> {
        let response = LeaveGroupResponse::default().with_throttle_time_ms(call.throttle_ms());
        if let Err(code) = check(cluster, call, &self.group_id) {
            return Reply::Now(response.with_error_code(code.code()));
        }
        if call.version < 3 {
            let only = MemberIdentity::default().with_group_instance_id(None);
            self.members = vec![only.with_member_id(self.member_id)];
        }
        let terms = cluster.join_terms();
        let outcomes = match cluster.groups.by_id.contains_key(self.group_id.as_str()) {
            true => cluster.with_group(call.now, &self.group_id, |group, out| {
                leave(group, call, &self.members, terms, out)
            }),
            false => vec![ErrorCode::UNKNOWN_MEMBER_ID; self.members.len()],
        };
        if call.version < 3 {
            let code = outcomes.first().map_or(0, |code| code.code());
            return Reply::Now(response.with_error_code(code));
        }
        let member = |(identity, code): (MemberIdentity, ErrorCode)| {
            MemberResponse::default()
                .with_member_id(identity.member_id)
                .with_group_instance_id(identity.group_instance_id)
                .with_error_code(code.code())
        };
        Reply::Now(response.with_members(self.members.into_iter().zip(outcomes).map(member).collect()))
    }
}

fn leave(
    group: &mut Group,
    call: &Call,
    members: &[MemberIdentity],
    terms: Terms,
    out: &mut Answers,
) -> Vec<ErrorCode> {
    match &mut group.members {
        Members::Classic { group, .. } => group.leave(call.now, members, terms, out),
        Members::Consumer(group) => {
            // Members of this protocol leave in their own way; an administrator may remove static ones.
            let leave = |member: &MemberIdentity| match &member.group_instance_id {
                Some(instance) if member.member_id.is_empty() => {
                    group.remove_instance(instance).err().unwrap_or(ErrorCode::NONE)
                }
                _ => ErrorCode::UNKNOWN_MEMBER_ID,
            };
            members.iter().map(leave).collect()
        }
    }
}
