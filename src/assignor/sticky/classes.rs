//! Members that are alike and partitions that are alike: what a plan is made of, however many of each there are.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::Group;
use super::super::range::racks_matter;

/// Not in any class.
const NONE: u32 = u32::MAX;

/// A group by classes. Members of one class subscribe to the same topics and, where racks matter, are in the same rack. A *job* is a
/// topic, or those of its partitions whose replicas are in the same racks; jobs of one class can go to the same members and suit them alike.
#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) of_member: Vec<u32>,
    pub(super) members: Vec<MemberClass>,
    pub(super) jobs: Vec<Job>,
    pub(super) job_classes: Vec<JobClass>,
    /// Where the jobs of each topic begin.
    job_bases: Vec<u32>,
    /// The job of each partition, where a topic may have several.
    of_partition: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct MemberClass {
    pub(super) members: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) topic: u32,
    /// `None` is a topic that nobody subscribes to.
    pub(super) class: Option<u32>,
    pub(super) partitions: u32,
}

#[derive(Debug, Default)]
pub(super) struct JobClass {
    pub(super) jobs: Vec<u32>,
    pub(super) partitions: u32,
    /// The classes of members it can go to, each with whether that is across racks.
    pub(super) to: Vec<(u32, bool)>,
}

impl Classes {
    pub(super) fn new(group: &Group, bases: &[usize]) -> Self {
        let mut classes = Self::default();
        let by_rack = racks_play_a_part(group);
        let kinds = classes.sort_members(group, by_rack);
        let (topic_class, to) = refine(group.topics().len(), &kinds);
        classes.sort_jobs(group, bases, by_rack, &topic_class, &to);
        classes
    }

    /// Puts the members in classes. Returns what the members of each class subscribe to.
    fn sort_members<'g>(&mut self, group: &'g Group, by_rack: bool) -> Vec<&'g [u32]> {
        let mut known: HashMap<(&[u32], Option<&Arc<str>>), u32> = HashMap::new();
        let mut kinds: Vec<&[u32]> = Vec::new();
        let mut last = None;
        for (place, member) in group.members().iter().enumerate() {
            let kind = (&member.topics[..], member.rack.as_ref().filter(|_| by_rack));
            // Neighbours tend to be alike, and comparing is cheaper than hashing.
            let class = match last {
                Some((before, class)) if before == kind => class,
                _ => *known.entry(kind).or_insert(kinds.len() as u32),
            };
            if class as usize == kinds.len() {
                kinds.push(kind.0);
                self.members.push(MemberClass::default());
            }
            last = Some((kind, class));
            self.of_member.push(class);
            self.members[class as usize].members.push(place as u32);
        }
        kinds
    }

    fn sort_jobs(
        &mut self,
        group: &Group,
        bases: &[usize],
        by_rack: bool,
        topic_class: &[u32],
        to: &[Vec<u32>],
    ) {
        let mut known: BTreeMap<(u32, &[Arc<str>]), u32> = BTreeMap::new();
        if by_rack {
            self.of_partition = vec![0; bases[bases.len() - 1]];
        }
        for (place, topic) in group.topics().iter().enumerate() {
            let base = self.jobs.len() as u32;
            self.job_bases.push(base);
            let racks = |partition: usize| match topic.racks.get(partition) {
                Some(racks) if by_rack => &racks[..],
                _ => &[],
            };
            let mut job_of: BTreeMap<&[Arc<str>], u32> = BTreeMap::new();
            let kinds = if by_rack { topic.partitions as usize } else { usize::from(topic.partitions > 0) };
            for partition in 0..kinds {
                let next = self.jobs.len() as u32;
                let job = *job_of.entry(racks(partition)).or_insert(next);
                if job == next {
                    self.jobs.push(Job { topic: place as u32, class: None, partitions: 0 });
                }
                let count = if by_rack { 1 } else { topic.partitions as u32 };
                self.jobs[job as usize].partitions += count;
                if by_rack {
                    self.of_partition[bases[place] + partition] = job;
                }
            }
            if topic_class[place] == NONE {
                continue;
            }
            for (racks, job) in job_of {
                let next = self.job_classes.len() as u32;
                let class = *known.entry((topic_class[place], racks)).or_insert(next);
                if class == next {
                    let accepts = to[topic_class[place] as usize].iter().map(|class| {
                        let first = self.members[*class as usize].members[0];
                        let rack = group.members()[first as usize].rack.as_ref().filter(|_| by_rack);
                        (*class, rack.is_some_and(|rack| !racks.contains(rack)))
                    });
                    let to = accepts.collect();
                    self.job_classes.push(JobClass { to, ..JobClass::default() });
                }
                self.jobs[job as usize].class = Some(class);
                self.job_classes[class as usize].jobs.push(job);
                self.job_classes[class as usize].partitions += self.jobs[job as usize].partitions;
            }
        }
        self.job_bases.push(self.jobs.len() as u32);
    }

    /// For each class of members whether it subscribes to a topic.
    pub(super) fn subscribes(&self, topic: usize) -> Vec<bool> {
        let mut subscribes = vec![false; self.members.len()];
        let job = self.jobs.get(self.job_bases[topic] as usize).filter(|job| job.topic as usize == topic);
        if let Some(class) = job.and_then(|job| job.class) {
            let to = &self.job_classes[class as usize].to;
            to.iter().for_each(|(class, _)| subscribes[*class as usize] = true);
        }
        subscribes
    }

    /// Whether racks play a part.
    pub(super) fn by_rack(&self) -> bool {
        !self.of_partition.is_empty()
    }

    /// The job of a partition, by its topic and its place among all partitions.
    #[inline]
    pub(super) fn job(&self, topic: usize, partition: usize) -> u32 {
        self.of_partition.get(partition).copied().unwrap_or(self.job_bases[topic])
    }
}

