//! Members come, go, crash and dawdle while coordinators move and answers get lost: every record is handed out, no commit covers what
//! nobody has finished with or goes back, and in the end each partition has one owner.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::*;

const PARTITIONS: i32 = 6;
const SECOND: Duration = Duration::from_secs(1);
/// More of them: `MILENA_GROUP_SEEDS=1000 cargo test --test groups storm`.
const SEEDS: u64 = 20;

/// What all applications have done together.
#[derive(Default)]
struct Work {
    /// By partition, the records that somebody has finished with.
    finished: BTreeMap<i32, BTreeSet<u32>>,
    handed: BTreeSet<(i32, u32)>,
    /// Who was told that a partition is its own, and not that it is not.
    owners: BTreeMap<i32, BTreeSet<u64>>,
}

impl Work {
    fn is_gone(&mut self, id: u64) {
        for owners in self.owners.values_mut() {
            owners.remove(&id);
        }
    }

    /// What a member was told; the place of the record if it is one.
    fn take(&mut self, id: u64, event: ConsumerEvent) -> Option<(i32, u32)> {
        match event {
            ConsumerEvent::Batch(batch) => {
                let place = read(&batch);
                self.handed.insert(place);
                return Some(place);
            }
            ConsumerEvent::Assigned(partitions) => {
                for partition in partitions {
                    assert!(self.owners.entry(partition.partition()).or_default().insert(id), "told twice");
                }
            }
            ConsumerEvent::Revoked(partitions) | ConsumerEvent::Lost(partitions) => {
                for partition in partitions {
                    self.owners.entry(partition.partition()).or_default().remove(&id);
                }
            }
            other => panic!("{other:?}"),
        }
        None
    }
}

struct Member {
    id: u64,
    /// Ends in good order when the sender is used, and at once when it is aborted.
    task: JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
    work: Arc<Mutex<Work>>,
}

impl Member {
    fn start(id: u64, consumer: Consumer, work: Arc<Mutex<Work>>, seed: u64) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(run(id, consumer, work.clone(), seed, stopped));
        Self { id, task, stop, work }
    }

    async fn leave(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }

    fn crash(self) {
        self.task.abort();
        self.work.lock().unwrap().is_gone(self.id);
    }
}

async fn run(
    id: u64,
    mut consumer: Consumer,
    work: Arc<Mutex<Work>>,
    seed: u64,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let mut random = SmallRng::seed_from_u64(seed);
    // Some listen, some do not.
    let listens = random.random_bool(0.7);
    let mut last = None;
    loop {
        // The call says that what was handed out before is finished.
        if let Some((partition, number)) = last.take() {
            work.lock().unwrap().finished.entry(partition).or_default().insert(number);
        }
        let next = async {
            match listens {
                true => consumer.next_event().await,
                false => consumer.next().await.map(|batch| batch.map(ConsumerEvent::Batch)),
            }
        };
        let event = tokio::select! {
            event = next => event,
            _ = &mut stopped => break,
        };
        match event {
            Ok(Some(event)) => last = work.lock().unwrap().take(id, event),
            Ok(None) => break,
            Err(error) => panic!("{error}"),
        }
        if random.random_bool(0.02) {
            let dawdle = if random.random_bool(0.1) { 90 } else { 10 };
            tokio::time::sleep(dawdle * SECOND).await;
        } else if random.random_bool(0.2) {
            tokio::time::sleep(SECOND / 20).await;
        }
    }
    within(consumer.close()).await;
    work.lock().unwrap().is_gone(id);
}

