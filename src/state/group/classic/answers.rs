//! What is answered to a member, and what follows from it.
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use rand::rngs::SmallRng;

use super::super::leader::{self, ByTopic, Layout, Round};
use super::super::reaction::{Api, Reaction};
use super::super::requests::PROTOCOL_TYPE;
use super::super::{Event, Identity, Ticket};
use super::{Classic, METADATA_WAIT, Progress, State};
use crate::error::{Error, Result};
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::Cluster;

impl Classic {
    /// Whether this is the JoinGroup or SyncGroup that is waited for.
    pub(in super::super) fn awaits(&self, ticket: Ticket) -> bool {
        matches!(self.state, State::Joining(awaited) | State::Syncing(awaited) if awaited == ticket)
    }

    /// JoinGroup was accepted, but nobody waits for that any more: nobody shall wait for this member either.
    pub(in super::super) fn joined_too_late(&mut self, answer: &JoinGroupResponse) {
        let member: Arc<str> = answer.member_id.as_str().into();
        if ErrorCode::from(answer.error_code).is_none() && member != self.identity.member {
            self.dismiss(Identity { generation: answer.generation_id, member });
        }
    }

    pub(in super::super) fn keep_id(&mut self, answer: &JoinGroupResponse) {
        self.identity = Identity { generation: -1, member: answer.member_id.as_str().into() };
        (self.state, self.probe) = (State::Unjoined, false);
    }

    pub(in super::super) fn joined(
        &mut self,
        now: Instant,
        answer: &JoinGroupResponse,
        events: &mut VecDeque<Event>,
    ) -> Result<()> {
        // A round does not put a static member out that does not come to it. What it had since it joined last nobody knew of there, and
        // somebody else may have been given it.
        let known = self.identity.generation;
        if self.settings.instance.is_some() && known >= 0 && answer.generation_id.saturating_sub(known) > 1 {
            self.lose(events);
        }
        self.identity =
            Identity { generation: answer.generation_id, member: answer.member_id.as_str().into() };
        (self.failures, self.progress) = (0, Progress::Joined);
        (self.watched, self.vanished, self.expected, self.check) = (None, None, None, None);
        self.clocks.alive(now);
        self.clocks.wait(now);
        let name = answer.protocol_name.as_deref().unwrap_or_default();
        let kind = answer.protocol_type.as_deref().unwrap_or(PROTOCOL_TYPE);
        match self.settings.assignors.iter().position(|assignor| assignor.name() == name) {
            Some(at) if kind == PROTOCOL_TYPE => self.protocol = at,
            _ => {
                let message =
                    format!("the group {} is of type {kind} and uses `{name}`", self.settings.group);
                return Err(
                    Error::broker(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, message).in_api("JoinGroup")
                );
            }
        }
        if answer.leader == answer.member_id {
            let round = Round::read(&self.settings.group, &answer.members, answer.skip_assignment);
            self.state = State::Leading { round, until: now + METADATA_WAIT };
        } else {
            // Before version 9 a static leader that comes back is not told so, and the group has nobody who looks after its topics.
            let former = self.settings.instance.as_deref().is_some_and(|instance| {
                answer.leader.strip_prefix(instance).is_some_and(|rest| rest.starts_with('-'))
            });
            self.expected = former.then(|| self.joined.clone());
            self.check = former.then_some(now);
            self.state = State::Following;
        }
        Ok(())
    }

    pub(in super::super) fn synced(
        &mut self,
        now: Instant,
        answer: &SyncGroupResponse,
        events: &mut VecDeque<Event>,
    ) -> Result<()> {
        let other = |answered: Option<&str>, ours: &str| answered.is_some_and(|answered| answered != ours);
        if other(answer.protocol_type.as_deref(), PROTOCOL_TYPE)
            || other(answer.protocol_name.as_deref(), self.protocol_name())
        {
            let message = "the group was synchronised under another protocol than it was joined with";
            return Err(Error::broker(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, message).in_api("SyncGroup"));
        }
        let (assigned, user_data) = leader::assignment(&answer.assignment, &self.settings.group)?;
        (self.state, self.progress) = (State::Stable, Progress::Done);
        self.clocks.alive(now);
        let topics: BTreeSet<Arc<str>> =
            assigned.iter().map(|partition| partition.shared_topic().clone()).collect();
        let wanted = |topic: &Arc<str>| {
            self.topics.contains(topic) || self.pattern.as_ref().is_some_and(|pattern| pattern(topic))
        };
        if !topics.iter().all(wanted) {
            // Not to be applied. Should the leader insist, it is not asked again and again without a wait.
            self.want_round("topics were assigned that are not subscribed to");
            self.not_before = (self.topics == self.joined).then(|| now + self.settings.backoff.max);
            return Ok(());
        }
        if self.topics != self.joined {
            self.want_round("the subscription changed while the group was joined");
        }
        if self.expected.take().is_some_and(|expected| expected != topics) {
            self.want_round("a leader came back with other topics");
        }
        if !topics.is_subset(&self.topics) {
            self.topics.extend(topics);
            self.joined.clone_from(&self.topics);
            events.push_back(Event::Topics);
        }
        if let Some(assignor) = self.settings.assignors.get(self.protocol) {
            let (by_topic, generation) = (ByTopic::new(&assigned), self.identity.generation);
            assignor.on_assignment(&by_topic.slices(), user_data.as_deref(), generation);
        }
        let revoked: Vec<_> = self.owned.difference(&assigned).cloned().collect();
        let added: Vec<_> = assigned.difference(&self.owned).cloned().collect();
        if self.cooperative {
            self.clocks.hurry(now);
        }
        self.owned.extend(assigned.iter().cloned());
        (self.last, self.last_generation) = (assigned, Some(self.identity.generation));
        if !revoked.is_empty() {
            self.want_round("partitions were given up");
            self.revoke(revoked, events);
        }
        if !added.is_empty() {
            events.push_back(Event::Assigned(added));
        }
        Ok(())
    }

