//! What becomes of a JoinGroup request.
use std::time::{Duration, Instant};

use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::ConnectionId;
use super::classic::{Terms, answer_join, answer_sync, refused_join, refused_sync};
use super::{Answer, Answers, Classic, Member, classic::State};
use crate::protocol::error_code::ErrorCode;

/// How long a member that has not seen a generation may keep others waiting.
const NEW_MEMBER: Duration = Duration::from_secs(5 * 60);
/// The first versions that need an id that was given out, and that know of assignments to skip.
const NEEDS_ID: i16 = 4;
const KNOWS_SKIPPING: i16 = 9;

/// Whence a request comes.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) now: Instant,
    pub(crate) connection: ConnectionId,
    pub(crate) version: i16,
    pub(crate) client: StrBytes,
    /// The id that a new member gets.
    pub(crate) fresh: StrBytes,
}

impl Classic {
    pub(crate) fn join(
        &mut self,
        arrival: &Arrival,
        request: &JoinGroupRequest,
        terms: Terms,
        out: &mut Answers,
    ) {
        let id = &request.member_id;
        let refusal = if !self.has_room(id, terms.max_size) {
            self.pending.remove(id);
            self.remove(id, out);
            Some((StrBytes::default(), ErrorCode::GROUP_MAX_SIZE_REACHED))
        } else if !self.supports(request) {
            Some((id.clone(), ErrorCode::INCONSISTENT_GROUP_PROTOCOL))
        } else if id.is_empty() {
            self.join_new(arrival, request, terms, out);
            None
        } else if self.pending.contains_key(id) {
            match request.group_instance_id {
                None => {
                    self.add(arrival, id.clone(), request, terms, out);
                    None
                }
                // Static members have no id given out to them first.
                Some(_) => Some((StrBytes::default(), ErrorCode::UNKNOWN_SERVER_ERROR)),
            }
        } else {
            match self.validate(id, request.group_instance_id.as_deref()) {
                Ok(()) => self.join_again(arrival, request, terms, out),
                Err(code) => Err((id.clone(), code)),
            }
            .err()
        };
        if let Some((id, code)) = refusal {
            out.push((arrival.connection, Answer::Join(refused_join(id, code))));
        }
    }

    fn has_room(&self, id: &str, max: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                self.member(id).is_some_and(|member| member.joining.is_some()) || self.joined() < max
            }
            _ => self.member(id).is_some() || self.members.len() < max,
        }
    }

    /// Whether the group can go on with this member in it.
    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let by_all = |name: &StrBytes| self.members.iter().all(|member| member.supports(name));
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|protocol| by_all(&protocol.name))
    }

    fn join_new(&mut self, arrival: &Arrival, request: &JoinGroupRequest, terms: Terms, out: &mut Answers) {
        let fresh = arrival.fresh.clone();
        match &request.group_instance_id {
            Some(instance) if self.of_instance(instance).is_some() => {
                self.replace(arrival, instance, request, terms, out);
            }
            None if arrival.version >= NEEDS_ID => {
                let until = arrival.now + super::super::millis(request.session_timeout_ms);
                self.pending.insert(fresh.clone(), until);
                let response = refused_join(fresh, ErrorCode::MEMBER_ID_REQUIRED);
                out.push((arrival.connection, Answer::Join(response)));
            }
            _ => self.add(arrival, fresh, request, terms, out),
        }
    }

    fn add(
        &mut self,
        arrival: &Arrival,
        id: StrBytes,
        request: &JoinGroupRequest,
        terms: Terms,
        out: &mut Answers,
    ) {
        self.pending.remove(&id);
        let mut member = Member::new(id.clone(), arrival.client.clone(), request);
        member.joining = Some(arrival.connection);
        // It cannot send heartbeats before it knows its id and generation.
        member.expires = Some(arrival.now + NEW_MEMBER);
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        self.leader.get_or_insert(id);
        self.members.push(member);
        self.newcomer |= self.state == State::PreparingRebalance && self.initial.is_some();
        self.rebalance_or_complete(arrival.now, terms, out);
    }

    /// A member joins again: `Err` with the refusal.
    fn join_again(
        &mut self,
        arrival: &Arrival,
        request: &JoinGroupRequest,
        terms: Terms,
        out: &mut Answers,
    ) -> Result<(), (StrBytes, ErrorCode)> {
        let id = &request.member_id;
        let same = self.member(id).is_some_and(|member| member.matches(request));
        let unchanged = match self.state {
            State::Empty => return Err((id.clone(), ErrorCode::UNKNOWN_MEMBER_ID)),
            State::PreparingRebalance => false,
            // It may not have got the answer.
            State::CompletingRebalance => same,
            // A leader joins again to have all partitions assigned anew.
            State::Stable => same && !self.is_leader(id),
        };
        if unchanged {
            let response = self.generation_of(id);
            out.push((arrival.connection, Answer::Join(response)));
            return Ok(());
        }
        if let Some(member) = self.member_mut(id) {
            member.update(request);
            member.joining = Some(arrival.connection);
        }
        self.rebalance_or_complete(arrival.now, terms, out);
        Ok(())
    }

    /// A static member is back without its id: it takes the place of its former self.
    fn replace(
        &mut self,
        arrival: &Arrival,
        instance: &str,
        request: &JoinGroupRequest,
        terms: Terms,
        out: &mut Answers,
    ) {
        let (now, fresh) = (arrival.now, &arrival.fresh);
        let former_leader = self.leader.clone();
        let holder = self.members.iter_mut().find(|member| member.instance.as_deref() == Some(instance));
        let Some(member) = holder else { return };
        let former = std::mem::replace(&mut member.id, fresh.clone());
        let fenced = ErrorCode::FENCED_INSTANCE_ID;
        answer_join(member, refused_join(former.clone(), fenced), out);
        answer_sync(member, refused_sync(fenced), out);
        member.update(request);
        member.joining = Some(arrival.connection);
        member.new = false;
        member.heard(now);
        if self.leader.as_ref() == Some(&former) {
            self.leader = Some(fresh.clone());
        }
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                let mut response = self.generation_of(fresh);
                if arrival.version >= KNOWS_SKIPPING {
                    // The assignment of this generation stands.
                    response.skip_assignment = self.is_leader(fresh);
                } else {
                    response.leader = former_leader.unwrap_or_default();
                    response.members.clear();
                }
                if let Some(member) = self.member_mut(fresh) {
                    answer_join(member, response, out);
                }
                self.dirty = true;
            }
            // Others may know its former id already.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, terms, out),
            State::Empty | State::PreparingRebalance => self.maybe_complete_join(now, false, out),
        }
    }
}
