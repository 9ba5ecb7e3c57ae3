//! How full each member is in every balanced plan.
//!
//! Loads are balanced if no chain of members can hand partitions on from a load L to one of L - 2 or less. All balanced plans agree on
//! this much: members fall into *levels*, those of level k hold k or k + 1 partitions, and a topic goes only to those of its subscribers
//! that are on the lowest level. So a group falls into parts that have nothing to do with each other.
use super::classes::Classes;
use super::flow::{ANY, Network};

/// Classes of jobs and of members that share them: a component of the group, or one level of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) jobs: Vec<u32>,
    pub(super) members: Vec<u32>,
    /// What each member holds at least; one more is the most.
    pub(super) level: i32,
}

impl Part {
    fn new(classes: &Classes, jobs: Vec<u32>, members: Vec<u32>) -> Self {
        let mut part = Self { jobs, members, level: 0 };
        part.level = (part.partitions(classes) / part.size(classes)) as i32;
        part
    }

    /// How many partitions it has.
    pub(super) fn partitions(&self, classes: &Classes) -> i64 {
        self.jobs.iter().map(|job| i64::from(classes.job_classes[*job as usize].partitions)).sum()
    }

    /// How many members it has.
    pub(super) fn size(&self, classes: &Classes) -> i64 {
        self.members.iter().map(|class| classes.members[*class as usize].members.len() as i64).sum()
    }
}

/// The parts of the group that are not connected by any topic. Members without topics are in none.
pub(super) fn components(classes: &Classes) -> Vec<Part> {
    let mut jobs_of: Vec<Vec<u32>> = vec![Vec::new(); classes.members.len()];
    for (job, class) in classes.job_classes.iter().enumerate() {
        class.to.iter().for_each(|(member, _)| jobs_of[*member as usize].push(job as u32));
    }
    let mut seen = vec![false; classes.job_classes.len()];
    let mut met = vec![false; classes.members.len()];
    let mut parts = Vec::new();
    for first in 0..classes.job_classes.len() {
        if std::mem::replace(&mut seen[first], true) {
            continue;
        }
        let (mut jobs, mut members) = (vec![first as u32], Vec::new());
        let mut next = 0;
        while let Some(job) = jobs.get(next) {
            for (member, _) in &classes.job_classes[*job as usize].to {
                if !std::mem::replace(&mut met[*member as usize], true) {
                    members.push(*member);
                }
            }
            for member in &members {
                for job in std::mem::take(&mut jobs_of[*member as usize]) {
                    if !std::mem::replace(&mut seen[job as usize], true) {
                        jobs.push(job);
                    }
                }
            }
            next += 1;
        }
        jobs.sort_unstable();
        members.sort_unstable();
        parts.push(Part::new(classes, jobs, members));
    }
    parts
}

/// Divides a part by levels, see above.
pub(super) fn levels(classes: &Classes, part: Part) -> Vec<Part> {
    let (mut open, mut done) = (vec![part], Vec::new());
    while let Some(part) = open.pop() {
        match divide(classes, &part) {
            None => done.push(part),
            Some((higher, lower)) => open.extend([higher, lower]),
        }
    }
    done.sort_by(|a, b| a.members.cmp(&b.members));
    done
}

/// A part whose members cannot all hold its level or one more is cut in two: who holds more for sure and who holds less.
fn divide(classes: &Classes, part: &Part) -> Option<(Part, Part)> {
    let (source, sink, base) = (0, 1, 2);
    let mut network = Network::new(base + part.jobs.len() + part.members.len());
    let mut node = vec![0; classes.members.len()];
    let class_base = base + part.jobs.len();
    part.members.iter().enumerate().for_each(|(at, class)| node[*class as usize] = class_base + at);
    for (place, job) in part.jobs.iter().enumerate() {
        let job = &classes.job_classes[*job as usize];
        network.edge(source, base + place, job.partitions as i32, 0, 0);
        for (class, _) in job.to.iter().filter(|(class, _)| node[*class as usize] != 0) {
            network.edge(base + place, node[*class as usize], ANY, 0, 0);
        }
    }
    // The ways to the sink are laid last, to be tried first.
    let mut full = Vec::new();
    for class in &part.members {
        let count = classes.members[*class as usize].members.len() as i32;
        full.push((network.edge(node[*class as usize], sink, count * part.level, 0, 0), count));
    }
    let least = part.size(classes) * i64::from(part.level);
    let mut sent = network.fill(source, sink);
    if sent == least {
        full.iter().for_each(|(edge, count)| network.widen(*edge, *count));
        sent += network.fill(source, sink);
        if sent == part.partitions(classes) {
            return None;
        }
    }
    // What is left over is stuck with those it can reach: they are full, and nobody else has anything that could be theirs.
    let halves = [true, false].map(|stuck| {
        let pick = |list: &[u32], base: usize| -> Vec<u32> {
            let places = list.iter().enumerate();
            places.filter(|(at, _)| network.reached(base + at) == stuck).map(|(_, class)| *class).collect()
        };
        Part::new(classes, pick(&part.jobs, base), pick(&part.members, class_base))
    });
    let [higher, lower] = halves;
    Some((higher, lower))
}
