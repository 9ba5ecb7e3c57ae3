//! Traces in virtual time, against a model of one topic's logs that checks sequence numbers as Kafka does.
mod model;
mod random;
mod traces;
mod unsure;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_response::*;
use kafka_protocol::messages::{ProduceResponse, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

use self::model::Log;
use super::buffer::{Buffer, Buffers, Closed, Look};
use super::sender::{Event, Outcome, Request, Sender};
use super::*;
use crate::error::ErrorKind;
use crate::protocol::error_code::ErrorCode;
use crate::record::Record;
use crate::record::batch::{BatchHeader, RawBatch};
use crate::state::metadata::cluster::Partition;
use crate::state::metadata::{Cluster, Topic};

/// Version of the answers that are made up here.
const VERSION: i16 = 9;

const NONE: ErrorCode = ErrorCode::NONE;
const NOT_LEADER: ErrorCode = ErrorCode::NOT_LEADER_OR_FOLLOWER;

fn header(bytes: &Bytes) -> BatchHeader {
    RawBatch::single(bytes).unwrap().header
}

/// Producer epoch and base sequence of the only batch, of the first producer id.
fn stamp(sent: &Sent) -> (i16, i32) {
    assert_eq!(sent.parts.len(), 1);
    let header = header(&sent.parts[0].1);
    assert!(header.producer_id == 70 || header.producer_epoch <= 0);
    (header.producer_epoch, header.base_sequence)
}

/// A world whose partition 0 has stored one record, `start`, so that several batches may be in flight.
fn established() -> (World, Log) {
    let mut world = World::new(settings(), 1);
    let mut log = Log::default();
    world.append(0, "start");
    let sent = world.request();
    let (code, offset) = log.append(&sent.parts[0].1);
    world.answer(&sent, code, offset);
    assert_eq!(world.offset("start"), Some(0));
    (world, log)
}

fn settings() -> Settings {
    Settings {
        acks: -1,
        idempotent: true,
        linger: Duration::ZERO,
        max_request_size: 1 << 20,
        compression: Compression::None,
        level: None,
        delivery_timeout: Duration::from_secs(120),
        request_timeout: Duration::from_secs(30),
        max_in_flight: 5,
        backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) },
    }
}

/// The buffers, without locks.
#[derive(Debug, Default)]
pub(crate) struct Shelf(pub(crate) Vec<Buffer<u32>>);

impl Buffers<u32> for Shelf {
    fn look(&mut self, key: Key) -> Look {
        self.0[key].look()
    }

    fn take(&mut self, key: Key, open_too: bool) -> Option<Closed<u32>> {
        self.0[key].take(open_too)
    }

    fn shrink(&mut self, key: Key, limit: usize) {
        self.0[key].shrink(limit);
    }
}

/// A produce request on its way.
#[derive(Debug)]
struct Sent {
    ticket: Ticket,
    node: i32,
    parts: Vec<(i32, Bytes)>,
}

/// A sender and what surrounds it.
struct World {
    now: Instant,
    sender: Sender<u32, Shelf>,
    cluster: Cluster,
    batches: u32,
    /// Records as (batch, index), by their value.
    records: HashMap<(u32, u32), String>,
    /// How records ended, by their value.
    ended: BTreeMap<String, Result<Option<i64>, Error>>,
    ended_at: HashMap<String, Instant>,
    /// Producer ids that were asked for; the answer comes at once.
    identities: i64,
    refreshes: usize,
    hints: Vec<(i32, i32, i32)>,
}

impl World {
    /// One topic `t`, whose partitions node 1 leads.
    fn new(settings: Settings, partitions: i32) -> Self {
        Self::with_batches(settings, partitions, 16 * 1024)
    }

    fn with_batches(settings: Settings, partitions: i32, size: usize) -> Self {
        let mut world = Self {
            now: Instant::now(),
            sender: Sender::new(settings, Shelf::default(), 7),
            cluster: Cluster::default(),
            batches: 0,
            records: HashMap::new(),
            ended: BTreeMap::new(),
            ended_at: HashMap::new(),
            identities: 0,
            refreshes: 0,
            hints: Vec::new(),
        };
        world.lead(&vec![Some(1); partitions as usize], 0);
        for partition in 0..partitions {
            world.sender.buffers().0.push(Buffer::new(size, 1 << 20, true));
            world.sender.add_partition(world.now, "t".into(), partition, &world.cluster);
        }
        world
    }

    fn lead(&mut self, leaders: &[Option<i32>], epoch: i32) {
        let partition = |&leader: &Option<i32>| Partition {
            leader,
            leader_epoch: epoch,
            replicas: vec![1, 2],
            in_sync: vec![1, 2],
            error: ErrorCode::NONE,
        };
        let topic = Topic {
            name: "t".into(),
            id: Uuid::from_u128(1),
            error: ErrorCode::NONE,
            internal: false,
            partitions: leaders.iter().map(partition).collect(),
        };
        self.cluster.topics.insert("t".into(), Arc::new(topic));
        let cluster = self.cluster.clone();
        self.sender.handle_metadata(self.now, &cluster);
        self.settle();
    }

