//! The plan for the other groups: who gives up what, so that as little as possible moves or lies across racks.
use super::flow::{ANY, Network};
use super::levels::Part;
use super::plan::Plan;

/// What costs more than all that is less important could.
const MUCH: i64 = 1 << 21;
/// The worth of a member's level being reached: more than any chain of moves costs.
const LEVEL: i64 = 1 << 50;

/// What a plan avoids first, once loads are balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Avoid {
    #[default]
    Moves,
    Racks,
}

impl Avoid {
    /// The cost of keeping a partition and of giving out another.
    fn costs(self, across_racks: bool) -> (i64, i64) {
        let across = i64::from(across_racks);
        match self {
            Self::Moves => (across, MUCH + across),
            Self::Racks => (across * MUCH, 1 + across * MUCH),
        }
    }
}

impl Plan<'_> {
    /// Brings every member of a part to its level at the least cost: a cheapest flow through classes of jobs, classes of members and
    /// members. What a member keeps goes straight to it.
    pub(super) fn exchange(&mut self, part: &Part, avoid: Avoid) {
        let class_base = 2 + 2 * part.jobs.len();
        self.numbered(part, class_base, |plan, class_node| plan.exchange_by(part, avoid, class_node));
    }

    fn exchange_by(&mut self, part: &Part, avoid: Avoid, class_node: &[usize]) {
        let (classes, level) = (self.classes, part.level);
        let lists = part.members.iter().map(|class| &classes.members[*class as usize].members);
        let mut members: Vec<u32> = lists.flatten().copied().collect();
        members.sort_unstable();
        let (source, sink, job_base) = (0, 1, 2);
        let hub_base = job_base + part.jobs.len();
        let member_base = hub_base + part.jobs.len() + part.members.len();
        let mut network = Network::new(member_base + members.len());
        // Such that no way back costs less than nothing to begin with.
        network.potential[source] = 1;
        network.potential[hub_base..].fill(1);
        network.potential[sink] = 1 - LEVEL;

        let (mut roads, mut kept, mut loads) = (Vec::new(), Vec::new(), vec![0; members.len()]);
        let (_, plain) = avoid.costs(false);
        for (at, job) in part.jobs.iter().enumerate() {
            let class = &classes.job_classes[*job as usize];
            let mut supply: i32 = class.jobs.iter().map(|job| self.free[*job as usize]).sum();
            network.edge(job_base + at, hub_base + at, ANY, 0, plain);
            for (to, across) in class.to.iter().filter(|(to, _)| class_node[*to as usize] != 0) {
                let (_, cost) = avoid.costs(*across);
                let road = network.edge(hub_base + at, class_node[*to as usize], ANY, 0, cost - plain);
                roads.push((*job, *to, road));
            }
            for (_, member, count) in self.holdings(*job) {
                let class_of = classes.of_member[member as usize];
                let to = class.to.binary_search_by_key(&class_of, |(class, _)| *class);
                let (cost, _) = avoid.costs(to.is_ok_and(|to| class.to[to].1));
                let keeps = if cost < MUCH { count } else { 0 };
                let Ok(place) = members.binary_search(&member) else { continue };
                kept.push((
                    *job,
                    member,
                    count,
                    network.edge(job_base + at, member_base + place, count - keeps, keeps, cost),
                ));
                loads[place] += keeps;
                supply += count - keeps;
            }
            network.edge(source, job_base + at, supply, 0, 0);
        }
        let mut ins = Vec::new();
        for (at, member) in members.iter().enumerate() {
            let class = class_node[classes.of_member[*member as usize] as usize];
            ins.push((*member, network.edge(class, member_base + at, ANY, 0, 0)));
            let reached = loads[at].min(level);
            network.edge(member_base + at, sink, level - reached, reached, -LEVEL);
            network.edge(member_base + at, sink, 1, 0, 0);
            network.edge(source, member_base + at, loads[at] - reached, 0, 0);
        }
        network.fill_cheapest(source, sink);

        let lost =
            kept.into_iter().map(|(job, member, count, edge)| (job, member, count - network.used(edge)));
        self.give_up(lost);
        ins.into_iter().for_each(|(member, edge)| self.room[member as usize] = network.used(edge));
        self.grant(&network, roads);
    }
}
