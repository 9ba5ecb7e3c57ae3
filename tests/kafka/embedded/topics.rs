//! Topics: made, described, grown and deleted.
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::script::{Play, TOPIC, name};

impl Play {
    pub(super) fn topics(&mut self) {
        let topic = |topic: &str, partitions, replication| {
            create_topics_request::CreatableTopic::default()
                .with_name(name(topic))
                .with_num_partitions(partitions)
                .with_replication_factor(replication)
        };
        let config = |key: &'static str, value: &'static str| {
            create_topics_request::CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(key))
                .with_value(Some(StrBytes::from_static_str(value)))
        };
        let assigned = |partition: i32, nodes: &[i32]| {
            create_topics_request::CreatableReplicaAssignment::default()
                .with_partition_index(partition)
                .with_broker_ids(nodes.iter().copied().map(BrokerId).collect())
        };
        for (version, topic) in [
            (7, topic(TOPIC, 3, 1)),
            (7, topic(TOPIC, 3, 1)),
            (2, topic("bad name", 3, 1)),
            (3, topic("..", 3, 1)),
            (4, topic("embedded-none", 0, 1)),
            (5, topic("embedded-wide", 1, 2)),
            (5, topic("embedded-narrow", 1, 0)),
            (5, topic("embedded-default", -1, -1)),
            (6, topic("embedded-odd", 1, 1).with_configs(vec![config("no.such", "1")])),
            (6, topic("embedded-wrong", 1, 1).with_configs(vec![config("max.message.bytes", "x")])),
            (7, topic("embedded-small", 1, 1).with_configs(vec![config("max.message.bytes", "200")])),
            (
                7,
                topic("embedded-stamped", 1, 1)
                    .with_configs(vec![config("message.timestamp.type", "LogAppendTime")]),
            ),
            (7, topic("embedded-here", -1, -1).with_assignments(vec![assigned(0, &[1]), assigned(1, &[1])])),
            (7, topic("embedded-gap", -1, -1).with_assignments(vec![assigned(1, &[1])])),
            (7, topic("embedded-twice", -1, -1).with_assignments(vec![assigned(0, &[1, 1])])),
            (7, topic("embedded-nowhere", -1, -1).with_assignments(vec![assigned(0, &[77])])),
            (7, topic("embedded-both", 1, -1).with_assignments(vec![assigned(0, &[1])])),
        ] {
            let asked = format!("{} {} {}", topic.name.0, topic.num_partitions, topic.replication_factor);
            let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
            let answer = self.connection.call(version, &request).topics.remove(0);
            if answer.error_code == 0 && &*answer.name.0 == TOPIC {
                self.id = answer.topic_id;
            }
            let made = (answer.num_partitions, answer.replication_factor, answer.topic_id.is_nil());
            self.say(format!(
                "create v{version} {asked}: {} {made:?} {}",
                answer.error_code,
                answer.error_message.is_some()
            ));
        }
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic("embedded-check", 2, 1)])
            .with_validate_only(true);
        let answer = self.connection.call(7, &request.with_timeout_ms(10_000)).topics.remove(0);
        self.say(format!(
            "create only checked: {} {} {}",
            answer.error_code,
            answer.num_partitions,
            answer.topic_id.is_nil()
        ));
    }

    pub(super) fn metadata(&mut self) {
        for version in 0..=13 {
            let topic =
                |topic: &str| metadata_request::MetadataRequestTopic::default().with_name(Some(name(topic)));
            self.described(version, vec![topic(TOPIC), topic("embedded-nope"), topic("bad name")]);
            if version >= 12 {
                let by_id = metadata_request::MetadataRequestTopic::default().with_name(None);
                let unknown = by_id.clone().with_topic_id(Uuid::from_u128(1 << 70));
                self.described(version, vec![by_id.with_topic_id(self.id), unknown]);
            }
        }
        let none =
            self.connection.call(1, &MetadataRequest::default().with_topics(Some(Vec::new()))).topics.len();
        self.say(format!("metadata of no topics: {none}"));
    }

    pub(super) fn described(&mut self, version: i16, topics: Vec<metadata_request::MetadataRequestTopic>) {
        let request = MetadataRequest::default().with_topics(Some(topics));
        let request = request.with_allow_auto_topic_creation(version < 4);
        let answer = self.connection.call(version, &request);
        self.say(format!("metadata v{version}: {} nodes, error {}", answer.brokers.len(), answer.error_code));
        let mut topics = answer.topics;
        topics.sort_by_key(|topic| (topic.error_code, topic.name.clone()));
        for topic in topics {
            let id = match topic.topic_id {
                id if id.is_nil() => "nil",
                id if id == self.id => "same",
                _ => "other",
            };
            let named = topic.name.as_ref().map(|name| name.0.to_string());
            let partition = |p: &metadata_response::MetadataResponsePartition| {
                let copies = (p.replica_nodes.len(), p.isr_nodes.len());
                (p.partition_index, p.error_code, p.leader_id.0, p.leader_epoch, copies)
            };
            let mut partitions: Vec<_> = topic.partitions.iter().map(partition).collect();
            partitions.sort();
            self.say(format!("  {named:?} {id} {} {partitions:?} {}", topic.error_code, topic.is_internal));
        }
    }

    pub(super) fn grow(&mut self) {
        for (version, topic, count) in
            [(0, TOPIC, 4), (1, TOPIC, 4), (2, TOPIC, 2), (3, "embedded-nope", 4), (3, TOPIC, -1)]
        {
            let asked = create_partitions_request::CreatePartitionsTopic::default()
                .with_name(name(topic))
                .with_count(count);
            let request = CreatePartitionsRequest::default()
                .with_topics(vec![asked.with_assignments(None)])
                .with_timeout_ms(10_000);
            let answer = self.connection.call(version, &request).results.remove(0);
            self.say(format!("grow v{version} {topic} {count}: {}", answer.error_code));
        }
    }

    pub(super) fn delete_topics(&mut self) {
        for version in 1..=6 {
            for topic in ["embedded-small", "embedded-nope"] {
                let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
                let state = delete_topics_request::DeleteTopicState::default().with_name(Some(name(topic)));
                let request = match version {
                    6 => request.with_topics(vec![state]),
                    _ => request.with_topic_names(vec![name(topic)]),
                };
                let answer = self.connection.call(version, &request).responses.remove(0);
                self.say(format!("delete v{version} {topic}: {} {:?}", answer.error_code, answer.name));
            }
        }
        for id in [Uuid::from_u128(1 << 70), self.id] {
            let state = delete_topics_request::DeleteTopicState::default().with_name(None).with_topic_id(id);
            let request = DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![state]);
            let answer = self.connection.call(6, &request).responses.remove(0);
            self.say(format!(
                "delete by id: {} {:?} {}",
                answer.error_code,
                answer.name,
                answer.topic_id == id
            ));
        }
    }
}
