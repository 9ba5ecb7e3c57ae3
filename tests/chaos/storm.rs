//! Carries out the schedule, and notes what happened when.
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::fault_proxy::FaultProxy;
use crate::places;
use crate::progress::{Progress, lock};
use crate::schedule::{ClusterFault, Round, Schedule, Strike};
use crate::support::kafka::{Cluster, Faults, let_pass};

/// When a round is over, each writer and reader must get on in each partition within this time.
const RECOVERY: Duration = Duration::from_secs(60);

/// Something that happened, in time since the beginning.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) from: Duration,
    pub(crate) to: Option<Duration>,
    pub(crate) kind: &'static str,
    what: String,
}

pub(crate) struct Events {
    begun: Instant,
    happened: Mutex<Vec<Event>>,
}

impl Events {
    pub(crate) fn new(begun: Instant) -> Self {
        Self { begun, happened: Mutex::default() }
    }

    fn begin(&self, kind: &'static str, what: String) -> usize {
        let mut happened = lock(&self.happened);
        happened.push(Event { from: self.begun.elapsed(), to: None, kind, what });
        happened.len() - 1
    }

    fn end(&self, event: usize) {
        lock(&self.happened)[event].to = Some(self.begun.elapsed());
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        lock(&self.happened).clone()
    }
}

impl Event {
    pub(crate) fn overlaps(&self, from: Duration, to: Duration) -> bool {
        self.from < to && self.to.is_none_or(|ended| ended > from)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.to.map_or("now".to_owned(), |to| format!("{:.1}", to.as_secs_f64()));
        write!(f, "{:.1} to {to} s: {}", self.from.as_secs_f64(), self.what)
    }
}

/// How the rounds went.
#[derive(Default)]
pub(crate) struct Weathered {
    pub(crate) rounds: usize,
    pub(crate) longest_recovery: Duration,
    /// Who was the last then.
    pub(crate) last_to_recover: String,
    /// Who did not recover; then no round followed.
    pub(crate) stuck: Option<String>,
}

/// Round after round, as long as one begins before the end.
pub(crate) async fn blow(
    kafka: &Cluster,
    proxy: &Arc<FaultProxy>,
    seed: u64,
    end: Instant,
    progress: &Progress,
    events: &Arc<Events>,
) -> Weathered {
    let faults = kafka.faults();
    let (mut schedule, mut weathered) = (Schedule::new(seed), Weathered::default());
    while Instant::now() < end {
        let Round { cluster, links, calm } = schedule.next();
        let mut strikes = JoinSet::new();
        for link in links {
            strikes.spawn(strike(proxy.clone(), link, events.clone()));
        }
        let event = events.begin(cluster.kind(), format!("{cluster:?}"));
        carry_out(kafka, &faults, &cluster);
        events.end(event);
        strikes.join_all().await;
        weathered.rounds += 1;

        let (healed, reached, mut last) = (Instant::now(), progress.reached(), String::new());
        while let Some(behind) = progress.behind(&reached) {
            if healed.elapsed() > RECOVERY {
                weathered.stuck = Some(format!("{RECOVERY:?} after round {}: {behind}", weathered.rounds));
                return weathered;
            }
            last = behind;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if healed.elapsed() > weathered.longest_recovery {
            (weathered.longest_recovery, weathered.last_to_recover) = (healed.elapsed(), last);
        }
        tokio::time::sleep(calm).await;
    }
    weathered
}

async fn strike(proxy: Arc<FaultProxy>, strike: Strike, events: Arc<Events>) {
    let Strike { after, line, fault, lasts } = strike;
    tokio::time::sleep(after).await;
    let event = events.begin(strike.kind(), format!("links of node {}: {fault:?}", line + 1));
    let struck = proxy.strike(line, fault);
    tokio::time::sleep(lasts).await;
    proxy.lift(struck);
    events.end(event);
}

/// Blocks this thread, which has nothing else to do, until all replicas are in sync again.
fn carry_out(kafka: &Cluster, faults: &Faults<'_>, fault: &ClusterFault) {
    match fault {
        ClusterFault::Kill { node, dead } => {
            faults.kill(*node);
            let_pass(*dead);
            faults.restart(*node);
        }
        ClusterFault::Pause { node, halted } => {
            faults.pause(*node);
            let_pass(*halted);
            faults.resume(*node);
        }
        ClusterFault::MoveLeaders(moves) => {
            for (place, node) in moves {
                let (topic, partition) = places::all().nth(*place).expect("a place");
                kafka.move_leader(topic, partition, *node);
            }
        }
    }
    faults.wait_until_healed();
}
