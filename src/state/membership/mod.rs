//! A consumer in a group: what the group gives it is read, what the application has finished with is committed.
//!
//! Between the machine that reads and the machine of the group, which do not know each other:
//!
//! ```text
//!   Assigned --> read from where the group stands        hand-over --> handed --(next call, or said so)--> finished --> commit
//!   Revoke ----> hand out nothing more of it --> the application is done with it --> commit --> given up
//!   Lost ------> read no more, nothing can be committed
//! ```
//!
//! Invariants.
//! - What is committed was handed out and finished with before; what is committed of a partition never goes back.
//! - Nothing of a partition is handed out before it is told to be assigned, nor after it is told to be revoked or lost.
//! - A revoked partition is given up when the application is done with what it was handed of it, or the time for that is over.
mod partitions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;
use crate::state::consumer::{Consumer, Position};
use crate::state::group::{Answer, Event, Group, Pattern, Place, Request, Ticket};
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

/// What a member wants to read.
#[derive(Clone)]
pub(crate) enum Subscription {
    Topics(BTreeSet<Arc<str>>),
    /// Topics whose names match, those to come included.
    Matching(Pattern),
    /// Topics that the coordinator finds by the regular expression it was told.
    Regex,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How often what is finished is committed; `None`: only when the application says so.
    pub(crate) auto_commit: Option<Duration>,
    /// What one call handed out is finished when the next is made.
    pub(crate) auto_store: bool,
    /// What is to be given up is kept until [`Membership::release`], not until the next call: work on it goes on while other
    /// partitions are read.
    pub(crate) hold_revoked: bool,
    /// How long the application may take to be done with what is to be given up.
    pub(crate) revoke_within: Duration,
    pub(crate) commit_within: Duration,
}

/// What an application may want to know of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Notice {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// How far an owned partition is.
#[derive(Debug, Default)]
struct Progress {
    /// Behind the last record that was handed out.
    handed: Option<Place>,
    /// Behind the last record that the application has finished with.
    finished: Option<Place>,
    /// It has not finished with the last that it was handed.
    unfinished: bool,
    /// As far as is known, the group stands here.
    committed: i64,
}

impl Progress {
    /// The application is done with all it was handed.
    fn finish(&mut self) {
        if std::mem::take(&mut self.unfinished) {
            self.finished.clone_from(&self.handed);
        }
    }
}

/// Partitions that are being given up.
#[derive(Debug)]
struct Revoking {
    partitions: BTreeSet<TopicPartition>,
    stage: Stage,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// The application has not been told, or is not done.
    Application,
    /// It is, and what it finished is being committed.
    Commit(u64),
}

/// See the module.
pub(crate) struct Membership {
    group: Group,
    settings: Settings,
    subscription: Subscription,
    progress: BTreeMap<TopicPartition, Progress>,
    /// What the last call handed out.
    last: Option<TopicPartition>,
    /// Whether the application takes notices, and those that it has not taken.
    listening: bool,
    notices: VecDeque<Notice>,
    /// A notice of a revocation was handed out by the last call.
    told: bool,
    revoking: Option<Revoking>,
    /// Paused when they were given up; they may come back in the same round.
    paused: BTreeSet<TopicPartition>,
    commit_at: Option<Instant>,
    auto: Option<u64>,
    ids: u64,
    /// What the last call handed out of it can be committed no more, which the application may not know.
    forgone: Option<TopicPartition>,
    /// Commits of the application that have ended.
    ended: VecDeque<(u64, Option<Error>)>,
    failure: Option<Error>,
    topics_changed: bool,
    refresh: bool,
    /// How many partitions were taken away so far.
    removals: u64,
}

impl Membership {
    pub(crate) fn new(group: Group, settings: Settings) -> Self {
        Self {
            group,
            settings,
            subscription: Subscription::Topics(BTreeSet::new()),
            progress: BTreeMap::new(),
            last: None,
            listening: false,
            notices: VecDeque::new(),
            told: false,
            revoking: None,
            paused: BTreeSet::new(),
            commit_at: None,
            auto: None,
            ids: 0,
            forgone: None,
            ended: VecDeque::new(),
            failure: None,
            topics_changed: false,
            refresh: false,
            removals: 0,
        }
    }

