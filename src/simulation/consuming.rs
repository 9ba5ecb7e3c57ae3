//! A client that reads the topic, and what it is promised about what it gets.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::client::Client;
use super::link::{Failure, Purpose, Ticket};
use super::network::Network;
use super::truth::{Log, TOPIC, Truth};
use crate::error::{Error, ErrorKind};
use crate::protocol::fetch::{FetchRequest, FetchResponse, LAST_VERSION_BY_NAME};
use crate::protocol::header::{self, Answer};
use crate::record::reader::DecodedBatch;
use crate::state::consumer::{
    Consumer, Event, Handover, IsolationLevel, LANES, Limits, Offset, OffsetReset, PositionReset, Request,
    Settings, What, list_offsets, offset_for_leader_epoch,
};
use crate::topic_partition::TopicPartition;

mod promises;

/// Where the reader stands in a partition, by what it was given so far.
#[derive(Debug)]
struct Reader {
    /// The offset that is due; `None` while the position is looked up.
    expected: Option<i64>,
    /// A position that is looked up is that of the first record, and not behind the last one.
    first: bool,
    /// It is not before this one: what was readable when the end was asked for, where no other leader ever knew less.
    least: i64,
    paused: bool,
    /// Since when it could get everything: reads, is not paused, has a position.
    since: Instant,
    /// An unclean election cut off records it had been given; it must be told.
    cut: Option<i64>,
    /// It need not be, since nobody can know it.
    may_be_silent: bool,
    /// It was sent to an offset and has read nothing there: which log that was in is unknown.
    rootless: bool,
    cuts: u32,
}

pub(super) struct Consuming {
    pub(super) client: Client,
    machine: Consumer,
    settings: Settings,
    limits: Limits,
    request_timeout: Duration,
    random: SmallRng,
    partitions: i32,
    readers: BTreeMap<i32, Reader>,
    /// Until when the application does something else.
    pub(super) busy_until: Instant,
    pub(super) records: u64,
    pub(super) resets: u64,
    pub(super) errors: u64,
    /// The largest batch that was seen, for the bound on memory.
    largest: usize,
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

impl Consuming {
    pub(super) fn new(
        now: Instant,
        client: Client,
        settings: Settings,
        partitions: i32,
        request_timeout: Duration,
        seed: u64,
    ) -> Self {
        let machine = Consumer::new(settings.clone(), seed);
        let limits = Limits::from(machine.settings());
        let mut this = Self {
            client,
            machine,
            settings,
            limits,
            request_timeout,
            random: SmallRng::seed_from_u64(seed ^ 3),
            partitions,
            readers: BTreeMap::new(),
            busy_until: now,
            records: 0,
            resets: 0,
            errors: 0,
            largest: 0,
        };
        this.client.metadata.want(&TOPIC.into(), false);
        for partition in 0..partitions {
            this.add(now, partition, Some(Offset::At(0)), None);
        }
        this
    }

    fn committed(&self) -> bool {
        self.settings.isolation == IsolationLevel::ReadCommitted
    }

    // ---- the application

    fn add(&mut self, now: Instant, partition: i32, from: Option<Offset>, log: Option<&Log>) {
        self.machine.add(now, name(partition), from);
        let first_or_last = match self.settings.reset {
            OffsetReset::Latest => Offset::End,
            _ => Offset::Beginning,
        };
        let (expected, first) = Self::place(from.unwrap_or(first_or_last));
        let cuts = log.map_or(0, |log| log.cuts);
        self.readers.insert(
            partition,
            Reader {
                expected,
                first,
                least: 0,
                paused: false,
                since: now,
                cut: None,
                may_be_silent: false,
                rootless: expected.is_some(),
                cuts,
            },
        );
    }

    /// Where a reader stands that was sent to this place, and whether that is the first record.
    fn place(to: Offset) -> (Option<i64>, bool) {
        match to {
            Offset::At(offset) => (Some(offset), false),
            to => (None, to == Offset::Beginning),
        }
    }

    /// What an application may do at any time, also again before anything came of it.
    pub(super) fn command(&mut self, now: Instant, truth: &Truth) {
        let partition = self.random.random_range(0..self.partitions);
        for _ in 0..self.random.random_range(1..3) {
            self.command_one(now, partition, truth);
        }
    }

