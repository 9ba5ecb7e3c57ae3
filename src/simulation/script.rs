//! What goes wrong in a run, step by step.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::World;
use super::network::Cut;
use super::plan::{Plan, Weather, millis};
use super::truth::TOPIC;
use crate::broker::{Api, Fault};
use crate::protocol::error_code::ErrorCode;
use crate::record::batch::{RawBatch, Stamp};
use crate::record::builder::{BatchBuilder, control_batch};
use crate::record::reader::ControlRecord;
use crate::record::{Compression, Record};

pub(super) mod groups;

/// What clients may take to see that a node is well again: the last attempts to reach it have to end, and their backoff.
const RECOVERY: Duration = Duration::from_secs(4);

/// Something that ends by itself.
#[derive(Debug, Clone, Copy)]
enum Later {
    Start(i32),
    Rejoin(i32),
    Cut(i32),
    LargeBatches,
    Quick(i32),
    Faultless,
}

/// What happens next, and what is wrong at which node.
#[derive(Debug)]
pub(super) struct Script {
    random: SmallRng,
    fault: Option<Instant>,
    send: Instant,
    command: Option<Instant>,
    write: Instant,
    later: Vec<(Instant, Later)>,
    /// Until when something is wrong at a node; `None` where that can be true of any node at any time.
    trouble: Option<BTreeMap<i32, Instant>>,
    start: Instant,
    healed: bool,
    /// Transactions that were begun: producer and partitions.
    transactions: BTreeMap<i64, Vec<i32>>,
    written: u64,
    pub(super) faults: u64,
}

impl Script {
    pub(super) fn new(now: Instant, plan: &Plan, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5eed);
        let first = millis(&mut random, 0..3000);
        Self {
            fault: (!plan.is_calm()).then(|| now + first),
            send: now,
            command: plan.between_commands.map(|between| now + between),
            write: now,
            later: Vec::new(),
            trouble: matches!(plan.weather, Weather::Calm | Weather::OneSick).then(BTreeMap::new),
            start: now,
            healed: false,
            transactions: BTreeMap::new(),
            written: 0,
            faults: 0,
            random,
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let later = self.later.iter().map(|(at, _)| *at).min();
        if self.healed {
            return later;
        }
        [self.fault, Some(self.send), self.command, Some(self.write), later].into_iter().flatten().min()
    }

    /// Since when nothing is wrong at a node; `None` while something is, or may be.
    pub(super) fn well_since(&self, now: Instant, node: i32) -> Option<Instant> {
        let until = self.trouble.as_ref()?.get(&node).copied().unwrap_or(self.start);
        (until <= now).then_some(until)
    }

    fn spread(&mut self, around: Duration) -> Duration {
        around.mul_f64(self.random.random_range(0.1..2.0)) + Duration::from_micros(1)
    }
}

/// Does what is due.
pub(super) fn advance(world: &mut World) -> Result<(), String> {
    let now = world.now;
    let due: Vec<_> = world.script.later.extract_if(.., |(at, _)| *at <= now).collect();
    for (_, later) in due {
        end(world, later);
    }
    if world.script.healed {
        return Ok(());
    }
    if world.script.send <= now {
        world.script.send = now + world.script.spread(world.plan.between_sends);
        for producer in &mut world.producers {
            producer.send(now);
        }
    }
    if world.script.write <= now {
        world.script.write = now + world.script.spread(world.plan.between_writes);
        write(world);
    }
    if let (Some(at), Some(between)) = (world.script.command, world.plan.between_commands)
        && at <= now
    {
        world.script.command = Some(now + world.script.spread(between));
        let which = world.script.random.random_range(0..world.consumers.len());
        world.consumers[which].command(now, &world.truth);
    }
    if world.script.fault.is_some_and(|at| at <= now) {
        world.script.faults += 1;
        world.script.fault = Some(now + world.script.spread(world.plan.between_faults));
        match world.plan.weather {
            Weather::Calm => {}
            Weather::OneSick => sicken(world),
            Weather::Storm if world.plan.group.is_some() => return groups::strike_group(world),
            Weather::Storm => return strike(world),
            Weather::Unclean => wear(world),
        }
    }
    Ok(())
}

