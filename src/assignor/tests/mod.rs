mod bad_input;
mod certificate;
mod families;
mod java_range;
mod java_sticky;
mod java_user_data;
mod nest;
mod pitfalls;
mod properties;
mod reply;

use super::*;

/// A group as tests make and read it: topics by number, members by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    /// Partitions of each topic.
    topics: Vec<i32>,
    members: Vec<Member>,
    /// Racks of the replicas of each partition of each topic.
    racks: Vec<Vec<Vec<&'static str>>>,
    /// Names of topics and ids of members, in order, where a test gives them.
    names: Vec<String>,
    ids: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    topics: Vec<usize>,
    owned: Vec<(usize, i32)>,
    generation: i32,
    rack: Option<&'static str>,
    instance: Option<&'static str>,
    user_data: Option<Bytes>,
}

impl Case {
    /// Reads `t:3 u:1 | c1 t,u @10 t-0 u-0 #rack !instance | c2 -`: topics, then members with topics, generation and claims, both sorted.
    fn read(text: &'static str) -> Self {
        let mut parts = text.split('|').map(str::split_whitespace);
        let mut topics: Vec<(&str, i32)> = parts.next().unwrap().map(|topic| count(topic, ':')).collect();
        topics.sort_unstable();
        let mut case = Self { topics: topics.iter().map(|topic| topic.1).collect(), ..Self::default() };
        case.names = topics.iter().map(|topic| topic.0.to_owned()).collect();
        for mut words in parts {
            case.ids.push(words.next().unwrap().to_owned());
            let mut member = Member { generation: -1, ..Member::default() };
            let subscribed = words.next().unwrap().split(',').filter(|topic| *topic != "-");
            member.topics = subscribed.map(|topic| case.topic(topic)).collect();
            for word in words {
                match word.split_at(1) {
                    ("@", generation) => member.generation = generation.parse().unwrap(),
                    ("#", rack) => member.rack = Some(rack),
                    ("!", instance) => member.instance = Some(instance),
                    _ => {
                        let (topic, number) = count(word, '-');
                        member.owned.push((case.topic(topic), number));
                    }
                }
            }
            case.members.push(member);
        }
        assert!(case.ids.is_sorted(), "{text}");
        case
    }

    /// The place of a topic; one that is not there yet does not exist for the group.
    fn topic(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            assert!(self.names.iter().all(|known| &**known < name), "{name} would not be the last");
            self.names.push(name.to_owned());
            self.topics.push(0);
            self.topics.len() - 1
        })
    }

    fn topic_name(&self, topic: usize) -> String {
        self.names.get(topic).cloned().unwrap_or_else(|| format!("t{topic:02}"))
    }

    fn member_id(&self, member: usize) -> String {
        self.ids.get(member).cloned().unwrap_or_else(|| format!("m{member:03}"))
    }

    /// A plan as `c1 t-0 u-0 | c2`.
    fn show(&self, plan: &[Partitions]) -> String {
        let members = plan.iter().enumerate().map(|(member, partitions)| {
            let mut text = self.member_id(member);
            for (topic, number) in places(partitions) {
                text += &format!(" {}-{number}", self.topic_name(topic));
            }
            text
        });
        members.collect::<Vec<_>>().join(" | ")
    }

    /// Puts replicas on racks as Java's tests do: all partitions in a row, `replicas` of each on one rack after the other.
    fn on_racks(mut self, replicas: usize, racks: &[&'static str]) -> Self {
        let mut next = 0;
        self.racks.clear();
        for count in &self.topics {
            let racks_from =
                |first: usize| racks.iter().copied().cycle().skip(first % racks.len()).take(replicas);
            self.racks
                .push((next..next + *count as usize).map(|first| racks_from(first).collect()).collect());
            next += *count as usize;
        }
        self
    }

    /// The group, with topics, members and claims in the order that `shuffle` brings the lists into.
    fn group(&self, mut shuffle: impl FnMut(&mut Vec<usize>)) -> Group {
        let mut order = |len: usize| {
            let mut order: Vec<usize> = (0..len).collect();
            shuffle(&mut order);
            order
        };
        let mut builder = Group::builder();
        for topic in order(self.topics.len()) {
            let mut entry = builder.topic(&self.topic_name(topic), self.topics[topic]);
            for (partition, racks) in self.racks.get(topic).into_iter().flatten().enumerate() {
                entry = entry.racks(partition, racks.iter().copied());
            }
        }
        for at in order(self.members.len()) {
            let member = &self.members[at];
            let mut entry = builder.member(self.member_id(at)).generation(member.generation);
            for topic in order(member.topics.len()) {
                entry = entry.subscribe(&self.topic_name(member.topics[topic]));
            }
            for claim in order(member.owned.len()) {
                let (topic, number) = member.owned[claim];
                entry = entry.own(&self.topic_name(topic), [number]);
            }
            if let Some(instance) = member.instance {
                entry = entry.instance_id(instance);
            }
            if let Some(user_data) = &member.user_data {
                entry = entry.user_data(user_data.clone());
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
            let places =
                topics.iter().flat_map(|topic| (0..self.topics[*topic] as usize).map(|p| (*topic, p)));
            places.map(|(topic, p)| {
                self.racks.get(topic).and_then(|racks| racks.get(p)).cloned().unwrap_or_default()
            })
        };
        let all: std::collections::BTreeSet<&str> = partitions().flatten().collect();
        let mut racks = self.members.iter().filter_map(|member| member.rack);
        racks.any(|rack| all.contains(rack))
            && partitions()
                .any(|racks| racks.iter().collect::<std::collections::BTreeSet<_>>().len() < all.len())
    }
}

fn count(word: &str, sign: char) -> (&str, i32) {
    let (name, count) = word.split_once(sign).unwrap();
    (name, count.parse().unwrap())
}

fn places(partitions: &Partitions) -> Vec<(usize, i32)> {
    let topics = partitions.iter();
    topics.flat_map(|(topic, numbers)| numbers.iter().map(move |number| (topic, *number))).collect()
}
