//! Where the group stands: commits one after the other, and the question where it stood.
//!
//! One commit is under way at a time, so that none overtakes an earlier one. It is tried again until its time is over; whoever asked is
//! told exactly once. What stops being owned is taken out of commits that wait: another member may have committed further on by then.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use kafka_protocol::messages::{OffsetCommitResponse, OffsetFetchResponse};
use rand::rngs::SmallRng;

use super::reaction::{Api, Reaction, reaction};
use super::requests::{self, CommitPlan, Sender};
use super::{Event, Place, Ticket, What};
use crate::error::{Error, ErrorKind};
use crate::protocol::error_code::ErrorCode;
use crate::state::backoff::Backoff;
use crate::topic_partition::TopicPartition;

#[derive(Debug, Default)]
pub(super) struct Offsets {
    commits: VecDeque<Commit>,
    /// The commit before leaving, which waits for nobody.
    last: Option<(Commit, Sender)>,
    /// No commit is tried again.
    closed: bool,
    committing: Option<Ticket>,
    commits_retry: Retry,
    wanted: BTreeSet<TopicPartition>,
    /// Of those, what is being asked now.
    asked: Option<BTreeSet<TopicPartition>>,
    fetch_retry: Retry,
}

#[derive(Debug)]
struct Commit {
    id: u64,
    left: BTreeMap<TopicPartition, Place>,
    /// Of what is under way: not owned any more.
    forgotten: BTreeSet<TopicPartition>,
    done: Vec<(TopicPartition, i64)>,
    error: Option<Error>,
    until: Instant,
}

#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    at: Option<Instant>,
}

impl Retry {
    fn later(&mut self, now: Instant, backoff: &Backoff, random: &mut SmallRng) {
        self.failures = self.failures.saturating_add(1);
        self.at = Some(now + backoff.after(self.failures, random));
    }

    /// Whether it may be tried now.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.at.is_some_and(|at| at <= now) {
            self.at = None;
        }
        self.at.is_none()
    }
}

impl Commit {
    fn new(id: u64, left: BTreeMap<TopicPartition, Place>, until: Instant) -> Self {
        Self { id, left, forgotten: BTreeSet::new(), done: Vec::new(), error: None, until }
    }

    fn end(self, events: &mut VecDeque<Event>) {
        events.push_back(Event::Committed { id: self.id, done: self.done, error: self.error });
    }

    fn fail(mut self, error: Error, events: &mut VecDeque<Event>) {
        self.error.get_or_insert(error);
        self.end(events);
    }

    /// Leaves a partition out, since whoever has it now may have committed more.
    fn leave_out(&mut self, partition: &TopicPartition) {
        if self.left.remove(partition).is_some() {
            let error = Error::broker(
                ErrorCode::REBALANCE_IN_PROGRESS,
                "the partition was given up before its offset could be committed",
            );
            let error = error.on_partition(partition.shared_topic().clone(), partition.partition());
            self.error.get_or_insert(error.retriable(false));
        }
    }

    /// Before it is sent again, perhaps under another identity.
    fn leave_out_forgotten(&mut self) {
        for partition in std::mem::take(&mut self.forgotten) {
            self.leave_out(&partition);
        }
    }

    fn plan(&self, sender: Sender) -> What {
        What::Commit(CommitPlan { sender, offsets: self.left.clone() })
    }
}

/// What an answer means for the membership.
pub(super) type Consequence = (Reaction, ErrorCode);

impl Offsets {
    // Commands

    pub(super) fn commit(
        &mut self,
        id: u64,
        offsets: BTreeMap<TopicPartition, Place>,
        until: Instant,
        events: &mut VecDeque<Event>,
    ) {
        let commit = Commit::new(id, offsets, until);
        match commit.left.is_empty() {
            true => commit.end(events),
            false => self.commits.push_back(commit),
        }
    }

    pub(super) fn commit_last(
        &mut self,
        id: u64,
        offsets: BTreeMap<TopicPartition, Place>,
        sender: Sender,
        until: Instant,
    ) {
        self.last = Some((Commit::new(id, offsets, until), sender));
    }

    /// Nothing but the last commit is of use any more; nobody waits for others.
    pub(super) fn close(&mut self) {
        (self.committing, self.asked, self.closed) = (None, None, true);
        self.commits.clear();
        self.wanted.clear();
    }

    /// Nothing more will be committed or found.
    pub(super) fn fail(&mut self, error: &Error, events: &mut VecDeque<Event>) {
        self.committing = None;
        self.commits.drain(..).for_each(|commit| commit.fail(error.clone(), events));
        self.asked = None;
        self.wanted.clear();
    }

    pub(super) fn fetch(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.wanted.extend(partitions);
    }

