//! A balanced plan that keeps what it can: which claims are given up, and how many partitions go to whom instead.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::claims::{Claims, FREE};
use super::classes::Classes;
use super::exchange::Avoid;
use super::flow::Network;
use super::levels::{Part, components, levels};

/// A plan on its way from claims to a whole assignment.
pub(super) struct Plan<'a> {
    pub(super) classes: &'a Classes,
    pub(super) bases: &'a [usize],
    pub(super) claims: &'a Claims<'a>,
    /// The owner of each partition. What no member owns is to be given out, and claimed by those whom the number still tells.
    pub(super) owners: Vec<u32>,
    /// How many each member keeps, and how many more it gets.
    pub(super) loads: Vec<i32>,
    pub(super) room: Vec<i32>,
    /// How many of each job are to be given out.
    pub(super) free: Vec<i32>,
    /// How many of a class of jobs go to a class of members.
    pub(super) grants: Vec<(u32, u32, i32)>,
    /// How often a topic had to give, so that none gives more than others.
    given_up: Vec<u32>,
    /// Lists of zeros to work with: for each member, and for each class of members.
    counts: Vec<i32>,
    numbers: Vec<usize>,
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
        let (counts, numbers) = (vec![0; loads.len()], vec![0; classes.members.len()]);
        Self {
            classes,
            bases,
            claims,
            owners,
            loads,
            room,
            free,
            grants: Vec::new(),
            given_up,
            counts,
            numbers,
        }
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

    /// How many partitions of a class of jobs the members hold: class, member, number.
    pub(super) fn holdings(&mut self, class: u32) -> Vec<(u32, u32, i32)> {
        let mut counts = std::mem::take(&mut self.counts);
        let mut holders = Vec::new();
        for job in &self.classes.job_classes[class as usize].jobs {
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
        let counted =
            holders.into_iter().map(|member| (class, member, std::mem::take(&mut counts[member as usize])));
        let holdings = counted.collect();
        self.counts = counts;
        holdings
    }

    /// Does something with a number for each class of members in a part, from `first` on; those of others have number 0.
    pub(super) fn numbered<T>(
        &mut self,
        part: &Part,
        first: usize,
        work: impl FnOnce(&mut Self, &[usize]) -> T,
    ) -> T {
        let mut numbers = std::mem::take(&mut self.numbers);
        part.members.iter().enumerate().for_each(|(at, class)| numbers[*class as usize] = first + at);
        let done = work(self, &numbers);
        part.members.iter().for_each(|class| numbers[*class as usize] = 0);
        self.numbers = numbers;
        done
    }

    /// Members give up so many partitions of a class of jobs: class, member, number. It goes one by one, from the topic of which a member has
    /// most, and of those from the one that others have given up least of; of each topic the last goes first.
    pub(super) fn give_up(&mut self, lost: impl IntoIterator<Item = (u32, u32, i32)>) {
        let (classes, bases) = (self.classes, self.bases);
        for (class, member, count) in lost.into_iter().filter(|(_, _, count)| *count > 0) {
            let claimed = self.claims.partitions[member as usize].iter().flat_map(|(topic, numbers)| {
                let places = numbers.iter().map(move |number| bases[topic] + *number as usize);
                places.map(move |partition| (classes.job(topic, partition), partition))
            });
            let at_stake = |(job, partition): &(u32, usize)| {
                self.owners[*partition] == member && classes.jobs[*job as usize].class == Some(class)
            };
            let mut stakes: Vec<(u32, usize)> = claimed.filter(at_stake).collect();
            stakes.sort_unstable();
            let by_job = stakes.chunk_by(|a, b| a.0 == b.0).map(|of_job| {
                let topic = classes.jobs[of_job[0].0 as usize].topic as usize;
                (of_job.len(), Reverse(self.given_up[topic]), Reverse(topic), of_job)
            });
            let mut heap: BinaryHeap<_> = by_job.collect();
            for _ in 0..count {
                let Some((_, Reverse(given_up), Reverse(topic), of_job)) = heap.pop() else { break };
                let Some(((job, partition), rest)) = of_job.split_last() else { break };
                self.owners[*partition] |= FREE;
                self.loads[member as usize] -= 1;
                self.free[*job as usize] += 1;
                self.given_up[topic] += 1;
                if !rest.is_empty() {
                    heap.push((rest.len(), Reverse(given_up + 1), Reverse(topic), rest));
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
            let mut lost: Vec<_> = part.jobs.iter().flat_map(|job| self.holdings(*job)).collect();
            lost.retain(|(_, member, _)| {
                part_of[self.classes.of_member[*member as usize] as usize] != number as u32
            });
            self.give_up(lost);
        }
    }

    /// What flows from classes of jobs to classes of members is theirs.
    pub(super) fn grant(&mut self, network: &Network, roads: Vec<(u32, u32, usize)>) {
        let grants = roads.into_iter().map(|(job, class, edge)| (job, class, network.used(edge)));
        self.grants.extend(grants.filter(|(_, _, count)| *count > 0));
    }
}
