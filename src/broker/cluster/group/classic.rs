//! A group of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! ```text
//! Empty --join--> PreparingRebalance --all have joined, or time is up--> CompletingRebalance --leader syncs--> Stable
//!   ^                 |        ^                                             |                                   |
//!   +---nobody left---+        +----a member joins anew, changes, leaves, or is not heard of any more------------+
//! ```
//!
//! Invariants: a generation begins when a join phase ends; the leader is a member whenever there is one; all members
//! support the chosen protocol; a parked request is known to the one member that sent it, and answered once.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::ConnectionId;
use super::consumer_protocol::{CONSUMER, subscribed};
use super::{Answer, Answers, Commit, Member};
use crate::protocol::error_code::ErrorCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// Kafka's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// What the cluster's settings say about joining.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) initial_delay: Duration,
    pub(crate) max_size: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Classic {
    pub(crate) state: State,
    pub(crate) generation: i32,
    /// Set by the first member, and kept.
    pub(crate) protocol_type: Option<StrBytes>,
    pub(crate) protocol: Option<StrBytes>,
    pub(crate) leader: Option<StrBytes>,
    /// In the order of joining.
    pub(crate) members: Vec<Member>,
    /// Ids that were given out, and until when one may join with them.
    pub(super) pending: BTreeMap<StrBytes, Instant>,
    /// When the join phase ends.
    pub(super) join_by: Option<Instant>,
    /// This join phase began with an empty group: how much longer it may be drawn out, and by how much at a time.
    pub(super) initial: Option<(Duration, Duration)>,
    /// A member came since the initial join phase was last drawn out.
    pub(super) newcomer: bool,
    /// When members that owe a sync are out.
    pub(super) sync_by: Option<Instant>,
    /// It changed in a way that the coordinator writes down.
    pub(super) dirty: bool,
}

impl Classic {
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Another node has read it from the offsets topic: who was in the last complete generation is a member.
    pub(super) fn loaded(&mut self, now: Instant) {
        self.state = if self.members.is_empty() { State::Empty } else { State::Stable };
        self.pending.clear();
        (self.join_by, self.sync_by, self.initial) = (None, None, None);
        for member in &mut self.members {
            (member.joining, member.syncing, member.owes_sync, member.new) = (None, None, false, false);
            member.heard(now);
        }
    }

