//! Requests of a member as bytes, and their answers.
use std::sync::Arc;

use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};

use super::interface::{Answer, What};
use super::requests::find_coordinator;
use crate::error::Result;
use crate::protocol::fetch::text;
use crate::protocol::header::{self, Answer as Bytes, Encoded};
use crate::protocol::request::Request;
use crate::protocol::version::ApiVersions;

pub(crate) type Build = Box<dyn FnOnce(&ApiVersions) -> Result<Encoded> + Send>;
pub(crate) type Read = fn(Result<Bytes>) -> Result<Answer>;

/// How to write the request, and how to read what comes of it.
pub(crate) fn call(what: What, client_id: Arc<str>) -> (Build, Read) {
    match what {
        What::Find(group) => (
            build::<FindCoordinatorRequest>(client_id, move |version| find_coordinator(&group, version)),
            |outcome| read::<FindCoordinatorRequest>(outcome, Answer::Find),
        ),
        What::Describe(group) => (
            build::<DescribeGroupsRequest>(client_id, move |_| {
                DescribeGroupsRequest::default().with_groups(vec![GroupId(text(&group))])
            }),
            |outcome| read::<DescribeGroupsRequest>(outcome, Answer::Describe),
        ),
        What::Join(plan) => (build::<JoinGroupRequest>(client_id, move |_| plan.request()), |outcome| {
            read::<JoinGroupRequest>(outcome, Answer::Join)
        }),
        What::Sync(plan) => {
            (build::<SyncGroupRequest>(client_id, move |version| plan.request(version)), |outcome| {
                read::<SyncGroupRequest>(outcome, Answer::Sync)
            })
        }
        What::Heartbeat(sender) | What::Probe(sender) => {
            (build::<HeartbeatRequest>(client_id, move |_| sender.heartbeat()), |outcome| {
                read::<HeartbeatRequest>(outcome, Answer::Heartbeat)
            })
        }
        What::Leave(sender) => {
            (build::<LeaveGroupRequest>(client_id, move |version| sender.leave(version)), |outcome| {
                read::<LeaveGroupRequest>(outcome, Answer::Leave)
            })
        }
        What::Beat(plan) => {
            (build::<ConsumerGroupHeartbeatRequest>(client_id, move |_| plan.request()), |outcome| {
                read::<ConsumerGroupHeartbeatRequest>(outcome, Answer::Beat)
            })
        }
        What::Commit(plan) => {
            (build::<OffsetCommitRequest>(client_id, move |version| plan.request(version)), |outcome| {
                read::<OffsetCommitRequest>(outcome, Answer::Commit)
            })
        }
        What::Fetch(plan) => {
            (build::<OffsetFetchRequest>(client_id, move |version| plan.request(version)), |outcome| {
                read::<OffsetFetchRequest>(outcome, Answer::Fetch)
            })
        }
    }
}

fn build<R: Request>(client_id: Arc<str>, build: impl FnOnce(i16) -> R + Send + 'static) -> Build {
    Box::new(move |versions| {
        let version = versions.choose::<R>()?;
        header::encode(&build(version), version, &client_id)
    })
}

fn read<R: Request>(outcome: Result<Bytes>, answer: fn(R::Response) -> Answer) -> Result<Answer> {
    let read = outcome.and_then(|answer| header::decode::<R>(&answer));
    read.map(answer).map_err(|error| error.in_api(R::NAME))
}