/// One node hangs; which one and how, for good.
fn sicken(world: &mut World) {
    let node = world.script.random.random_range(1..=world.plan.nodes);
    let until = world.now + millis(&mut world.script.random, 8000..14_000);
    world.note(format_args!("node {node} hangs until {:?}", until - world.start));
    world.network.pause(world.now, node, until);
    let well = until + world.plan.request_timeout + RECOVERY;
    if let Some(trouble) = &mut world.script.trouble {
        trouble.insert(node, well);
    }
    world.script.fault = None;
    world.plan.length = world.plan.length.max(until - world.start);
}

/// Something that loses no record.
fn strike(world: &mut World) -> Result<(), String> {
    let random = &mut world.script.random;
    let node = random.random_range(1..=world.plan.nodes);
    let partition = random.random_range(0..world.plan.partitions);
    let time = millis(random, 100..6000);
    let now = world.now;
    if world.plan.late_requests && random.random_bool(0.7) {
        late(world);
        return Ok(());
    }
    match random.random_range(0..24) {
        0..7 => {
            let sockets: Vec<_> = world.network.sockets.keys().copied().collect();
            let Some(&socket) = sockets.get(random.random_range(0..sockets.len().max(1))) else {
                return Ok(());
            };
            let cut = match random.random_range(0..6) {
                0 | 1 => Cut::Clean,
                // A commit that arrives late, after later ones of the same member: Kafka has nothing against it.
                2 | 3 if world.plan.group.is_some() => Cut::Clean,
                2 | 3 => Cut::Late(millis(random, 1..12_000)),
                4 => Cut::Silent([false, true]),
                _ => Cut::Silent([random.random_bool(0.5), true]),
            };
            world.note(format_args!("socket {socket} is cut: {cut:?}"));
            world.network.cut(now, &mut world.random, socket, cut);
        }
        7..10 => {
            world.note(format_args!("node {node} stops for {time:?}"));
            if world.cluster.stop_node(now, node) {
                world.script.later.push((now + time, Later::Start(node)));
            }
        }
        10..13 => {
            world.note(format_args!("partition {partition}: its leader moves"));
            world.cluster.move_leader(now, TOPIC, partition, None);
        }
        13..15 => {
            // The others notice what is silent for long.
            world.note(format_args!("node {node} pauses for {time:?}"));
            world.network.pause(now, node, now + time);
            let noticed = time > Duration::from_secs(2) && world.plan.has_epochs();
            if noticed && world.cluster.isolate_node(now, node) {
                let later = now + time + millis(&mut world.script.random, 0..700);
                world.script.later.push((later, Later::Rejoin(node)));
            }
        }
        15 | 16 if world.plan.has_epochs() => {
            world.note(format_args!("node {node} is isolated for {time:?}"));
            if world.cluster.isolate_node(now, node) {
                world.script.later.push((now + time, Later::Rejoin(node)));
            }
        }
        17 => {
            let by = millis(random, 5..900);
            world.note(format_args!("node {node} is slow by {by:?} for {time:?}"));
            world.network.slow(node, by);
            world.script.later.push((now + time, Later::Quick(node)));
        }
        18..22 => {
            let fault = fault(random, partition);
            world.note(format_args!("{fault:?}"));
            world.cluster.faults.add(fault);
            world.script.later.push((now + time, Later::Faultless));
        }
        22 => {
            let limit = random.random_range(150..1500);
            world.note(format_args!("batches above {limit} bytes are refused for {time:?}"));
            if let Some(topic) = world.cluster.topics.get_mut(TOPIC) {
                topic.config.insert("max.message.bytes".into(), limit.to_string());
            }
            world.script.later.push((now + time, Later::LargeBatches));
        }
        _ if world.producers.len() > 1 && random.random_bool(0.2) => {
            world.note(format_args!("a producer is dropped"));
            return world.producers[1].abandon(now, &mut world.network);
        }
        _ => {}
    }
    Ok(())
}

/// A node is silent for so long that clients give up what they had sent; it arrives all the same, after what they send next.
fn late(world: &mut World) {
    let random = &mut world.script.random;
    let node = random.random_range(1..=world.plan.nodes);
    let (silent, soon) = (millis(random, 1000..9000), millis(random, 50..900));
    world.note(format_args!("node {node} is silent for {silent:?}"));
    world.network.pause(world.now, node, world.now + silent);
    world.script.later.push((world.now + soon, Later::Cut(node)));
}