    // Commands

    pub(crate) fn subscribe(&mut self, now: Instant, subscription: Subscription, cluster: &Cluster) {
        self.subscription = subscription;
        self.failure = None;
        self.resubscribe(now, cluster);
    }

    fn resubscribe(&mut self, now: Instant, cluster: &Cluster) {
        match &self.subscription {
            Subscription::Topics(topics) => self.group.subscribe(now, topics.clone(), None),
            Subscription::Regex => self.group.subscribe(now, BTreeSet::new(), None),
            Subscription::Matching(pattern) => {
                let matching = cluster.topics.values().filter(|topic| {
                    let exists =
                        topic.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION && !topic.partitions.is_empty();
                    exists && !topic.internal && pattern(&topic.name)
                });
                let topics = matching.map(|topic| topic.name.clone()).collect();
                self.group.subscribe(now, topics, Some(pattern.clone()));
            }
        }
    }

    /// The application asks for more, and takes notices or not: it is done with what it was told and handed before.
    pub(crate) fn ask(&mut self, reader: &mut Consumer, now: Instant, listening: bool) {
        self.group.asked(now, true);
        if !listening {
            self.listening = false;
            self.notices.clear();
        }
        if self.settings.auto_store
            && let Some(progress) = self.last.take().and_then(|last| self.progress.get_mut(&last))
        {
            progress.finish();
        }
        if !self.settings.hold_revoked {
            self.release(reader, now);
        }
    }

    /// The application is done with what it was told to give up, unless it has not been told of all of it yet.
    pub(crate) fn release(&mut self, reader: &mut Consumer, now: Instant) {
        let untold = self.settings.hold_revoked
            && self.notices.iter().any(|notice| matches!(notice, Notice::Revoked(_)));
        if !untold && std::mem::take(&mut self.told) {
            self.give_up(reader, now);
        }
    }

    /// It has stopped to wait.
    pub(crate) fn went_away(&mut self, now: Instant) {
        self.group.asked(now, false);
    }

    /// It was handed a batch that begins at or before `start` and ends before `place`.
    pub(crate) fn handed(&mut self, now: Instant, name: &TopicPartition, start: i64, place: Place) {
        self.group.asked(now, false);
        self.forgone = None;
        let Some(progress) = self.progress.get_mut(name) else { return };
        let start = Place { offset: start, epoch: -1, metadata: "".into() };
        progress.finished.get_or_insert(start);
        (progress.handed, progress.unfinished) = (Some(place), true);
        self.last = Some(name.clone());
    }

    /// The next notice, which is handed out. Who begins to take them is told first what it has.
    pub(crate) fn take_notice(&mut self, now: Instant) -> Option<Notice> {
        if !std::mem::replace(&mut self.listening, true) {
            let owned: Vec<_> = self.progress.keys().cloned().collect();
            if !owned.is_empty() {
                self.notices.push_back(Notice::Assigned(owned));
            }
            if let Some(revoking) = &self.revoking {
                self.notices.push_back(Notice::Revoked(revoking.partitions.iter().cloned().collect()));
            }
        }
        let notice = self.notices.pop_front()?;
        self.group.asked(now, false);
        self.forgone = None;
        self.told |= matches!(notice, Notice::Revoked(_));
        Some(notice)
    }

    /// The application has finished with everything before `offset`, which it was handed.
    ///
    /// # Errors
    /// The partition is not owned, or was not read so far.
    pub(crate) fn finish(
        &mut self,
        name: &TopicPartition,
        offset: i64,
        metadata: Option<&str>,
    ) -> Result<()> {
        let invalid = |what: &str| {
            let error = Error::new(ErrorKind::Config, what);
            Err(error.on_partition(name.shared_topic().clone(), name.partition()))
        };
        let Some(progress) = self.progress.get_mut(name) else {
            return invalid("the partition is not assigned");
        };
        let Some(handed) = &progress.handed else {
            return invalid("nothing was handed out of the partition");
        };
        if offset > handed.offset {
            return invalid("the partition was not read so far");
        }
        progress.unfinished &= offset < handed.offset;
        if progress.finished.as_ref().is_none_or(|finished| finished.offset <= offset) {
            // Of an offset in the midst of a batch the epoch of the record before it is not known for sure.
            let epoch = if offset == handed.offset { handed.epoch } else { -1 };
            progress.finished = Some(Place { offset, epoch, metadata: metadata.unwrap_or_default().into() });
        }
        Ok(())
    }

