//! The phases of a rebalance.
use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::classic::{State, Terms, answer_join, refused_sync};
use super::{Answers, Classic};
use crate::protocol::error_code::ErrorCode;

/// The least that anybody is waited for, so that time goes on.
const TICK: Duration = Duration::from_millis(1);

impl Classic {
    /// How many members have joined this phase.
    pub(super) fn joined(&self) -> usize {
        self.members.iter().filter(|member| member.joining.is_some()).count()
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.joined() == self.members.len()
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.iter().map(|member| member.rebalance_timeout).max().unwrap_or_default().max(TICK)
    }

    /// Somebody came, changed or went.
    pub(super) fn rebalance_or_complete(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        match self.state {
            State::PreparingRebalance => self.maybe_complete_join(now, false, out),
            State::Empty if self.members.is_empty() => {}
            _ => self.prepare_rebalance(now, terms, out),
        }
    }

    /// Ends the join phase if nobody is missing; the first one of a group is ended early only if somebody is `lost`.
    pub(super) fn maybe_complete_join(&mut self, now: Instant, lost: bool, out: &mut Answers) {
        let may = self.state == State::PreparingRebalance && (lost || self.initial.is_none());
        if may && self.all_joined() {
            self.complete_join(now, out);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        if self.state == State::CompletingRebalance {
            for member in &mut self.members {
                member.assignment.clear();
            }
            let code = ErrorCode::REBALANCE_IN_PROGRESS;
            self.answer_syncs(now, |_| true, |_, _| refused_sync(code), out);
        }
        self.forget_syncs();
        let initial = self.state == State::Empty;
        self.state = State::PreparingRebalance;
        (self.initial, self.newcomer) = (None, false);
        if initial {
            let delay = terms.initial_delay;
            self.initial = Some((self.rebalance_timeout().saturating_sub(delay), delay));
            self.join_by = Some(now + delay);
            if delay.is_zero() {
                self.complete_join(now, out);
            }
        } else if self.all_joined() {
            self.complete_join(now, out);
        } else {
            self.join_by = Some(now + self.rebalance_timeout());
        }
    }

    fn forget_syncs(&mut self) {
        self.sync_by = None;
        for member in &mut self.members {
            member.owes_sync = false;
        }
    }

    pub(super) fn join_time_is_up(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        match self.initial {
            // Whoever starts a group seldom starts alone: newcomers draw it out.
            Some((left, delay)) if self.newcomer && !left.is_zero() => {
                self.newcomer = false;
                let step = terms.initial_delay.min(left).max(TICK);
                self.initial = Some((left.saturating_sub(delay), step));
                self.join_by = Some(now + step);
            }
            _ => self.complete_join(now, out),
        }
    }

    pub(super) fn sync_time_is_up(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        self.sync_by = None;
        let late: Vec<StrBytes> =
            self.members.iter().filter(|member| member.owes_sync).map(|member| member.id.clone()).collect();
        for id in &late {
            self.remove(id, out);
        }
        if !late.is_empty() {
            self.prepare_rebalance(now, terms, out);
        }
    }

    /// The next generation begins, with those who joined and the static members that did not.
    fn complete_join(&mut self, now: Instant, out: &mut Answers) {
        self.join_by = None;
        let gone = |member: &&super::Member| member.joining.is_none() && member.instance.is_none();
        let gone: Vec<StrBytes> = self.members.iter().filter(gone).map(|member| member.id.clone()).collect();
        for id in gone {
            self.remove(&id, out);
        }
        if !self.members.is_empty() && !self.elect() {
            // Only sessions that end can help now.
            self.join_by = Some(now + self.rebalance_timeout());
            return;
        }
        self.generation = self.generation.saturating_add(1);
        self.initial = None;
        self.forget_syncs();
        self.protocol = self.select_protocol();
        if self.members.is_empty() {
            self.state = State::Empty;
            self.dirty = true;
            return;
        }
        self.state = State::CompletingRebalance;
        for at in 0..self.members.len() {
            let response = self.generation_of(&self.members[at].id.clone());
            let member = &mut self.members[at];
            answer_join(member, response, out);
            member.heard(now);
            (member.new, member.owes_sync) = (false, true);
        }
        self.sync_by = Some(now + self.rebalance_timeout());
    }

    /// The leader is one who joined, if anybody did.
    fn elect(&mut self) -> bool {
        let present = |member: &super::Member| member.joining.is_some();
        let leads = self.members.iter().any(|member| present(member) && self.is_leader(&member.id));
        if !leads {
            let Some(next) = self.members.iter().find(|member| present(member)) else { return false };
            self.leader = Some(next.id.clone());
        }
        true
    }

    /// Each member votes for the first in its list that all support; of as many votes the older member's wins.
    pub(super) fn select_protocol(&self) -> Option<StrBytes> {
        let by_all = |name: &str| self.members.iter().all(|member| member.supports(name));
        let vote = |member: &super::Member| {
            member.protocols.iter().map(|(name, _)| name).find(|name| by_all(name)).cloned()
        };
        let votes: Vec<StrBytes> = self.members.iter().filter_map(vote).collect();
        let count = |name: &StrBytes| votes.iter().filter(|vote| *vote == name).count();
        votes.iter().rev().max_by_key(|name| count(name)).cloned()
    }

    /// What a member is told of the current generation.
    pub(super) fn generation_of(&self, id: &StrBytes) -> JoinGroupResponse {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let described = |member: &super::Member| {
            JoinGroupResponseMember::default()
                .with_member_id(member.id.clone())
                .with_group_instance_id(member.instance.clone())
                .with_metadata(member.metadata(protocol))
        };
        let members = match self.is_leader(id) {
            true => self.members.iter().map(described).collect(),
            false => Vec::new(),
        };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_leader(self.leader.clone().unwrap_or_default())
            .with_member_id(id.clone())
            .with_members(members)
    }
}
