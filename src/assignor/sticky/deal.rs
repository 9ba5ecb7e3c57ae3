//! Which partitions go to whom, once it is settled how many do.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::Partitions;
use super::classes::Classes;
use super::plan::Plan;

/// Who sits at the table while a class of jobs is dealt, and what each can still take.
struct Table<'a> {
    classes: &'a Classes,
    room: Vec<i32>,
    /// How many may still go to a class of members.
    left: Vec<i32>,
    seats: Vec<u32>,
    turn: usize,
}

impl Table<'_> {
    fn is_hungry(&self, member: u32) -> bool {
        self.room[member as usize] > 0 && self.left[self.classes.of_member[member as usize] as usize] > 0
    }

    /// The turn is with the first seat again; who has enough leaves.
    fn turn_around(&mut self) {
        let turn = std::mem::take(&mut self.turn).min(self.seats.len());
        self.seats.rotate_left(turn);
        let mut seats = std::mem::take(&mut self.seats);
        seats.retain(|member| self.is_hungry(*member));
        self.seats = seats;
    }

    /// The next in turn that can take one, which it does.
    fn next(&mut self) -> Option<u32> {
        loop {
            if self.turn == self.seats.len() {
                self.turn_around();
            }
            let member = *self.seats.get(self.turn)?;
            self.turn += 1;
            if self.take(member) {
                return Some(member);
            }
        }
    }

    fn take(&mut self, member: u32) -> bool {
        let takes = self.is_hungry(member);
        if takes {
            self.room[member as usize] -= 1;
            self.left[self.classes.of_member[member as usize] as usize] -= 1;
        }
        takes
    }
}

impl Plan<'_> {
    /// Gives out what is free: of each topic to those that have least of it, in turn. Returns for each member what it was dealt: partitions,
    /// each with who claims it.
    pub(super) fn deal(&mut self) -> Vec<Vec<(u32, u32)>> {
        self.grants.sort_unstable();
        let (grants, room) = (std::mem::take(&mut self.grants), std::mem::take(&mut self.room));
        let mut dealt: Vec<Vec<(u32, u32)>> =
            room.iter().map(|room| Vec::with_capacity(*room as usize)).collect();
        let left = vec![0; self.classes.members.len()];
        let mut table = Table { classes: self.classes, room, left, seats: Vec::new(), turn: 0 };
        let mut has = vec![0; dealt.len()];
        for of_class in grants.chunk_by(|a, b| a.0 == b.0) {
            table.seats.clear();
            for (_, class, count) in of_class {
                table.left[*class as usize] = *count;
                table.seats.extend(&self.classes.members[*class as usize].members);
            }
            table.seats.sort_unstable();
            table.turn = 0;
            for job in &self.classes.job_classes[of_class[0].0 as usize].jobs {
                self.deal_job(*job, &mut table, &mut has, &mut dealt);
            }
        }
        dealt
    }

    fn deal_job(&mut self, job: u32, table: &mut Table<'_>, has: &mut [u32], dealt: &mut [Vec<(u32, u32)>]) {
        let topic = self.classes.jobs[job as usize].topic as usize;
        let range = self.bases[topic]..self.bases[topic + 1];
        let mut free: Vec<usize> = Vec::with_capacity(range.len());
        for partition in range.clone() {
            match has.get_mut(self.owners[partition] as usize) {
                Some(has) => *has += 1,
                None if self.classes.job(topic, partition) == job => free.push(partition),
                None => {}
            }
        }
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = BinaryHeap::new();
        let mut uneven = false;
        if (1..range.len()).contains(&free.len()) {
            table.turn_around();
            let mut pairs = table.seats.windows(2);
            uneven = pairs.any(|pair| has[pair[0] as usize] != has[pair[1] as usize]);
            let seats = table.seats.iter().enumerate().filter(|_| uneven);
            heap.extend(seats.map(|(at, member)| Reverse((has[*member as usize], at))));
        }
        let kept = free.len() < range.len();
        for partition in free {
            let mut least = || {
                while let Some(Reverse((count, at))) = heap.pop() {
                    let member = table.seats[at];
                    if table.take(member) {
                        heap.push(Reverse((count + 1, at)));
                        return Some(member);
                    }
                }
                None
            };
            let Some(member) = (if uneven { least() } else { table.next() }) else { break };
            let claimant = std::mem::replace(&mut self.owners[partition], member);
            dealt[member as usize].push((partition as u32, claimant));
        }
        for partition in range.filter(|_| kept) {
            if let Some(has) = has.get_mut(self.owners[partition] as usize) {
                *has = 0;
            }
        }
    }

    /// What a member keeps of its claims and what it was dealt; in a cooperative round without what others may still read.
    pub(super) fn partitions(&self, member: u32, mut dealt: Vec<(u32, u32)>, round: bool) -> Partitions {
        let claims = &self.claims.partitions[member as usize];
        if dealt.is_empty() && claims.len() == self.loads[member as usize] as usize {
            return (**claims).clone();
        }
        dealt.sort_unstable();
        let is_dealt =
            |partition: usize| dealt.binary_search_by_key(&(partition as u32), |dealt| dealt.0).is_ok();
        let mut all: Vec<u32> = Vec::with_capacity(dealt.len() + claims.len());
        for (topic, numbers) in claims.iter() {
            let places = numbers.iter().map(|number| self.bases[topic] + *number as usize);
            let kept = places.filter(|partition| self.owners[*partition] == member && !is_dealt(*partition));
            all.extend(kept.map(|partition| partition as u32));
        }
        let free = |(partition, claimant): &&(u32, u32)| {
            !round || self.claims.is_free_for(*claimant, member, *partition as usize, self.bases)
        };
        all.extend(dealt.iter().filter(free).map(|(partition, _)| *partition));
        if !all.is_sorted() {
            all.sort(); // two sorted runs, which this merges
        }
        let mut partitions = Partitions::with_capacity((self.bases.len() - 1).min(all.len()), all.len());
        let mut topic = 0;
        for partition in all {
            while partition as usize >= self.bases[topic + 1] {
                topic += 1;
            }
            partitions.push(topic, (partition as usize - self.bases[topic]) as i32);
        }
        partitions
    }
}