    /// It is not owned any more.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.wanted.remove(partition);
        if let Some(asked) = &mut self.asked {
            asked.remove(partition);
        }
        let flying = usize::from(self.committing.is_some());
        // What is under way cannot be taken back, and was sent while it was owned.
        for commit in self.commits.iter_mut().take(flying) {
            commit.forgotten.insert(partition.clone());
        }
        for commit in self.commits.iter_mut().skip(flying) {
            commit.leave_out(partition);
        }
    }

    // Outputs

    /// Commits that wait and of which nothing is left to be done.
    pub(super) fn end_forgotten(&mut self, events: &mut VecDeque<Event>) {
        let flying = usize::from(self.committing.is_some());
        while let Some(at) = self.commits.iter().skip(flying).position(|commit| commit.left.is_empty()) {
            if let Some(commit) = self.commits.remove(at + flying) {
                commit.end(events);
            }
        }
    }

    /// The commit that nothing may hold up.
    pub(super) fn poll_last(&mut self, ticket: Ticket) -> Option<What> {
        let (last, sender) = self.last.take()?;
        let plan = last.plan(sender);
        self.commits.push_front(last);
        self.committing = Some(ticket);
        Some(plan)
    }

    pub(super) fn poll_commit(
        &mut self,
        now: Instant,
        ticket: Ticket,
        sender: impl FnOnce() -> Sender,
    ) -> Option<What> {
        if self.committing.is_some() || self.commits.is_empty() || !self.commits_retry.is_due(now) {
            return None;
        }
        self.committing = Some(ticket);
        self.commits.front().map(|commit| commit.plan(sender()))
    }

    pub(super) fn poll_fetch(&mut self, now: Instant) -> Option<Vec<TopicPartition>> {
        if self.asked.is_some() || self.wanted.is_empty() || !self.fetch_retry.is_due(now) {
            return None;
        }
        self.asked = Some(self.wanted.clone());
        Some(self.wanted.iter().cloned().collect())
    }

    pub(super) fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    pub(super) fn needs_coordinator(&self) -> bool {
        self.last.is_some() || !self.commits.is_empty() || !self.wanted.is_empty()
    }

    /// Of use while the coordinator is known, and commits may be sent.
    pub(super) fn next_deadline(&self, known: bool, may_commit: bool) -> Option<Instant> {
        let ends =
            self.commits.iter().skip(usize::from(self.committing.is_some())).map(|commit| commit.until);
        let commit = self.commits_retry.at.filter(|_| known && may_commit && !self.commits.is_empty());
        let fetch = self.fetch_retry.at.filter(|_| known && !self.wanted.is_empty());
        ends.chain(commit).chain(fetch).min()
    }

    // Inputs

    pub(super) fn handle_deadline(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        let flying = usize::from(self.committing.is_some());
        while let Some(at) = self.commits.iter().skip(flying).position(|commit| commit.until <= now) {
            if let Some(commit) = self.commits.remove(at + flying) {
                let error = Error::new(ErrorKind::Timeout, "the offsets could not be committed in time");
                commit.fail(error.in_api("OffsetCommit"), events);
            }
        }
        self.commits_retry.is_due(now);
        self.fetch_retry.is_due(now);
    }

    /// The commit got no answer: again, unless that is of no use.
    pub(super) fn commit_failed(
        &mut self,
        now: Instant,
        ticket: Ticket,
        error: Error,
        again: bool,
        events: &mut VecDeque<Event>,
    ) {
        let Some(mut commit) = self.under_way(ticket) else { return };
        commit.leave_out_forgotten();
        if again && commit.until > now && !self.closed && !commit.left.is_empty() {
            self.commits.push_front(commit);
        } else {
            commit.fail(error.in_api("OffsetCommit"), events);
        }
    }

    fn under_way(&mut self, ticket: Ticket) -> Option<Commit> {
        // Another than the last is not waited for when the group is left.
        if self.committing != Some(ticket) {
            return None;
        }
        self.committing = None;
        self.commits.pop_front()
    }

    pub(super) fn wait_to_commit(&mut self, now: Instant, backoff: &Backoff, random: &mut SmallRng) {
        self.commits_retry.later(now, backoff, random);
    }

    /// What was committed and what was not. `overtaken`: a round has begun or passed since it was sent, so that the coordinator may be a
    /// generation ahead, and refuse it for that alone.
    pub(super) fn committed(
        &mut self,
        now: Instant,
        ticket: Ticket,
        answer: &OffsetCommitResponse,
        overtaken: bool,
        events: &mut VecDeque<Event>,
    ) -> Option<Consequence> {
        let mut commit = self.under_way(ticket)?;
        let mut consequence: Option<Consequence> = None;
        let mut again = BTreeMap::new();
        let mut refused: BTreeSet<String> = BTreeSet::new();
        for topic in &answer.topics {
            for of in &topic.partitions {
                let name = TopicPartition::new(&*topic.name.0, of.partition_index);
                let Some(place) = commit.left.remove(&name) else { continue };
                let code = ErrorCode::from(of.error_code);
                let reaction = match reaction(Api::Commit, code) {
                    Reaction::ForgetMember | Reaction::ForgetGeneration | Reaction::Rejoin
                        if overtaken && !commit.forgotten.contains(&name) =>
                    {
                        Reaction::Again
                    }
                    reaction => reaction,
                };
                if reaction == Reaction::Accept {
                    commit.done.push((name, place.offset));
                    continue;
                }
                if matches!(reaction, Reaction::Again | Reaction::Find) {
                    again.insert(name.clone(), place);
                }
                let mut error = Error::broker(code, "the offset was not committed");
                match reaction {
                    Reaction::Rejoin => error = error.retriable(true),
                    // The round that runs has moved on, and the partition may still be owned after it.
                    Reaction::ForgetMember | Reaction::ForgetGeneration if overtaken => {
                        error = Error::broker(
                            ErrorCode::REBALANCE_IN_PROGRESS,
                            "the offset was not committed: a round has passed meanwhile",
                        )
                        .retriable(true);
                    }
                    Reaction::Tell if code == ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                        refused.insert(name.topic().to_owned());
                        let topics = refused.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                        error = Error::broker(
                            code,
                            format!("offsets of these topics were not committed: {topics}"),
                        );
                        commit.error = None;
                    }
                    _ => {}
                }
                if !again.contains_key(&name) {
                    let error = error.on_partition(name.shared_topic().clone(), name.partition());
                    commit.error.get_or_insert(error.in_api("OffsetCommit"));
                }
                // What concerns the whole membership comes before what concerns a partition.
                let weight = |reaction| !matches!(reaction, Reaction::Tell | Reaction::Again);
                if consequence.as_ref().is_none_or(|had| weight(reaction) && !weight(had.0)) {
                    consequence = Some((reaction, code));
                }
            }
        }
        if let Some(name) = commit.left.keys().next() {
            let error =
                Error::new(ErrorKind::Protocol, "the answer leaves out a partition that was committed");
            let error = error.in_api("OffsetCommit");
            commit.error.get_or_insert(error.on_partition(name.shared_topic().clone(), name.partition()));
        }
        commit.left = again;
        commit.leave_out_forgotten();
        match commit.left.is_empty() {
            true => {
                self.commits_retry = Retry::default();
                commit.end(events);
            }
            false if commit.until <= now => {
                let code = consequence.as_ref().map_or(ErrorCode::REQUEST_TIMED_OUT, |had| had.1);
                let error = Error::broker(code, "the offsets could not be committed in time");
                commit.fail(error.in_api("OffsetCommit"), events);
            }
            false if self.closed => commit.end(events),
            false => self.commits.push_front(commit),
        }
        consequence
    }

    /// OffsetFetch got no answer.
    pub(super) fn fetch_failed(&mut self, error: Option<&Error>, events: &mut VecDeque<Event>) {
        let asked = self.asked.take().unwrap_or_default();
        for name in asked {
            if let Some(error) = error {
                self.wanted.remove(&name);
                events.push_back(Event::Offset(name, Err(error.clone())));
            }
        }
    }

    pub(super) fn wait_to_fetch(&mut self, now: Instant, backoff: &Backoff, random: &mut SmallRng) {
        self.fetch_retry.later(now, backoff, random);
    }

    /// Where the group stands; a code is about the whole of it.
    pub(super) fn fetched(
        &mut self,
        group: &str,
        answer: &OffsetFetchResponse,
        events: &mut VecDeque<Event>,
    ) -> Consequence {
        let entries = match requests::fetched(group, answer) {
            Ok(entries) => entries,
            // A group that nobody has heard of has committed nothing.
            Err(ErrorCode::GROUP_ID_NOT_FOUND) => {
                let asked = self.asked.iter().flatten().cloned();
                asked.map(|name| (name, Ok(None))).collect()
            }
            Err(code) => {
                let reaction = reaction(Api::Fetch, code);
                let error = Error::broker(code, "the committed offsets cannot be read").in_api("OffsetFetch");
                self.fetch_failed((reaction == Reaction::Tell).then_some(&error), events);
                return (reaction, code);
            }
        };
        let mut asked = self.asked.take().unwrap_or_default();
        let mut consequence = (Reaction::Accept, ErrorCode::NONE);
        for (name, found) in entries {
            if !asked.remove(&name) {
                continue;
            }
            let found = match found {
                Ok(place) => Ok(place),
                Err(code) => match reaction(Api::Fetch, code) {
                    Reaction::Tell => {
                        let error = Error::broker(code, "the committed offset cannot be read");
                        Err(error
                            .in_api("OffsetFetch")
                            .on_partition(name.shared_topic().clone(), name.partition()))
                    }
                    reaction => {
                        consequence = (reaction, code);
                        continue;
                    }
                },
            };
            self.wanted.remove(&name);
            events.push_back(Event::Offset(name, found));
        }
        for name in asked {
            let error =
                Error::new(ErrorKind::Protocol, "the answer leaves out a partition that was asked about");
            let error =
                error.in_api("OffsetFetch").on_partition(name.shared_topic().clone(), name.partition());
            self.wanted.remove(&name);
            events.push_back(Event::Offset(name, Err(error)));
        }
        if consequence.0 == Reaction::Accept {
            self.fetch_retry = Retry::default();
        }
        consequence
    }
}
