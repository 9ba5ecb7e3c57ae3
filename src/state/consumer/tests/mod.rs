//! The machine in virtual time against a small model of nodes with sessions; traces that matter, and random runs.
use std::collections::{BTreeMap, HashMap};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{ListOffsetsResponse, OffsetForLeaderEpochResponse, TopicName};

use super::*;
use crate::protocol::fetch::response::TopicData;
use crate::protocol::fetch::{FetchResponse, PartitionData, PlannedPartition, text};
use crate::record::batch::{RawBatch, Stamp};
use crate::record::builder::BatchBuilder;
use crate::record::{Compression, Record};
use crate::state::metadata;
use crate::topic_partition::TopicPartition;

mod random;
mod traces;

pub(super) const TOPIC: &str = "t";

pub(super) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// Partitions with one log each, and the nodes that lead them.
pub(super) struct Nodes {
    pub(super) logs: Vec<Log>,
    pub(super) generation: u64,
    /// By session id: what the node knows of it, with the partition as key.
    sessions: HashMap<i32, BTreeMap<i32, PlannedPartition>>,
    last_session: i32,
    pub(super) nodes: i32,
}

pub(super) struct Log {
    pub(super) leader: i32,
    pub(super) epoch: i32,
    /// First offset, epoch, bytes.
    pub(super) batches: Vec<(i64, Bytes)>,
    pub(super) end: i64,
}

impl Nodes {
    pub(super) fn new(nodes: i32, partitions: i32) -> Self {
        let log = |partition| Log { leader: partition % nodes + 1, epoch: 0, batches: Vec::new(), end: 0 };
        Self {
            logs: (0..partitions).map(log).collect(),
            generation: 0,
            sessions: HashMap::new(),
            last_session: 0,
            nodes,
        }
    }

    /// Appends a batch of `count` records, each with its offset as value.
    pub(super) fn append(&mut self, partition: i32, count: i64) {
        let log = &mut self.logs[partition as usize];
        let mut builder = BatchBuilder::new(100);
        for at in 0..count {
            builder.append(0, &Record::value(&(log.end + at).to_be_bytes()));
        }
        let sealed = builder.seal(Compression::None, None, Stamp::NONE).unwrap();
        let mut bytes = BytesMut::from(&sealed[..]);
        bytes[..8].copy_from_slice(&log.end.to_be_bytes());
        bytes[12..16].copy_from_slice(&log.epoch.to_be_bytes());
        log.batches.push((log.end, bytes.freeze()));
        log.end += count;
    }

    pub(super) fn lead(&mut self, partition: i32, leader: i32) {
        let log = &mut self.logs[partition as usize];
        log.leader = leader;
        log.epoch += 1;
    }

    pub(super) fn cluster(&mut self) -> Arc<Cluster> {
        self.generation += 1;
        let mut cluster = Cluster { generation: self.generation, ..Cluster::default() };
        for id in 1..=self.nodes {
            cluster.nodes.insert(id, Node { id, host: "node".into(), port: 9092, rack: None });
        }
        let partitions = self.logs.iter().map(|log| metadata::Partition {
            leader: Some(log.leader),
            leader_epoch: log.epoch,
            replicas: vec![],
            in_sync: vec![],
            error: ErrorCode::NONE,
        });
        let topic = metadata::Topic {
            name: TOPIC.into(),
            id: Uuid::from_u128(7),
            error: ErrorCode::NONE,
            internal: false,
            partitions: partitions.collect(),
        };
        cluster.topics.insert(TOPIC.into(), Arc::new(topic));
        Arc::new(cluster)
    }

    /// Takes a request in as the node does when it arrives; the answer is made later, by [`Nodes::answer`].
    fn remember(&mut self, plan: &FetchPlan) -> Result<i32, ErrorCode> {
        if plan.session_epoch == 0 {
            self.sessions.remove(&plan.session_id);
            self.last_session += 1;
            self.sessions.insert(self.last_session, BTreeMap::new());
        }
        let id = if plan.session_epoch == 0 { self.last_session } else { plan.session_id };
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        for name in &plan.forgotten {
            session.remove(&name.partition);
        }
        for planned in &plan.partitions {
            session.insert(planned.name.partition, planned.clone());
        }
        Ok(id)
    }

