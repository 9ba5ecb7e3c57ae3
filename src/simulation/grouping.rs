//! A member of a consumer group: its machines, its application, and what it is promised.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::client::Client;
use super::consuming::{is_our_fault, put_out, take_in};
use super::ledger::Ledger;
use super::link::{Failure, Purpose, Ticket};
use super::network::Network;
use super::truth::TOPIC;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::header::Answer;
use crate::state::consumer::{Consumer, Handover, Limits};
use crate::state::group::{self, Group, Place, Request, What};
use crate::state::membership::{self, Membership, Notice, Subscription};
use crate::state::{consumer, metadata};
use crate::topic_partition::TopicPartition;

pub(super) const GROUP: &str = "g";

/// How one member is set up.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) group: group::Settings,
    pub(super) habits: membership::Settings,
    pub(super) reading: consumer::Settings,
    /// The application takes notices of what it is given and what is taken from it.
    pub(super) listening: bool,
    /// How long the application works on a batch.
    pub(super) work: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Lives,
    /// It was closed in good order, and its last requests are on their way.
    Leaves,
    /// The application has given up, and is to be killed.
    Fails,
    Gone,
}

pub(super) struct Grouping {
    pub(super) client: Client,
    reader: Consumer,
    pub(super) membership: Membership,
    limits: Limits,
    terms: Terms,
    request_timeout: Duration,
    random: SmallRng,
    pub(super) life: Life,
    /// Until when the process does not run at all.
    stopped_until: Option<Instant>,
    busy_until: Instant,
    waits: bool,
    /// What the application has been handed and is not done with: up to which offset it is, when it is.
    in_hand: Vec<(TopicPartition, i64, Vec<i64>)>,
    /// Owned when last looked at, and what was taken away since this was last cleared.
    owned: BTreeSet<i32>,
    pub(super) taken: BTreeSet<i32>,
    /// What was committed of a partition when it was given to this member: nothing before that is read again.
    floors: BTreeMap<i32, i64>,
    reads: BTreeMap<u64, group::Read>,
    pub(super) records: u64,
}

impl Grouping {
    pub(super) fn new(
        now: Instant,
        client: Client,
        terms: Terms,
        request_timeout: Duration,
        seed: u64,
    ) -> Self {
        let reader = Consumer::new(terms.reading.clone(), seed);
        let group = Group::new(now, terms.group.clone(), seed ^ 5);
        let mut this = Self {
            limits: Limits::from(reader.settings()),
            membership: Membership::new(group, terms.habits.clone()),
            client,
            reader,
            request_timeout,
            random: SmallRng::seed_from_u64(seed ^ 9),
            life: Life::Lives,
            stopped_until: None,
            busy_until: now,
            waits: false,
            in_hand: Vec::new(),
            owned: BTreeSet::new(),
            taken: BTreeSet::new(),
            floors: BTreeMap::new(),
            reads: BTreeMap::new(),
            records: 0,
            terms,
        };
        this.client.metadata.want(&TOPIC.into(), false);
        let topics = Subscription::Topics([TOPIC.into()].into());
        this.membership.subscribe(now, topics, &metadata::Cluster::default());
        this
    }

    // ---- what happens to it

    pub(super) fn close(&mut self, now: Instant) {
        if self.life == Life::Lives {
            self.membership.close(&self.reader, now);
            self.reader.close(now);
            self.life = Life::Leaves;
            self.stopped_until = None;
        }
    }

    /// The process is killed: nobody hears of it but by its connections.
    pub(super) fn kill(&mut self, now: Instant, network: &mut Network) {
        self.life = Life::Gone;
        self.client.close(now, network);
    }

    /// The process does not run for a while.
    pub(super) fn stop(&mut self, until: Instant) {
        if self.life == Life::Lives {
            self.stopped_until.get_or_insert(until);
        }
    }

    /// The application does something else.
    pub(super) fn be_busy(&mut self, until: Instant) {
        self.busy_until = self.busy_until.max(until);
    }

    /// The application is quick from now on.
    pub(super) fn calm_down(&mut self, now: Instant) {
        self.terms.work = self.terms.work.min(Duration::from_millis(20));
        self.busy_until = self.busy_until.min(now + Duration::from_millis(20));
        self.stopped_until = self.stopped_until.map(|until| until.min(now));
    }

