//! CreateTopics 2-7, DeleteTopics 1-6, CreatePartitions 0-3.
//!
//! CreateTopics: 5 added what was created to the answer, 7 the topic id. DeleteTopics: 6 added ids.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::{Call, Cluster, Partition, Reply, Topic, new_uuid, topics};
use super::Handle;
use super::configs;
use crate::protocol::error_code::ErrorCode;

/// A mistyped count must not eat the memory.
const MAX_PARTITIONS: i32 = 10_000;

impl Cluster {
    /// The topic that a request names, by name or, where its version has them, by id.
    pub(crate) fn resolve(&self, name: &str, id: Uuid) -> Option<Arc<str>> {
        if id.is_nil() {
            self.topics.get(name).map(|topic| topic.name.clone())
        } else {
            self.topics.name(id).cloned()
        }
    }

    /// Creates a topic whose leaders go round the nodes: partition 0 is led by the first.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replication: Option<i16>,
    ) -> Result<(), ErrorCode> {
        self.check_new(name, partitions, replication)?;
        let up = self.nodes_up();
        let replicas = self.replication(replication);
        let partitions =
            (0..partitions).map(|index| Partition::new(place(&up, index, replicas), &up)).collect();
        let id = new_uuid(&mut self.random);
        self.topics.insert(Topic { id, name: Arc::from(name), partitions, config: BTreeMap::new() });
        Ok(())
    }

    fn replication(&self, asked: Option<i16>) -> usize {
        let default = self.config.default_replication.unwrap_or_else(|| self.config.nodes.min(3) as i16);
        usize::try_from(asked.unwrap_or(default)).unwrap_or(1).max(1)
    }

    fn check_new(&self, name: &str, partitions: i32, replication: Option<i16>) -> Result<(), ErrorCode> {
        if !topics::is_valid_name(name) {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        if self.topics.get(name).is_some() {
            return Err(ErrorCode::TOPIC_ALREADY_EXISTS);
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(ErrorCode::INVALID_PARTITIONS);
        }
        let up = self.nodes_up().len();
        if replication.is_some_and(|asked| asked < 1 || asked as usize > up) || up == 0 {
            return Err(ErrorCode::INVALID_REPLICATION_FACTOR);
        }
        Ok(())
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> bool {
        let Some(topic) = self.topics.remove(name) else { return false };
        for group in self.groups.by_id.values_mut() {
            group.offsets.delete_topic(name);
        }
        for mut partition in topic.partitions {
            self.woken.append(&mut partition.waiters);
        }
        true
    }
}

/// The replicas of a partition, the first of them its leader.
fn place(up: &BTreeSet<i32>, index: i32, replicas: usize) -> Vec<i32> {
    let skip = usize::try_from(index).unwrap_or(0) % up.len().max(1);
    up.iter().copied().cycle().skip(skip).take(replicas.min(up.len())).collect()
}

/// The topic that is asked for, not yet part of the cluster.
fn planned(cluster: &mut Cluster, call: &Call, topic: &CreatableTopic) -> Result<Topic, ErrorCode> {
    let name = topic.name.as_str();
    if let Some(code) = call.injected(name, None) {
        return Err(code);
    }
    let replication = Some(topic.replication_factor).filter(|asked| *asked != -1);
    let mut config = BTreeMap::new();
    for entry in &topic.configs {
        let value = entry.value.as_deref().ok_or(ErrorCode::INVALID_CONFIG)?;
        if !configs::is_valid(&entry.name, value) {
            return Err(ErrorCode::INVALID_CONFIG);
        }
        config.insert(entry.name.to_string(), value.to_owned());
    }
    let up = cluster.nodes_up();
    let partitions: Vec<Partition> = if topic.assignments.is_empty() {
        let count =
            if topic.num_partitions == -1 { cluster.config.default_partitions } else { topic.num_partitions };
        cluster.check_new(name, count, replication)?;
        let replicas = cluster.replication(replication);
        (0..count).map(|index| Partition::new(place(&up, index, replicas), &up)).collect()
    } else {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        cluster.check_new(name, i32::try_from(topic.assignments.len()).unwrap_or(0), None)?;
        let mut assigned = BTreeMap::new();
        for assignment in &topic.assignments {
            let replicas: Vec<i32> = assignment.broker_ids.iter().map(|id| id.0).collect();
            let distinct: BTreeSet<_> = replicas.iter().collect();
            if replicas.is_empty()
                || distinct.len() != replicas.len()
                || !replicas.iter().all(|id| cluster.nodes.contains_key(id))
            {
                return Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT);
            }
            assigned.insert(assignment.partition_index, replicas);
        }
        if !assigned.keys().copied().eq(0..topic.assignments.len() as i32) {
            return Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        }
        assigned.into_values().map(|replicas| Partition::new(replicas, &up)).collect()
    };
    Ok(Topic { id: new_uuid(&mut cluster.random), name: Arc::from(name), partitions, config })
}