    fn append(&mut self, key: Key, value: &str) {
        let (now, batch) = (self.now, self.batches);
        let buffer = &mut self.sender.buffers().0[key];
        let open = |capacity| (Vec::with_capacity(capacity), batch, now);
        let place = buffer.append(&Record::value(value), false, || 1000, |_| true, open).unwrap();
        self.batches = self.batches.max(place.tag + 1);
        assert!(self.records.insert((place.tag, place.index), value.to_owned()).is_none());
        if place.signal {
            self.sender.handle_appended(now, key);
        }
    }

    /// A record in a batch of its own.
    fn append_alone(&mut self, key: Key, value: &str) {
        self.append(key, value);
        self.sender.buffers().0[key].close_open();
        self.sender.handle_appended(self.now, key);
    }

    /// All requests that are due. Producer ids are answered: 70, 71, ..., always with epoch 0, as Kafka does.
    fn requests(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(request) = self.sender.poll_request(self.now) {
            match request {
                Request::Produce { ticket, node, parts, deadline } => {
                    assert_eq!(deadline, self.now + Duration::from_secs(30));
                    let parts = parts.into_iter().map(|part| (part.partition, part.records)).collect();
                    sent.push(Sent { ticket, node, parts });
                }
                Request::InitProducerId { ticket } => {
                    let id = ProducerIdentity { id: 70 + self.identities, epoch: 0 };
                    self.identities += 1;
                    self.sender.handle_identity(self.now, ticket, Ok(id));
                }
            }
        }
        self.settle();
        sent
    }

    /// The one request that is due.
    fn request(&mut self) -> Sent {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    fn settle(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                Event::Settled { tag, first, count, outcome, .. } => {
                    for index in first..first + count {
                        let value = self.records.remove(&(tag, index)).expect("settled twice");
                        let end = match &outcome {
                            Outcome::Written { base_offset, .. } => {
                                Ok(base_offset.map(|base| base + i64::from(index - first)))
                            }
                            Outcome::Failed { error, culprits } => {
                                let own = culprits.iter().find(|culprit| culprit.0 == index);
                                Err(own.map_or(error, |own| &own.1).clone())
                            }
                        };
                        self.ended_at.insert(value.clone(), self.now);
                        self.ended.insert(value, end);
                    }
                }
                Event::RefreshMetadata => self.refreshes += 1,
                Event::LeaderHint { partition, leader, epoch, .. } => {
                    self.hints.push((partition, leader, epoch))
                }
                Event::Seal { key, number, builder } => {
                    let sealed = builder.seal(Compression::Lz4, None, Stamp::NONE);
                    self.sender.handle_sealed(self.now, key, number, sealed);
                }
                Event::Throttle { .. } => {}
            }
        }
    }

    /// Answers one part of a request of one part.
    fn answer(&mut self, sent: &Sent, code: ErrorCode, offset: i64) {
        let parts: Vec<_> = sent.parts.iter().map(|part| (part.0, code, offset)).collect();
        self.answer_parts(sent.ticket, &parts);
    }

    fn answer_parts(&mut self, ticket: Ticket, parts: &[(i32, ErrorCode, i64)]) {
        let part = |&(partition, code, offset): &(i32, ErrorCode, i64)| {
            PartitionProduceResponse::default()
                .with_index(partition)
                .with_error_code(code.code())
                .with_base_offset(offset)
                .with_log_append_time_ms(-1)
        };
        self.answer_with(ticket, parts.iter().map(part).collect());
    }

    fn answer_with(&mut self, ticket: Ticket, parts: Vec<PartitionProduceResponse>) {
        let topic = TopicProduceResponse::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partition_responses(parts);
        let mut body = BytesMut::new();
        ProduceResponse::default().with_responses(vec![topic]).encode(&mut body, VERSION).unwrap();
        self.sender.handle_produced(self.now, ticket, VERSION, "node:9092", &body);
        self.settle();
    }

    fn disconnect(&mut self, sent: &Sent, after_sending: bool) {
        let error = Error::new(ErrorKind::Connect, "connection lost");
        let failure = NoAnswer { error, sent: after_sending };
        self.sender.handle_disconnect(self.now, sent.ticket, &failure);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.sender.handle_deadline(self.now);
        self.settle();
    }

    /// Goes to the next moment at which the machine wants to be called.
    fn pass_to_deadline(&mut self) -> bool {
        let Some(deadline) = self.sender.next_deadline() else { return false };
        let wait = deadline.saturating_duration_since(self.now);
        self.pass(wait);
        true
    }

    fn offset(&self, value: &str) -> Option<i64> {
        match self.ended.get(value) {
            Some(Ok(offset)) => *offset,
            other => panic!("{value}: {other:?}"),
        }
    }

    fn error(&self, value: &str) -> &Error {
        match self.ended.get(value) {
            Some(Err(error)) => error,
            other => panic!("{value}: {other:?}"),
        }
    }
}