/// What clients have sent to a node arrives much later, of which they only see that their connections end.
fn cut_off(world: &mut World, node: i32) {
    let cut = Cut::Late(millis(&mut world.script.random, 1..12_000));
    let of_node = world.network.sockets.iter().filter(|(_, socket)| socket.node == node);
    let sockets: Vec<_> = of_node.map(|(id, _)| *id).collect();
    for socket in sockets {
        world.network.cut(world.now, &mut world.random, socket, cut);
    }
}

/// A node's own misbehaviour.
fn fault(random: &mut SmallRng, partition: i32) -> Fault {
    let retriable = [
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::REQUEST_TIMED_OUT,
    ];
    let after = [
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ];
    let of_fetch = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ErrorCode::CORRUPT_MESSAGE,
    ];
    let of_others = [
        (Api::METADATA, ErrorCode::LEADER_NOT_AVAILABLE),
        (Api::METADATA, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (Api::INIT_PRODUCER_ID, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (Api::LIST_OFFSETS, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (Api::LIST_OFFSETS, ErrorCode::OFFSET_NOT_AVAILABLE),
        (Api::OFFSET_FOR_LEADER_EPOCH, ErrorCode::FENCED_LEADER_EPOCH),
    ];
    let mut one = |codes: &[ErrorCode]| codes[random.random_range(0..codes.len())];
    let (before, after, of_fetch) = (one(&retriable), one(&after), one(&of_fetch));
    let other = of_others[random.random_range(0..of_others.len())];
    let here = |fault: Fault| fault.topic(TOPIC).partition(partition);
    let times = random.random_range(1..4);
    let some = match random.random_range(0..12) {
        0 => here(Fault::on(Api::PRODUCE)).error(before),
        1..3 => here(Fault::on(Api::PRODUCE)).error_after(after),
        3..5 => here(Fault::on(Api::FETCH)).error(of_fetch),
        5 => Fault::on(other.0).error(other.1),
        6 => Fault::on_any().drop_answer(),
        7 => Fault::on_any().cut_after(),
        8 => Fault::on_any().cut_mid_frame(),
        9 => Fault::on_any().hang(),
        10 => Fault::on_any().delay(millis(random, 1..3000)),
        _ => Fault::on_any().throttle(millis(random, 1..900)),
    };
    some.times(times).after(random.random_range(0..3))
}

/// The logs change under their readers.
fn wear(world: &mut World) {
    let random = &mut world.script.random;
    let index = random.random_range(0..world.plan.partitions);
    let kind = random.random_range(0..6);
    let log = world.truth.log(index);
    let somewhere = random.random_range(log.start..=log.readable.max(log.start));
    let up = world.cluster.topics.partition(TOPIC, index).is_some_and(|partition| partition.leader >= 0);
    if kind > 2 || !up {
        let _ = strike(world);
        return;
    }
    match kind {
        0 => {
            world.note(format_args!("partition {index}: begins at {somewhere} now"));
            if let Some(partition) = world.cluster.topics.partition_mut(TOPIC, index) {
                partition.log.delete_before(somewhere);
            }
        }
        1 => {
            let Some(partition) = world.cluster.topics.partition_mut(TOPIC, index) else { return };
            let batch =
                partition.log.batches().find(|batch| batch.base <= somewhere && somewhere < batch.next);
            let Some((base, next)) = batch.map(|batch| (batch.base, batch.next)) else { return };
            // Markers stay as long as what they are about.
            let is_plain = (base..next).all(|at| {
                world.truth.log(index).entries.get(&at).is_some_and(|entry| entry.value.starts_with('w'))
            });
            if is_plain {
                partition.log.remove_batch(base);
                world.truth.compacted(index, base..next);
                world.note(format_args!("partition {index}: {base} to {next} are compacted away"));
            }
        }
        _ if !world.plan.has_epochs() => return,
        _ => {
            let Some(partition) = world.cluster.topics.partition_mut(TOPIC, index) else { return };
            partition.truncate(somewhere);
            let end = partition.log.end();
            world.truth.truncated(index, end);
            world.note(format_args!("partition {index}: cut off at {end}"));
        }
    }
    world.cluster.changed(TOPIC, index);
    world.cluster.settle(world.now);
}

fn end(world: &mut World, later: Later) {
    let now = world.now;
    world.note(format_args!("over: {later:?}"));
    match later {
        Later::Start(node) => drop(world.cluster.start_node(now, node)),
        Later::Rejoin(node) => drop(world.cluster.rejoin_node(now, node)),
        Later::Cut(node) => cut_off(world, node),
        Later::Quick(node) => world.network.slow(node, Duration::ZERO),
        Later::Faultless => world.cluster.faults.clear(),
        Later::LargeBatches => {
            if let Some(topic) = world.cluster.topics.get_mut(TOPIC) {
                topic.config.remove("max.message.bytes");
            }
        }
    }
}

/// Another client writes, with transactions, straight into the leader's log.
fn write(world: &mut World) {
    let random = &mut world.script.random;
    let index = random.random_range(0..world.plan.partitions);
    let (kind, producer, commit) =
        (random.random_range(0..5), random.random_range(1..4), random.random_bool(0.5));
    let count = random.random_range(1..6);
    match kind {
        0 | 1 => append(world, index, count, None),
        2 | 3 => {
            if append(world, index, count, Some(producer)) {
                world.script.transactions.entry(producer).or_default().push(index);
            }
            true
        }
        _ => end_transaction(world, producer, commit),
    };
}

fn append(world: &mut World, index: i32, count: u64, producer: Option<i64>) -> bool {
    let mut builder = BatchBuilder::new(256);
    for _ in 0..count {
        world.script.written += 1;
        let number = world.script.written;
        let value = match producer {
            Some(producer) => format!("txn{producer}-{number}"),
            None => format!("w-{number}"),
        };
        let padding =
            if world.plan.bulk { "-x".repeat(world.script.random.random_range(0..4000)) } else { "".into() };
        builder.append(1000, &Record::value(&(value + &padding)));
    }
    let stamp = match producer {
        Some(producer_id) => Stamp { producer_id, producer_epoch: 0, base_sequence: 0, transactional: true },
        None => Stamp::NONE,
    };
    let bytes = builder.seal(Compression::None, None, stamp).unwrap();
    store(world, index, bytes)
}

fn store(world: &mut World, index: i32, bytes: bytes::Bytes) -> bool {
    let Some(partition) = world.cluster.topics.partition_mut(TOPIC, index) else { return false };
    if partition.leader < 0 {
        return false;
    }
    let (leader, epoch) = (partition.leader, partition.leader_epoch);
    partition.log.append(&RawBatch::single(&bytes).unwrap(), epoch);
    world.cluster.appended(world.now, leader, TOPIC, index);
    world.cluster.settle(world.now);
    true
}

fn end_transaction(world: &mut World, producer: i64, commit: bool) -> bool {
    let kind = if commit { ControlRecord::Commit } else { ControlRecord::Abort };
    let stamp = Stamp { producer_id: producer, producer_epoch: 0, base_sequence: -1, transactional: true };
    let partitions = world.script.transactions.remove(&producer).unwrap_or_default();
    // A partition without a leader gets its marker later.
    let rest: Vec<i32> = partitions
        .into_iter()
        .filter(|index| !store(world, *index, control_batch(kind, 0, 1000, stamp)))
        .collect();
    if !rest.is_empty() {
        world.script.transactions.insert(producer, rest);
    }
    true
}

/// Nothing is wrong any more, and nothing new begins.
pub(super) fn heal(world: &mut World) {
    let now = world.now;
    world.note(format_args!("all is well from now on"));
    world.network.heal();
    world.cluster.faults.clear();
    for (_, later) in std::mem::take(&mut world.script.later) {
        end(world, later);
    }
    for node in 1..=world.plan.nodes {
        world.cluster.rejoin_node(now, node);
        world.cluster.start_node(now, node);
    }
    for producer in 1..4 {
        end_transaction(world, producer, true);
    }
    world.truth.update(now, &world.cluster);
    for consumer in &mut world.consumers {
        consumer.settle(now, &world.truth);
    }
    for member in &mut world.members {
        member.calm_down(now);
    }
    world.script.healed = true;
    // From then on everything has to go on, as if nothing had ever been wrong.
    let well = world.network.awake(now) + world.plan.request_timeout + RECOVERY;
    if !world.plan.is_calm() {
        world.script.trouble = Some((1..=world.plan.nodes).map(|node| (node, well)).collect());
    }
    // Everybody gets a turn now.
    world.script.later.push((now, Later::Faultless));
}