    // ---- the driver

    pub(super) fn advance(
        &mut self,
        now: Instant,
        network: &mut Network,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if self.life == Life::Gone || self.stopped_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        self.stopped_until = None;
        if std::mem::take(&mut self.client.changed) {
            let cluster = self.client.cluster.clone();
            self.reader.handle_metadata(now, &cluster);
            self.membership.handle_metadata(now, &cluster);
        }
        while let Some((ticket, outcome)) = self.client.take_done() {
            self.answered(now, ticket, outcome)?;
        }
        self.drive(now);
        // A turn may bring to light that another is due.
        for _ in 0..4 {
            if self.reader.next_deadline().is_some_and(|at| at <= now) {
                self.reader.handle_deadline(now);
            }
            if self.membership.next_deadline().is_some_and(|at| at <= now) {
                self.membership.handle_deadline(&mut self.reader, now);
            }
            self.drive(now);
            if self.life == Life::Lives {
                self.live(now, ledger)?;
                self.drive(now);
            }
            if self.life == Life::Fails || self.life == Life::Leaves && self.membership.group().is_gone() {
                self.kill(now, network);
                return Ok(());
            }
            self.look(ledger);
            let deadlines = [self.membership.next_deadline(), self.reader.next_deadline()];
            if deadlines.into_iter().flatten().all(|at| at > now) {
                self.client.advance(now, network);
                return Ok(());
            }
        }
        let group = self.membership.group();
        Err(format!(
            "spins: a deadline that has passed would wake the shell for ever: reader {:?}, membership {:?}, group {:?} of {:?}",
            self.reader.next_deadline().map(|at| at <= now),
            self.membership.next_deadline().map(|at| at <= now),
            group.next_deadline().map(|at| at <= now),
            group.identity(),
        ))
    }

    fn answered(
        &mut self,
        now: Instant,
        ticket: Ticket,
        outcome: Result<Answer, Failure>,
    ) -> Result<(), String> {
        match ticket {
            Ticket::Metadata(ticket) => self.client.take_in_metadata(now, ticket, outcome),
            Ticket::Group(ticket) => {
                let read = self.reads.remove(&ticket).ok_or("an answer nobody asked for")?;
                self.membership.handle_response(now, ticket, read(outcome.map_err(|failure| failure.error)));
            }
            other => drop(take_in(now, &mut self.client, &mut self.reader, other, outcome)?),
        }
        Ok(())
    }

    /// As the shell does it: requests out, then what the group has decided, until nothing follows.
    fn drive(&mut self, now: Instant) {
        loop {
            while let Some(request) = self.membership.poll_request(now) {
                self.ask(now, request);
            }
            if !self.membership.settle(&mut self.reader, now) {
                break;
            }
        }
        while self.membership.poll_ended().is_some() {}
        if self.membership.wants_refresh() {
            self.client.refresh();
        }
        self.membership.topics_changed();
        put_out(now, &mut self.client, &mut self.reader, self.request_timeout);
    }

    fn ask(&mut self, now: Instant, request: Request) {
        let purpose = match request.what {
            What::Find(_) => Purpose::Rest,
            What::Probe(_) | What::Join(_) | What::Sync(_) => Purpose::Rebalance,
            _ if request.what.is_sign_of_life() => Purpose::Heartbeat,
            _ => Purpose::Group,
        };
        let node = request.node.unwrap_or_else(|| self.client.any_node());
        let (build, read) = group::call(request.what, "simulated".into());
        self.reads.insert(request.ticket, read);
        self.client.submit(node, purpose, now + request.timeout, Ticket::Group(request.ticket), build);
    }

    // ---- the application

