//! A client that produces numbered records, and what it is promised about them.
use std::collections::BTreeMap;
use std::time::Instant;

use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::client::Client;
use super::link::{Failure, Purpose, Ticket};
use super::truth::TOPIC;
use crate::error::Error;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::header::{self, Answer};
use crate::protocol::produce;
use crate::protocol::request::Request as _;
use crate::protocol::version::ApiVersions;
use crate::record::Record;
use crate::record::batch::Stamp;
use crate::state::producer::tests::Shelf;
use crate::state::producer::{
    Buffer, Event, NoAnswer, Outcome, ProducerIdentity, Refusal, Request, Sender, Settings,
};

mod promises;

/// A record that was handed to the producer.
#[derive(Debug)]
struct Sent {
    partition: i32,
    value: String,
    at: Instant,
    end: Option<Result<Option<i64>, Error>>,
}

/// Attempts under one producer id, epoch and sequence number.
#[derive(Debug)]
struct Numbered {
    content: u64,
    count: i32,
    /// Attempts whose fate is unknown, or that are in the log.
    unsettled: Vec<crate::state::producer::Ticket>,
}

pub(super) struct Producing {
    pub(super) client: Client,
    sender: Sender<u32, Shelf>,
    settings: Settings,
    random: SmallRng,
    name: &'static str,
    partitions: i32,
    batches: u32,
    /// By batch and place in it: which record.
    open: BTreeMap<(u32, u32), usize>,
    records: Vec<Sent>,
    /// Records that were settled and not compared with the logs yet.
    unchecked: Vec<usize>,
    identified: bool,
    /// When a record of the partition was last settled.
    progress: Vec<Instant>,
    numbers: Vec<u32>,
    /// Bytes that may be reserved.
    memory: usize,
    reserved: usize,
    /// A record that waits for room, and since when.
    waiting: Option<(i32, String)>,
    numbered: BTreeMap<(i32, i64, i16, i32), Numbered>,
    pub(super) abandoned: bool,
    /// A violation found where none can be returned.
    broken: Option<String>,
}

impl Producing {
    pub(super) fn new(
        now: Instant,
        client: Client,
        name: &'static str,
        settings: Settings,
        partitions: i32,
        (batch_size, memory): (usize, usize),
        seed: u64,
    ) -> Self {
        let mut sender = Sender::new(settings.clone(), Shelf::default(), seed);
        for partition in 0..partitions {
            sender.buffers().0.push(Buffer::new(batch_size, settings.max_request_size, true));
            sender.add_partition(now, TOPIC.into(), partition, &client.cluster);
        }
        let mut this = Self {
            client,
            sender,
            settings,
            random: SmallRng::seed_from_u64(seed ^ 2),
            name,
            partitions,
            batches: 0,
            open: BTreeMap::new(),
            records: Vec::new(),
            unchecked: Vec::new(),
            identified: false,
            progress: vec![now; partitions as usize],
            numbers: vec![0; partitions as usize],
            memory,
            reserved: 0,
            waiting: None,
            numbered: BTreeMap::new(),
            abandoned: false,
            broken: None,
        };
        this.client.metadata.want(&TOPIC.into(), false);
        this
    }

    // ---- the application

    /// Sends a few records.
    pub(super) fn send(&mut self, now: Instant) {
        if self.abandoned {
            return;
        }
        if self.waiting.is_some() && self.random.random_bool(0.1) {
            // The application drops the future of a send that waits for room.
            self.waiting = None;
        }
        for _ in 0..self.random.random_range(1..8) {
            if self.waiting.is_some() {
                break;
            }
            let partition = self.random.random_range(0..self.partitions);
            let length = self.random.random_range(0..120);
            self.waiting = Some((partition, "x".repeat(length)));
            self.try_waiting(now);
        }
        if self.random.random_bool(0.1) {
            self.flush(now);
        }
    }