    /// What `node` answers now; with nothing to say it would park.
    pub(super) fn answer(&mut self, node: i32, plan: &FetchPlan) -> FetchResponse {
        let id = match self.remember(plan) {
            Ok(id) => id,
            Err(error) => return FetchResponse { error, ..FetchResponse::default() },
        };
        let mut left = plan.max_bytes;
        let asked: Vec<_> = self.sessions[&id].values().cloned().collect();
        let partitions = asked.iter().filter_map(|planned| self.read(node, planned, &mut left)).collect();
        let topic = TopicData { name: Bytes::new(), id: Uuid::from_u128(7), partitions };
        FetchResponse { session_id: id, topics: vec![topic], ..FetchResponse::default() }
    }

    fn read(&self, node: i32, planned: &PlannedPartition, left: &mut i32) -> Option<PartitionData> {
        let log = &self.logs[planned.name.partition as usize];
        let mut data = data(planned.name.partition);
        data.high_watermark = log.end;
        if log.leader != node {
            data.error = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            return Some(data);
        }
        if planned.leader_epoch != log.epoch {
            data.error = if planned.leader_epoch < log.epoch {
                ErrorCode::FENCED_LEADER_EPOCH
            } else {
                ErrorCode::UNKNOWN_LEADER_EPOCH
            };
            return Some(data);
        }
        if !(0..=log.end).contains(&planned.offset) {
            data.error = ErrorCode::OFFSET_OUT_OF_RANGE;
            return Some(data);
        }
        let at = log.batches.partition_point(|(base, _)| *base <= planned.offset).saturating_sub(1);
        let room = planned.max_bytes.min(*left);
        let mut records = BytesMut::new();
        for (_, bytes) in log.batches.get(at..).unwrap_or_default() {
            if planned.offset == log.end
                || (!records.is_empty() && records.len() + bytes.len() > room as usize)
            {
                break;
            }
            records.extend_from_slice(bytes);
        }
        *left = (*left - records.len() as i32).max(0);
        data.records = records.freeze();
        (!data.records.is_empty()).then_some(data)
    }

    pub(super) fn offsets(&self, plan: &OffsetPlan) -> ListOffsetsResponse {
        let partitions = plan.partitions.iter().map(|(name, _, time)| {
            let log = &self.logs[name.partition() as usize];
            ListOffsetsPartitionResponse::default()
                .with_partition_index(name.partition())
                .with_offset(if *time == EARLIEST { 0 } else { log.end })
                .with_leader_epoch(log.epoch)
        });
        ListOffsetsResponse::default().with_topics(vec![
            ListOffsetsTopicResponse::default()
                .with_name(TopicName::from(text(TOPIC)))
                .with_partitions(partitions.collect()),
        ])
    }

    pub(super) fn epochs(&self, plan: &EpochPlan) -> OffsetForLeaderEpochResponse {
        let partitions = plan.partitions.iter().map(|(name, _, epoch)| {
            let log = &self.logs[name.partition() as usize];
            EpochEndOffset::default()
                .with_partition(name.partition())
                .with_leader_epoch(*epoch)
                .with_end_offset(log.end)
        });
        OffsetForLeaderEpochResponse::default().with_topics(vec![
            OffsetForLeaderTopicResult::default()
                .with_topic(TopicName::from(text(TOPIC)))
                .with_partitions(partitions.collect()),
        ])
    }
}

pub(super) fn data(partition: i32) -> PartitionData {
    PartitionData {
        partition,
        error: ErrorCode::NONE,
        high_watermark: 0,
        last_stable_offset: -1,
        log_start_offset: 0,
        diverging: None,
        leader: None,
        aborted: Vec::new(),
        preferred_replica: None,
        records: Bytes::new(),
    }
}

/// A machine with its requests drained.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) nodes: Nodes,
    pub(super) machine: Consumer,
    pub(super) requests: Vec<Request>,
    limits: Limits,
}

impl World {
    pub(super) fn new(nodes: i32, partitions: i32, settings: Settings) -> Self {
        let mut world = Self::unassigned(nodes, partitions, settings);
        let all: Vec<_> = (0..partitions).map(|partition| (tp(partition), Some(Offset::At(0)))).collect();
        world.machine.assign(world.now, &all);
        world.drain();
        world
    }

    #[allow(clippy::disallowed_methods)] // any instant will do as the beginning
    pub(super) fn unassigned(nodes: i32, partitions: i32, settings: Settings) -> Self {
        let now = Instant::now();
        let mut nodes = Nodes::new(nodes, partitions);
        let mut machine = Consumer::new(settings, 1);
        machine.handle_metadata(now, &nodes.cluster());
        let limits = Limits::from(machine.settings());
        Self { now, nodes, machine, requests: Vec::new(), limits }
    }

    /// What a shell does after every input.
    pub(super) fn drain(&mut self) {
        while let Some(request) = self.machine.poll_request(self.now) {
            self.requests.push(request);
        }
        if let Some(deadline) = self.machine.next_deadline() {
            assert!(deadline > self.now, "a deadline that has passed would wake the shell for ever");
        }
    }

