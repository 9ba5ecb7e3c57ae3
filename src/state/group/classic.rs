//! Membership by the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! ```text
//!          subscribe                 given up, no commit under way
//!   Out -------------> Unjoined ------------------------------------> Joining
//!    ^                  ^     ^                                        |   |
//!    | leave,           |     +------- refused: again, or lost --------+   | leader: Leading (waits for metadata, assigns)
//!    | late application |                                                  v follower: Following
//!    |                  | a round begins, something changed            Syncing
//!    +-------------- Stable <----------------------------------------------+
//!                       |                  assignment
//!                       +--> Failed, from anywhere: fatal errors; until the next `subscribe`
//! ```
//!
//! Eager: all is given up before JoinGroup. Cooperative: what is kept is owned all the time; what the answer to SyncGroup lacks is
//! given up after it, and then another round follows. Heartbeats go on in all states with a generation, but for `Joining`: there the
//! coordinator waits for nobody, and an answer could be about the next generation.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use rand::rngs::SmallRng;

use super::heartbeat::Clocks;
use super::leader::{self, ByTopic, Round};
use super::reaction::{Api, Reaction};
use super::requests::{JoinPlan, PROTOCOL_TYPE, Sender, SyncPlan};
use super::{Event, Identity, Pattern, Settings, Ticket, What};
use crate::assignor::RebalanceProtocol;
use crate::error::{Error, Result};
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

/// How long a leader waits to learn of topics that it has not heard of before it assigns without them.
const METADATA_WAIT: Duration = Duration::from_secs(5);
/// A node that has just started may not know a topic for a moment; only then is it taken for deleted.
const VANISHED: Duration = Duration::from_secs(3);
/// The coordinator ends a round by itself when the rebalance timeout is over; its answer needs a moment to get here.
const ROUND_SLACK: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    /// Subscribed to nothing, or away for too long.
    Out,
    Unjoined,
    Joining(Ticket),
    /// The leader knows the members, and waits until it knows their topics.
    Leading {
        round: Round,
        until: Instant,
    },
    Following,
    Syncing(Ticket),
    Stable,
    Failed,
}

/// How far the present round has come, whatever was refused and is tried again meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Progress {
    /// None runs.
    Done,
    /// JoinGroup was sent and not accepted yet. The coordinator may be a generation ahead, so that a heartbeat or a commit could be
    /// refused for that alone.
    Asked,
    /// It was accepted, and SyncGroup was not.
    Joined,
}

/// See the module.
pub(super) struct Classic {
    settings: Arc<Settings>,
    /// Whether all assignors can do with partitions that are kept through a round.
    cooperative: bool,
    state: State,
    identity: Identity,
    clocks: Clocks,
    progress: Progress,
    /// A heartbeat is under way.
    beating: bool,
    /// What is to be read, and what the last JoinGroup said.
    topics: BTreeSet<Arc<str>>,
    joined: BTreeSet<Arc<str>>,
    /// Topics that a leader may give although this member has not heard of them.
    pattern: Option<Pattern>,
    owned: BTreeSet<TopicPartition>,
    /// Told to be given up, and still owned.
    revoking: BTreeSet<TopicPartition>,
    /// What was assigned last and not lost since, and in which generation.
    last: BTreeSet<TopicPartition>,
    last_generation: Option<i32>,
    /// Why another round is wanted.
    rejoin: Option<&'static str>,
    failures: u32,
    not_before: Option<Instant>,
    /// The assignor of the present generation.
    protocol: usize,
    /// Of a leader: its topics and how many partitions they had when it assigned them.
    watched: Option<BTreeMap<Arc<str>, usize>>,
    /// Since when one of them has not been there.
    vanished: Option<Instant>,
    /// Of a leader whose group kept the assignment from before it came back: the topics that it should have been given.
    expected: Option<BTreeSet<Arc<str>>>,
    /// Members that are to leave.
    leaving: VecDeque<Identity>,
}