fn racks_play_a_part(group: &Group) -> bool {
    if group.members().iter().all(|member| member.rack.is_none()) {
        return false;
    }
    let mut wanted = vec![false; group.topics().len()];
    let subscribed = group.members().iter().flat_map(|member| &member.topics);
    subscribed.for_each(|topic| wanted[*topic as usize] = true);
    let topics = group.topics().iter().zip(&wanted).filter_map(|(topic, wanted)| wanted.then_some(topic));
    let all: Vec<u32> = (0..group.members().len() as u32).collect();
    racks_matter(group, topics, &all)
}

/// Puts topics into classes of those that the same kinds of members subscribe to. Returns the class of each topic, and for each class
/// those kinds.
fn refine(topics: usize, kinds: &[&[u32]]) -> (Vec<u32>, Vec<Vec<u32>>) {
    // Each kind of members splits every class of topics into those it subscribes to and those it does not.
    let mut class = vec![0; topics];
    let mut size = vec![topics];
    let (mut hit, mut split) = (vec![0], vec![NONE]);
    for kind in kinds {
        kind.iter().for_each(|topic| hit[class[*topic as usize] as usize] += 1);
        for topic in *kind {
            let old = class[*topic as usize] as usize;
            if hit[old] == size[old] && split[old] == NONE {
                continue; // all of it
            }
            if split[old] == NONE {
                split[old] = size.len() as u32;
                size.push(0);
                hit.push(0);
                split.push(NONE);
            }
            class[*topic as usize] = split[old];
            size[split[old] as usize] += 1;
        }
        for topic in *kind {
            hit[class[*topic as usize] as usize] = 0;
        }
        for old in 0..split.len() {
            if split[old] != NONE {
                size[old] -= size[split[old] as usize];
                (hit[old], split[old]) = (0, NONE);
            }
        }
    }
    let mut to: Vec<Vec<u32>> = vec![Vec::new(); size.len()];
    for (number, kind) in kinds.iter().enumerate() {
        for topic in *kind {
            let list = &mut to[class[*topic as usize] as usize];
            if list.last() != Some(&(number as u32)) {
                list.push(number as u32);
            }
        }
    }
    class.iter_mut().filter(|class| to[**class as usize].is_empty()).for_each(|class| *class = NONE);
    (class, to)
}
