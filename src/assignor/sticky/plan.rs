//! A balanced plan that keeps what it can: which claims are given up, and how many partitions go to whom instead.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::claims::{Claims, FREE};
use super::classes::Classes;
use super::flow::{ANY, Network};
use super::levels::{Part, components, levels};

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

/// A plan on its way from claims to a whole assignment.
pub(super) struct Plan<'a> {
    pub(super) classes: &'a Classes,
    pub(super) bases: &'a [usize],
    pub(super) claims: &'a Claims<'a>,
    /// The owner of each partition. What no member owns is to be given out, and claimed by those whom the number still tells.
    pub(super) owners: Vec<u32>,
    /// How many each member has, and how many more it gets.
    pub(super) loads: Vec<i32>,
    pub(super) room: Vec<i32>,
    /// How many of each job are to be given out.
    free: Vec<i32>,
    /// How many of a class of jobs go to a class of members.
    pub(super) grants: Vec<(u32, u32, i32)>,
    /// How often a topic had to give, so that none gives more than others.
    given_up: Vec<u32>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(classes: &'a Classes, bases: &'a [usize], claims: &'a Claims<'a>) -> Self {
        let mut owners = claims.newest(bases);
        let mut loads = vec![0; classes.of_member.len()];
        let mut free = vec![0; classes.jobs.len()];
        for (topic, ends) in bases.windows(2).enumerate() {
            let subscribes = classes.subscribes(topic);
            for partition in ends[0]..ends[1] {
                let owner = owners[partition] as usize;
                // Several, and nobody, are out of reach of the list of members.
                if classes.of_member.get(owner).is_some_and(|class| subscribes[*class as usize]) {
                    loads[owner] += 1;
                } else {
                    owners[partition] |= FREE;
                    free[classes.job(topic, partition) as usize] += 1;
                }
            }
        }
        let room = vec![0; loads.len()];
        let given_up = vec![0; bases.len()];
        Self { classes, bases, claims, owners, loads, room, free, grants: Vec::new(), given_up }
    }

    /// Balances all of the group.
    pub(super) fn balance(&mut self, avoid: Avoid) {
        for part in components(self.classes) {
            // Where racks play no part, most groups need no search: what is free evens the loads out.
            if !self.classes.by_rack() && self.fill_up(&part) {
                continue;
            }
            let parts = levels(self.classes, part);
            if parts.len() > 1 {
                self.leave_levels(&parts);
            }
            for part in parts {
                if self.classes.by_rack() || !self.fill_up(&part) {
                    self.exchange(&part, avoid);
                }
            }
        }
    }

    /// How many partitions of each class of jobs the members hold: class, member, number.
    fn holdings(&self, jobs: &[u32]) -> Vec<(u32, u32, i32)> {
        let mut holdings = Vec::new();
        let mut counts = vec![0; self.loads.len()];
        for class in jobs {
            let mut holders = Vec::new();
            for job in &self.classes.job_classes[*class as usize].jobs {
                let topic = self.classes.jobs[*job as usize].topic as usize;
                for partition in self.bases[topic]..self.bases[topic + 1] {
                    let owner = self.owners[partition];
                    if owner < FREE && self.classes.job(topic, partition) == *job {
                        counts[owner as usize] += 1;
                        if counts[owner as usize] == 1 {
                            holders.push(owner);
                        }
                    }
                }
            }
            holders.sort_unstable();
            holdings.extend(holders.into_iter().map(|member| {
                (*class, member, std::mem::take(&mut counts[member as usize]))
            }));
        }
        holdings
    }

    /// The partitions that a member holds, in order.
    fn holds(&self, member: u32) -> Vec<(usize, usize)> {
        self.claims.partitions[member as usize]
            .iter()
            .flat_map(|(topic, numbers)| numbers.iter().map(move |number| (topic, *number as usize)))
            .map(|(topic, number)| (topic, self.bases[topic] + number))
            .filter(|(_, partition)| self.owners[*partition] == member)
            .collect()
    }

    /// Takes so many partitions of classes of jobs from a member: one by one of the topic it has most of, and of those of the one that has
    /// been given up least by others; of each topic the last.
    fn give_up(&mut self, member: u32, by_class: &[(u32, i32)]) {
        let holds = self.holds(member);
        let class_of = |topic, partition| {
            let job = self.classes.job(topic, partition);
            (self.classes.jobs[job as usize].class.unwrap_or(u32::MAX), job)
        };
        // Class, job and place of each partition it might lose.
        let mut stakes: Vec<(u32, u32, usize)> = holds
            .into_iter()
            .map(|(topic, partition)| {
                let (class, job) = class_of(topic, partition);
                (class, job, partition)
            })
            .filter(|(class, ..)| by_class.iter().any(|(lost, count)| lost == class && *count > 0))
            .collect();
        stakes.sort_unstable();
        for (class, count) in by_class {
            let from = stakes.partition_point(|stake| stake.0 < *class);
            let of_class = &stakes[from..];
            let of_class = &of_class[..of_class.partition_point(|stake| stake.0 == *class)];
            let mut heap: BinaryHeap<(usize, Reverse<u32>, Reverse<u32>, &[(u32, u32, usize)])> = of_class
                .chunk_by(|a, b| a.1 == b.1)
                .map(|job| {
                    let given_up = self.given_up[self.classes.jobs[job[0].1 as usize].topic as usize];
                    (job.len(), Reverse(given_up), Reverse(job[0].1), job)
                })
                .collect();
            for _ in 0..*count {
                let Some((_, Reverse(given_up), Reverse(job), stake)) = heap.pop() else { break };
                let Some(((.., partition), rest)) = stake.split_last() else { break };
                self.owners[*partition] |= FREE;
                self.loads[member as usize] -= 1;
                self.free[job as usize] += 1;
                self.given_up[self.classes.jobs[job as usize].topic as usize] += 1;
                if !rest.is_empty() {
                    heap.push((rest.len(), Reverse(given_up + 1), Reverse(job), rest));
                }
            }
        }
    }

    /// In every balanced plan a topic goes to its lowest level only: claims of members on others are lost.
    fn leave_levels(&mut self, parts: &[Part]) {
        let mut part_of = vec![u32::MAX; self.classes.members.len()];
        for (number, part) in parts.iter().enumerate() {
            part.members.iter().for_each(|class| part_of[*class as usize] = number as u32);
        }
        for (number, part) in parts.iter().enumerate() {
            for (class, member, count) in self.holdings(&part.jobs) {
                if part_of[self.classes.of_member[member as usize] as usize] != number as u32 {
                    self.give_up(member, &[(class, count)]);
                }
            }
        }
    }

    /// Brings every member of a part to its level by nothing but what is free and what no member may keep in any balanced plan. False, and
    /// nothing is done, if that is not enough; if it is, no balanced plan moves less.
    fn fill_up(&mut self, part: &Part) -> bool {
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
        let (mut job_node, mut class_node) = (vec![0; classes.job_classes.len()], vec![0; classes.members.len()]);
        let class_base = base + part.jobs.len();
        part.members.iter().enumerate().for_each(|(at, class)| class_node[*class as usize] = class_base + at);
        let mut supply = 0;
        let mut roads = Vec::new();
        for (at, job) in part.jobs.iter().enumerate() {
            job_node[*job as usize] = base + at;
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
        let mut node_of: Vec<(u32, usize)> = holders.iter().map(|(member, node, ..)| (*member, *node)).collect();
        node_of.sort_unstable();
        let mut ways = Vec::new();
        if !holders.is_empty() {
            for (class, member, count) in self.holdings(&part.jobs) {
                if let Ok(at) = node_of.binary_search_by_key(&member, |(member, _)| *member) {
                    let edge = network.edge(node_of[at].1, job_node[class as usize], count, 0, 0);
                    ways.push((member, class, edge));
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
        let lost = ways.into_iter().map(|(member, class, edge)| (member, class, network.used(edge)));
        self.lose(lost.collect());
        self.grant(&network, roads);
        true
    }

    fn grant(&mut self, network: &Network, roads: Vec<(u32, u32, usize)>) {
        let grants = roads.into_iter().map(|(job, class, edge)| (job, class, network.used(edge)));
        self.grants.extend(grants.filter(|(_, _, count)| *count > 0));
    }

    /// Members give up partitions: member, class of jobs, number.
    fn lose(&mut self, mut lost: Vec<(u32, u32, i32)>) {
        lost.retain(|(_, _, count)| *count > 0);
        lost.sort_unstable();
        for of_member in lost.chunk_by(|a, b| a.0 == b.0) {
            let by_class: Vec<(u32, i32)> = of_member.iter().map(|(_, class, count)| (*class, *count)).collect();
            self.give_up(of_member[0].0, &by_class);
        }
    }

    /// Brings every member of a part to its level at the least cost: a cheapest flow through classes of jobs, classes of members and
    /// members. What a member keeps goes straight to it.
    fn exchange(&mut self, part: &Part, avoid: Avoid) {
        let (classes, level) = (self.classes, part.level);
        let members: Vec<u32> = part
            .members
            .iter()
            .flat_map(|class| classes.members[*class as usize].members.iter().copied())
            .collect();
        let (source, sink, job_base) = (0, 1, 2);
        let hub_base = job_base + part.jobs.len();
        let class_base = hub_base + part.jobs.len();
        let member_base = class_base + part.members.len();
        let mut network = Network::new(member_base + members.len());
        // Such that no way back costs less than nothing to begin with.
        network.potential[source] = 1;
        network.potential[hub_base..].fill(1);
        network.potential[sink] = 1 - LEVEL;

        let mut class_node = vec![0; classes.members.len()];
        part.members.iter().enumerate().for_each(|(at, class)| class_node[*class as usize] = class_base + at);
        let mut place = vec![0; classes.of_member.len()];
        members.iter().enumerate().for_each(|(at, member)| place[*member as usize] = at);

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
            for (_, member, count) in self.holdings(&[*job]) {
                let class_of = classes.of_member[member as usize];
                let to = class.to.binary_search_by_key(&class_of, |(class, _)| *class);
                let (cost, _) = avoid.costs(to.is_ok_and(|to| class.to[to].1));
                let keeps = if cost < MUCH { count } else { 0 };
                let node = member_base + place[member as usize];
                kept.push((member, *job, count, network.edge(job_base + at, node, count - keeps, keeps, cost)));
                loads[place[member as usize]] += keeps;
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

        let lost = kept.into_iter().map(|(member, job, count, edge)| (member, job, count - network.used(edge)));
        self.lose(lost.collect());
        ins.into_iter().for_each(|(member, edge)| self.room[member as usize] = network.used(edge));
        self.grant(&network, roads);
    }
}