impl Classic {
    pub(super) fn new(now: Instant, settings: Arc<Settings>) -> Self {
        let cooperative =
            settings.assignors.iter().all(|of| of.protocols().contains(&RebalanceProtocol::Cooperative));
        Self {
            cooperative,
            state: State::Out,
            identity: Identity::none(),
            clocks: Clocks::new(now, &settings),
            progress: Progress::Done,
            beating: false,
            topics: BTreeSet::new(),
            joined: BTreeSet::new(),
            pattern: None,
            owned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            last: BTreeSet::new(),
            last_generation: None,
            rejoin: None,
            failures: 0,
            not_before: None,
            protocol: 0,
            watched: None,
            vanished: None,
            expected: None,
            leaving: VecDeque::new(),
            settings,
        }
    }

    // Commands

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        topics: BTreeSet<Arc<str>>,
        pattern: Option<Pattern>,
        events: &mut VecDeque<Event>,
    ) {
        self.pattern = pattern;
        if topics != self.topics {
            self.topics = topics;
            events.push_back(Event::Topics);
        }
        match self.state {
            State::Out | State::Failed if self.topics.is_empty() => self.state = State::Out,
            State::Out if self.clocks.is_absent() => {}
            State::Out | State::Failed => {
                self.clocks.asked(now, false);
                (self.state, self.not_before, self.failures) = (State::Unjoined, None, 0);
            }
            _ if self.topics == self.joined => {}
            _ if self.topics.is_empty() && !self.is_stable() => {
                // What is under way is not waited for; its answers mean nothing any more.
                self.lose(events);
                self.leave();
            }
            _ => self.want_round("the subscription changed"),
        }
    }

    /// What was to be given up is given up.
    pub(super) fn revoked(&mut self) -> BTreeSet<TopicPartition> {
        let revoked = std::mem::take(&mut self.revoking);
        self.owned.retain(|partition| !revoked.contains(partition));
        revoked
    }

    pub(super) fn asked(&mut self, now: Instant, waiting: bool) {
        let absent = self.clocks.is_absent();
        self.clocks.asked(now, waiting);
        if absent && matches!(self.state, State::Out) && !self.topics.is_empty() {
            self.state = State::Unjoined;
            self.want_round("the application asks for records again");
        }
    }

    /// Leaves at once. What was owned is not any more, of which nothing is told.
    pub(super) fn leave(&mut self) {
        self.forget_all();
        (self.state, self.rejoin) = (State::Out, None);
        let identity = std::mem::replace(&mut self.identity, Identity::none());
        self.dismiss(identity);
    }

    /// A static member is expected back, so that only its session's end makes others take over.
    fn dismiss(&mut self, identity: Identity) {
        if self.settings.instance.is_none() && !identity.member.is_empty() {
            self.leaving.push_back(identity);
        }
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

    /// True if the coordinator has been silent for too long.
    pub(super) fn session_ended(&mut self, now: Instant) -> bool {
        self.clocks.session_ended(now)
    }

    pub(super) fn coordinator_found(&mut self, now: Instant) {
        if self.has_pulse() {
            self.clocks.alive(now);
        }
    }

    /// A leader looks whether what it assigned is still all there is.
    pub(super) fn handle_metadata(&mut self, now: Instant, cluster: &Cluster) {
        let Some(watched) = self.watched.as_ref().filter(|_| self.is_stable()) else { return };
        let changed = |(topic, count): (&Arc<str>, &usize)| {
            let known = leader::partitions(cluster, topic)?;
            (known != *count).then_some(known > 0)
        };
        let changes: Vec<bool> = watched.iter().filter_map(changed).collect();
        self.vanished = (!changes.is_empty()).then(|| self.vanished.unwrap_or(now));
        if changes.contains(&true) || self.vanished.is_some_and(|since| now >= since + VANISHED) {
            (self.watched, self.vanished) = (None, None);
            self.want_round("the topics have changed");
        }
    }

    /// Whether this is the JoinGroup or SyncGroup that is waited for.
    pub(super) fn awaits(&self, ticket: Ticket) -> bool {
        matches!(self.state, State::Joining(awaited) | State::Syncing(awaited) if awaited == ticket)
    }

    /// JoinGroup was accepted, but nobody waits for that any more: nobody shall wait for this member either.
    pub(super) fn joined_too_late(&mut self, answer: &JoinGroupResponse) {
        let member: Arc<str> = answer.member_id.as_str().into();
        if ErrorCode::from(answer.error_code).is_none() && member != self.identity.member {
            self.dismiss(Identity { generation: answer.generation_id, member });
        }
    }

    pub(super) fn keep_id(&mut self, answer: &JoinGroupResponse) {
        self.identity = Identity { generation: -1, member: answer.member_id.as_str().into() };
        self.state = State::Unjoined;
    }

    pub(super) fn joined(&mut self, now: Instant, answer: &JoinGroupResponse) -> Result<()> {
        self.identity =
            Identity { generation: answer.generation_id, member: answer.member_id.as_str().into() };
        (self.failures, self.progress) = (0, Progress::Joined);
        (self.watched, self.vanished, self.expected) = (None, None, None);
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
            self.state = State::Following;
        }
        Ok(())
    }

    pub(super) fn synced(
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

    /// A heartbeat is not under way any more.
    pub(super) fn beaten(&mut self) {
        self.beating = false;
    }

    /// The coordinator took it for a member.
    pub(super) fn alive(&mut self, now: Instant, sent: &Identity) {
        if *sent == self.identity {
            self.clocks.alive(now);
        }
    }

    /// What an answer that was no success means for the membership. `sent` is the identity that it was given to.
    #[allow(clippy::too_many_arguments)] // each is a fact about the answer, and none belongs to another
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
        // A heartbeat that a new round overtook: that round's own answer tells.
        if *sent != self.identity || api == Api::Heartbeat && self.progress == Progress::Asked {
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
        self.last.clear();
        self.clocks.stop();
        self.progress = Progress::Done;
        (self.last_generation, self.watched, self.vanished) = (None, None, None);
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, events: &mut VecDeque<Event>) {
        let new: Vec<_> =
            partitions.into_iter().filter(|partition| self.revoking.insert(partition.clone())).collect();
        if !new.is_empty() {
            events.push_back(Event::Revoke(new));
        }
    }

    fn want_round(&mut self, reason: &'static str) {
        self.rejoin.get_or_insert(reason);
    }

    // Outputs

    /// The next thing to ask, if any, and how long the answer may take. JoinGroup waits while a commit is under way.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        ticket: Ticket,
        cluster: &Cluster,
        committing: bool,
        events: &mut VecDeque<Event>,
    ) -> Option<(What, Duration)> {
        let timeout = self.settings.request_timeout;
        let round_timeout = timeout.max(self.settings.rebalance_timeout + ROUND_SLACK);
        self.prepare(now, events);
        if let Some(identity) = self.leaving.pop_front() {
            return Some((What::Leave(Sender { identity, ..self.sender() }), timeout));
        }
        match &self.state {
            State::Unjoined if self.revoking.is_empty() && !committing && self.not_before.is_none() => {
                (self.state, self.progress) = (State::Joining(ticket), Progress::Asked);
                self.clocks.stop();
                return Some((What::Join(self.join()), round_timeout));
            }
            State::Leading { round, until } if *until <= now || round.is_known(cluster) => {
                match self.lead(cluster) {
                    Ok(assignments) => {
                        self.state = State::Syncing(ticket);
                        return Some((What::Sync(self.sync(assignments)), round_timeout));
                    }
                    Err(error) => self.fail(error, events),
                }
            }
            State::Following => {
                if let Some(topics) = &self.expected {
                    let count =
                        |topic: &Arc<str>| (topic.clone(), leader::partitions(cluster, topic).unwrap_or(0));
                    self.watched = Some(topics.iter().map(count).collect());
                }
                self.state = State::Syncing(ticket);
                return Some((What::Sync(self.sync(Vec::new())), round_timeout));
            }
            _ => {}
        }
        if self.has_pulse() && !self.beating && self.clocks.is_due(now) {
            self.beating = true;
            self.clocks.wait(now);
            return Some((What::Heartbeat(self.sender()), timeout.min(self.settings.session_timeout)));
        }
        None
    }

    /// Before a round: what it asks to be given up beforehand.
    fn prepare(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        if self.not_before.is_some_and(|at| at <= now) {
            self.not_before = None;
        }
        if self.is_stable() && self.rejoin.is_some() && self.revoking.is_empty() && self.not_before.is_none()
        {
            self.state = State::Unjoined;
        }
        if !matches!(self.state, State::Unjoined) {
            return;
        }
        let given =
            |partition: &&TopicPartition| !self.cooperative || !self.topics.contains(partition.topic());
        let given: Vec<_> = self.owned.iter().filter(given).cloned().collect();
        self.revoke(given, events);
        if self.topics.is_empty() && self.revoking.is_empty() {
            self.leave();
        }
    }

    fn join(&mut self) -> JoinPlan {
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        self.joined.clone_from(&self.topics);
        let held = if self.cooperative { &self.owned } else { &self.last };
        let settings = &*self.settings;
        let protocols = settings.assignors.iter().map(|assignor| {
            let held = (held, self.last_generation);
            let rack = settings.rack.as_deref();
            let bytes = leader::subscription(&**assignor, &self.topics, held, self.cooperative, rack);
            (assignor.name().into(), bytes)
        });
        JoinPlan {
            session_timeout: millis(settings.session_timeout),
            rebalance_timeout: millis(settings.rebalance_timeout),
            protocols: protocols.collect(),
            reason: self.rejoin.take().unwrap_or("the consumer subscribes"),
            sender: self.sender(),
        }
    }

    /// What everybody gets, made by this member; nothing if the group keeps what it has.
    fn lead(&mut self, cluster: &Cluster) -> Result<Vec<(Arc<str>, Bytes)>> {
        let State::Leading { round, .. } = &self.state else { return Ok(Vec::new()) };
        let Some(assignor) = self.settings.assignors.get(self.protocol) else { return Ok(Vec::new()) };
        let assignments = round.assign(&**assignor, cluster, &self.settings)?;
        self.watched = Some(round.counts(cluster));
        if !round.skip {
            return Ok(assignments);
        }
        let own = assignments.iter().find(|(member, _)| *member == self.identity.member);
        if let Some((_, bytes)) = own {
            let (own, _) = leader::assignment(bytes, &self.settings.group)?;
            self.expected = Some(own.iter().map(|partition| partition.shared_topic().clone()).collect());
        }
        Ok(Vec::new())
    }

    fn sync(&self, assignments: Vec<(Arc<str>, Bytes)>) -> SyncPlan {
        SyncPlan { sender: self.sender(), protocol: self.protocol_name().into(), assignments }
    }

    /// When [`Classic::poll`] has something to do: to send only while the coordinator is `known`.
    pub(super) fn next_deadline(&self, known: bool) -> Option<Instant> {
        let send = match &self.state {
            State::Leading { until, .. } => Some(*until),
            State::Unjoined | State::Stable => self.not_before,
            _ => None,
        };
        let heartbeat = self.clocks.heartbeat().filter(|_| self.has_pulse() && !self.beating);
        let vanished = self.vanished.map(|since| since + VANISHED).filter(|_| self.is_stable());
        let sends = [send, heartbeat].into_iter().filter(|_| known);
        sends.chain([vanished, self.clocks.next_deadline()]).flatten().min()
    }

    // Looks

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn sender(&self) -> Sender {
        Sender {
            group: self.settings.group.clone(),
            instance: self.settings.instance.clone(),
            identity: self.identity.clone(),
        }
    }

    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        let mut topics = self.topics.clone();
        if let State::Leading { round, .. } = &self.state {
            topics.extend(round.topics.iter().cloned());
        }
        topics.extend(self.watched.iter().flatten().map(|(topic, _)| topic.clone()));
        topics
    }

    pub(super) fn is_stable(&self) -> bool {
        matches!(self.state, State::Stable)
    }

    /// A commit between JoinGroup and the answer to SyncGroup would be of neither generation.
    pub(super) fn may_commit(&self) -> bool {
        self.identity.generation >= 0 && self.progress == Progress::Done
    }

    pub(super) fn needs_coordinator(&self) -> bool {
        !matches!(self.state, State::Out | State::Failed) || !self.leaving.is_empty()
    }

    /// Whether there is something to keep alive by heartbeats.
    fn has_pulse(&self) -> bool {
        self.identity.generation >= 0 && self.progress != Progress::Asked
    }

    fn protocol_name(&self) -> &str {
        self.settings.assignors.get(self.protocol).map_or("", |assignor| assignor.name())
    }
}