impl Handle for CreateTopicsRequest {
    fn subjects(&self, _cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        self.topics.iter().map(|topic| (Arc::from(topic.name.as_str()), -1)).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<CreateTopicsResponse> {
        let mut response = CreateTopicsResponse::default().with_throttle_time_ms(call.throttle_ms());
        for topic in self.topics {
            let planned = planned(cluster, call, &topic);
            let mut result = CreatableTopicResult::default().with_name(topic.name).with_error_message(None);
            match planned {
                Ok(planned) => {
                    if call.version >= 5 {
                        result.topic_id = if call.version >= 7 { planned.id } else { Uuid::nil() };
                        result.num_partitions = planned.partitions.len() as i32;
                        let replicas = planned.partitions.first().map_or(0, |first| first.replicas.len());
                        result.replication_factor = replicas as i16;
                        let config = |(name, value): (&str, String)| {
                            CreatableTopicConfigs::default()
                                .with_name(StrBytes::from_string(name.to_owned()))
                                .with_value(Some(StrBytes::from_string(value)))
                                .with_config_source(if planned.config.contains_key(name) { 1 } else { 5 })
                        };
                        result.configs = Some(configs::of_topic(cluster, &planned).map(config).collect());
                    }
                    if !self.validate_only {
                        cluster.topics.insert(planned);
                    }
                }
                Err(code) => {
                    result.error_code = code.code();
                    result.error_message = Some(StrBytes::from_static_str(code.name()));
                }
            }
            response.topics.push(result);
        }
        Reply::Now(response)
    }
}

impl Handle for DeleteTopicsRequest {
    fn subjects(&self, cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        let states = self.topics.iter().filter_map(|topic| match &topic.name {
            Some(name) => Some(Arc::from(name.as_str())),
            None => cluster.topics.name(topic.topic_id).cloned(),
        });
        let names = self.topic_names.iter().map(|name| Arc::from(name.as_str()));
        states.chain(names).map(|name| (name, -1)).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<DeleteTopicsResponse> {
        let mut response = DeleteTopicsResponse::default().with_throttle_time_ms(call.throttle_ms());
        let by_state = self.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
        let by_name = self.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
        for (name, id) in by_state.chain(by_name) {
            let found = match &name {
                Some(name) => cluster.topics.get(name).map(|topic| topic.name.clone()),
                None => cluster.topics.name(id).cloned(),
            };
            let id = found.as_deref().and_then(|name| cluster.topics.get(name)).map_or(id, |topic| topic.id);
            let injected = found.as_deref().and_then(|name| call.injected(name, None));
            let deleted = match (injected, &found) {
                (Some(code), _) => Err(code),
                (None, Some(found)) if cluster.delete_topic(found) => Ok(()),
                _ if name.is_none() => Err(ErrorCode::UNKNOWN_TOPIC_ID),
                _ => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            let named = name.or(found.map(|name| TopicName(StrBytes::from_string(name.to_string()))));
            let mut result = DeletableTopicResult::default().with_name(named);
            result.topic_id = if call.version >= 6 { id } else { Uuid::nil() };
            if let Err(code) = deleted {
                result.error_code = code.code();
            }
            response.responses.push(result);
        }
        Reply::Now(response)
    }
}

impl Handle for CreatePartitionsRequest {
    fn subjects(&self, _cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        self.topics.iter().map(|topic| (Arc::from(topic.name.as_str()), -1)).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<CreatePartitionsResponse> {
        let mut response = CreatePartitionsResponse::default().with_throttle_time_ms(call.throttle_ms());
        for topic in self.topics {
            let grown = match call.injected(&topic.name, None) {
                Some(code) => Err(code),
                None => cluster.grow_topic(&topic.name, topic.count, self.validate_only),
            };
            let result = CreatePartitionsTopicResult::default().with_name(topic.name);
            response.results.push(match grown {
                Ok(()) => result,
                Err(code) => result
                    .with_error_code(code.code())
                    .with_error_message(Some(StrBytes::from_static_str(code.name()))),
            });
        }
        Reply::Now(response)
    }
}

impl Cluster {
    /// Grows a topic to `count` partitions.
    pub(crate) fn grow_topic(&mut self, name: &str, count: i32, validate: bool) -> Result<(), ErrorCode> {
        let up = self.nodes_up();
        let topic = self.topics.get_mut(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let present = topic.partitions.len() as i32;
        if count <= present || count > MAX_PARTITIONS {
            return Err(ErrorCode::INVALID_PARTITIONS);
        }
        let replicas = topic.partitions.first().map_or(1, |first| first.replicas.len());
        if !validate {
            topic
                .partitions
                .extend((present..count).map(|index| Partition::new(place(&up, index, replicas), &up)));
        }
        Ok(())
    }
}
