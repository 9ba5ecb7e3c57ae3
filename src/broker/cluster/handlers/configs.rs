//! DescribeConfigs 1-4: the few settings that mean something here. 3 added types and documentation.
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::{Call, Cluster, Reply, Topic};
use super::Handle;
use crate::protocol::error_code::ErrorCode;

/// Settings of topics with Kafka's defaults. Those that change nothing here are accepted and told again.
const TOPIC: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("index.interval.bytes", "4096"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("max.message.bytes", "1048588"),
    ("message.timestamp.after.max.ms", "3600000"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.type", "CreateTime"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("min.insync.replicas", "1"),
    ("preallocate", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("segment.bytes", "1073741824"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "604800000"),
    ("unclean.leader.election.enable", "false"),
];

pub(super) fn is_valid(name: &str, value: &str) -> bool {
    let Some((_, default)) = TOPIC.iter().find(|(known, _)| *known == name) else { return false };
    match name {
        "message.timestamp.type" => matches!(value, "CreateTime" | "LogAppendTime"),
        "max.message.bytes" => value.parse::<u32>().is_ok(),
        _ if default.parse::<i64>().is_ok() => value.parse::<i64>().is_ok(),
        _ => true,
    }
}

pub(super) fn of_topic(cluster: &Cluster, topic: &Topic) -> impl Iterator<Item = (&'static str, String)> {
    TOPIC.iter().map(|(name, default)| {
        let of_cluster = match *name {
            "max.message.bytes" => cluster.config.max_message_bytes.to_string(),
            "min.insync.replicas" => cluster.config.min_insync_replicas.to_string(),
            _ => (*default).to_owned(),
        };
        (*name, topic.config.get(*name).cloned().unwrap_or(of_cluster))
    })
}

impl Handle for DescribeConfigsRequest {
    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<DescribeConfigsResponse> {
        let mut response = DescribeConfigsResponse::default().with_throttle_time_ms(call.throttle_ms());
        for resource in self.resources {
            let name = resource.resource_name;
            let wanted = |key: &str| {
                resource
                    .configuration_keys
                    .as_ref()
                    .is_none_or(|keys| keys.iter().any(|asked| &**asked == key))
            };
            let entry = |key: &str, value: String, source: i8| {
                DescribeConfigsResourceResult::default()
                    .with_name(StrBytes::from_string(key.to_owned()))
                    .with_value(Some(StrBytes::from_string(value)))
                    .with_config_source(source)
                    .with_documentation(None)
            };
            let found = match resource.resource_type {
                2 => match cluster.topics.get(&name) {
                    Some(topic) => Ok(of_topic(cluster, topic)
                        .filter(|(key, _)| wanted(key))
                        // 1: set on the topic; 5: default.
                        .map(|(key, value)| {
                            entry(key, value, if topic.config.contains_key(key) { 1 } else { 5 })
                        })
                        .collect()),
                    None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                },
                4 => Ok(of_node(cluster)
                    .filter(|(key, _)| wanted(key))
                    .map(|(key, value)| entry(key, value, 4).with_read_only(true))
                    .collect()),
                _ => Err(ErrorCode::INVALID_REQUEST),
            };
            let found = call.injected(&name, None).map_or(found, Err);
            let result = DescribeConfigsResult::default()
                .with_error_message(None)
                .with_resource_type(resource.resource_type)
                .with_resource_name(name.clone());
            response.results.push(match found {
                Ok(configs) => result.with_configs(configs),
                Err(code) => result.with_error_code(code.code()),
            });
        }
        Reply::Now(response)
    }
}

fn of_node(cluster: &Cluster) -> impl Iterator<Item = (&'static str, String)> {
    let config = &cluster.config;
    [
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("num.partitions", config.default_partitions.to_string()),
        ("default.replication.factor", config.nodes.min(3).to_string()),
        ("message.max.bytes", config.max_message_bytes.to_string()),
        ("min.insync.replicas", config.min_insync_replicas.to_string()),
        ("socket.request.max.bytes", config.max_request_bytes.to_string()),
    ]
    .into_iter()
}