    pub(super) fn metadata(&mut self) {
        let cluster = self.nodes.cluster();
        self.machine.handle_metadata(self.now, &cluster);
        self.drain();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_deadline(self.now);
        self.drain();
    }

    /// The fetch under way to a node, of the first lane unless said otherwise.
    pub(super) fn fetch_of(&self, node: i32, lane: usize) -> Option<(usize, &FetchPlan)> {
        self.requests.iter().enumerate().find_map(|(at, request)| match &request.what {
            What::Fetch { lane: this, plan } if request.node == node && *this == lane => Some((at, plan)),
            _ => None,
        })
    }

    /// Partition and offset of what a node is asked for anew.
    pub(super) fn asked(&self, node: i32, lane: usize) -> Option<Vec<(i32, i64)>> {
        let (_, plan) = self.fetch_of(node, lane)?;
        Some(plan.partitions.iter().map(|planned| (planned.name.partition, planned.offset)).collect())
    }

    pub(super) fn answer(&mut self, node: i32, lane: usize) {
        let (at, _) = self.fetch_of(node, lane).expect("a fetch is under way");
        self.answer_at(at);
    }

    /// Answers the request that stands at `at`, whatever it is.
    pub(super) fn answer_at(&mut self, at: usize) {
        let Request { node, ticket, what } = self.requests.remove(at);
        match what {
            What::Fetch { plan, .. } => {
                let response = self.nodes.answer(node, &plan);
                self.machine.handle_fetch(self.now, ticket, Ok(response));
            }
            What::Offsets(plan) => {
                let response = self.nodes.offsets(&plan);
                self.machine.handle_offsets(self.now, ticket, Ok(response));
            }
            What::Epochs(plan) => {
                let response = self.nodes.epochs(&plan);
                self.machine.handle_epochs(self.now, ticket, Ok(response));
            }
        }
        self.drain();
    }

    /// As [`World::answer`], with an answer of the test's own for the one partition that is asked for.
    pub(super) fn answer_with(&mut self, node: i32, lane: usize, data: PartitionData) {
        let (at, _) = self.fetch_of(node, lane).expect("a fetch is under way");
        let Request { ticket, what, .. } = self.requests.remove(at);
        let What::Fetch { plan, .. } = what else { panic!("not a fetch") };
        let session_id = self.nodes.remember(&plan).unwrap();
        let topic = TopicData { name: Bytes::new(), id: Uuid::from_u128(7), partitions: vec![data] };
        let response = FetchResponse { session_id, topics: vec![topic], ..FetchResponse::default() };
        self.machine.handle_fetch(self.now, ticket, Ok(response));
        self.drain();
    }

    pub(super) fn fail_at(&mut self, at: usize) {
        let Request { ticket, what, .. } = self.requests.remove(at);
        let error = Error::new(ErrorKind::Connect, "lost");
        match what {
            What::Fetch { .. } => self.machine.handle_fetch(self.now, ticket, Err(error)),
            What::Offsets(_) => self.machine.handle_offsets(self.now, ticket, Err(error)),
            What::Epochs(_) => self.machine.handle_epochs(self.now, ticket, Err(error)),
        }
        self.drain();
    }

    /// The next batch: its partition, its offsets, and a reset that it tells.
    #[allow(clippy::type_complexity)]
    pub(super) fn next(&mut self) -> Option<Result<(i32, Vec<i64>, Option<PositionReset>), Error>> {
        loop {
            let taken = match self.machine.take(self.now)? {
                Handover::Error(error) => return Some(Err(error)),
                Handover::Batch(taken) => taken,
            };
            let opened = taken.open(&self.limits);
            let batch = self.machine.commit(self.now, &taken, opened);
            self.drain();
            if let Some((batch, before)) = batch {
                let offsets = batch.records().skip(before).map(|record| {
                    assert_eq!(record.value(), Some(&record.offset().to_be_bytes()[..]));
                    record.offset()
                });
                return Some(Ok((taken.name.partition(), offsets.collect(), taken.reset)));
            }
        }
    }

    pub(super) fn offsets(&mut self) -> Vec<i64> {
        let mut offsets = Vec::new();
        while let Some(next) = self.next() {
            offsets.extend(next.unwrap().1);
        }
        offsets
    }
}

/// A batch as a node would send it.
#[allow(dead_code)] // by some tests
pub(super) fn frame(bytes: &Bytes) -> RawBatch {
    RawBatch::single(bytes).unwrap()
}