    /// Topics of the group that its leader is to look after, besides those that it does already.
    pub(in super::super) fn look_after(&mut self, topics: BTreeSet<Arc<str>>, cluster: &Cluster) {
        let watched = self.watched.get_or_insert_default();
        let new = topics.into_iter().filter(|topic| !watched.contains_key(topic)).collect();
        watched.extend(Layout::of(&new, cluster, self.settings.rack.is_some()));
    }

    /// What the group kept may lack partitions that its topics gained while their leader was away: nobody else would ever notice.
    pub(in super::super) fn keep(&mut self, all: bool) {
        if !all && self.is_stable() {
            self.want_round("the group keeps an assignment that is not all there is");
        }
    }

    /// It could not be seen: again, after a while.
    pub(in super::super) fn check_again(&mut self, now: Instant) {
        self.check = Some(now + self.settings.backoff.max);
    }

    /// A heartbeat is not under way any more.
    pub(in super::super) fn beaten(&mut self) {
        self.beating = false;
    }

    /// The coordinator took it for a member.
    pub(in super::super) fn alive(&mut self, now: Instant, sent: &Identity) {
        if *sent == self.identity {
            self.clocks.alive(now);
        }
    }

    /// What an answer that was no success means for the membership. `sent` is the identity that it was given to.
    #[allow(clippy::too_many_arguments)] // each is a fact about the answer, and none belongs to another
    pub(in super::super) fn react(
        &mut self,
        now: Instant,
        api: Api,
        sent: &Identity,
        reaction: Reaction,
        error: &Error,
        random: &mut SmallRng,
        events: &mut VecDeque<Event>,
    ) {
        // A new round may have overtaken it: that round's own answer tells.
        if *sent != self.identity || matches!(api, Api::Heartbeat | Api::Commit) && self.is_asking() {
            return;
        }
        // It has left: what its last requests come to makes no member of it.
        if matches!(self.state, State::Out | State::Failed) {
            return;
        }
        let round = matches!(api, Api::Join | Api::Sync);
        match reaction {
            Reaction::ForgetMember | Reaction::ForgetGeneration => {
                tracing::warn!(target: "milena::group", group = &*self.settings.group, %error, "membership lost");
                match reaction {
                    Reaction::ForgetMember => self.identity = Identity::none(),
                    _ => self.identity.generation = -1,
                }
                self.lose(events);
                self.state = State::Unjoined;
                self.rejoin = Some("the coordinator does not know this member any more");
            }
            Reaction::Rejoin if round => {
                self.want_round("the group rebalances");
                self.state = State::Unjoined;
                if error.code() == Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) {
                    self.back_off(now, random);
                }
            }
            Reaction::Rejoin => {
                // A sign of life, too.
                self.clocks.alive(now);
                if self.is_stable() {
                    self.want_round("the group rebalances");
                }
            }
            Reaction::Again | Reaction::Find if round => {
                self.state = State::Unjoined;
                if self.failures > 0 || error.code() != Some(ErrorCode::REBALANCE_IN_PROGRESS) {
                    self.back_off(now, random);
                }
                self.failures = self.failures.max(1);
            }
            Reaction::Again | Reaction::Find if api == Api::Heartbeat => {
                let wait = self.settings.backoff.after(1, random);
                self.clocks.again(now, wait);
            }
            _ => {}
        }
    }

    fn back_off(&mut self, now: Instant, random: &mut SmallRng) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.settings.backoff.after(self.failures, random));
    }
}