    /// The application has finished with everything that it was handed.
    pub(crate) fn finish_all(&mut self) {
        if self.settings.auto_store {
            self.progress.values_mut().for_each(Progress::finish);
        }
    }

    /// Commits what is finished; [`Membership::poll_ended`] tells the end of it.
    pub(crate) fn commit(&mut self, reader: &Consumer, now: Instant) -> u64 {
        let offsets = self.committable(reader, |_| true);
        let id = self.start_commit(offsets, now + self.settings.commit_within);
        if let Some(name) = &self.forgone {
            // Told at once; what there is besides is committed all the same.
            let what = "the partition was lost before its offset could be committed";
            let error = Error::broker(ErrorCode::UNKNOWN_MEMBER_ID, what).in_api("OffsetCommit");
            let error = error.on_partition(name.shared_topic().clone(), name.partition());
            self.ended.push_back((id, Some(error)));
        }
        id
    }

    /// Commits what is finished of everything that is owned, and leaves.
    pub(crate) fn close(&mut self, reader: &Consumer, now: Instant) {
        let offsets = match self.settings.auto_commit {
            Some(_) => self.committable(reader, |_| true),
            None => BTreeMap::new(),
        };
        self.ids += 1;
        self.group.close(now, self.ids, offsets);
        self.progress.clear();
        self.revoking = None;
    }

    // Inputs

    pub(crate) fn handle_metadata(&mut self, now: Instant, cluster: &Arc<Cluster>) {
        if matches!(self.subscription, Subscription::Matching(_)) && self.failure.is_none() {
            self.resubscribe(now, cluster);
        }
        self.group.handle_metadata(now, cluster);
    }

    pub(crate) fn handle_deadline(&mut self, reader: &mut Consumer, now: Instant) {
        self.group.handle_deadline(now);
        if self
            .revoking
            .as_ref()
            .is_some_and(|revoking| revoking.until <= now && revoking.stage == Stage::Application)
        {
            tracing::warn!(target: "milena::group", "revoked partitions are given up although the application is not done with them");
            self.give_up(reader, now);
        }
        if let Some(interval) = self.settings.auto_commit
            && self.commit_at.is_some_and(|at| at <= now)
        {
            self.commit_at = Some(now + interval);
            // In a round it would be of the wrong generation; what is to be given up is committed on its own.
            if self.group.is_stable() && self.auto.is_none() {
                let offsets = self.committable(reader, |_| true);
                if !offsets.is_empty() {
                    self.auto = Some(self.start_commit(offsets, now + self.settings.commit_within));
                }
            }
        }
    }

    pub(crate) fn handle_response(&mut self, now: Instant, ticket: Ticket, answer: Result<Answer>) {
        self.group.handle_response(now, ticket, answer);
    }

    // Outputs

    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Request> {
        self.group.poll_request(now)
    }

    /// Takes over what the group has decided. To be called when the requests are drained; more may be due then, which it says.
    pub(crate) fn settle(&mut self, reader: &mut Consumer, now: Instant) -> bool {
        let mut more = false;
        while let Some(event) = self.group.poll_event() {
            more = true;
            match event {
                Event::Assigned(partitions) => self.assigned(reader, now, partitions),
                Event::Revoke(partitions) => self.revoke(reader, now, partitions),
                Event::Lost(partitions) => {
                    self.revoking = None;
                    partitions.iter().for_each(|partition| self.remove(reader, partition));
                    self.notify(Notice::Lost(partitions));
                }
                Event::Failed(error) => self.failure = Some(error),
                Event::Warned(error) => reader.report(error),
                Event::Refresh => self.refresh = true,
                Event::Topics => self.topics_changed = true,
                Event::Committed { id, done, error } => self.committed(reader, id, done, error),
                Event::Offset(name, found) => {
                    if let (Ok(Some(place)), Some(progress)) = (&found, self.progress.get_mut(&name)) {
                        progress.committed = place.offset;
                    }
                    let found = found.map(|place| place.map(|place| (place.offset, place.epoch)));
                    reader.placed(now, &name, found);
                }
            }
        }
        // Who takes no notices needs not be asked while nothing of it is in the works.
        if !self.listening
            && self.revoking.as_ref().is_some_and(|of| of.stage == Stage::Application)
            && self.is_idle()
        {
            self.give_up(reader, now);
            more = true;
        }
        more
    }

