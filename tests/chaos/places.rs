//! The partitions that are written and read, each named by its place in one list over all topics.
use crate::support::kafka::{Cluster, TopicSpec};

/// Each with its number of partitions.
const TOPICS: [(&str, usize); 2] = [("chaos-a", 6), ("chaos-b", 3)];

pub(crate) const PLACES: usize = TOPICS[0].1 + TOPICS[1].1;

pub(crate) const NODES: usize = 3;

/// Every node leads a third of a topic's partitions at the start.
const REPLICAS: [&[i32]; 6] = [&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 3, 2], &[2, 1, 3], &[3, 2, 1]];

pub(crate) fn create(kafka: &Cluster) {
    for (name, partitions) in TOPICS {
        let configs = &[("min.insync.replicas", "2"), ("retention.ms", "-1")];
        let spec = TopicSpec { name, assignment: &REPLICAS[..partitions], configs, ..TopicSpec::default() };
        kafka.create_topic(&spec);
    }
}

/// Topic and partition of each place, in order.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, i32)> {
    TOPICS.iter().flat_map(|(name, partitions)| (0..*partitions as i32).map(move |number| (*name, number)))
}

pub(crate) fn of(topic: &str, partition: i32) -> usize {
    all().position(|place| place == (topic, partition)).expect("a known partition")
}

pub(crate) fn name(place: usize) -> String {
    all().nth(place).map_or_else(|| format!("place {place}"), |(topic, number)| format!("{topic}-{number}"))
}
