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
    /// Gives out what is free: of each topic to those that have least of it, in turn. Returns what each member has then, or what of it can
    /// be handed out in a cooperative round.
    pub(super) fn deal(mut self, round: bool) -> Vec<Partitions> {
        self.grants.sort_unstable();
        let (grants, room) = (std::mem::take(&mut self.grants), std::mem::take(&mut self.room));
        let mut dealt: Vec<Vec<(u32, i32)>> = room.iter().map(|room| Vec::with_capacity(*room as usize)).collect();
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
                let topic = self.classes.jobs[*job as usize].topic as usize;
                self.deal_job(*job, &mut table, &mut has, |owner, member, number| {
                    let handed_out = !round || self.claims.is_free_for(owner, member, topic, number);
                    if handed_out {
                        dealt[member as usize].push((topic as u32, number));
                    }
                    handed_out
                });
            }
        }
        let members = dealt.into_iter().enumerate();
        members.map(|(member, dealt)| self.partitions(member as u32, dealt)).collect()
    }

    fn deal_job(
        &mut self,
        job: u32,
        table: &mut Table<'_>,
        has: &mut [u32],
        mut give: impl FnMut(u32, u32, i32) -> bool,
    ) {
        let topic = self.classes.jobs[job as usize].topic as usize;
        let range = self.bases[topic]..self.bases[topic + 1];
        let mut free: Vec<usize> = Vec::new();
        for partition in range.clone() {
            match has.get_mut(self.owners[partition] as usize) {
                Some(has) => *has += 1,
                None if self.classes.job(topic, partition) == job => free.push(partition),
                None => {}
            }
        }
        if !free.is_empty() {
            table.turn_around();
        }
        let uneven = table.seats.windows(2).any(|pair| has[pair[0] as usize] != has[pair[1] as usize]);
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = BinaryHeap::new();
        if uneven && !free.is_empty() {
            let seats = table.seats.iter().enumerate();
            heap = seats.map(|(at, member)| Reverse((has[*member as usize], at))).collect();
        }
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
            // What is withheld stays with those who claim it, of whom this member may be one.
            if give(self.owners[partition], member, (partition - range.start) as i32) {
                self.owners[partition] = member;
            }
        }
        has.fill(0);
    }

    /// What a member keeps of its claims, and what it was dealt.
    fn partitions(&self, member: u32, dealt: Vec<(u32, i32)>) -> Partitions {
        let claims = &self.claims.partitions[member as usize];
        if dealt.is_empty() && claims.len() == self.loads[member as usize] as usize {
            return (**claims).clone();
        }
        let mut all = dealt;
        for (topic, numbers) in claims.iter() {
            let kept = numbers.iter().filter(|number| self.owners[self.bases[topic] + **number as usize] == member);
            all.extend(kept.map(|number| (topic as u32, *number)));
        }
        all.sort(); // two sorted runs, which this merges
        all.dedup();
        let mut partitions = Partitions::with_capacity((self.bases.len() - 1).min(all.len()), all.len());
        all.into_iter().for_each(|(topic, number)| partitions.push(topic as usize, number));
        partitions
    }
}
