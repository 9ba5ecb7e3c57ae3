//! A group of the consumer protocol (KIP-848): the coordinator assigns, and each member goes there at its own pace.
//!
//! Epochs: what members and topics are like has the group's epoch; a target assignment is made for it at the next heartbeat; each
//! member reaches that epoch once it has given up what it had to. All of it is written down at once, sessions aside.
//!
//! Invariant: a partition is assigned to a member only while no other member holds it, that is, is assigned it or has not yet said that
//! it gave it up.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::messages::ConsumerGroupHeartbeatRequest;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::{Topics, millis};
use super::Commit;
use super::consumer_member::{AWAY, ConsumerMember, Place, Progress};
use super::pattern::Pattern;
use super::server_assignor::{ServerAssignor, assign};
use crate::protocol::error_code::ErrorCode;

/// What a member that leaves for good has in place of an epoch.
const GONE: i32 = -1;

/// What the cluster's settings say of this protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConsumerTerms {
    pub(crate) session_timeout: Duration,
    pub(crate) max_size: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Consumer {
    pub(crate) epoch: i32,
    /// The epoch that targets were made for.
    pub(crate) target_epoch: i32,
    /// In the order of joining.
    pub(crate) members: Vec<ConsumerMember>,
    /// The topics subscribed to, by id, and how many partitions each had when targets were made.
    seen: BTreeMap<Uuid, usize>,
}

/// What a member is told.
pub(crate) struct Beat {
    pub(crate) member: StrBytes,
    pub(crate) epoch: i32,
    /// None if nothing changed.
    pub(crate) assignment: Option<Vec<Place>>,
}

