//! Membership by the protocol of KIP-848: the coordinator assigns, and ConsumerGroupHeartbeat says everything.
//!
//! ```text
//!          subscribe             accepted            another assignment             given up
//!   Out -------------> Joining -----------> Member ---------------------> giving up ----------> acknowledging
//!    ^                  ^                    |  ^                                                    |
//!    | leave, late      | fenced, unknown:   |  +------------ the next heartbeat, at once ------------+
//!    | application      | all is lost        |
//!    +------------------+--------------------+--> Failed: fatal errors; until the next `subscribe`
//! ```
//!
//! There are no rounds: each member moves by itself, and the coordinator gives a partition away only when a heartbeat showed that its
//! former owner has given it up. What a heartbeat does not name has not changed; after anything went wrong it names everything.
//!
//! Invariants.
//! - At most one heartbeat is under way, so that epochs come in order.
//! - A heartbeat that names what is owned names it all, with what is being given up and is not yet.
//! - The member id is made here and kept for life; only the epoch says whether it takes part: 0 to join, -1 to leave, -2 to come back.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ConsumerGroupHeartbeatResponse;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use uuid::Uuid;

use super::heartbeat::Clocks;
use super::reaction::{Api, Reaction};
use super::requests::{BeatPlan, Sender};
use super::{Event, Identity, Settings, Ticket, What};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

/// The epochs that are none.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
const LEAVE_TO_COME_BACK: i32 = -2;
/// How often a node may say that the instance is another's before that is believed: it can lag behind.
const UNRELEASED_TRIES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Subscribed to nothing, or away for too long.
    Out,
    Joining,
    Member,
    Failed,
}

/// See the module.
pub(super) struct Modern {
    settings: Arc<Settings>,
    state: State,
    /// Generation -1 while it does not take part.
    identity: Identity,
    clocks: Clocks,
    beating: Option<Ticket>,
    /// The next heartbeat does not wait for its time.
    urgent: bool,
    /// The next heartbeat names everything.
    full: bool,
    /// The next heartbeat names what is owned.
    acknowledge: bool,
    topics: BTreeSet<Arc<str>>,
    /// What the coordinator was told.
    told: Option<BTreeSet<Arc<str>>>,
    owned: BTreeSet<TopicPartition>,
    /// Told to be given up, and still owned.
    revoking: BTreeSet<TopicPartition>,
    /// What the coordinator wants this member to own, until it does.
    target: Option<BTreeMap<Uuid, BTreeSet<i32>>>,
    /// Of assigned topics: their ids.
    ids: BTreeMap<Arc<str>, Uuid>,
    /// It leaves when all is given up.
    quitting: bool,
    /// The application was told of what is wrong with its topics.
    warned: bool,
    leaving: Option<i32>,
    failures: u32,
    not_before: Option<Instant>,
    /// When to ask again which topics there are, while an assigned one is not known.
    ask_topics: Option<Instant>,
}

impl Modern {
    pub(super) fn new(now: Instant, settings: Arc<Settings>, random: &mut SmallRng) -> Self {
        let member = Uuid::from_u128(random.random()).to_string();
        Self {
            state: State::Out,
            identity: Identity { generation: -1, member: member.into() },
            clocks: Clocks::new(now, &settings),
            beating: None,
            urgent: false,
            full: true,
            acknowledge: false,
            topics: BTreeSet::new(),
            told: None,
            owned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            target: None,
            ids: BTreeMap::new(),
            quitting: false,
            warned: false,
            leaving: None,
            failures: 0,
            not_before: None,
            ask_topics: None,
            settings,
        }
    }

