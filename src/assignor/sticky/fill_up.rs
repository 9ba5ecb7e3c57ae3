//! The plan that most groups need: nobody gives up more than balance takes from it in any case.
use super::flow::{ANY, Network};
use super::levels::Part;
use super::plan::Plan;

impl Plan<'_> {
    /// Brings every member of a part to its level by nothing but what is free and what no member may keep in any balanced plan. False, and
    /// nothing is done, if that is not enough; if it is, no balanced plan moves less.
    pub(super) fn fill_up(&mut self, part: &Part) -> bool {
        self.numbered(part, 2 + part.jobs.len(), |plan, class_node| plan.fill_up_by(part, class_node))
    }

    fn fill_up_by(&mut self, part: &Part, class_node: &[usize]) -> bool {
        let (classes, level) = (self.classes, part.level);
        let (source, sink, base) = (0, 1, 2);
        let members = || {
            let list = part.members.iter().flat_map(|class| {
                classes.members[*class as usize].members.iter().map(|member| (*class, *member))
            });
            list.map(|(class, member)| (class, member, self.loads[member as usize] - level))
        };
        let above = members().filter(|(_, _, above)| *above > 0).count();
        let mut network = Network::new(base + part.jobs.len() + part.members.len() + above);
        let class_base = base + part.jobs.len();
        let mut supply = 0;
        let mut roads = Vec::new();
        for (at, job) in part.jobs.iter().enumerate() {
            let class = &classes.job_classes[*job as usize];
            let free: i32 = class.jobs.iter().map(|job| self.free[*job as usize]).sum();
            supply += i64::from(free);
            network.edge(source, base + at, free, 0, 0);
            if free == 0 && above == 0 {
                continue;
            }
            for (class, _) in class.to.iter().filter(|(class, _)| class_node[*class as usize] != 0) {
                roads.push((*job, *class, network.edge(base + at, class_node[*class as usize], ANY, 0, 0)));
            }
        }
        let mut needs = vec![(0, 0); part.members.len()]; // up to the level, and one above it
        let mut holders = Vec::new();
        for (class, member, over) in members() {
            let (need, more) = &mut needs[class_node[class as usize] - class_base];
            (*need, *more) = (*need - over.min(0), *more + i32::from(over <= 0));
            if over > 0 {
                let node = class_base + part.members.len() + holders.len();
                let out = network.edge(source, node, over - 1, 0, 0);
                supply += i64::from(over - 1);
                holders.push((member, node, out));
            }
        }
        let needed: i64 = needs.iter().map(|(need, _)| i64::from(*need)).sum();
        let ends: Vec<usize> = needs
            .iter()
            .enumerate()
            .map(|(at, (need, _))| network.edge(class_base + at, sink, *need, 0, 0))
            .collect();
        // What members above their level hold, each a way to others.
        let mut node_of: Vec<(u32, usize)> =
            holders.iter().map(|(member, node, ..)| (*member, *node)).collect();
        node_of.sort_unstable();
        let mut ways = Vec::new();
        for (at, job) in part.jobs.iter().enumerate().filter(|_| above > 0) {
            for (class, member, count) in self.holdings(*job) {
                if let Ok(holder) = node_of.binary_search_by_key(&member, |(member, _)| *member) {
                    ways.push((class, member, network.edge(node_of[holder].1, base + at, count, 0, 0)));
                }
            }
        }
        let mut sent = network.fill(source, sink);
        if sent < needed {
            // Then as many as may not hold one more than the level in any case.
            holders.iter().for_each(|(_, _, out)| network.widen(*out, 1));
            let before = sent;
            sent += network.fill(source, sink);
            let places = part.partitions(classes) - part.size(classes) * i64::from(level);
            if sent < needed || sent - before > (holders.len() as i64 - places).max(0) {
                return false;
            }
        }
        if sent < supply {
            ends.iter().zip(&needs).for_each(|(edge, (_, more))| network.widen(*edge, *more));
            if sent + network.fill(source, sink) < supply {
                return false;
            }
        }
        for (at, class) in part.members.iter().enumerate() {
            let mut more = network.used(ends[at]) - needs[at].0;
            for member in &classes.members[*class as usize].members {
                let below = level - self.loads[*member as usize];
                if below >= 0 {
                    self.room[*member as usize] = below + more.min(1);
                    more -= more.min(1);
                }
            }
        }
        self.give_up(ways.into_iter().map(|(class, member, edge)| (class, member, network.used(edge))));
        self.grant(&network, roads);
        true
    }
}
