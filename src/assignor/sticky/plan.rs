//! A balanced plan that keeps what it can: which claims are given up, and how many partitions go to whom instead.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::claims::{Claims, NONE};
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
    claims: &'a Claims<'a>,
    /// The owner of each partition; none for those that are to be given out.
    pub(super) owners: Vec<u32>,
    /// How many each member has, and how many more it gets.
    loads: Vec<i32>,
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
        let owners = claims.owners(bases, classes);
        let mut loads = vec![0; classes.of_member.len()];
        let mut free = vec![0; classes.jobs.len()];
        for (topic, ends) in bases.windows(2).enumerate() {
            for partition in ends[0]..ends[1] {
                match loads.get_mut(owners[partition] as usize) {
                    Some(load) => *load += 1,
                    None => free[classes.job(topic, partition) as usize] += 1,
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

    /// The jobs that a member holds partitions of, with how many.
    fn held(&self, member: u32) -> Vec<(u32, i32)> {
        let mut held: Vec<(u32, i32)> = Vec::new();
        for (topic, partition) in self.holds(member) {
            let job = self.classes.job(topic, partition);
            match held.last_mut() {
                Some((last, count)) if *last == job => *count += 1,
                _ => held.push((job, 1)),
            }
        }
        if self.classes.by_rack() {
            held.sort_unstable();
            held.dedup_by(|later, first| {
                let same = later.0 == first.0;
                first.1 += if same { later.1 } else { 0 };
                same
            });
        }
        held
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

    /// Takes so many of its jobs from a member, the last first.
    fn give_up(&mut self, member: u32, mut jobs: Vec<(u32, i32)>) {
        jobs.sort_unstable();
        for (topic, partition) in self.holds(member).into_iter().rev() {
            let job = self.classes.job(topic, partition);
            let Ok(place) = jobs.binary_search_by_key(&job, |(job, _)| *job) else { continue };
            if jobs[place].1 > 0 {
                jobs[place].1 -= 1;
                self.owners[partition] = NONE;
                self.loads[member as usize] -= 1;
                self.free[job as usize] += 1;
                self.given_up[topic] += 1;
            }
        }
    }

    /// In every balanced plan a topic goes to its lowest level only: claims of members on others are lost.
    fn leave_levels(&mut self, parts: &[Part]) {
        let mut job_part = vec![NONE; self.classes.job_classes.len()];
        for (number, part) in parts.iter().enumerate() {
            part.jobs.iter().for_each(|job| job_part[*job as usize] = number as u32);
        }
        for (number, part) in parts.iter().enumerate() {
            for member in part.members.iter().flat_map(|class| &self.classes.members[*class as usize].members)
            {
                let elsewhere = |job: u32| {
                    let class = self.classes.jobs[job as usize].class;
                    class.is_none_or(|class| job_part[class as usize] != number as u32)
                };
                let lost: Vec<_> =
                    self.held(*member).into_iter().filter(|(job, _)| elsewhere(*job)).collect();
                if !lost.is_empty() {
                    self.give_up(*member, lost);
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
        let (mut job_node, mut class_node) =
            (vec![0; classes.job_classes.len()], vec![0; classes.members.len()]);
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
                holders.push((member, node, out, Vec::new()));
            }
        }
        let needed: i64 = needs.iter().map(|(need, _)| i64::from(*need)).sum();
        let ends: Vec<usize> = needs
            .iter()
            .enumerate()
            .map(|(at, (need, _))| network.edge(class_base + at, sink, *need, 0, 0))
            .collect();
        let one_class = part.jobs.len() == 1;
        let mut open = |network: &mut Network, (member, node, _, roads): &mut (u32, usize, usize, Vec<_>)| {
            let mut by_class: Vec<(u32, i32)> = if one_class {
                vec![(part.jobs[0], ANY)]
            } else {
                let jobs = self.held(*member).into_iter();
                jobs.filter_map(|(job, count)| Some((classes.jobs[job as usize].class?, count))).collect()
            };
            by_class.sort_unstable();
            by_class.dedup_by(|later, first| {
                let same = later.0 == first.0;
                first.1 += if same { later.1 } else { 0 };
                same
            });
            for (class, count) in by_class {
                roads.push((class, network.edge(*node, job_node[class as usize], count, 0, 0)));
            }
        };
        for holder in &mut holders {
            if self.loads[holder.0 as usize] > level + 1 {
                open(&mut network, holder);
            }
        }
        let mut sent = network.fill(source, sink);
        if sent < needed {
            // Then as many as may not hold one more than the level in any case.
            for holder in &mut holders {
                if holder.3.is_empty() {
                    open(&mut network, holder);
                }
                network.widen(holder.2, 1);
            }
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
        let lost: Vec<(u32, Vec<(u32, i32)>)> = holders
            .iter()
            .filter(|(_, _, out, _)| network.used(*out) > 0)
            .map(|(member, _, _, roads)| {
                (*member, roads.iter().map(|(class, edge)| (*class, network.used(*edge))).collect())
            })
            .collect();
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
        for (member, by_class) in lost {
            let jobs = self.least_missed(member, by_class);
            self.give_up(member, jobs);
        }
        self.grant(&network, roads);
        true
    }

    fn grant(&mut self, network: &Network, roads: Vec<(u32, u32, usize)>) {
        let grants = roads.into_iter().map(|(job, class, edge)| (job, class, network.used(edge)));
        self.grants.extend(grants.filter(|(_, _, count)| *count > 0));
    }

    /// Which jobs a member gives up when only their class is settled: one by one of what it has most of, and of those what has been given
    /// up least by others.
    fn least_missed(&self, member: u32, by_class: Vec<(u32, i32)>) -> Vec<(u32, i32)> {
        let held = self.held(member);
        let mut jobs: Vec<(u32, i32)> = Vec::new();
        for (class, count) in by_class.into_iter().filter(|(_, count)| *count > 0) {
            let of_class =
                held.iter().filter(|(job, _)| self.classes.jobs[*job as usize].class == Some(class));
            let mut heap: BinaryHeap<(i32, Reverse<u32>, Reverse<u32>)> = of_class
                .map(|(job, count)| {
                    let topic = self.classes.jobs[*job as usize].topic;
                    (*count, Reverse(self.given_up[topic as usize]), Reverse(*job))
                })
                .collect();
            for _ in 0..count {
                let Some((count, Reverse(given_up), Reverse(job))) = heap.pop() else { break };
                jobs.push((job, 1));
                if count > 1 {
                    heap.push((count - 1, Reverse(given_up + 1), Reverse(job)));
                }
            }
        }
        jobs.sort_unstable();
        jobs.dedup_by(|later, first| {
            let same = later.0 == first.0;
            first.1 += if same { later.1 } else { 0 };
            same
        });
        jobs
    }

    /// Whether a job has no replica in the rack of a member.
    fn across(&self, job: u32, member: u32) -> bool {
        let Some(class) = self.classes.jobs[job as usize].class else { return false };
        let (to, class_of) =
            (&self.classes.job_classes[class as usize].to, self.classes.of_member[member as usize]);
        to.binary_search_by_key(&class_of, |(class, _)| *class).is_ok_and(|place| to[place].1)
    }

    /// Brings every member of a part to its level at the least cost: a cheapest flow through jobs, their classes, classes of members and
    /// members. What a member keeps goes straight from the job to it.
    fn exchange(&mut self, part: &Part, avoid: Avoid) {
        let (classes, level) = (self.classes, part.level);
        let members: Vec<u32> = part
            .members
            .iter()
            .flat_map(|class| classes.members[*class as usize].members.iter().copied())
            .collect();
        let jobs: Vec<u32> = part
            .jobs
            .iter()
            .flat_map(|job| classes.job_classes[*job as usize].jobs.iter().copied())
            .collect();
        let (source, sink, job_base) = (0, 1, 2);
        let hub_base = job_base + jobs.len();
        let class_base = hub_base + part.jobs.len();
        let member_base = class_base + part.members.len();
        let mut network = Network::new(member_base + members.len());
        // Such that no way back costs less than nothing to begin with.
        network.potential[source] = 1;
        network.potential[hub_base..].fill(1);
        network.potential[sink] = 1 - LEVEL;

        let mut job_node = vec![0; classes.jobs.len()];
        jobs.iter().enumerate().for_each(|(at, job)| job_node[*job as usize] = job_base + at);
        let mut class_at = vec![usize::MAX; classes.members.len()];
        part.members.iter().enumerate().for_each(|(at, class)| class_at[*class as usize] = at);

        let mut supply: Vec<i32> = jobs.iter().map(|job| self.free[*job as usize]).collect();
        let (mut roads, mut kept) = (Vec::new(), Vec::new());
        let (_, plain) = avoid.costs(false);
        for (at, job) in part.jobs.iter().enumerate() {
            let class = &classes.job_classes[*job as usize];
            class.jobs.iter().for_each(|job| {
                network.edge(job_node[*job as usize], hub_base + at, ANY, 0, plain);
            });
            for (to, across) in class.to.iter().filter(|(to, _)| class_at[*to as usize] != usize::MAX) {
                let (node, (_, cost)) = (class_base + class_at[*to as usize], avoid.costs(*across));
                roads.push((*job, *to, network.edge(hub_base + at, node, ANY, 0, cost - plain)));
            }
        }
        let mut loads = vec![0; members.len()];
        for (at, member) in members.iter().enumerate() {
            for (job, count) in self.held(*member) {
                let (node, (cost, _)) = (job_node[job as usize], avoid.costs(self.across(job, *member)));
                let keeps = if cost < MUCH { count } else { 0 };
                kept.push((
                    *member,
                    job,
                    count,
                    network.edge(node, member_base + at, count - keeps, keeps, cost),
                ));
                loads[at] += keeps;
                supply[node - job_base] += count - keeps;
            }
        }
        for (at, free) in supply.into_iter().enumerate() {
            network.edge(source, job_base + at, free, 0, 0);
        }
        let mut ins = Vec::new();
        for (at, member) in members.iter().enumerate() {
            let class = class_at[classes.of_member[*member as usize] as usize];
            ins.push((*member, network.edge(class_base + class, member_base + at, ANY, 0, 0)));
            let reached = loads[at].min(level);
            network.edge(member_base + at, sink, level - reached, reached, -LEVEL);
            network.edge(member_base + at, sink, 1, 0, 0);
            network.edge(source, member_base + at, loads[at] - reached, 0, 0);
        }
        network.fill_cheapest(source, sink);

        let mut lost: Vec<(u32, Vec<(u32, i32)>)> = Vec::new();
        for (member, job, count, edge) in kept {
            let gone = count - network.used(edge);
            if gone > 0 {
                match lost.last_mut() {
                    Some((last, jobs)) if *last == member => jobs.push((job, gone)),
                    _ => lost.push((member, vec![(job, gone)])),
                }
            }
        }
        for (member, jobs) in lost {
            self.give_up(member, jobs);
        }
        ins.into_iter().for_each(|(member, edge)| self.room[member as usize] = network.used(edge));
        self.grant(&network, roads);
    }
}