    fn try_waiting(&mut self, now: Instant) {
        let Some((partition, padding)) = self.waiting.take() else { return };
        let key = partition as usize;
        let number = self.numbers[key];
        let value = format!("{}-{partition}-{number:06}-{padding}", self.name);
        let (batch, memory, reserved) = (self.batches, self.memory, &mut self.reserved);
        let buffer = &mut self.sender.buffers().0[key];
        let reserve = |bytes: usize| {
            let fits = *reserved + bytes <= memory;
            *reserved += if fits { bytes } else { 0 };
            fits
        };
        let open = |capacity| (Vec::with_capacity(capacity), batch, now);
        match buffer.append(&Record::value(&value), false, || 1000, reserve, open) {
            Ok(place) => {
                self.batches = self.batches.max(place.tag + 1);
                self.numbers[key] += 1;
                self.open.insert((place.tag, place.index), self.records.len());
                self.records.push(Sent { partition, value, at: now, end: None });
                if place.signal {
                    self.sender.handle_appended(now, key);
                }
            }
            Err(Refusal::NoRoom { signal, .. }) => {
                self.waiting = Some((partition, padding));
                if signal {
                    self.sender.handle_appended(now, key);
                }
            }
            Err(other) => self.broken = Some(format!("a record was refused: {other:?}")),
        }
    }

    fn flush(&mut self, now: Instant) {
        for key in 0..self.partitions as usize {
            self.sender.buffers().0[key].close_open();
            self.sender.handle_appended(now, key);
        }
    }

    /// The application drops the producer: all ends at once.
    pub(super) fn abandon(
        &mut self,
        now: Instant,
        network: &mut super::network::Network,
    ) -> Result<(), String> {
        self.abandoned = true;
        self.waiting = None;
        for buffer in &mut self.sender.buffers().0 {
            buffer.close();
        }
        self.sender.abandon(&Error::closed("the producer"));
        self.client.close(now, network);
        self.events(now)
    }

    // ---- the driver

