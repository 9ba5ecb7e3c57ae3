//! A member of a consumer group: which partitions it owns, and where the group stands in them.
//!
//! Three parts. `Coordinator` knows which node to ask. `Classic` is the membership by JoinGroup, SyncGroup and Heartbeat; another
//! protocol can take its place, since whoever reads for it knows only this:
//!
//! | from the membership | meaning | back |
//! | --- | --- | --- |
//! | [`Event::Assigned`] | these are owned from now on | |
//! | [`Event::Revoke`] | these are to be given up; nobody else gets them before | [`Group::revoked`] |
//! | [`Event::Lost`] | these are not owned any more, and may be owned by others | |
//! | [`Event::Failed`] | nothing goes on by itself | [`Group::subscribe`] |
//!
//! `Offsets` commits and fetches, under the membership's present identity and only while the membership says that this may be.
//!
//! Invariants.
//! - A partition is told `Assigned` when it is not owned, and `Revoke` or `Lost` when it is; a revoked one is owned until `revoked`.
//! - No JoinGroup leaves before what it asks to give up is given up, and none while a commit is under way.
//! - No commit leaves between JoinGroup and the answer to SyncGroup: its generation would be neither the old nor the new one.
//! - What was answered to an identity that is not the present one changes nothing about the membership; nor does a node that is not the
//!   coordinator any more when it says that it does not know the member.
mod classic;
mod coordinator;
mod heartbeat;
mod interface;
mod kept;
mod leader;
mod modern;
mod offsets;
mod place;
mod protocol;
mod reaction;
mod requests;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

pub use interface::GroupProtocol;
pub(crate) use interface::{Answer, Event, Identity, Pattern, Request, Settings, Ticket, What};
pub use place::CommittedOffset;
pub(crate) use place::Place;
pub(crate) use requests::{
    CommitPlan, OffsetFetchPlan, PROTOCOL_TYPE, Sender, coordinator_of, fetched, find_coordinator,
};
#[cfg(test)]
pub(crate) use wire::Read;
pub(crate) use wire::call;

use coordinator::Coordinator;
use offsets::Offsets;
use protocol::Protocol;
use reaction::{Api, Reaction, is_passing};

/// What a ticket stands for, and the identity it was asked under.
#[derive(Debug)]
enum Call {
    Find,
    Leave,
    Fetch,
    /// What is answered is of no interest: if nothing is, what follows on that connection fails, too.
    Probe,
    Describe(Identity),
    Member(Api, Identity),
}

/// See the module.
pub(crate) struct Group {
    settings: Arc<Settings>,
    random: SmallRng,
    cluster: Arc<Cluster>,
    coordinator: Coordinator,
    membership: Protocol,
    offsets: Offsets,
    calls: HashMap<Ticket, (i32, Call)>,
    tickets: Ticket,
    events: VecDeque<Event>,
    /// It has left for good, or is about to.
    closed: bool,
}

impl Group {
    pub(crate) fn new(now: Instant, settings: Settings, seed: u64) -> Self {
        let settings = Arc::new(settings);
        let mut random = SmallRng::seed_from_u64(seed);
        Self {
            membership: Protocol::new(now, settings.clone(), &mut random),
            random,
            cluster: Arc::default(),
            coordinator: Coordinator::new(settings.session_timeout),
            offsets: Offsets::default(),
            calls: HashMap::new(),
            tickets: 0,
            events: VecDeque::new(),
            closed: false,
            settings,
        }
    }

    // Commands

    /// Wants to read these topics, and no others. With none it leaves the group. One that had failed tries again.
    pub(crate) fn subscribe(&mut self, now: Instant, topics: BTreeSet<Arc<str>>, pattern: Option<Pattern>) {
        self.membership.subscribe(now, topics, pattern, &mut self.events);
    }

    /// What [`Event::Revoke`] named is given up.
    pub(crate) fn revoked(&mut self) {
        for partition in self.membership.revoked() {
            self.offsets.forget(&partition);
        }
    }

    /// The application asks for records: it lives. While it waits for them, its time does not run.
    pub(crate) fn asked(&mut self, now: Instant, waiting: bool) {
        if !self.closed {
            self.membership.asked(now, waiting);
        }
    }

    /// Commits these, as soon as that may be and before `until`.
    pub(crate) fn commit(&mut self, id: u64, offsets: BTreeMap<TopicPartition, Place>, until: Instant) {
        self.offsets.commit(id, offsets, until, &mut self.events);
    }

    /// Asks where the group stands in these.
    pub(crate) fn fetch(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.offsets.fetch(partitions);
    }