    // Commands

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        topics: BTreeSet<Arc<str>>,
        events: &mut VecDeque<Event>,
    ) {
        if topics != self.topics {
            self.topics = topics;
            events.push_back(Event::Topics);
        }
        match self.state {
            State::Out | State::Failed if self.wants_nothing() => self.state = State::Out,
            State::Out if self.clocks.is_absent() => {}
            State::Out | State::Failed => {
                self.clocks.asked(now, false);
                (self.not_before, self.failures) = (None, 0);
                self.join();
            }
            _ if self.wants_nothing() => {
                self.quitting = true;
                let owned = self.owned.iter().cloned().collect();
                self.revoke(owned, events);
                if self.owned.is_empty() {
                    self.leave();
                }
            }
            _ => self.quitting = false,
        }
    }

    fn wants_nothing(&self) -> bool {
        self.topics.is_empty() && self.settings.regex.is_none()
    }

    /// What was to be given up is given up.
    pub(super) fn revoked(&mut self) -> BTreeSet<TopicPartition> {
        let revoked = std::mem::take(&mut self.revoking);
        self.owned.retain(|partition| !revoked.contains(partition));
        self.acknowledge |= !revoked.is_empty();
        if self.quitting {
            self.leave();
        }
        revoked
    }

    pub(super) fn asked(&mut self, now: Instant, waiting: bool) {
        let absent = self.clocks.is_absent();
        self.clocks.asked(now, waiting);
        if absent && self.state == State::Out && !self.wants_nothing() {
            self.join();
        }
    }

    fn join(&mut self) {
        (self.state, self.identity.generation) = (State::Joining, -1);
        (self.full, self.quitting) = (true, false);
    }

    /// Leaves at once. What was owned is not any more, of which nothing is told.
    pub(super) fn leave(&mut self) {
        if matches!(self.state, State::Joining | State::Member) {
            let back = self.settings.instance.is_some();
            self.leaving = Some(if back { LEAVE_TO_COME_BACK } else { LEAVE });
        }
        self.forget_all();
        self.state = State::Out;
    }

    // Inputs

    /// Whether the application has been away for longer than it said it would.
    pub(super) fn check_application(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        let Some(late) = self.clocks.is_late(now) else { return };
        if matches!(self.state, State::Out | State::Failed) {
            return;
        }
        tracing::warn!(target: "milena::group", group = &*self.settings.group, late_ms = late.as_millis() as u64,
            "the application has not asked for records for longer than max_poll_interval: \
             the consumer leaves the group until it does");
        self.lose(events);
        self.leave();
    }

    /// The awaited heartbeat was answered with success.
    pub(super) fn accepted(&mut self, answer: &ConsumerGroupHeartbeatResponse) -> Result<()> {
        if answer.member_epoch <= 0 {
            let text = format!("the coordinator put a member into epoch {}", answer.member_epoch);
            return Err(Error::new(ErrorKind::Protocol, text).in_api(Api::Beat.name()));
        }
        (self.state, self.failures, self.warned) = (State::Member, 0, false);
        self.identity.generation = answer.member_epoch;
        // Version 0 lets the coordinator choose.
        if let Some(member) = answer.member_id.as_deref().filter(|member| !member.is_empty()) {
            self.identity.member = member.into();
        }
        if let Some(interval) = u64::try_from(answer.heartbeat_interval_ms).ok().filter(|millis| *millis > 0)
        {
            self.clocks.every(Duration::from_millis(interval));
        }
        if let Some(assignment) = &answer.assignment {
            let mut target: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
            for topic in &assignment.topic_partitions {
                let partitions = topic.partitions.iter().copied().filter(|partition| *partition >= 0);
                target.entry(topic.topic_id).or_default().extend(partitions);
            }
            self.target = Some(target);
            self.ask_topics = None;
        }
        Ok(())
    }

    /// What is wrong goes on by itself, with the next heartbeat. Says whether the application is to be told.
    pub(super) fn warn(&mut self, now: Instant, random: &mut SmallRng) -> bool {
        self.full = true;
        self.back_off(now, random);
        !std::mem::replace(&mut self.warned, true)
    }

    /// No heartbeat is under way any more. Says whether this was it, and about what this member is now.
    pub(super) fn ended(&mut self, ticket: Ticket) -> bool {
        let awaited = self.beating == Some(ticket);
        if awaited {
            self.beating = None;
        }
        awaited && matches!(self.state, State::Joining | State::Member)
    }

    /// What an answer that was no success means for the membership. `sent` is the identity that it was given to.
    #[allow(clippy::too_many_arguments)] // as for the classic protocol
    pub(super) fn react(
        &mut self,
        now: Instant,
        api: Api,
        sent: &Identity,
        reaction: Reaction,
        error: &Error,
        random: &mut SmallRng,
        events: &mut VecDeque<Event>,
    ) {
        if *sent != self.identity || matches!(self.state, State::Out | State::Failed) {
            return;
        }
        match reaction {
            Reaction::ForgetMember | Reaction::ForgetGeneration => {
                tracing::warn!(target: "milena::group", group = &*self.settings.group, %error, "membership lost");
                self.lose(events);
                self.join();
                // A coordinator that refuses every attempt is not asked in a loop.
                if self.failures > 0 {
                    self.back_off(now, random);
                }
                self.failures = self.failures.max(1);
            }
            Reaction::Again if api == Api::Beat => {
                self.full = true;
                self.back_off(now, random);
                let another = error.code() == Some(ErrorCode::UNRELEASED_INSTANCE_ID);
                if another && self.failures > UNRELEASED_TRIES {
                    self.fail(error.clone(), events);
                }
            }
            Reaction::Find if api == Api::Beat => (self.full, self.urgent) = (true, true),
            // The epoch that the commit carried is over: the next heartbeat brings the present one.
            Reaction::Again if error.code() == Some(ErrorCode::STALE_MEMBER_EPOCH) => self.urgent = true,
            _ => {}
        }
    }

    fn back_off(&mut self, now: Instant, random: &mut SmallRng) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.settings.backoff.after(self.failures, random));
    }

    /// Nothing goes on by itself. The others need not wait for this member.
    pub(super) fn fail(&mut self, error: Error, events: &mut VecDeque<Event>) {
        self.lose(events);
        self.leave();
        self.state = State::Failed;
        events.push_back(Event::Failed(error));
    }

    /// What is owned is not any more.
    fn lose(&mut self, events: &mut VecDeque<Event>) {
        let lost: Vec<_> = std::mem::take(&mut self.owned).into_iter().collect();
        if !lost.is_empty() {
            events.push_back(Event::Lost(lost));
        }
        self.forget_all();
    }

    fn forget_all(&mut self) {
        self.owned.clear();
        self.revoking.clear();
        self.ids.clear();
        self.clocks.stop();
        // An answer that is on its way is about what was.
        (self.beating, self.target, self.told, self.ask_topics) = (None, None, None, None);
        (self.acknowledge, self.urgent, self.quitting) = (false, false, false);
        self.identity.generation = -1;
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, events: &mut VecDeque<Event>) {
        let new: Vec<_> =
            partitions.into_iter().filter(|partition| self.revoking.insert(partition.clone())).collect();
        if !new.is_empty() {
            events.push_back(Event::Revoke(new));
        }
    }

    /// Takes over what the coordinator assigned: first what is to be given up, then what is new.
    fn reconcile(&mut self, now: Instant, cluster: &Cluster, events: &mut VecDeque<Event>) {
        if self.state != State::Member || !self.revoking.is_empty() || self.quitting {
            return;
        }
        let Some(target) = &self.target else { return };
        let (mut wanted, mut ids, mut unknown) = (BTreeSet::new(), BTreeMap::new(), false);
        for (id, partitions) in target {
            let known = self.ids.iter().find(|(_, of)| *of == id).map(|(name, _)| name);
            let named = || cluster.topics.iter().find(|(_, topic)| topic.id == *id).map(|(name, _)| name);
            match known.or_else(named) {
                Some(name) => {
                    ids.insert(name.clone(), *id);
                    wanted.extend(partitions.iter().map(|at| TopicPartition::new(name.clone(), *at)));
                }
                None => unknown = true,
            }
        }
        let gone: Vec<_> = self.owned.difference(&wanted).cloned().collect();
        if !gone.is_empty() {
            return self.revoke(gone, events);
        }
        let added: Vec<_> = wanted.difference(&self.owned).cloned().collect();
        if !added.is_empty() {
            self.acknowledge = true;
            self.owned.extend(added.iter().cloned());
            events.push_back(Event::Assigned(added));
        }
        if ids != self.ids {
            self.ids = ids;
            events.push_back(Event::Topics);
        }
        if !unknown {
            (self.target, self.ask_topics) = (None, None);
        } else if self.ask_topics.is_none_or(|at| at <= now) {
            self.ask_topics = Some(now + self.settings.backoff.max);
            events.push_back(Event::Refresh);
        }
    }

    // Outputs

    /// The next thing to ask, if any, and how long the answer may take.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        ticket: Ticket,
        cluster: &Cluster,
        events: &mut VecDeque<Event>,
    ) -> Option<(What, Duration)> {
        let timeout = self.settings.request_timeout;
        self.reconcile(now, cluster, events);
        if let Some(epoch) = self.leaving.take() {
            let sender = self.sender_of(epoch);
            return Some((What::Beat(BeatPlan::of(sender)), timeout));
        }
        if self.not_before.is_some_and(|at| at <= now) {
            self.not_before = None;
        }
        if !self.is_due(now) || self.beating.is_some() || self.not_before.is_some() {
            return None;
        }
        let epoch = if self.state == State::Joining { JOIN } else { self.identity.generation };
        let (all, settings) = (self.full, &*self.settings);
        let changed = self.told.as_ref() != Some(&self.topics);
        let owns = all || self.acknowledge || self.owned.is_empty();
        let plan = BeatPlan {
            sender: self.sender_of(epoch),
            rack: settings.rack.clone().filter(|_| all),
            rebalance_timeout: all.then_some(settings.rebalance_timeout),
            topics: (all || changed).then(|| self.topics.iter().cloned().collect()),
            regex: settings.regex.clone().filter(|_| all),
            assignor: settings.remote_assignor.clone().filter(|_| all),
            owned: owns.then(|| self.owned_ids()),
        };
        self.told = Some(self.topics.clone());
        (self.full, self.acknowledge, self.urgent) = (false, false, false);
        self.beating = Some(ticket);
        self.clocks.wait(now);
        let what = What::Beat(plan);
        let timeout = if what.is_sign_of_life() { timeout.min(self.clocks.patience()) } else { timeout };
        Some((what, timeout))
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Out | State::Failed => false,
            State::Joining => true,
            State::Member => {
                // What was given up is shown together with what came in its place.
                let acknowledge = self.acknowledge && self.revoking.is_empty();
                let changed = self.told.as_ref() != Some(&self.topics) && !self.quitting;
                self.urgent || self.full || acknowledge || changed || self.clocks.is_due(now)
            }
        }
    }

    fn owned_ids(&self) -> Vec<(Uuid, Vec<i32>)> {
        let mut owned: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for partition in &self.owned {
            if let Some(id) = self.ids.get(partition.topic()) {
                owned.entry(*id).or_default().push(partition.partition());
            }
        }
        owned.into_iter().collect()
    }

    /// When [`Modern::poll`] has something to do: to send only while the coordinator is `known`.
    pub(super) fn next_deadline(&self, known: bool) -> Option<Instant> {
        let beats = known && self.state == State::Member && self.beating.is_none();
        let heartbeat = self.clocks.heartbeat().filter(|_| beats && self.not_before.is_none());
        let ask = self.ask_topics.filter(|_| self.revoking.is_empty());
        let sends = [self.not_before, heartbeat, ask].into_iter().filter(|_| known);
        sends.chain([self.clocks.next_deadline()]).flatten().min()
    }

    // Looks

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn sender(&self) -> Sender {
        self.sender_of(self.identity.generation)
    }

    fn sender_of(&self, generation: i32) -> Sender {
        Sender {
            group: self.settings.group.clone(),
            instance: self.settings.instance.clone(),
            identity: Identity { generation, ..self.identity.clone() },
        }
    }

    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.topics.iter().chain(self.ids.keys()).cloned().collect()
    }

    pub(super) fn is_stable(&self) -> bool {
        self.state == State::Member && self.target.is_none() && self.revoking.is_empty()
    }

    pub(super) fn may_commit(&self) -> bool {
        self.state == State::Member
    }

    pub(super) fn needs_coordinator(&self) -> bool {
        matches!(self.state, State::Joining | State::Member) || self.leaving.is_some()
    }
}
