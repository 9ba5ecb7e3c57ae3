//! Fetch: a plan that becomes a request once the version is known, and a response read in place.
//!
//! The response is read by our own decoder, because it is the hot path and because its counts come from the network:
//! none reserves more than the bytes that are there, and record sets are slices of the response.
pub(crate) mod response;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

pub(crate) use kafka_protocol::messages::FetchRequest;
pub(crate) use response::{FetchResponse, PartitionData};

/// The highest version without topic ids: what to ask for when a topic's id is not known.
pub(crate) const LAST_VERSION_BY_NAME: i16 = 12;

/// What one Fetch request asks, for whatever version the node speaks.
#[derive(Debug, Clone)]
pub(crate) struct FetchPlan {
    pub(crate) max_wait: Duration,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) read_committed: bool,
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    pub(crate) rack: Arc<str>,
    /// Partitions to add to the session, or to change in it.
    pub(crate) partitions: Vec<PlannedPartition>,
    /// Partitions to take out of the session.
    pub(crate) forgotten: Vec<PartitionName>,
    /// Whether every topic's id is known; if not, the version stays at [`LAST_VERSION_BY_NAME`] or below.
    pub(crate) by_id: bool,
}

/// Names a partition the way both old and new versions can.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionName {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
}

/// What a Fetch request says about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedPartition {
    pub(crate) name: PartitionName,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    /// The epoch of the record before `offset`, by which the node finds a truncated log; -1 if unknown.
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: i32,
}

impl FetchPlan {
    /// The request in `version`.
    pub(crate) fn request(&self, version: i16) -> FetchRequest {
        let sessions = version >= 7;
        FetchRequest::default()
            .with_max_wait_ms(i32::try_from(self.max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(self.min_bytes)
            .with_max_bytes(self.max_bytes)
            .with_isolation_level(i8::from(self.read_committed))
            .with_session_id(if sessions { self.session_id } else { 0 })
            .with_session_epoch(if sessions { self.session_epoch } else { -1 })
            .with_topics(self.topics(version))
            .with_forgotten_topics_data(if sessions { self.forgotten_topics(version) } else { Vec::new() })
            .with_rack_id(if version >= 11 { text(&self.rack) } else { StrBytes::default() })
    }

    fn topics(&self, version: i16) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut last = None;
        for planned in &self.partitions {
            // Plans name the partitions of a topic next to each other; if one does not, the topic is named twice.
            if last != Some(&planned.name.topic) {
                let (topic, topic_id) = topic(&planned.name, version);
                topics.push(FetchTopic::default().with_topic(topic).with_topic_id(topic_id));
                last = Some(&planned.name.topic);
            }
            let partition = FetchPartition::default()
                .with_partition(planned.name.partition)
                .with_fetch_offset(planned.offset)
                .with_partition_max_bytes(planned.max_bytes)
                .with_current_leader_epoch(if version >= 9 { planned.leader_epoch } else { -1 })
                .with_last_fetched_epoch(if version >= 12 { planned.last_fetched_epoch } else { -1 });
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(partition);
            }
        }
        topics
    }

    fn forgotten_topics(&self, version: i16) -> Vec<ForgottenTopic> {
        let mut topics: Vec<ForgottenTopic> = Vec::new();
        if self.forgotten.is_empty() {
            return topics;
        }
        // A node first adds and then forgets. A topic that was made again has another id, but to a version that speaks of names
        // it is the same: forgotten, it would be in no session and never be read.
        let asked: HashSet<_> =
            self.partitions.iter().map(|planned| identity(&planned.name, version)).collect();
        for name in self.forgotten.iter().filter(|name| !asked.contains(&identity(name, version))) {
            let (topic, topic_id) = topic(name, version);
            match topics.last_mut() {
                Some(last) if last.topic == topic && last.topic_id == topic_id => {
                    last.partitions.push(name.partition);
                }
                _ => topics.push(
                    ForgottenTopic::default()
                        .with_topic(topic)
                        .with_topic_id(topic_id)
                        .with_partitions(vec![name.partition]),
                ),
            }
        }
        topics
    }
}

fn topic(name: &PartitionName, version: i16) -> (TopicName, Uuid) {
    if version > LAST_VERSION_BY_NAME {
        (TopicName::default(), name.topic_id)
    } else {
        (TopicName::from(text(&name.topic)), Uuid::nil())
    }
}

/// What a version tells partitions apart by.
fn identity(name: &PartitionName, version: i16) -> (Option<&str>, Uuid, i32) {
    match version > LAST_VERSION_BY_NAME {
        true => (None, name.topic_id, name.partition),
        false => (Some(&name.topic), Uuid::nil(), name.partition),
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests;
