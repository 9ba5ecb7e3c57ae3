//! Random faults under seeds: connections cut before and after requests were taken, refusals, leader moves, batches too
//! large, producer ids refused, time that runs out. Then every promise is checked against the logs.
use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const PARTITIONS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(6);

struct Chaos {
    world: World,
    random: SmallRng,
    logs: Vec<Log>,
    leaders: Vec<Option<i32>>,
    epoch: i32,
    /// Requests that a node has not answered, in order.
    wires: BTreeMap<i32, VecDeque<Sent>>,
    appended: Vec<Vec<(String, Instant)>>,
    max_batch: usize,
    /// How much goes wrong, in percent.
    trouble: u32,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let settings = Settings {
            delivery_timeout: TIMEOUT,
            linger: Duration::from_millis(random.random_range(0..3) * 5),
            max_in_flight: random.random_range(1..=5),
            max_request_size: random.random_range(300..3000),
            compression: if random.random_bool(0.3) { Compression::Lz4 } else { Compression::None },
            ..settings()
        };
        let size = random.random_range(100..700);
        Self {
            world: World::with_batches(settings, PARTITIONS as i32, size),
            trouble: random.random_range(0..60),
            random,
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            leaders: vec![Some(1); PARTITIONS],
            epoch: 0,
            wires: BTreeMap::new(),
            appended: vec![Vec::new(); PARTITIONS],
            max_batch: usize::MAX,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn collect(&mut self) {
        for sent in self.world.requests() {
            self.wires.entry(sent.node).or_default().push_back(sent);
        }
    }

    /// What the node does with a batch.
    fn take(&mut self, node: i32, partition: i32, bytes: &Bytes) -> (ErrorCode, i64) {
        let at = partition as usize;
        if self.leaders[at] != Some(node) {
            return (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
        }
        if bytes.len() > self.max_batch {
            return (ErrorCode::MESSAGE_TOO_LARGE, -1);
        }
        if self.chance(self.trouble / 4) {
            return (ErrorCode::NOT_ENOUGH_REPLICAS, -1);
        }
        let (code, offset) = self.logs[at].append(bytes);
        if code.is_none() && self.chance(self.trouble / 4) {
            let codes = [
                ErrorCode::REQUEST_TIMED_OUT,
                ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::from(-1),
            ];
            // The last one is final, so it is rare.
            let most = if self.chance(10) { 4 } else { 3 };
            return (codes[self.random.random_range(0..most)], -1);
        }
        (code, offset)
    }

    fn answer_next(&mut self) {
        let busy: Vec<i32> =
            self.wires.iter().filter(|wire| !wire.1.is_empty()).map(|wire| *wire.0).collect();
        if busy.is_empty() {
            return;
        }
        let node = busy[self.random.random_range(0..busy.len())];
        if self.chance(self.trouble / 3) {
            return self.cut(node);
        }
        let Some(sent) = self.wires.get_mut(&node).and_then(VecDeque::pop_front) else { return };
        let parts: Vec<_> = sent
            .parts
            .iter()
            .map(|(partition, bytes)| {
                let (code, offset) = self.take(node, *partition, bytes);
                (*partition, code, offset)
            })
            .collect();
        self.world.answer_parts(sent.ticket, &parts);
    }

    /// The connection breaks: the node took some of the requests, whose answers are lost, and never saw the others.
    fn cut(&mut self, node: i32) {
        let lost = self.wires.remove(&node).unwrap_or_default();
        let taken = self.random.random_range(0..=lost.len());
        for sent in lost.iter().take(taken) {
            for (partition, bytes) in &sent.parts {
                self.take(node, *partition, bytes);
            }
        }
        for (at, sent) in lost.iter().enumerate() {
            let sent_at_all = at < taken || self.random.random_bool(0.5);
            self.world.disconnect(sent, sent_at_all);
        }
    }

    /// Time passes, and the machine is called whenever it wants to be.
    fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        while let Some(deadline) = self.world.sender.next_deadline().filter(|deadline| *deadline < end) {
            self.world.pass(deadline.saturating_duration_since(self.world.now));
            self.collect();
        }
        self.world.pass(end.saturating_duration_since(self.world.now));
    }

    fn step(&mut self, may_append: bool) {
        match self.random.random_range(0..20) {
            0..8 if may_append => {
                for _ in 0..self.random.random_range(1..6) {
                    let at = self.random.random_range(0..PARTITIONS);
                    let length = self.random.random_range(0..80);
                    let value = format!("{at}-{:04}-{}", self.appended[at].len(), "x".repeat(length));
                    self.world.append(at, &value);
                    self.appended[at].push((value, self.world.now));
                }
            }
            8..14 => self.answer_next(),
            14..17 => {
                let most = if self.chance(self.trouble / 8) { 3000 } else { 60 };
                let time = Duration::from_millis(self.random.random_range(0..most));
                self.pass(time);
            }
            17 if self.chance(self.trouble / 2) => {
                let at = self.random.random_range(0..PARTITIONS);
                self.leaders[at] = [Some(1), Some(2), None][self.random.random_range(0..3)];
            }
            18 => {
                self.epoch += 1;
                let leaders: Vec<_> = self.leaders.iter().map(|leader| leader.or(Some(1))).collect();
                self.leaders.clone_from(&leaders);
                self.world.lead(&leaders, self.epoch);
            }
            19 if self.chance(self.trouble / 2) => {
                self.max_batch = [150, 250, usize::MAX][self.random.random_range(0..3)];
            }
            _ => {}
        }
        self.collect();
    }

    fn check(&self) {
        for (at, log) in self.logs.iter().enumerate() {
            assert!(log.values.is_sorted(), "partition {at} is out of order or repeats: {:#?}", log.values);
            assert!(log.values.windows(2).all(|two| two[0] != two[1]), "partition {at} repeats a record");
            for (value, appended) in &self.appended[at] {
                let took = self.world.ended_at[value] - *appended;
                assert!(took <= TIMEOUT, "{value} took {took:?}");
                let place = log.values.iter().position(|stored| stored == value);
                match &self.world.ended[value] {
                    Ok(Some(offset)) => assert_eq!(place, Some(*offset as usize), "{value}"),
                    Ok(None) => assert!(place.is_some(), "{value} was acknowledged and is lost"),
                    Err(error) if error.maybe_written() => {}
                    Err(error) => assert_eq!(place, None, "{value}: {error}"),
                }
            }
        }
        assert!(self.world.records.is_empty() && self.world.sender.is_idle());
        assert_eq!(self.world.sender.counters().in_flight, 0);
    }
}

fn run(seed: u64) -> (usize, usize, u64) {
    let mut chaos = Chaos::new(seed);
    for _ in 0..400 {
        chaos.step(true);
    }
    // A quiet end: everything is settled, one way or the other.
    for step in 0..4000 {
        if chaos.world.records.is_empty() && chaos.wires.values().all(VecDeque::is_empty) {
            break;
        }
        assert!(step < 3999, "it never ends");
        chaos.step(false);
    }
    chaos.check();
    let failed = chaos.world.ended.values().filter(|end| end.is_err()).count();
    (chaos.world.ended.len() - failed, failed, chaos.world.sender.counters().epochs)
}

#[test]
fn whatever_goes_wrong_the_promises_hold() {
    let seeds = std::env::var("MILENA_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let first = std::env::var("MILENA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (mut written, mut failed, mut epochs) = (0, 0, 0);
    for seed in first..first + seeds {
        let one = std::panic::catch_unwind(|| run(seed))
            .unwrap_or_else(|_| panic!("seed {seed}: MILENA_SEED={seed} MILENA_SEEDS=1"));
        (written, failed, epochs) = (written + one.0, failed + one.1, epochs + one.2);
    }
    println!("{seeds} seeds: {written} records written, {failed} failed, {epochs} producer ids");
    assert!(seeds < 60 || (written > failed && failed > 0 && epochs > seeds), "nothing was tried");
}