    fn command_one(&mut self, now: Instant, partition: i32, truth: &Truth) {
        let (committed, log) = (self.committed(), truth.log(partition));
        let Some(reader) = self.readers.get_mut(&partition) else {
            let from = self.random.random_bool(0.5).then_some(Offset::Beginning);
            return self.add(now, partition, from, Some(log));
        };
        reader.since = now;
        match self.random.random_range(0..8) {
            0 | 1 => {
                reader.paused = true;
                self.machine.pause(&name(partition));
            }
            2 => {
                self.machine.remove(&name(partition));
                self.readers.remove(&partition);
            }
            3 => {
                let to = match self.random.random_range(0..3) {
                    0 => Offset::Beginning,
                    1 => Offset::End,
                    _ => Offset::At(self.random.random_range(log.start..=log.readable)),
                };
                self.machine.seek(&name(partition), to);
                let (expected, first) = Self::place(to);
                let end = if committed { log.stable } else { log.readable };
                if let Some(reader) = self.readers.get_mut(&partition) {
                    *reader = Reader {
                        expected,
                        first,
                        least: if to == Offset::End && log.moved.is_none() { end } else { 0 },
                        cut: None,
                        may_be_silent: false,
                        rootless: expected.is_some(),
                        cuts: log.cuts,
                        ..*reader
                    };
                }
            }
            4 => self.busy_until = now + Duration::from_millis(self.random.random_range(0..4000)),
            _ => self.resume(now),
        }
    }

    pub(super) fn resume(&mut self, now: Instant) {
        for (partition, reader) in self.readers.iter_mut().filter(|(_, reader)| reader.paused) {
            (reader.paused, reader.since) = (false, now);
            self.machine.resume(&name(*partition));
        }
    }

    /// Everything is read again, to its end.
    pub(super) fn settle(&mut self, now: Instant, truth: &Truth) {
        self.busy_until = now;
        self.resume(now);
        for partition in 0..self.partitions {
            if !self.readers.contains_key(&partition) {
                self.add(now, partition, Some(Offset::Beginning), Some(truth.log(partition)));
            }
        }
    }

    /// Takes what is there.
    fn take(&mut self, now: Instant, truth: &Truth) -> Result<(), String> {
        while now >= self.busy_until {
            let taken = match self.machine.take(now) {
                None => break,
                Some(Handover::Error(error)) => {
                    self.errors += 1;
                    if is_our_fault(&error) {
                        return Err(format!("the consumer reports: {error}"));
                    }
                    continue;
                }
                Some(Handover::Batch(taken)) => taken,
            };
            if self.random.random_bool(0.05) {
                // The application dropped the future before the batch was handed over: it comes again.
                continue;
            }
            let opened = taken.open(&self.limits);
            if let Some((batch, before)) = self.machine.commit(now, &taken, opened) {
                self.got(now, taken.name.partition(), &batch, before, taken.reset, truth)?;
            }
        }
        Ok(())
    }

    fn got(
        &mut self,
        now: Instant,
        partition: i32,
        batch: &DecodedBatch,
        before: usize,
        reset: Option<PositionReset>,
        truth: &Truth,
    ) -> Result<(), String> {
        let (committed, log) = (self.committed(), truth.log(partition));
        let at = |what: String| format!("partition {partition}: {what}");
        let reader = self
            .readers
            .get_mut(&partition)
            .ok_or(at("C1: a batch of a partition that is not read".into()))?;
        if reader.paused {
            return Err(at("C1: a batch of a paused partition".into()));
        }
        let first = batch.records().nth(before).map(|record| record.offset());
        if let Some(reset) = reset {
            self.resets += 1;
            let latest = self.settings.reset == OffsetReset::Latest;
            reader.told(reset, first.unwrap_or_default(), latest, log).map_err(at)?;
        }
        let mut expected = reader.expected.ok_or(at("C1: a batch while the position is looked up".into()))?;
        for record in batch.records().skip(before) {
            let value = String::from_utf8_lossy(record.value().unwrap_or_default());
            let lost = log.check_next(expected, record.offset(), &value, committed).map_err(at)?;
            if lost {
                // It was fetched before it was lost; what follows must tell of it.
                reader.cut.get_or_insert(record.offset());
            } else if reader.cut.is_some_and(|cut| record.offset() >= cut) {
                if !std::mem::take(&mut reader.may_be_silent) {
                    return Err(at(
                        "C1: the log was cut off below the position, and nothing is said of it".into()
                    ));
                }
                reader.cut = None;
            }
            expected = record.offset() + 1;
            self.records += 1;
        }
        reader.expected = Some(expected);
        reader.since = reader.since.max(now);
        reader.rootless = false;
        Ok(())
    }

    // ---- the driver

    pub(super) fn advance(
        &mut self,
        now: Instant,
        network: &mut Network,
        truth: &Truth,
    ) -> Result<(), String> {
        if self.client.changed {
            self.client.changed = false;
            self.machine.handle_metadata(now, &self.client.cluster.clone());
        }
        while let Some((ticket, outcome)) = self.client.take_done() {
            self.take_in(now, ticket, outcome)?;
            self.put_out(now);
        }
        if self.machine.next_deadline().is_some_and(|at| at <= now) {
            self.machine.handle_deadline(now);
        }
        self.put_out(now);
        self.follow(truth);
        self.take(now, truth)?;
        self.put_out(now);
        self.client.advance(now, network);
        if self.machine.next_deadline().is_some_and(|at| at <= now) {
            return Err("spins: a deadline that has passed would wake the shell for ever".into());
        }
        self.check_positions(truth)
    }

