//! What happens in one run: the scenarios in which replies get lost elsewhere.
use std::time::Duration;

use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::answerer::Answerer;
use super::caller::{Caller, Shape};
use super::{Counts, MILLISECOND, REPLIES, SECOND, World};
use crate::broker::{Api, Fault};
use crate::protocol::error_code::ErrorCode;
use crate::request_reply::{ReplyAllocator, ReplyGroup, RequesterBuilder};

/// A reply that is in the log so long before its deadline must be handed over.
const GRACE: Duration = Duration::from_millis(500);
/// While connections break and leaders move, a client may need a back-off or two to find the way.
const GRACE_UNDER_FAULTS: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// A: callers come one by one, and go.
    Scale,
    /// B: one of them is killed, and another one comes in its place.
    Kill,
    /// C: each is restarted in an orderly way.
    Rolling,
    /// D: one hangs for longer than any session lasts, and comes back.
    Hang,
    /// E: nodes stop and start.
    Nodes,
    /// F: the coordinators of all groups are gone for a minute.
    Coordinators,
    /// G: a reply comes while a member that says nothing holds the group's rebalance open, and nothing was ever received before.
    Cold,
    /// H: the first call right after the start.
    First,
    /// I: responders are killed between their replies and whatever comes after.
    Responders,
    /// J: replies and deadlines race.
    Races,
    /// M: more callers than partitions, and then more partitions.
    Growth,
    /// P: callers lose interest half-way.
    Dropped,
    /// Q: clocks are minutes apart.
    Clocks,
}

pub(super) const SCENES: [Scene; 13] = [
    Scene::Scale,
    Scene::Kill,
    Scene::Rolling,
    Scene::Hang,
    Scene::Nodes,
    Scene::Coordinators,
    Scene::Cold,
    Scene::First,
    Scene::Responders,
    Scene::Races,
    Scene::Growth,
    Scene::Dropped,
    Scene::Clocks,
];

impl Scene {
    pub(super) async fn run(self, seed: u64, talk: bool) -> Result<Counts, String> {
        let nodes = if self == Self::Nodes || seed & 16 != 0 { 3 } else { 1 };
        let partitions = if self == Self::Growth { 3 } else { 1 + (seed >> 5 & 7) as i32 };
        let world = World::new(seed, nodes, partitions, talk).await;
        let mut stage = Stage::new(world, nodes, partitions);
        stage.answer(0).await;
        if stage.world.chance(0.5) && !matches!(self, Self::Races | Self::First) {
            stage.trouble();
        }
        stage.streams = !matches!(self, Self::Responders | Self::Coordinators | Self::Clocks);
        stage.calm =
            stage.grace == GRACE && matches!(self, Self::First | Self::Races | Self::Dropped | Self::Growth);
        stage.play(self).await?;
        stage.end().await
    }
}

/// A group that gives up on who hangs after six seconds.
fn group(name: &str) -> ReplyGroup {
    ReplyGroup::new(name).session_timeout(6 * SECOND).heartbeat_interval(SECOND)
}

/// Who is on.
struct Stage {
    world: World,
    nodes: i32,
    partitions: i32,
    callers: Vec<Caller>,
    answerers: Vec<Answerer>,
    /// The name of the next caller.
    next: usize,
    grace: Duration,
    /// Of calls.
    timeouts: (Duration, Duration),
    events: u64,
    /// No request is executed twice, so that streams may be asked for.
    streams: bool,
    /// Nothing goes wrong, so that no handler needs to run twice.
    calm: bool,
    /// What goes on beside the load.
    aside: JoinSet<()>,
}

impl Stage {
    fn new(world: World, nodes: i32, partitions: i32) -> Self {
        let (callers, answerers, aside) = (Vec::new(), Vec::new(), JoinSet::new());
        Self {
            world,
            nodes,
            partitions,
            callers,
            answerers,
            next: 0,
            grace: GRACE,
            timeouts: (8 * SECOND, 30 * SECOND),
            events: 0,
            calm: false,
            streams: false,
            aside,
        }
    }

