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
mod answers;
mod round;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::heartbeat::Clocks;
use super::leader::{Layout, Round};
use super::requests::Sender;
use super::{Event, Identity, Pattern, Settings, Ticket};
use crate::assignor::RebalanceProtocol;
use crate::error::Error;
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

/// How long a leader waits to learn of topics that it has not heard of before it assigns without them.
const METADATA_WAIT: Duration = Duration::from_secs(5);
/// A node that has just started may not know a topic for a moment; only then is it taken for deleted.
const VANISHED: Duration = Duration::from_secs(3);

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
    /// The next JoinGroup goes out on a connection that was silent since the last round, and may have died without a word. A round is
    /// awaited for long, so that a heartbeat goes before it on the same connection, which is answered at once or shows that.
    probe: bool,
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
    /// Of a leader: its topics as they were when it assigned them, with racks if it has one itself (KIP-881).
    watched: Option<BTreeMap<Arc<str>, Layout>>,
    /// Since when one of them has not been there.
    vanished: Option<Instant>,
    /// Of a leader whose group kept the assignment from before it came back: the topics that it should have been given.
    expected: Option<BTreeSet<Arc<str>>>,
    /// When it looks whether what the group kept is all there is, if that is to be seen.
    check: Option<Instant>,
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
            probe: false,
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
            check: None,
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
        let changes: Vec<bool> =
            watched.iter().filter_map(|(topic, layout)| layout.change(cluster, topic)).collect();
        self.vanished = (!changes.is_empty()).then(|| self.vanished.unwrap_or(now));
        if changes.contains(&true) || self.vanished.is_some_and(|since| now >= since + VANISHED) {
            (self.watched, self.vanished) = (None, None);
            self.want_round("the topics have changed");
        }
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
        (self.last_generation, self.watched, self.vanished, self.check) = (None, None, None, None);
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

    /// When [`Classic::poll`] has something to do: to send only while the coordinator is `known`.
    pub(super) fn next_deadline(&self, known: bool) -> Option<Instant> {
        let send = match &self.state {
            State::Leading { until, .. } => Some(*until),
            State::Unjoined | State::Stable => self.not_before,
            _ => None,
        };
        let check = self.check.filter(|_| self.is_stable());
        let heartbeat = self.clocks.heartbeat().filter(|_| self.has_pulse() && !self.beating);
        let vanished = self.vanished.map(|since| since + VANISHED).filter(|_| self.is_stable());
        let sends = [send, heartbeat, check].into_iter().filter(|_| known);
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

    /// A commit between the answers to JoinGroup and SyncGroup is refused. Before, while the others are waited for, it is as good as ever:
    /// who waits for it would not read on, however long the round takes.
    pub(super) fn may_commit(&self) -> bool {
        self.identity.generation >= 0 && self.progress != Progress::Joined
    }

    /// The coordinator may be a generation ahead: what it refuses may be refused for that alone.
    pub(super) fn is_asking(&self) -> bool {
        self.progress == Progress::Asked
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