    /// The end of a commit that the application asked for.
    pub(crate) fn poll_ended(&mut self) -> Option<(u64, Option<Error>)> {
        self.ended.pop_front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let revoking = self.revoking.as_ref().filter(|revoking| revoking.stage == Stage::Application);
        let commit = self.commit_at.filter(|_| !self.progress.is_empty());
        [self.group.next_deadline(), revoking.map(|revoking| revoking.until), commit]
            .into_iter()
            .flatten()
            .min()
    }

    // Looks

    pub(crate) fn owns(&self, partition: &TopicPartition) -> bool {
        self.progress.contains_key(partition)
    }

    /// How many partitions were taken away so far.
    pub(crate) fn removals(&self) -> u64 {
        self.removals
    }

    /// Why nothing goes on, until the application subscribes again.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Whether [`Membership::take_notice`] would give something to an application that takes notices.
    pub(crate) fn has_notice(&self) -> bool {
        self.failure.is_some() || !self.notices.is_empty()
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) fn wants_all_topics(&self) -> bool {
        matches!(self.subscription, Subscription::Matching(_) | Subscription::Regex)
    }

    /// Whether metadata is to be asked for again, since it was last asked.
    pub(crate) fn wants_refresh(&mut self) -> bool {
        std::mem::take(&mut self.refresh)
    }

    /// Whether the topics changed whose metadata is needed, since it was last asked.
    pub(crate) fn topics_changed(&mut self) -> bool {
        std::mem::take(&mut self.topics_changed)
    }

    // Shared by the parts

    fn start_commit(&mut self, offsets: BTreeMap<TopicPartition, Place>, until: Instant) -> u64 {
        self.ids += 1;
        self.group.commit(self.ids, offsets, until);
        self.ids
    }

    /// What is finished and not committed yet. A position that was looked up and from which nothing was read is finished, too: who comes
    /// later begins there as well.
    fn committable(
        &self,
        reader: &Consumer,
        wanted: impl Fn(&TopicPartition) -> bool,
    ) -> BTreeMap<TopicPartition, Place> {
        let owned = self.progress.iter().filter(|(name, _)| wanted(name));
        let places = owned.filter_map(|(name, progress)| {
            let place = match (&progress.finished, reader.position(name)) {
                (Some(place), _) => place.clone(),
                (None, Position::At(offset)) => Place { offset, epoch: -1, metadata: "".into() },
                (None, _) => return None,
            };
            (place.offset > progress.committed).then(|| (name.clone(), place))
        });
        places.collect()
    }

    fn committed(
        &mut self,
        reader: &mut Consumer,
        id: u64,
        done: Vec<(TopicPartition, i64)>,
        error: Option<Error>,
    ) {
        for (name, offset) in done {
            if let Some(progress) = self.progress.get_mut(&name) {
                progress.committed = progress.committed.max(offset);
            }
        }
        let revoking = self.revoking.as_ref().is_some_and(|revoking| revoking.stage == Stage::Commit(id));
        let auto = self.auto == Some(id);
        if let Some(error) = error.as_ref().filter(|_| revoking || auto) {
            tracing::warn!(target: "milena::group", %error, "finished offsets were not committed");
        }
        if auto {
            self.auto = None;
        } else if revoking {
            self.given_up(reader);
        } else {
            self.ended.push_back((id, error));
        }
    }
}