    /// Commits `last` and leaves: both requests are there to be sent at once, in this order, so that nothing needs to be waited for. A
    /// static member does not leave, since it is expected back.
    pub(crate) fn close(&mut self, now: Instant, id: u64, last: BTreeMap<TopicPartition, Place>) {
        self.closed = true;
        self.membership.asked(now, true);
        self.offsets.close();
        if !last.is_empty() && self.membership.identity().generation >= 0 {
            self.offsets.commit_last(id, last, self.membership.sender(), now + self.settings.request_timeout);
        }
        self.membership.leave();
    }

    // Inputs

    pub(crate) fn handle_metadata(&mut self, now: Instant, cluster: &Arc<Cluster>) {
        self.cluster = cluster.clone();
        self.membership.handle_metadata(now, cluster);
    }

    pub(crate) fn handle_deadline(&mut self, now: Instant) {
        if self.membership.session_ended(now)
            && let Some(node) = self.coordinator.node()
        {
            // It is silent: perhaps it is another by now. What is owned stays owned, as the coordinator may think so.
            self.lose_coordinator(now, node);
        }
        self.membership.check_application(now, &mut self.events);
        self.membership.handle_metadata(now, &self.cluster);
        self.offsets.handle_deadline(now, &mut self.events);
    }

    /// The end of a request.
    pub(crate) fn handle_response(&mut self, now: Instant, ticket: Ticket, answer: Result<Answer>) {
        let Some((node, call)) = self.calls.remove(&ticket) else {
            debug_assert!(false, "not a ticket of this group: {ticket}");
            return;
        };
        match (call, answer) {
            (Call::Leave | Call::Probe, _) => {}
            (Call::Describe(sent), answer) => self.described(now, &sent, answer),
            (Call::Find, Ok(Answer::Find(answer))) => match coordinator_of(&self.settings.group, &answer) {
                Ok(node) if self.coordinator.is_dubious(now, node, self.cluster.nodes.keys()) => {
                    self.not_found(now, Error::new(ErrorKind::Timeout, "the coordinator is silent"));
                }
                Ok(node) => {
                    tracing::debug!(target: "milena::group", group = &*self.settings.group, node, "coordinator found");
                    self.coordinator.found(node);
                    self.membership.coordinator_found(now);
                }
                Err(error) => self.not_found(now, error),
            },
            (Call::Find, Err(error)) => {
                if error.kind() == ErrorKind::Timeout {
                    self.coordinator.hung(now, node);
                }
                self.not_found(now, error);
            }
            (Call::Fetch, Ok(Answer::Fetch(answer))) => {
                let (reaction, code) = self.offsets.fetched(&self.settings.group, &answer, &mut self.events);
                self.fetch_reacts(now, node, reaction, code);
            }
            (Call::Fetch, Err(error)) => {
                let passing = is_passing(&error);
                self.offsets.fetch_failed((!passing).then_some(&error), &mut self.events);
                self.offsets.wait_to_fetch(now, &self.settings.backoff, &mut self.random);
                if passing {
                    self.lose_unanswered(now, node, &error);
                }
            }
            (Call::Member(Api::Join, sent), Ok(Answer::Join(answer))) => {
                let Some(classic) = self.membership.classic() else { return };
                if !classic.awaits(ticket) {
                    return classic.joined_too_late(&answer);
                }
                let reaction = self.react(now, node, Api::Join, &sent, answer.error_code.into());
                let Some(classic) = self.membership.classic() else { return };
                match reaction {
                    Reaction::Accept => {
                        let joined = classic.joined(now, &answer, &mut self.events);
                        self.go_on(joined);
                        self.events.push_back(Event::Topics);
                    }
                    Reaction::KeepId => classic.keep_id(&answer),
                    _ => {}
                }
            }
            (Call::Member(Api::Sync, sent), Ok(Answer::Sync(answer))) => {
                let awaited = self.membership.classic().is_some_and(|classic| classic.awaits(ticket));
                if awaited
                    && self.react(now, node, Api::Sync, &sent, answer.error_code.into()) == Reaction::Accept
                    && let Some(classic) = self.membership.classic()
                {
                    let synced = classic.synced(now, &answer, &mut self.events);
                    self.go_on(synced);
                }
            }
            (Call::Member(Api::Heartbeat, sent), Ok(Answer::Heartbeat(answer))) => {
                self.membership.unanswered(Api::Heartbeat, ticket);
                let code = answer.error_code.into();
                if self.react(now, node, Api::Heartbeat, &sent, code) == Reaction::Accept
                    && let Some(classic) = self.membership.classic()
                {
                    classic.alive(now, &sent);
                }
            }
            (Call::Member(Api::Beat, sent), Ok(Answer::Beat(answer))) => {
                let Some(awaited) = self.membership.modern().map(|modern| modern.ended(ticket)) else {
                    return;
                };
                if !awaited || sent != *self.membership.identity() {
                    return;
                }
                match self.react(now, node, Api::Beat, &sent, answer.error_code.into()) {
                    Reaction::Accept => {
                        let Some(modern) = self.membership.modern() else { return };
                        let accepted = modern.accepted(&answer);
                        self.go_on(accepted);
                    }
                    Reaction::Tell => {
                        let Some(modern) = self.membership.modern() else { return };
                        if modern.warn(now, &mut self.random) {
                            let what = "the group reads topics that it may not";
                            let error = Error::broker(answer.error_code.into(), what);
                            self.events.push_back(Event::Warned(error.in_api(Api::Beat.name())));
                        }
                    }
                    _ => {}
                }
            }
            (Call::Member(Api::Commit, sent), Ok(Answer::Commit(answer))) => {
                let identity = self.membership.identity();
                let overtaken = sent != *identity || self.membership.is_asking() || self.was_lost(node);
                let found = self.offsets.committed(now, ticket, &answer, overtaken, &mut self.events);
                if let Some((reaction, code)) = found {
                    if matches!(reaction, Reaction::Again | Reaction::Find) {
                        self.offsets.wait_to_commit(now, &self.settings.backoff, &mut self.random);
                    }
                    self.react(now, node, Api::Commit, &sent, code);
                } else {
                    self.coordinator.proved(node);
                }
            }
            (Call::Member(api, sent), answer) => {
                let Err(error) = answer else {
                    debug_assert!(false, "an answer to something else than was asked");
                    return;
                };
                self.failed(now, node, ticket, api, &sent, error);
            }
            (Call::Find | Call::Fetch, Ok(_)) => {
                debug_assert!(false, "an answer to something else than was asked")
            }
        }
    }

