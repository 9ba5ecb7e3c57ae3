mod certificate;
mod families;
mod properties;

use super::*;

/// A group as tests make and read it: topics by number, members by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    /// Partitions of each topic.
    topics: Vec<i32>,
    members: Vec<Member>,
    /// Racks of the replicas of each partition of each topic.
    racks: Vec<Vec<Vec<&'static str>>>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    topics: Vec<usize>,
    owned: Vec<(usize, i32)>,
    generation: i32,
    rack: Option<&'static str>,
}

fn topic_name(topic: usize) -> String {
    format!("t{topic:02}")
}

fn member_id(member: usize) -> String {
    format!("m{member:02}")
}

impl Case {
    /// The group, with topics, members and claims in the order that `shuffle` brings the lists into.
    fn group(&self, mut shuffle: impl FnMut(&mut Vec<usize>)) -> Group {
        let mut order = |len: usize| {
            let mut order: Vec<usize> = (0..len).collect();
            shuffle(&mut order);
            order
        };
        let mut builder = Group::builder();
        for topic in order(self.topics.len()) {
            let mut entry = builder.topic(&topic_name(topic), self.topics[topic]);
            for (partition, racks) in self.racks.get(topic).into_iter().flatten().enumerate() {
                entry = entry.racks(partition, racks.iter().copied());
            }
        }
        for at in order(self.members.len()) {
            let member = &self.members[at];
            let mut entry = builder.member(member_id(at)).generation(member.generation);
            for topic in order(member.topics.len()) {
                entry = entry.subscribe(&topic_name(member.topics[topic]));
            }
            for claim in order(member.owned.len()) {
                let (topic, number) = member.owned[claim];
                entry = entry.own(&topic_name(topic), [number]);
            }
            if let Some(rack) = member.rack {
                entry.rack(rack);
            }
        }
        builder.build().unwrap()
    }

    fn plan(&self) -> Vec<Partitions> {
        CooperativeStickyAssignor::default().plan(&self.group(|_| {})).partitions
    }

    /// The case in which everybody claims what a plan gives.
    fn after(&self, plan: &[Partitions], generation: i32) -> Self {
        let mut after = self.clone();
        for (member, partitions) in after.members.iter_mut().zip(plan) {
            member.owned = places(partitions);
            member.generation = generation;
        }
        after
    }

    fn racks_matter(&self) -> bool {
        let wanted = |topic: &usize| self.members.iter().any(|member| member.topics.contains(topic));
        let topics: Vec<usize> = (0..self.topics.len()).filter(wanted).collect();
        let partitions = || {
            let places = topics.iter().flat_map(|topic| (0..self.topics[*topic] as usize).map(|p| (*topic, p)));
            places.map(|(topic, p)| self.racks.get(topic).and_then(|racks| racks.get(p)).cloned().unwrap_or_default())
        };
        let all: std::collections::BTreeSet<&str> = partitions().flatten().collect();
        let mut racks = self.members.iter().filter_map(|member| member.rack);
        racks.any(|rack| all.contains(rack))
            && partitions().any(|racks| racks.iter().collect::<std::collections::BTreeSet<_>>().len() < all.len())
    }
}

fn places(partitions: &Partitions) -> Vec<(usize, i32)> {
    let topics = partitions.iter();
    topics.flat_map(|(topic, numbers)| numbers.iter().map(move |number| (topic, *number))).collect()
}