impl Consumer {
    /// Kafka's name of its state.
    pub(crate) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.iter().any(|member| !member.is_reconciled(self.target_epoch)) {
            "Reconciling"
        } else {
            "Stable"
        }
    }

    /// The assignor that most members ask for.
    pub(crate) fn assignor(&self) -> ServerAssignor {
        let asked = |assignor: ServerAssignor| {
            let of = |member: &&ConsumerMember| member.assignor.as_deref() == Some(assignor.name());
            self.members.iter().filter(of).count()
        };
        let (range, uniform) = (asked(ServerAssignor::Range), asked(ServerAssignor::Uniform));
        if range > uniform { ServerAssignor::Range } else { ServerAssignor::Uniform }
    }

    /// All that is written down and that a heartbeat may change.
    pub(crate) fn epochs(&self) -> (i32, i32, Vec<(i32, usize, usize)>) {
        let of = |member: &ConsumerMember| (member.epoch, member.assigned.len(), member.revoking.len());
        (self.epoch, self.target_epoch, self.members.iter().map(of).collect())
    }

    fn member(&self, id: &str) -> Result<&ConsumerMember, ErrorCode> {
        self.members.iter().find(|member| *member.id == *id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }

    fn of_instance(&self, instance: &str) -> Option<&ConsumerMember> {
        self.members.iter().find(|member| member.instance.as_deref() == Some(instance))
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Instant,
        request: &ConsumerGroupHeartbeatRequest,
        client: &StrBytes,
        terms: ConsumerTerms,
        topics: &Topics,
    ) -> Result<Beat, ErrorCode> {
        if matches!(request.member_epoch, GONE | AWAY) {
            return self.leave(request);
        }
        let pattern = request.subscribed_topic_regex.as_deref().unwrap_or_default();
        if !pattern.is_empty() {
            Pattern::parse(pattern).ok_or(ErrorCode::INVALID_REGULAR_EXPRESSION)?;
        }
        let owned = request.topic_partitions.as_ref().map(|owned| {
            let places =
                |topic: &kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions| {
                    topic.partitions.iter().map(|index| (topic.topic_id, *index)).collect::<Vec<Place>>()
                };
            owned.iter().flat_map(places).collect::<BTreeSet<Place>>()
        });
        if self.members.len() >= terms.max_size && self.member(&request.member_id).is_err() {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let (at, mut changed) = self.admit(request, owned.as_ref())?;
        let before = self.members[at].assigned.clone();
        changed |= update(&mut self.members[at], request, client);
        let seen = self.subscribed(topics);
        if changed || seen != self.seen {
            self.epoch += 1;
            self.seen = seen;
        }
        if self.epoch > self.target_epoch {
            self.make_targets(topics);
        }
        let held: BTreeSet<Place> = self.members.iter().flat_map(ConsumerMember::held).copied().collect();
        let target_epoch = self.target_epoch;
        let member = &mut self.members[at];
        member.reconcile(now, target_epoch, owned.as_ref(), &held);
        member.expires = Some(now + terms.session_timeout);
        let full = request.member_epoch == 0
            || request.rebalance_timeout_ms != -1
                && request.subscribed_topic_names.is_some()
                && owned.is_some();
        let differs = !before.keys().eq(member.assigned.keys());
        Ok(Beat {
            member: member.id.clone(),
            epoch: member.epoch,
            assignment: (full || differs).then(|| member.assigned.keys().copied().collect()),
        })
    }

    /// The place of the member in the list, new ones included, and whether it is new.
    fn admit(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        owned: Option<&BTreeSet<Place>>,
    ) -> Result<(usize, bool), ErrorCode> {
        let joins = request.member_epoch == 0;
        let at = match &request.instance_id {
            None => self.members.iter().position(|member| member.id == request.member_id),
            Some(instance) => {
                let at = self.members.iter().position(|member| member.instance.as_ref() == Some(instance));
                match at.and_then(|at| self.members.get_mut(at)) {
                    Some(former) if joins && former.epoch == AWAY => {
                        // It takes over what its former self had.
                        former.id = request.member_id.clone();
                        (former.epoch, former.previous_epoch) = (0, 0);
                    }
                    Some(_) if joins => return Err(ErrorCode::UNRELEASED_INSTANCE_ID),
                    Some(holder) if holder.id != request.member_id => {
                        return Err(ErrorCode::FENCED_INSTANCE_ID);
                    }
                    _ => {}
                }
                at
            }
        };
        let Some(at) = at else {
            if !joins {
                return Err(ErrorCode::UNKNOWN_MEMBER_ID);
            }
            self.members.push(ConsumerMember::new(request.member_id.clone()));
            return Ok((self.members.len() - 1, true));
        };
        let member = &self.members[at];
        // The answer that raised the epoch may have been lost.
        let repeats = || {
            let has = |owned: &BTreeSet<Place>| owned.iter().all(|place| member.assigned.contains_key(place));
            request.member_epoch == member.previous_epoch && owned.is_some_and(has)
        };
        if request.member_epoch == member.epoch || request.member_epoch < member.epoch && repeats() {
            Ok((at, false))
        } else {
            Err(ErrorCode::FENCED_MEMBER_EPOCH)
        }
    }

    /// The topics that members subscribe to, as they are now.
    fn subscribed(&self, topics: &Topics) -> BTreeMap<Uuid, usize> {
        let each = self.members.iter().flat_map(|member| topics_of(member, topics));
        let counts = each.filter_map(|id| Some((id, topics.get(topics.name(id)?)?.partitions.len())));
        counts.collect()
    }

    fn make_targets(&mut self, topics: &Topics) {
        let subscriptions: Vec<BTreeSet<Uuid>> =
            self.members.iter().map(|member| topics_of(member, topics)).collect();
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|at| {
            let member = &self.members[*at];
            member.instance.clone().unwrap_or_else(|| member.id.clone())
        });
        let current = order.iter().map(|at| self.members[*at].target.clone()).collect();
        let wanted = order.iter().map(|at| subscriptions[*at].clone()).collect();
        let targets = assign(self.assignor(), wanted, current, &self.seen);
        for (at, target) in order.into_iter().zip(targets) {
            self.members[at].target = target;
        }
        self.target_epoch = self.epoch;
    }

    fn leave(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Result<Beat, ErrorCode> {
        let id = &request.member_id;
        if let Some(instance) = &request.instance_id {
            let holder = self.of_instance(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if holder.id != *id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        self.member(id)?;
        if request.member_epoch == AWAY {
            for member in self.members.iter_mut().filter(|member| member.id == *id) {
                member.epoch = AWAY;
                member.revoking.clear();
                member.revoke_by = None;
            }
        } else {
            self.fence(id);
        }
        Ok(Beat { member: id.clone(), epoch: request.member_epoch, assignment: None })
    }

    /// Takes a static member out for an administrator.
    pub(crate) fn remove_instance(&mut self, instance: &str) -> Result<(), ErrorCode> {
        let id = self.of_instance(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?.id.clone();
        self.fence(&id);
        Ok(())
    }

    /// Takes a member out, and all that it had.
    fn fence(&mut self, id: &str) {
        self.members.retain(|member| *member.id != *id);
        self.epoch += 1;
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.members.iter().flat_map(|member| [member.expires, member.revoke_by]).flatten().min()
    }

    pub(super) fn handle_deadline(&mut self, now: Instant) {
        let is_due = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        let late = |member: &&ConsumerMember| is_due(&member.expires) || is_due(&member.revoke_by);
        let late: Vec<StrBytes> = self.members.iter().filter(late).map(|member| member.id.clone()).collect();
        for id in late {
            self.fence(&id);
        }
    }

    /// Another node has read it: sessions and the time to give up partitions begin anew.
    pub(super) fn loaded(&mut self, now: Instant, terms: ConsumerTerms) {
        for member in &mut self.members {
            member.expires = Some(now + terms.session_timeout);
            let revokes = member.progress == Progress::Unrevoked && member.epoch != AWAY;
            member.revoke_by = revokes.then(|| now + member.rebalance_timeout);
        }
    }

    /// Whether a member may commit, given its epoch.
    pub(super) fn admit_commit(&self, commit: &Commit<'_>) -> Result<(), ErrorCode> {
        if commit.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.member(commit.member)?;
        if commit.version < super::KNOWS_MEMBER_EPOCHS {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        match commit.generation > member.epoch {
            true => Err(ErrorCode::STALE_MEMBER_EPOCH),
            false => Ok(()),
        }
    }

    /// Whether a member had this partition in the epoch that it commits in (KIP-1251).
    pub(super) fn admit_commit_of(&self, commit: &Commit<'_>, place: Place) -> Result<(), ErrorCode> {
        let Ok(member) = self.member(commit.member) else { return Ok(()) };
        let since = member.assigned.get(&place).or_else(|| member.revoking.get(&place));
        match commit.generation == member.epoch || since.is_some_and(|since| *since <= commit.generation) {
            true => Ok(()),
            false => Err(ErrorCode::STALE_MEMBER_EPOCH),
        }
    }

    pub(super) fn admit_offset_fetch(&self, id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if id.is_none_or(str::is_empty) && epoch < 0 {
            return Ok(());
        }
        match self.member(id.unwrap_or_default())?.epoch == epoch {
            true => Ok(()),
            false => Err(ErrorCode::STALE_MEMBER_EPOCH),
        }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.iter().any(|member| wants(member, topic))
    }
}

/// Takes over what the request says; true if it changes what the member subscribes to.
fn update(member: &mut ConsumerMember, request: &ConsumerGroupHeartbeatRequest, client: &StrBytes) -> bool {
    let before = (member.topics.clone(), member.pattern.clone());
    member.client = client.clone();
    if request.rebalance_timeout_ms != -1 {
        member.rebalance_timeout = millis(request.rebalance_timeout_ms);
    }
    if let Some(topics) = &request.subscribed_topic_names {
        member.topics = topics.iter().map(|topic| topic.0.clone()).collect();
    }
    if let Some(pattern) = &request.subscribed_topic_regex {
        member.pattern = pattern.clone();
    }
    for (own, said) in [
        (&mut member.instance, &request.instance_id),
        (&mut member.rack, &request.rack_id),
        (&mut member.assignor, &request.server_assignor),
    ] {
        if said.is_some() {
            own.clone_from(said);
        }
    }
    before != (member.topics.clone(), member.pattern.clone())
}

fn wants(member: &ConsumerMember, topic: &str) -> bool {
    let named = member.topics.iter().any(|name| **name == *topic);
    named || Pattern::parse(&member.pattern).is_some_and(|pattern| pattern.matches(topic))
}

/// The ids of the topics that a member subscribes to and that there are.
fn topics_of(member: &ConsumerMember, topics: &Topics) -> BTreeSet<Uuid> {
    let pattern = Some(&member.pattern).filter(|pattern| !pattern.is_empty());
    let pattern = pattern.and_then(|pattern| Pattern::parse(pattern));
    let matches = |name: &str| pattern.as_ref().is_some_and(|pattern| pattern.matches(name));
    let named = member.topics.iter().filter_map(|name| topics.get(name));
    let matching = topics.iter().filter(|topic| matches(&topic.name));
    named.chain(matching).map(|topic| topic.id).collect()
}