    /// Carries news to the machine and its wishes to the network.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        network: &mut super::network::Network,
    ) -> Result<(), String> {
        if self.abandoned {
            return Ok(());
        }
        if self.client.changed {
            self.client.changed = false;
            self.sender.handle_metadata(now, &self.client.cluster.clone());
        }
        while let Some((ticket, outcome)) = self.client.take_done() {
            self.take_in(now, ticket, outcome)?;
        }
        self.sender.press(now, self.waiting.is_some());
        self.sender.handle_deadline(now);
        // A batch that was compressed meanwhile is there to be sent.
        for _ in 0..2 {
            while let Some(request) = self.sender.poll_request(now) {
                self.put_out(now, request)?;
            }
            self.events(now)?;
        }
        if self.sender.next_deadline().is_some_and(|at| at <= now) {
            return Err("spins: a deadline that has passed would wake the shell for ever".into());
        }
        self.try_waiting(now);
        self.client.advance(now, network);
        match self.broken.take() {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    fn put_out(&mut self, now: Instant, request: Request) -> Result<(), String> {
        match request {
            Request::InitProducerId { ticket } => {
                let node = self.client.any_node();
                let deadline = now + self.settings.request_timeout;
                let ticket = Ticket::Identity(ticket);
                self.client.submit(node, Purpose::Rest, deadline, ticket, |versions| {
                    let request = InitProducerIdRequest::default()
                        .with_transactional_id(None)
                        .with_transaction_timeout_ms(i32::MAX);
                    header::encode(&request, versions.choose::<InitProducerIdRequest>()?, "simulated")
                });
            }
            Request::Produce { ticket, node, parts, deadline } => {
                for part in &parts {
                    self.check_numbers(ticket, part.partition, &part.records)?;
                }
                let acks = self.settings.acks;
                let timeout = self.settings.request_timeout.as_millis() as i32;
                let build = move |versions: &ApiVersions| {
                    let nameless = parts.iter().any(|part| part.topic_id.is_nil());
                    let most = if nameless { 12 } else { i16::MAX };
                    let version = versions.choose_at_most::<ProduceRequest>(most)?;
                    let mut head = header::head::<ProduceRequest>(version, "simulated");
                    let tail = produce::encode(&mut head, version, None, acks, timeout, &parts);
                    let answered = acks != 0;
                    Ok(header::Encoded { api_key: ProduceRequest::KEY, version, head, tail, answered })
                };
                self.client.submit(node, Purpose::Produce, deadline, Ticket::Produce(ticket), build);
            }
        }
        Ok(())
    }

    fn take_in(
        &mut self,
        now: Instant,
        ticket: Ticket,
        outcome: Result<Answer, Failure>,
    ) -> Result<(), String> {
        match ticket {
            Ticket::Metadata(ticket) => self.client.take_in_metadata(now, ticket, outcome),
            Ticket::Identity(ticket) => {
                let answer = outcome.map_err(|failure| failure.error).and_then(|answer| {
                    let answer = header::decode::<InitProducerIdRequest>(&answer)?;
                    match ErrorCode::from(answer.error_code) {
                        ErrorCode::NONE => {
                            Ok(ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch })
                        }
                        code => Err(Error::broker(code, "no producer id")),
                    }
                });
                self.identified |= answer.is_ok();
                self.sender.handle_identity(now, ticket, answer);
            }
            Ticket::Produce(ticket) => match outcome {
                Ok(_) if self.settings.acks == 0 => self.sender.handle_unacknowledged(now, ticket),
                Ok(answer) => {
                    self.settle_numbers(ticket, &answer);
                    self.sender.handle_produced(now, ticket, answer.version, &answer.address, &answer.body);
                }
                Err(Failure { error, sent }) => {
                    if !sent {
                        self.numbered.values_mut().for_each(|one| one.unsettled.retain(|of| *of != ticket));
                    }
                    self.sender.handle_disconnect(now, ticket, &NoAnswer { error, sent });
                }
            },
            other => return Err(format!("not a producer's: {other:?}")),
        }
        // As the driver does it: events are taken in between, which no machine may mind.
        self.events(now)
    }

    fn events(&mut self, now: Instant) -> Result<(), String> {
        while let Some(event) = self.sender.poll_event() {
            match event {
                Event::Settled { tag, first, count, outcome, reserved, .. } => {
                    self.reserved =
                        self.reserved.checked_sub(reserved).ok_or("C3: memory is given back twice")?;
                    for index in first..first + count {
                        let record = self.open.remove(&(tag, index));
                        let record =
                            record.ok_or(format!("P4: record {index} of batch {tag} is settled twice"))?;
                        let end = match &outcome {
                            Outcome::Written { base_offset, .. } => {
                                Ok(base_offset.map(|base| base + i64::from(index - first)))
                            }
                            Outcome::Failed { error, culprits } => {
                                let own = culprits.iter().find(|culprit| culprit.0 == index);
                                Err(own.map_or(error, |own| &own.1).clone())
                            }
                        };
                        let timeout = self.settings.delivery_timeout;
                        let took = now - self.records[record].at;
                        if took > timeout {
                            return Err(format!("P4: settled after {took:?}, and {timeout:?} are allowed"));
                        }
                        self.records[record].end = Some(end);
                        self.progress[self.records[record].partition as usize] = now;
                        self.unchecked.push(record);
                    }
                }
                Event::RefreshMetadata => self.client.refresh(),
                Event::LeaderHint { topic, partition, leader, epoch, endpoint } => {
                    let node = endpoint.map(|endpoint| crate::state::metadata::Node {
                        id: leader,
                        host: endpoint.host.into(),
                        port: endpoint.port,
                        rack: endpoint.rack.map(Into::into),
                    });
                    self.client.metadata.hint(&topic, partition, leader, epoch, node);
                }
                Event::Seal { key, number, builder } => {
                    let sealed = builder.seal(self.settings.compression, None, Stamp::NONE);
                    self.sender.handle_sealed(now, key, number, sealed);
                }
                Event::Throttle { node, until } => self.client.throttle(node, &[Purpose::Produce], until),
            }
        }
        Ok(())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.abandoned {
            return None;
        }
        [self.sender.next_deadline(), self.client.next_deadline()].into_iter().flatten().min()
    }
}
