//! Which partitions go to whom, once it is settled how many do.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::claims::NONE;
use super::plan::Plan;
use crate::assignor::Partitions;

impl Plan<'_> {
    /// Gives out what is free: of each topic to those that have least of it, in turn.
    pub(super) fn deal(&mut self) {
        self.grants.sort_unstable();
        let grants = std::mem::take(&mut self.grants);
        let mut left = vec![0; self.classes.members.len()];
        let mut has = vec![0u32; self.room.len()];
        for of_class in grants.chunk_by(|a, b| a.0 == b.0) {
            let mut table: Vec<u32> = Vec::new();
            for (_, class, count) in of_class {
                left[*class as usize] = *count;
                let members = self.classes.members[*class as usize].members.iter();
                table.extend(members.filter(|member| self.room[**member as usize] > 0));
            }
            table.sort_unstable();
            let mut turn = 0;
            for job in &self.classes.job_classes[of_class[0].0 as usize].jobs {
                self.deal_job(*job, &mut table, &mut turn, &mut left, &mut has);
            }
        }
    }

    fn deal_job(
        &mut self,
        job: u32,
        table: &mut Vec<u32>,
        turn: &mut usize,
        left: &mut [i32],
        has: &mut [u32],
    ) {
        let (classes, topic) = (self.classes, self.classes.jobs[job as usize].topic as usize);
        let range = self.bases[topic]..self.bases[topic + 1];
        let owners = &mut self.owners[range.clone()];
        let mut free: Vec<usize> = (0..owners.len()).filter(|at| owners[*at] == NONE).collect();
        free.retain(|at| classes.job(topic, range.start + at) == job);
        if free.is_empty() {
            return;
        }
        // The table without those who have enough, from the turn on.
        let seated = |table: &mut Vec<u32>, turn: &mut usize, room: &[i32], left: &[i32]| {
            let next = (*turn).min(table.len());
            table.rotate_left(next);
            *turn = 0;
            table.retain(|member| {
                room[*member as usize] > 0 && left[classes.of_member[*member as usize] as usize] > 0
            });
        };
        let give = |member: u32, room: &mut [i32], left: &mut [i32]| {
            let class = classes.of_member[member as usize] as usize;
            let takes = room[member as usize] > 0 && left[class] > 0;
            if takes {
                room[member as usize] -= 1;
                left[class] -= 1;
            }
            takes
        };
        seated(table, turn, &self.room, left);
        for owner in owners.iter().filter(|owner| **owner != NONE) {
            has[*owner as usize] += 1;
        }
        let uneven = table.windows(2).any(|pair| has[pair[0] as usize] != has[pair[1] as usize]);
        let mut free = free.into_iter().peekable();
        if uneven {
            let mut heap: BinaryHeap<Reverse<(u32, usize)>> =
                table.iter().enumerate().map(|(at, member)| Reverse((has[*member as usize], at))).collect();
            while let Some(partition) = free.peek() {
                let Some(Reverse((count, at))) = heap.pop() else { break };
                if give(table[at], &mut self.room, left) {
                    owners[*partition] = table[at];
                    free.next();
                    heap.push(Reverse((count + 1, at)));
                }
            }
        } else {
            while let Some(partition) = free.peek() {
                if *turn == table.len() {
                    seated(table, turn, &self.room, left);
                }
                let Some(member) = table.get(*turn) else { break };
                *turn += 1;
                if give(*member, &mut self.room, left) {
                    owners[*partition] = *member;
                    free.next();
                }
            }
        }
        has.fill(0);
    }

    /// What each member has.
    pub(super) fn partitions(self) -> Vec<Partitions> {
        let mut given: Vec<Partitions> = vec![Partitions::default(); self.room.len()];
        for (topic, ends) in self.bases.windows(2).enumerate() {
            for (number, owner) in self.owners[ends[0]..ends[1]].iter().enumerate() {
                if let Some(given) = given.get_mut(*owner as usize) {
                    given.push(topic, number as i32);
                }
            }
        }
        given
    }
}