    async fn play(&mut self, scene: Scene) -> Result<(), String> {
        match scene {
            Scene::Scale => {
                for _ in 0..8 {
                    self.come(0).await;
                    self.load(SECOND).await;
                }
                while self.callers.len() > 1 {
                    self.leave().await?;
                    self.load(SECOND).await;
                }
            }
            Scene::Kill => {
                self.come_all(4).await;
                for _ in 0..5 {
                    self.load(2 * SECOND).await;
                    self.any().die();
                    self.event("killed");
                    self.load(SECOND).await;
                    self.come(0).await;
                }
            }
            Scene::Rolling => {
                self.come_all(4).await;
                for _ in 0..4 {
                    self.load(SECOND).await;
                    self.leave().await?;
                    self.come(0).await;
                }
            }
            Scene::Hang => {
                self.come_all(3).await;
                for _ in 0..3 {
                    let time = self.world.between(SECOND, 40 * SECOND);
                    let at = self.world.rng.random_range(0..self.callers.len());
                    let hanging = self.callers[at].hang(time);
                    self.aside.spawn(hanging);
                    self.event("hangs");
                    self.load(4 * SECOND).await;
                }
            }
            Scene::Nodes => {
                self.come_all(3).await;
                self.grace = GRACE_UNDER_FAULTS;
                for _ in 0..4 {
                    let node = self.world.rng.random_range(1..=self.nodes);
                    self.world.broker.stop_node(node).await.map_err(|error| error.to_string())?;
                    self.event("stopped a node");
                    self.load(3 * SECOND).await;
                    self.world.broker.start_node(node).await.map_err(|error| error.to_string())?;
                    self.event("started it");
                    self.load(2 * SECOND).await;
                }
            }
            Scene::Coordinators => {
                self.come_all(3).await;
                self.load(3 * SECOND).await;
                let apis = [Api::HEARTBEAT, Api::JOIN_GROUP, Api::SYNC_GROUP, Api::FIND_COORDINATOR];
                for api in apis {
                    let fault = Fault::on(api);
                    let silent = self.world.chance(0.5);
                    self.world.broker.faults().add(if silent { fault.hang() } else { fault.cut() });
                }
                self.event("no coordinator answers");
                self.load(10 * SECOND).await;
                // New callers need none, and those that leave do not wait for it.
                self.come(0).await;
                self.any().die();
                self.load(20 * SECOND).await;
                self.world.broker.faults().clear();
                self.event("they are back");
                self.load(5 * SECOND).await;
            }
            Scene::Cold => {
                for _ in 0..3 {
                    self.grouped(0).await;
                    let mute = self.grouped(0).await;
                    sleep(5 * SECOND).await;
                    let shape = Shape { work: 6 * SECOND, timeout: 12 * SECOND, patience: None, items: 0 };
                    for caller in &mut self.callers {
                        caller.call(shape);
                    }
                    let hanging = self.callers[mute].hang(9 * SECOND);
                    self.aside.spawn(hanging);
                    self.grouped(0).await;
                    self.event("a rebalance is held open");
                    self.load(8 * SECOND).await;
                    while self.callers.len() > 1 {
                        self.leave().await?;
                    }
                }
            }
            Scene::First => {
                for _ in 0..10 {
                    self.come(0).await;
                    let shape = Shape { work: Duration::ZERO, timeout: 5 * SECOND, patience: None, items: 0 };
                    self.callers.last_mut().ok_or("nobody came")?.call(shape);
                    let pause = self.world.between(Duration::ZERO, SECOND);
                    sleep(pause).await;
                }
            }
            Scene::Responders => {
                // Long enough for any session to end and for others to take over: every request is answered.
                self.timeouts = (60 * SECOND, 90 * SECOND);
                self.world.book.answers_all();
                self.come_all(2).await;
                self.answer(0).await;
                for _ in 0..4 {
                    self.load(2 * SECOND).await;
                    self.answerers.swap_remove(0).die();
                    self.event("killed a responder");
                    self.answer(0).await;
                }
            }
            Scene::Races => {
                self.come_all(2).await;
                for _ in 0..150 {
                    let work = self.world.between(Duration::ZERO, 300 * MILLISECOND);
                    let early = self.world.between(Duration::ZERO, 4 * MILLISECOND);
                    let timeout = (work + early).saturating_sub(2 * MILLISECOND).max(MILLISECOND);
                    let at = self.world.rng.random_range(0..self.callers.len());
                    self.callers[at].call(Shape { work, timeout, patience: None, items: 0 });
                    sleep(10 * MILLISECOND).await;
                }
            }
            Scene::Growth => {
                self.come_all(8).await;
                self.load(3 * SECOND).await;
                self.partitions = 12;
                let admin = self.callers[0].admin();
                admin.create_partitions(REPLIES, 12).await.map_err(|error| error.to_string())?;
                self.event("12 reply partitions");
                self.load(3 * SECOND).await;
                self.come_all(2).await;
                self.load(2 * SECOND).await;
            }
            Scene::Dropped => {
                self.come_all(3).await;
                for _ in 0..150 {
                    let shape = self.shape();
                    let patience = self.world.between(Duration::ZERO, 2 * shape.work);
                    let at = self.world.rng.random_range(0..self.callers.len());
                    self.callers[at].call(Shape { patience: Some(patience), ..shape });
                    let pause = self.world.between(Duration::ZERO, 40 * MILLISECOND);
                    sleep(pause).await;
                }
            }
            Scene::Clocks => {
                for _ in 0..3 {
                    let skew = self.world.rng.random_range(-300_000..300_000);
                    self.come(skew).await;
                    self.load(2 * SECOND).await;
                }
                let skew = self.world.rng.random_range(-300_000..300_000);
                self.answer(skew).await;
                self.load(3 * SECOND).await;
            }
        }
        Ok(())
    }

    fn event(&mut self, what: &str) {
        self.events += 1;
        self.world.say(|| what.to_owned());
    }