    // Outputs

    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Request> {
        self.offsets.end_forgotten(&mut self.events);
        let Some(node) = self.coordinator.node() else {
            return (self.needs_coordinator() && self.coordinator.ask(now)).then(|| {
                let what = What::Find(self.settings.group.clone());
                // Who is silent as a coordinator may be silent altogether.
                let node = self.coordinator.whom(now, self.cluster.nodes.keys(), &mut self.random);
                let timeout = self.settings.request_timeout.min(self.coordinator.patience());
                Request { node, ticket: self.ticket(node.unwrap_or(-1), Call::Find), timeout, what }
            });
        };
        let ticket = self.tickets + 1;
        // Who is silent for a session is no coordinator any more, and as long as a commit is awaited there, no JoinGroup leaves.
        let timeout = self.settings.request_timeout.min(self.settings.session_timeout);
        let sender = || self.membership.sender();
        let (what, timeout) = if let Some(last) = self.offsets.poll_last(ticket) {
            (last, timeout)
        } else if self.membership.may_commit()
            && let Some(commit) = self.offsets.poll_commit(now, ticket, sender)
        {
            (commit, timeout)
        } else if let Some(partitions) = self.offsets.poll_fetch(now) {
            let group = self.settings.group.clone();
            (What::Fetch(OffsetFetchPlan { group, partitions: Some(partitions) }), timeout)
        } else {
            let committing = self.offsets.is_committing();
            self.membership.poll(now, ticket, &self.cluster, committing, &mut self.events)?
        };
        let identity = self.membership.identity().clone();
        let call = match &what {
            What::Find(_) => Call::Find,
            What::Leave(_) => Call::Leave,
            What::Beat(plan) if plan.sender.identity.generation < 0 => Call::Leave,
            What::Beat(_) => Call::Member(Api::Beat, identity),
            What::Fetch(_) => Call::Fetch,
            What::Probe(_) => Call::Probe,
            What::Describe(_) => Call::Describe(identity),
            What::Join(_) => Call::Member(Api::Join, identity),
            What::Sync(_) => Call::Member(Api::Sync, identity),
            What::Heartbeat(_) => Call::Member(Api::Heartbeat, identity),
            What::Commit(_) => Call::Member(Api::Commit, identity),
        };
        Some(Request { node: Some(node), ticket: self.ticket(node, call), timeout, what })
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Lost(partitions) = &event {
            partitions.iter().for_each(|partition| self.offsets.forget(partition));
        }
        Some(event)
    }