    fn take_in(
        &mut self,
        now: Instant,
        ticket: Ticket,
        outcome: Result<Answer, Failure>,
    ) -> Result<(), String> {
        let largest = take_in(now, &mut self.client, &mut self.machine, ticket, outcome)?;
        self.largest = self.largest.max(largest);
        Ok(())
    }

    fn put_out(&mut self, now: Instant) {
        put_out(now, &mut self.client, &mut self.machine, self.request_timeout);
    }

    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let busy = Some(self.busy_until).filter(|until| *until > now);
        [self.machine.next_deadline(), self.client.next_deadline(), busy].into_iter().flatten().min()
    }
}

/// Hands an answer to the reading machine. Gives the bytes of the largest partition in it.
pub(super) fn take_in(
    now: Instant,
    client: &mut Client,
    machine: &mut Consumer,
    ticket: Ticket,
    outcome: Result<Answer, Failure>,
) -> Result<usize, String> {
    let mut largest = 0;
    let answer = |outcome: Result<Answer, Failure>| outcome.map_err(|failure| failure.error);
    match ticket {
        Ticket::Metadata(ticket) => client.take_in_metadata(now, ticket, outcome),
        Ticket::Fetch(ticket) => {
            let answer = answer(outcome).and_then(|answer| {
                FetchResponse::decode(&answer.body, answer.version)
                    .map_err(|error| Error::new(ErrorKind::Protocol, error.to_string()))
            });
            if let Ok(answer) = &answer {
                let sizes = answer.topics.iter().flat_map(|topic| &topic.partitions);
                largest = sizes.map(|data| data.records.len()).max().unwrap_or(0);
            }
            machine.handle_fetch(now, ticket, answer);
        }
        Ticket::Offsets(ticket) => {
            let answer = answer(outcome).and_then(|answer| header::decode::<ListOffsetsRequest>(&answer));
            machine.handle_offsets(now, ticket, answer);
        }
        Ticket::Epochs(ticket) => {
            let answer =
                answer(outcome).and_then(|answer| header::decode::<OffsetForLeaderEpochRequest>(&answer));
            machine.handle_epochs(now, ticket, answer);
        }
        other => return Err(format!("not a consumer's: {other:?}")),
    }
    Ok(largest)
}

/// Sends what the reading machine asks for.
pub(super) fn put_out(now: Instant, client: &mut Client, machine: &mut Consumer, request_timeout: Duration) {
    while let Some(Request { node, ticket, what }) = machine.poll_request(now) {
        let deadline = now + request_timeout;
        match what {
            What::Fetch { lane, plan } => {
                let most = if plan.by_id { i16::MAX } else { LAST_VERSION_BY_NAME };
                let deadline = deadline + plan.max_wait;
                let (purpose, ticket) = (Purpose::Fetch(lane), Ticket::Fetch(ticket));
                client.submit(node, purpose, deadline, ticket, move |versions| {
                    let version = versions.choose_at_most::<FetchRequest>(most)?;
                    header::encode(&plan.request(version), version, "simulated")
                });
            }
            What::Offsets(plan) => {
                client.submit(node, Purpose::Rest, deadline, Ticket::Offsets(ticket), move |versions| {
                    let version = versions.choose::<ListOffsetsRequest>()?;
                    header::encode(&list_offsets(&plan, version), version, "simulated")
                });
            }
            What::Epochs(plan) => {
                client.submit(node, Purpose::Rest, deadline, Ticket::Epochs(ticket), move |versions| {
                    let version = versions.choose::<OffsetForLeaderEpochRequest>()?;
                    header::encode(&offset_for_leader_epoch(&plan, version), version, "simulated")
                });
            }
        }
    }
    while let Some(event) = machine.poll_event() {
        match event {
            Event::Refresh => client.refresh(),
            Event::Leader { topic, partition, leader, epoch, endpoint } => {
                client.metadata.hint(&topic, partition, leader, epoch, endpoint);
            }
            Event::Throttle { node, until } => {
                let lanes: Vec<_> = (0..LANES).map(Purpose::Fetch).collect();
                client.throttle(node, &lanes, until);
            }
        }
    }
}

/// Errors that no fault explains.
pub(super) fn is_our_fault(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Closed | ErrorKind::Broker)
        && !error.is_retriable()
}
