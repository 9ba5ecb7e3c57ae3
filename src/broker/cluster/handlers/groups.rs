//! ListGroups 0-5, DescribeGroups 0-6, DeleteGroups 0-2: groups as administrators see them.
//!
//! ListGroups: 4 added states, 5 types. DescribeGroups: 3 authorized operations, 4 instance ids, 6 the error for a group that
//! is not there.
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::group::Group;
use super::super::group::classic::State;
use super::super::{Call, Cluster, Reply};
use super::Handle;
use super::membership::named;
use crate::protocol::error_code::ErrorCode;

/// Read, delete, describe, and describe and alter configs: what nobody is denied here.
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Where all clients are.
pub(super) const CLIENT_HOST: &str = "/127.0.0.1";
/// The first version that says that a group is not there.
const KNOWS_MISSING_GROUPS: i16 = 6;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Handle for ListGroupsRequest {
    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<ListGroupsResponse> {
        let response = ListGroupsResponse::default().with_throttle_time_ms(call.throttle_ms());
        if let Some(code) = call.injected_at_all() {
            return Reply::Now(response.with_error_code(code.code()));
        }
        let asked = |filter: &[StrBytes], own: &str| {
            filter.is_empty() || filter.iter().any(|asked| asked.trim().eq_ignore_ascii_case(own))
        };
        let mut groups = Vec::new();
        for (id, group) in &cluster.groups.by_id {
            match cluster.check_coordinator(call, id) {
                Ok(()) => {}
                Err(ErrorCode::NOT_COORDINATOR) => continue,
                Err(code) => return Reply::Now(response.with_error_code(code.code())),
            }
            if asked(&self.states_filter, group.state()) && asked(&self.types_filter, group.kind()) {
                groups.push(
                    ListedGroup::default()
                        .with_group_id(GroupId(text(id)))
                        .with_protocol_type(group.protocol_type())
                        .with_group_state(text(group.state()))
                        .with_group_type(text(group.kind())),
                );
            }
        }
        Reply::Now(response.with_groups(groups))
    }
}

fn describe(cluster: &Cluster, call: &Call, id: GroupId) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_id(id.clone());
    let checked = call.injected_at_all().map_or_else(|| cluster.check_coordinator(call, &id), Err);
    if let Err(code) = checked {
        return described.with_error_code(code.code());
    }
    let Some(group) = cluster.groups.get(&id).and_then(Group::classic) else {
        let described = described.with_group_state(text("Dead"));
        if call.version < KNOWS_MISSING_GROUPS {
            return described;
        }
        return described
            .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.code())
            .with_error_message(Some(StrBytes::from_string(format!("Group {} not found.", id.as_str()))));
    };
    // Only a complete generation is shown.
    let protocol = group.protocol.clone().filter(|_| group.state == State::Stable);
    let shown = |bytes: Bytes| if protocol.is_some() { bytes } else { Bytes::new() };
    let members = group.members.iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(member.id.clone())
            .with_group_instance_id(member.instance.clone())
            .with_client_id(member.client.clone())
            .with_client_host(StrBytes::from_static_str(CLIENT_HOST))
            .with_member_metadata(shown(member.metadata(protocol.as_deref().unwrap_or_default())))
            .with_member_assignment(shown(member.assignment.clone()))
    });
    described
        .with_group_state(text(group.state.name()))
        .with_protocol_type(group.protocol_type.clone().unwrap_or_default())
        .with_members(members.collect())
        .with_protocol_data(protocol.clone().unwrap_or_default())
}

impl Handle for DescribeGroupsRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        self.groups.iter().flat_map(named).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<DescribeGroupsResponse> {
        let described = self.groups.into_iter().map(|id| {
            let described = describe(cluster, call, id);
            let told = self.include_authorized_operations && call.version >= 3 && described.error_code == 0;
            described.with_authorized_operations(if told { GROUP_OPERATIONS } else { i32::MIN })
        });
        let response = DescribeGroupsResponse::default().with_throttle_time_ms(call.throttle_ms());
        Reply::Now(response.with_groups(described.collect()))
    }
}

impl Handle for DeleteGroupsRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        self.groups_names.iter().flat_map(named).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<DeleteGroupsResponse> {
        let mut response = DeleteGroupsResponse::default().with_throttle_time_ms(call.throttle_ms());
        let mut seen = BTreeSet::new();
        for id in self.groups_names {
            if !seen.insert(id.clone()) {
                continue;
            }
            let checked = call.injected_at_all().map_or_else(|| cluster.check_writable(call, &id), Err);
            let deleted = checked.and_then(|()| match cluster.groups.get(&id) {
                None => Err(ErrorCode::GROUP_ID_NOT_FOUND),
                Some(group) if !group.is_empty() => Err(ErrorCode::NON_EMPTY_GROUP),
                Some(_) => {
                    cluster.delete_group(&id);
                    Ok(())
                }
            });
            let code = deleted.err().map_or(0, ErrorCode::code);
            response.results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code));
        }
        Reply::Now(response)
    }
}