    fn live(&mut self, now: Instant, ledger: &mut Ledger) -> Result<(), String> {
        while now >= self.busy_until {
            if !std::mem::replace(&mut self.waits, true) {
                for (name, end, offsets) in std::mem::take(&mut self.in_hand) {
                    ledger.finished(name.partition(), offsets);
                    if !self.terms.habits.auto_store {
                        // Refused if it was taken away meanwhile.
                        let _ = self.membership.finish(&name, end, None);
                    }
                }
                if self.terms.habits.auto_commit.is_none() {
                    self.membership.commit(&self.reader, now);
                }
                self.membership.ask(&mut self.reader, now, self.terms.listening);
                self.drive(now);
            }
            if let Some(error) = self.membership.failure() {
                let instance = [ErrorCode::UNRELEASED_INSTANCE_ID, ErrorCode::FENCED_INSTANCE_ID];
                if error.code().is_some_and(|code| instance.contains(&code)) {
                    // The one before it was killed, and the coordinator waits for it; or a request of the one before it, or its own first
                    // one, came late and took its place. Whoever started it has to start another.
                    self.life = Life::Fails;
                    return Ok(());
                }
                return Err(format!("a member gives up: {error}"));
            }
            if self.terms.listening
                && let Some(notice) = self.membership.take_notice(now)
            {
                if let Notice::Lost(partitions) = &notice {
                    self.in_hand.retain(|(name, ..)| !partitions.contains(name));
                }
                self.goes_to_work(now);
                break;
            }
            match self.reader.take(now) {
                None => break,
                Some(Handover::Error(error)) if is_our_fault(&error) => {
                    return Err(format!("a member reports: {error}"));
                }
                Some(Handover::Error(_)) => self.goes_to_work(now),
                Some(Handover::Batch(taken)) => {
                    let opened = taken.open(&self.limits);
                    let Some((batch, before)) = self.reader.commit(now, &taken, opened) else { continue };
                    let (offset, epoch) = (batch.next_offset(), batch.header().leader_epoch);
                    let place = Place { offset, epoch, metadata: "".into() };
                    self.membership.handed(now, &taken.name, taken.position, place);
                    let offsets: Vec<i64> =
                        batch.records().skip(before).map(|record| record.offset()).collect();
                    self.records += offsets.len() as u64;
                    let floor = self.floors.get(&taken.name.partition()).copied().unwrap_or_default();
                    if offsets.first().is_some_and(|first| *first < floor) {
                        return Err(format!(
                            "again: {} is read from {offsets:?}, and {floor} was committed",
                            taken.name
                        ));
                    }
                    if !self.membership.owns(&taken.name) {
                        return Err(format!("G1: {} is handed out and not owned", taken.name));
                    }
                    self.in_hand.push((taken.name, offset, offsets));
                    self.goes_to_work(now);
                }
            }
        }
        Ok(())
    }

    fn goes_to_work(&mut self, now: Instant) {
        self.waits = false;
        self.busy_until = now + self.terms.work.mul_f64(self.random.random_range(0.0..2.0));
    }

    // ---- looks

    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.life == Life::Gone {
            return None;
        }
        if let Some(until) = self.stopped_until.filter(|until| *until > now) {
            return Some(until);
        }
        let busy = Some(self.busy_until).filter(|until| *until > now);
        let machines = [self.membership.next_deadline(), self.reader.next_deadline()];
        machines.into_iter().chain([self.client.next_deadline(), busy]).flatten().min()
    }

    /// Notes what was given and what was taken away.
    fn look(&mut self, ledger: &Ledger) {
        let owned = self.partitions();
        let given = owned.difference(&self.owned);
        self.floors.extend(given.map(|partition| (*partition, ledger.committed(*partition))));
        self.taken.extend(self.owned.difference(&owned));
        self.owned = owned;
    }

    pub(super) fn partitions(&self) -> BTreeSet<i32> {
        let owned = (0..64).filter(|partition| self.membership.owns(&TopicPartition::new(TOPIC, *partition)));
        owned.collect()
    }

    pub(super) fn lives(&self) -> bool {
        self.life == Life::Lives
    }

    pub(super) fn describe(&self) -> String {
        let (group, owned) = (self.membership.group(), self.partitions());
        let stable = group.is_stable();
        format!("{:?} {:?} stable: {stable}, owns {owned:?}", self.life, group.identity())
    }

    pub(super) fn is_static_by_rounds(&self) -> bool {
        self.terms.group.instance.is_some() && self.terms.group.protocol == group::GroupProtocol::Classic
    }

    pub(super) fn instance(&self) -> Option<std::sync::Arc<str>> {
        self.terms.group.instance.clone()
    }
}