    /// Answers all that is parked here.
    pub(crate) fn refuse_parked(&mut self, code: ErrorCode, out: &mut Answers) {
        for member in &mut self.members {
            let id = member.id.clone();
            answer_join(member, refused_join(id, code), out);
            answer_sync(member, refused_sync(code), out);
        }
    }

    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| *member.id == *id)
    }

    pub(super) fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| *member.id == *id)
    }

    pub(super) fn of_instance(&self, instance: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.instance.as_deref() == Some(instance))
    }

    pub(crate) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// Whether somebody is a member under this id and instance.
    pub(super) fn validate(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            let holder = self.of_instance(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if *holder.id != *id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        self.member(id).map(drop).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }

    pub(crate) fn sync(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        request: &SyncGroupRequest,
        out: &mut Answers,
    ) {
        if let Err(code) = self.check_sync(request) {
            return out.push((connection, Answer::Sync(refused_sync(code))));
        }
        let is_leader = self.is_leader(&request.member_id);
        let stable = self.state == State::Stable;
        if let Some(member) = self.member_mut(&request.member_id) {
            member.owes_sync = false;
            member.syncing = Some(connection);
        }
        if !self.members.iter().any(|member| member.owes_sync) {
            self.sync_by = None;
        }
        if stable {
            let answer = |group: &Self, member: &Member| group.synced(member.assignment.clone());
            self.answer_syncs(now, |member| *member.id == *request.member_id, answer, out);
        } else if is_leader {
            // Of assignments to one member the last counts; who is left out gets nothing.
            let mut given: BTreeMap<_, _> =
                request.assignments.iter().map(|given| (&given.member_id, &given.assignment)).collect();
            for member in &mut self.members {
                member.assignment = given.remove(&member.id).cloned().unwrap_or_default();
            }
            self.answer_syncs(now, |_| true, |group, member| group.synced(member.assignment.clone()), out);
            self.state = State::Stable;
            self.dirty = true;
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        let differs = |asked: &Option<StrBytes>, own: &Option<StrBytes>| {
            asked.as_ref().is_some_and(|asked| own.as_ref() != Some(asked))
        };
        self.validate(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn synced(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_assignment(assignment)
    }

    /// Answers the parked syncs of some members, whose sessions begin anew.
    pub(super) fn answer_syncs(
        &mut self,
        now: Instant,
        whose: impl Fn(&Member) -> bool,
        answer: impl Fn(&Self, &Member) -> SyncGroupResponse,
        out: &mut Answers,
    ) {
        let mut members = std::mem::take(&mut self.members);
        for member in members.iter_mut().filter(|member| member.syncing.is_some() && whose(member)) {
            let response = answer(self, member);
            answer_sync(member, response, out);
            member.heard(now);
        }
        self.members = members;
    }

    pub(crate) fn heartbeat(&mut self, now: Instant, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        self.validate(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if let Some(member) = self.member_mut(&request.member_id) {
            member.heard(now);
        }
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// Takes members out, each with its own outcome.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        leaving: &[MemberIdentity],
        terms: Terms,
        out: &mut Answers,
    ) -> Vec<ErrorCode> {
        let mut anybody = false;
        let outcome = |left: Result<(), ErrorCode>| left.err().unwrap_or(ErrorCode::NONE);
        let outcomes = leaving.iter().map(|identity| {
            let left = self.leave_one(identity, out);
            anybody |= left.is_ok();
            outcome(left)
        });
        let outcomes = outcomes.collect();
        if anybody {
            self.rebalance_or_complete(now, terms, out);
        }
        outcomes
    }

    fn leave_one(&mut self, identity: &MemberIdentity, out: &mut Answers) -> Result<(), ErrorCode> {
        let instance = identity.group_instance_id.as_deref();
        let id = match instance {
            // An administrator names the instance alone.
            Some(instance) if identity.member_id.is_empty() => self
                .of_instance(instance)
                .map(|member| member.id.clone())
                .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?,
            _ => identity.member_id.clone(),
        };
        if self.pending.remove(&id).is_none() {
            self.validate(&id, instance)?;
            self.remove(&id, out);
        }
        Ok(())
    }

    /// Takes a member out; what it has parked is answered, so that it joins anew if it is still there.
    pub(super) fn remove(&mut self, id: &str, out: &mut Answers) {
        let Some(at) = self.members.iter().position(|member| *member.id == *id) else { return };
        let mut member = self.members.remove(at);
        let code = ErrorCode::UNKNOWN_MEMBER_ID;
        answer_join(&mut member, refused_join(StrBytes::default(), code), out);
        answer_sync(&mut member, refused_sync(code), out);
        if self.is_leader(id) {
            self.leader = self.members.first().map(|member| member.id.clone());
        }
    }

    /// Whether somebody may commit offsets.
    pub(super) fn admit_commit(&mut self, now: Instant, commit: &Commit<'_>) -> Result<(), ErrorCode> {
        let anonymous = commit.member.is_empty() && commit.instance.is_none();
        match self.state {
            // An administrator, or a consumer without membership.
            State::Empty if commit.generation < 0 => return Ok(()),
            State::Empty | State::PreparingRebalance | State::CompletingRebalance | State::Stable => {}
        }
        if commit.generation < 0 && anonymous {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.validate(commit.member, commit.instance)?;
        if commit.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        if let Some(member) = self.member_mut(commit.member) {
            member.heard(now);
        }
        Ok(())
    }

    /// Whether a member is subscribed to a topic, as far as the coordinator can tell.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let wants = |member: &Member| {
            subscribed(&member.metadata(protocol)).map_or(true, |topics| topics.contains(&topic))
        };
        self.protocol_type.as_deref() == Some(CONSUMER) && self.members.iter().any(wants)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.iter().filter_map(|member| member.expires);
        sessions.chain(self.pending.values().copied()).chain(self.join_by).chain(self.sync_by).min()
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        while let Some(due) = self.next_deadline().filter(|due| *due <= now) {
            if self.join_by == Some(due) {
                self.join_time_is_up(now, terms, out);
            } else if self.sync_by == Some(due) {
                self.sync_time_is_up(now, terms, out);
            } else if let Some(id) =
                self.pending.iter().find(|(_, until)| **until == due).map(|(id, _)| id.clone())
            {
                self.pending.remove(&id);
                self.maybe_complete_join(now, true, out);
            } else if let Some(member) = self.members.iter_mut().find(|member| member.expires == Some(due)) {
                member.expires = None;
                // Who waits for others cannot send heartbeats, but for one that may be gone before it has begun.
                if member.new || member.joining.is_none() && member.syncing.is_none() {
                    let id = member.id.clone();
                    self.remove(&id, out);
                    match self.state {
                        State::PreparingRebalance => self.maybe_complete_join(now, true, out),
                        _ => self.prepare_rebalance(now, terms, out),
                    }
                }
            }
        }
    }
}

pub(super) fn answer_join(member: &mut Member, response: JoinGroupResponse, out: &mut Answers) {
    if let Some(connection) = member.joining.take() {
        out.push((connection, Answer::Join(response)));
    }
}

pub(super) fn answer_sync(member: &mut Member, response: SyncGroupResponse, out: &mut Answers) {
    if let Some(connection) = member.syncing.take() {
        out.push((connection, Answer::Sync(response)));
    }
}

pub(crate) fn refused_join(member: StrBytes, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(code.code())
        .with_member_id(member)
        .with_generation_id(-1)
        .with_protocol_name(None)
}

pub(crate) fn refused_sync(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(code.code())
}