    async fn come(&mut self, skew: i64) {
        let (name, choice) = (self.next, self.world.rng.random_range(0..8));
        let partition = self.world.rng.random_range(0..self.partitions);
        let options = |builder: RequesterBuilder| match choice {
            0 => builder,
            1 => builder.instance_id(format!("caller-{name}")),
            2 => builder.reply_partition(partition),
            3 => builder.allocator(ReplyAllocator::broadcast()),
            4 => builder.allocator(ReplyAllocator::nest_group(group("nest"))),
            _ => builder.allocator(ReplyAllocator::group(group("callers"))),
        };
        self.start(skew, options).await;
    }

    /// One whose home is chosen in a group; its place among the callers.
    async fn grouped(&mut self, skew: i64) -> usize {
        self.start(skew, |builder| builder.allocator(ReplyAllocator::group(group("callers")))).await;
        self.callers.len() - 1
    }

    async fn start(&mut self, skew: i64, options: impl FnOnce(RequesterBuilder) -> RequesterBuilder) {
        let name = self.next;
        self.next += 1;
        let caller = Caller::start(&self.world, name, skew, options).await;
        self.event(&format!("caller {name} came"));
        self.callers.push(caller);
    }

    async fn come_all(&mut self, count: usize) {
        for _ in 0..count {
            self.come(0).await;
        }
    }

    async fn answer(&mut self, skew: i64) {
        self.answerers.push(Answerer::start(&self.world, skew).await);
    }

    fn any(&mut self) -> Caller {
        let at = self.world.rng.random_range(0..self.callers.len());
        self.callers.swap_remove(at)
    }

    async fn leave(&mut self) -> Result<(), String> {
        let caller = self.any();
        self.event("one leaves");
        caller.leave().await
    }

    fn shape(&mut self) -> Shape {
        let slow = self.world.chance(0.05);
        let work = match slow {
            true => self.world.between(SECOND, 5 * SECOND),
            false => self.world.between(Duration::ZERO, 50 * MILLISECOND),
        };
        let (shortest, longest) = self.timeouts;
        // Whoever executes a stream again begins anew, which its caller is told.
        let items =
            if self.streams && self.world.chance(0.05) { self.world.rng.random_range(1..20) } else { 0 };
        Shape { work, timeout: self.world.between(shortest, longest), patience: None, items }
    }

    /// Lets everybody call now and then.
    async fn load(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for at in 0..self.callers.len() {
                if self.world.chance(0.25) {
                    let shape = self.shape();
                    self.callers[at].call(shape);
                }
            }
            let pause = self.world.between(MILLISECOND, 300 * MILLISECOND);
            sleep(pause).await;
        }
    }

    /// Connections break, answers are lost, nodes refuse, leaders move.
    fn trouble(&mut self) {
        self.grace = GRACE_UNDER_FAULTS;
        let faults = self.world.broker.faults();
        let apis = [Api::PRODUCE, Api::FETCH, Api::LIST_OFFSETS, Api::METADATA, Api::INIT_PRODUCER_ID];
        for _ in 0..4 {
            let api = apis[self.world.rng.random_range(0..apis.len())];
            let fault = Fault::on(api).probability(self.world.rng.random_range(0.0..0.05));
            faults.add(match self.world.rng.random_range(0..6) {
                0 => fault.cut(),
                1 => fault.cut_after(),
                2 => fault.cut_mid_frame(),
                3 => fault.delay(self.world.rng.random_range(1..300) * MILLISECOND),
                4 if self.nodes > 1 && api == Api::FETCH => fault.move_leader(),
                // As after a truncation: nobody may go on at the end.
                _ if api == Api::FETCH && self.world.rng.random_bool(0.5) => {
                    fault.topic(REPLIES).error(ErrorCode::OFFSET_OUT_OF_RANGE)
                }
                _ if matches!(api, Api::PRODUCE | Api::FETCH | Api::LIST_OFFSETS) => {
                    fault.error(ErrorCode::NOT_LEADER_OR_FOLLOWER)
                }
                _ => fault.cut(),
            });
        }
    }

    /// Everybody goes; then the log is asked.
    async fn end(mut self) -> Result<Counts, String> {
        while self.aside.join_next().await.is_some() {}
        let struck = self.world.broker.faults().struck();
        self.world.broker.faults().clear();
        for caller in std::mem::take(&mut self.callers) {
            caller.leave().await?;
        }
        for answerer in std::mem::take(&mut self.answerers) {
            answerer.leave().await;
        }
        let checked = self.world.book.check(&self.world.broker, self.partitions, self.grace)?;
        if self.calm
            && let Some(token) = self.world.book.repeated().first()
        {
            return Err(format!(
                "repeated: the handler of call {token} ran twice, and nothing had gone wrong"
            ));
        }
        let open = self.world.broker.connections();
        if open > 0 {
            return Err(format!("leak: {open} connections are open after the end"));
        }
        self.world.broker.stop().await;
        Ok(Counts { events: self.events, faults: struck, ..checked })
    }
}
