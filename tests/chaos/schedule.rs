//! What happens when, drawn from a seed: rounds, in each of which something happens to the cluster, some things to links,
//! and then nothing for a while.
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::fault_proxy::{Hold, LinkFault, Way};
use crate::places::{NODES, PLACES};

/// Something that happens to the cluster. One at a time, or acknowledged records would not have two copies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClusterFault {
    /// SIGKILL, and a start after a while.
    Kill { node: i32, dead: Duration },
    /// SIGSTOP, and SIGCONT after a while: long enough for other leaders, or not.
    Pause { node: i32, halted: Duration },
    /// These partitions get these leaders.
    MoveLeaders(Vec<(usize, i32)>),
}

/// Something that happens to the links of one node, some time into the round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) after: Duration,
    pub(crate) line: usize,
    pub(crate) fault: LinkFault,
    pub(crate) lasts: Duration,
}

pub(crate) struct Round {
    pub(crate) cluster: ClusterFault,
    pub(crate) links: Vec<Strike>,
    pub(crate) calm: Duration,
}

/// Rounds without end.
pub(crate) struct Schedule {
    random: StdRng,
    cluster: Deck,
    links: Deck,
}

/// Things to draw, each once before any comes again.
struct Deck {
    size: usize,
    left: Vec<usize>,
}

const CLUSTER_FAULTS: usize = 4;
const LINK_FAULTS: usize = 14;

/// Link faults of one round.
const STRIKES: std::ops::RangeInclusive<usize> = 4..=6;

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        let deck = |size| Deck { size, left: vec![] };
        Self { random: StdRng::seed_from_u64(seed), cluster: deck(CLUSTER_FAULTS), links: deck(LINK_FAULTS) }
    }

    pub(crate) fn next(&mut self) -> Round {
        let cluster = self.cluster_fault();
        let count = self.random.random_range(STRIKES);
        let links = (0..count).map(|_| self.strike()).collect();
        Round { cluster, links, calm: self.millis(2_000..5_000) }
    }

    fn cluster_fault(&mut self) -> ClusterFault {
        let node = self.random.random_range(1..=NODES as i32);
        match self.cluster.draw(&mut self.random) {
            0 => ClusterFault::Kill { node, dead: self.millis(500..6_000) },
            // Kafka takes a node for dead after 3 s.
            1 => ClusterFault::Pause { node, halted: self.millis(5_000..11_000) },
            2 => ClusterFault::Pause { node, halted: self.millis(300..2_500) },
            _ => {
                let count = self.random.random_range(1..=PLACES);
                let mut places: Vec<_> = (0..PLACES).collect();
                places.shuffle(&mut self.random);
                let leader = |place| (place, self.random.random_range(1..=NODES as i32));
                ClusterFault::MoveLeaders(places.into_iter().take(count).map(leader).collect())
            }
        }
    }

    fn strike(&mut self) -> Strike {
        let kind = self.links.draw(&mut self.random);
        let random = &mut self.random;
        let mut pick = |from: usize, to: usize| random.random_range(from..to);
        let hold = Hold { requests: true, answers: true, old_only: false, carrying: None, late: false };
        let delay = |way, by: usize| LinkFault::Delay {
            way,
            by: Duration::from_millis(by as u64),
            jitter: Duration::from_millis(by as u64),
        };
        let (fault, lasts) = match kind {
            0 => (LinkFault::Cut, 1..2),
            1 => (LinkFault::CutAfter { way: Way::Requests, bytes: pick(1, 20_000) }, 500..4_000),
            2 => (LinkFault::CutAfter { way: Way::Answers, bytes: pick(1, 20_000) }, 500..4_000),
            3 => (delay(Way::Requests, pick(5, 400)), 1_000..8_000),
            4 => (delay(Way::Answers, pick(5, 400)), 1_000..8_000),
            5 => (LinkFault::Throttle { way: Way::Requests, bytes: pick(8_000, 100_000) }, 1_000..8_000),
            6 => (LinkFault::Throttle { way: Way::Answers, bytes: pick(8_000, 200_000) }, 1_000..8_000),
            7 => (LinkFault::Slice { way: Way::Requests, bytes: pick(1, 200) }, 1_000..6_000),
            8 => (LinkFault::Slice { way: Way::Answers, bytes: pick(1, 200) }, 1_000..6_000),
            9 => (LinkFault::Hold(hold), 500..9_000),
            // Requests are carried out, and the answers are lost.
            10 => (LinkFault::Hold(Hold { requests: false, ..hold }), 500..9_000),
            // Requests come long after they were given up.
            11 => (LinkFault::Hold(Hold { answers: false, late: true, ..hold }), 2_500..12_000),
            12 => {
                (LinkFault::Hold(Hold { answers: false, late: true, old_only: true, ..hold }), 2_500..12_000)
            }
            _ => (LinkFault::Refuse, 300..4_000),
        };
        let line = pick(0, NODES);
        Strike { after: self.millis(0..8_000), line, fault, lasts: self.millis(lasts) }
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }
}

impl Deck {
    fn draw(&mut self, random: &mut StdRng) -> usize {
        if self.left.is_empty() {
            self.left = (0..self.size).collect();
            self.left.shuffle(random);
        }
        self.left.pop().unwrap_or_default()
    }
}

impl ClusterFault {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Pause { .. } => "pause",
            Self::MoveLeaders(_) => "leader moves",
        }
    }
}

impl Strike {
    pub(crate) fn kind(&self) -> &'static str {
        match self.fault {
            LinkFault::Cut => "cut",
            LinkFault::CutAfter { .. } => "cut within a frame",
            LinkFault::Delay { .. } => "delay",
            LinkFault::Throttle { .. } => "throttle",
            LinkFault::Slice { .. } => "slices",
            LinkFault::Hold(Hold { late: true, .. }) => "late requests",
            LinkFault::Hold(Hold { requests: false, .. }) => "lost answers",
            LinkFault::Hold(_) => "black hole",
            LinkFault::Refuse => "refuse",
        }
    }
}

#[test]
fn a_seed_repeats_its_schedule_and_everything_happens_within_four_rounds() {
    let rounds = |seed| {
        let mut schedule = Schedule::new(seed);
        (0..4).map(|_| schedule.next()).collect::<Vec<_>>()
    };
    for seed in 0..20 {
        let (once, again) = (rounds(seed), rounds(seed));
        let mut kinds = std::collections::BTreeSet::new();
        for (once, again) in once.iter().zip(&again) {
            assert_eq!(once.cluster, again.cluster);
            assert_eq!(format!("{:?}", once.links), format!("{:?}", again.links));
            kinds.insert(once.cluster.kind());
            kinds.extend(once.links.iter().map(Strike::kind));
        }
        assert_eq!(kinds.len(), 12, "seed {seed}: {kinds:?}");
    }
    assert_ne!(format!("{:?}", rounds(1)[0].links), format!("{:?}", rounds(2)[0].links));
}