fn fault(random: &mut SmallRng) -> Fault {
    let apis = [
        Api::FIND_COORDINATOR,
        Api::JOIN_GROUP,
        Api::SYNC_GROUP,
        Api::HEARTBEAT,
        Api::OFFSET_COMMIT,
        Api::OFFSET_FETCH,
        Api::LEAVE_GROUP,
        Api::FETCH,
    ];
    let api = apis[random.random_range(0..apis.len())];
    let fault = Fault::on(api).times(random.random_range(1..4));
    match random.random_range(0..8) {
        0 => fault.move_coordinator(),
        1 => fault.cut(),
        2 => fault.cut_after(),
        3 => fault.drop_answer(),
        4 => fault.delay(random.random_range(1..20) * SECOND),
        5 if api != Api::FETCH => fault.error(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        6 if api != Api::FETCH => fault.error(ErrorCode::NOT_COORDINATOR),
        7 if [Api::HEARTBEAT, Api::SYNC_GROUP, Api::OFFSET_COMMIT].contains(&api) => {
            let codes = [
                ErrorCode::ILLEGAL_GENERATION,
                ErrorCode::UNKNOWN_MEMBER_ID,
                ErrorCode::REBALANCE_IN_PROGRESS,
            ];
            fault.error(codes[random.random_range(0..codes.len())])
        }
        _ => fault.hang(),
    }
}

async fn storm(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let (broker, admin) = start(Broker::builder().nodes(3).seed(seed)).await;
    broker.create_topic("t", PARTITIONS).unwrap();
    let work: Arc<Mutex<Work>> = Arc::default();
    let kind = if random.random_bool(0.7) { cooperative } else { eager };
    let mut members: Vec<Member> = Vec::new();
    let (mut next_id, mut written) = (0, 0);
    let mut stood: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for _ in 0..60 {
        match random.random_range(0..10) {
            0..=2 if members.len() < 5 => {
                let builder = kind(&client(&broker).await).max_poll_interval(60 * SECOND);
                let consumer = build(builder.auto_commit_interval(2 * SECOND)).await;
                next_id += 1;
                members.push(Member::start(next_id, consumer, work.clone(), seed * 1000 + next_id));
            }
            3 if members.len() > 1 => {
                let member = members.swap_remove(random.random_range(0..members.len()));
                member.leave().await;
            }
            4 if members.len() > 1 => members.swap_remove(random.random_range(0..members.len())).crash(),
            5 | 6 => broker.faults().add(fault(&mut random)),
            _ => {
                fill(&broker, "t", PARTITIONS, written, 2);
                written += 2;
            }
        }
        tokio::time::sleep(random.random_range(1..100) * SECOND / 10).await;
        look(&admin, &work, &mut stood).await;
    }
    broker.faults().clear();
    if members.is_empty() {
        let consumer = build(kind(&client(&broker).await)).await;
        members.push(Member::start(99, consumer, work.clone(), 99));
    }
    let begin = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(SECOND).await;
        look(&admin, &work, &mut stood).await;
        let handed = work.lock().unwrap().handed.len();
        let described = within(admin.admin().describe_group("g")).await;
        let settled = described.is_ok_and(|group| {
            let all: Vec<_> = group.members.iter().flat_map(|member| &member.assignment).collect();
            let distinct: BTreeSet<_> = all.iter().collect();
            group.members.len() == members.len()
                && all.len() == PARTITIONS as usize
                && distinct.len() == all.len()
        });
        if settled && handed == all(PARTITIONS, written).len() {
            break;
        }
        assert!(
            begin.elapsed() < 1200 * SECOND,
            "seed {seed}: {handed} of {} records",
            PARTITIONS as u32 * written
        );
    }
    // What those were told who listen is what the coordinator has, once they have asked.
    tokio::time::sleep(100 * SECOND).await;
    for (partition, owners) in &work.lock().unwrap().owners {
        assert!(owners.len() <= 1, "seed {seed}: {partition} has the owners {owners:?}");
    }
    for member in members {
        member.leave().await;
    }
    look(&admin, &work, &mut stood).await;
}

/// What is committed was finished, and is never less than it was.
async fn look(client: &Client, work: &Mutex<Work>, stood: &mut BTreeMap<TopicPartition, i64>) {
    let Ok(offsets) = tokio::time::timeout(20 * SECOND, client.admin().group_offsets("g")).await else {
        return;
    };
    let Ok(offsets) = offsets else { return };
    let work = work.lock().unwrap();
    for (partition, committed) in offsets {
        let before = stood.insert(partition.clone(), committed.offset).unwrap_or(0);
        assert!(committed.offset >= before, "{partition} went back from {before} to {}", committed.offset);
        let finished = work.finished.get(&partition.partition());
        for number in 0..committed.offset as u32 {
            let is_finished = finished.is_some_and(|finished| finished.contains(&number));
            assert!(
                is_finished,
                "{partition} is committed to {}, but {number} is not finished",
                committed.offset
            );
        }
    }
}

#[test]
fn in_a_storm_nothing_is_lost_and_no_commit_lies() {
    let seeds = std::env::var("MILENA_GROUP_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 1..=seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        println!("seed {seed}");
        runtime.block_on(async {
            tokio::time::timeout(7200 * SECOND, storm(seed))
                .await
                .unwrap_or_else(|_| panic!("seed {seed} hangs"));
        });
    }
}
