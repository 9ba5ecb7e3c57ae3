//! Metadata 0-13 and DescribeCluster 0-2: nodes, topics, leaders.
//!
//! Metadata: 1 added the controller and the empty list for "none", 2 the cluster id, 4 the auto-creation flag, 5 offline
//! replicas, 7 leader epochs, 8 authorized operations, 10 topic ids in answers, 12 topics asked for by id, 13 the error.
use std::sync::Arc;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::group::OFFSETS_TOPIC;
use super::super::{Call, Cluster, Partition, Reply, Topic, topics};
use super::Handle;
use crate::protocol::error_code::ErrorCode;

impl Handle for MetadataRequest {
    fn subjects(&self, cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        match &self.topics {
            Some(topics) => topics
                .iter()
                .filter_map(|topic| match &topic.name {
                    Some(name) => Some((Arc::from(name.as_str()), -1)),
                    None => Some((cluster.topics.name(topic.topic_id)?.clone(), -1)),
                })
                .collect(),
            None => cluster.topics.iter().map(|topic| (topic.name.clone(), -1)).collect(),
        }
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<MetadataResponse> {
        let mut response = MetadataResponse::default()
            .with_throttle_time_ms(call.throttle_ms())
            .with_cluster_id(Some(StrBytes::from_string(cluster.id.clone())))
            .with_controller_id(cluster.controller().into());
        for node in cluster.nodes.values().filter(|node| node.up) {
            response.brokers.push(
                MetadataResponseBroker::default()
                    .with_node_id(node.id.into())
                    .with_host(StrBytes::from_string(node.host.clone()))
                    .with_port(i32::from(node.port))
                    .with_rack(node.rack.clone().map(StrBytes::from_string)),
            );
        }
        let create =
            cluster.config.auto_create_topics && (call.version < 4 || self.allow_auto_topic_creation);
        // In version 0 the empty list asks for all topics.
        let asked = self.topics.filter(|topics| call.version >= 1 || !topics.is_empty());
        match asked {
            None => {
                let names: Vec<_> = cluster.topics.iter().map(|topic| topic.name.clone()).collect();
                for name in names {
                    let topic = by_name(cluster, call, &name, false);
                    response.topics.push(topic);
                }
            }
            Some(asked) => {
                for topic in asked {
                    let described = match &topic.name {
                        Some(name) if topic.topic_id.is_nil() => by_name(cluster, call, name, create),
                        _ => by_id(cluster, call, topic.topic_id),
                    };
                    response.topics.push(described);
                }
            }
        }
        Reply::Now(response)
    }
}

fn by_id(cluster: &mut Cluster, call: &Call, id: Uuid) -> MetadataResponseTopic {
    match cluster.topics.name(id).cloned() {
        Some(name) => by_name(cluster, call, &name, false),
        None => MetadataResponseTopic::default()
            .with_name(None)
            .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.code())
            .with_topic_id(id),
    }
}

fn by_name(cluster: &mut Cluster, call: &Call, name: &str, create: bool) -> MetadataResponseTopic {
    let failed = |code: ErrorCode| {
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
    };
    if let Some(code) = call.injected(name, None) {
        return failed(code);
    }
    if !topics::is_valid_name(name) {
        return failed(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if create && cluster.topics.get(name).is_none() {
        let _ = cluster.create_topic(name, cluster.config.default_partitions, None);
    }
    match cluster.topics.get(name) {
        Some(topic) => describe(cluster, call, topic),
        None => failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn describe(cluster: &Cluster, call: &Call, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..);
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(if call.version >= 10 { topic.id } else { Uuid::nil() })
        .with_is_internal(call.version >= 1 && *topic.name == *OFFSETS_TOPIC)
        .with_partitions(
            partitions.map(|(partition, index)| describe_partition(cluster, partition, index)).collect(),
        )
}

fn describe_partition(cluster: &Cluster, partition: &Partition, index: i32) -> MetadataResponsePartition {
    let up = cluster.nodes_up();
    let no_leader = partition.leader < 0;
    let offline = partition.replicas.iter().copied().filter(|id| !up.contains(id));
    MetadataResponsePartition::default()
        .with_error_code(if no_leader { ErrorCode::LEADER_NOT_AVAILABLE.code() } else { 0 })
        .with_partition_index(index)
        .with_leader_id(partition.leader.into())
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(partition.replicas.iter().copied().map(BrokerId).collect())
        .with_isr_nodes(partition.in_sync.iter().copied().map(BrokerId).collect())
        .with_offline_replicas(offline.map(BrokerId).collect())
}

impl Handle for DescribeClusterRequest {
    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<DescribeClusterResponse> {
        let mut response = DescribeClusterResponse::default()
            .with_throttle_time_ms(call.throttle_ms())
            .with_cluster_id(StrBytes::from_string(cluster.id.clone()))
            .with_controller_id(cluster.controller().into());
        if let Some(code) = call.injected_at_all() {
            return Reply::Now(response.with_error_code(code.code()));
        }
        if self.endpoint_type > 1 {
            // Controllers are not reached from outside.
            return Reply::Now(response.with_error_code(ErrorCode::MISMATCHED_ENDPOINT_TYPE.code()));
        }
        for node in cluster.nodes.values().filter(|node| node.up) {
            response.brokers.push(
                DescribeClusterBroker::default()
                    .with_broker_id(node.id.into())
                    .with_host(StrBytes::from_string(node.host.clone()))
                    .with_port(i32::from(node.port))
                    .with_rack(node.rack.clone().map(StrBytes::from_string)),
            );
        }
        Reply::Now(response)
    }
}