    /// When [`Group::handle_deadline`] or [`Group::poll_request`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let known = self.coordinator.node().is_some();
        let offsets = self.offsets.next_deadline(known, self.membership.may_commit());
        let membership = self.membership.next_deadline(known);
        // Nobody looks for a coordinator that nobody needs.
        let coordinator = self.coordinator.next_deadline().filter(|_| self.needs_coordinator());
        [coordinator, offsets, membership].into_iter().flatten().min()
    }

    // Looks

    /// Topics whose metadata the member needs: its own, and those of all members while it leads.
    pub(crate) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.membership.topics()
    }

    /// Whether it takes part in the group and no round runs.
    pub(crate) fn is_stable(&self) -> bool {
        self.membership.is_stable()
    }

    /// Whether the last requests before leaving are answered, or given up.
    pub(crate) fn is_gone(&self) -> bool {
        let is_last = |(_, call): &(i32, Call)| matches!(call, Call::Leave | Call::Member(Api::Commit, _));
        self.closed && !self.needs_coordinator() && !self.calls.values().any(is_last)
    }

    /// Whether there is something to say to it.
    fn needs_coordinator(&self) -> bool {
        self.membership.needs_coordinator() || self.offsets.needs_coordinator()
    }

    /// `group.id`.
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.settings.group
    }

    /// Under which id it takes part; generation -1: it does not.
    #[cfg(test)]
    pub(crate) fn identity(&self) -> &Identity {
        self.membership.identity()
    }

    // Shared by the parts

    fn ticket(&mut self, node: i32, call: Call) -> Ticket {
        self.tickets += 1;
        self.calls.insert(self.tickets, (node, call));
        self.tickets
    }

    fn lose_coordinator(&mut self, now: Instant, node: i32) {
        tracing::debug!(target: "milena::group", group = &*self.settings.group, node, "coordinator lost");
        self.coordinator.lost(now, node, &self.settings.backoff, &mut self.random);
    }

    /// Whether the node was asked as the coordinator, and is it no more. What it knows of members may be old: if it stood still, sessions
    /// are over there that went on elsewhere.
    fn was_lost(&self, node: i32) -> bool {
        self.coordinator.node() != Some(node)
    }

    /// It did not answer.
    fn lose_unanswered(&mut self, now: Instant, node: i32, error: &Error) {
        if error.kind() == ErrorKind::Timeout {
            self.coordinator.hung(now, node);
        }
        self.lose_coordinator(now, node);
    }

    /// No coordinator: whoever waits goes on waiting, unless nothing will come of that.
    fn not_found(&mut self, now: Instant, error: Error) {
        self.coordinator.failed(now, &self.settings.backoff, &mut self.random);
        if !is_passing(&error) {
            self.fail(error);
        }
    }

    fn go_on(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: Error) {
        self.offsets.fail(&error, &mut self.events);
        self.membership.fail(error, &mut self.events);
    }

    fn fetch_reacts(&mut self, now: Instant, node: i32, reaction: Reaction, code: ErrorCode) {
        match reaction {
            Reaction::Accept | Reaction::Tell => self.coordinator.proved(node),
            Reaction::Fatal => {
                self.fail(Error::broker(code, "the committed offsets cannot be read").in_api("OffsetFetch"))
            }
            reaction => {
                self.offsets.wait_to_fetch(now, &self.settings.backoff, &mut self.random);
                if reaction == Reaction::Find {
                    self.lose_coordinator(now, node);
                }
            }
        }
    }

    /// Does what the code asks for, and says what that is.
    fn react(&mut self, now: Instant, node: i32, api: Api, sent: &Identity, code: ErrorCode) -> Reaction {
        let reaction = match reaction::reaction(api, code) {
            Reaction::ForgetMember | Reaction::ForgetGeneration if self.was_lost(node) => Reaction::Find,
            reaction => reaction,
        };
        match reaction {
            Reaction::Find => self.lose_coordinator(now, node),
            Reaction::Again => {}
            _ => self.coordinator.proved(node),
        }
        if !matches!(reaction, Reaction::Accept | Reaction::KeepId | Reaction::Tell) {
            let error = Error::broker(code, format!("the group {} refuses this member", self.settings.group));
            let error = error.in_api(api.name());
            if reaction == Reaction::Fatal && *sent == *self.membership.identity() {
                self.fail(error);
            } else {
                self.membership.react(now, api, sent, reaction, &error, &mut self.random, &mut self.events);
            }
        }
        reaction
    }

    /// A request of the member got no answer.
    fn failed(&mut self, now: Instant, node: i32, ticket: Ticket, api: Api, sent: &Identity, error: Error) {
        let passing = is_passing(&error);
        match api {
            Api::Commit => {
                self.offsets.commit_failed(now, ticket, error.clone(), passing, &mut self.events);
                self.offsets.wait_to_commit(now, &self.settings.backoff, &mut self.random);
            }
            api if !self.membership.unanswered(api, ticket) => return,
            _ => {}
        }
        if passing {
            self.lose_unanswered(now, node, &error);
            let error = Error::new(ErrorKind::Connect, "");
            self.membership.react(now, api, sent, Reaction::Find, &error, &mut self.random, &mut self.events);
        } else if api != Api::Commit {
            self.fail(error);
        }
    }
}
