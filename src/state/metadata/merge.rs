//! A Metadata answer into the snapshot: what is newer wins, partition by partition.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;
use crate::state::metadata::cluster::{Cluster, Node, Partition, Topic};

/// Nodes before Kafka 2.4 could answer an old leader with a new epoch (Metadata below version 9).
const RELIABLE_EPOCHS: i16 = 9;

/// The snapshot after an answer that was asked for in `version`; the generation stays. Topics that the answer does not
/// name stay as they are.
pub(crate) fn merge(old: &Cluster, response: &MetadataResponse, version: i16) -> Result<Cluster> {
    let id: Option<Arc<str>> = response.cluster_id.as_deref().map(Arc::from);
    // Another cluster behind the same addresses: nothing that was known holds.
    let strange = old.id.is_some() && id.is_some() && old.id != id;
    let mut topics = if strange { HashMap::new() } else { old.topics.clone() };
    for topic in &response.topics {
        let Some(name) = topic.name.as_ref().map(|name| name.0.as_str()) else {
            return Err(malformed("a topic without a name"));
        };
        let known = topics.get(name);
        let merged = merge_topic(name, known.map(|known| &**known), topic, version)?;
        match known {
            // The same again: keep the one that everybody shares.
            Some(known) if **known == merged => {}
            _ => drop(topics.insert(merged.name.clone(), Arc::new(merged))),
        }
    }
    Ok(Cluster {
        generation: old.generation,
        id: id.or_else(|| old.id.clone()),
        controller: (response.controller_id.0 >= 0).then_some(response.controller_id.0),
        nodes: nodes(response)?,
        topics,
    })
}

/// Topics that an answer about all topics does not name are not there, also those that are wanted.
pub(crate) fn miss<'a>(
    cluster: &mut Cluster,
    response: &MetadataResponse,
    wanted: impl Iterator<Item = &'a Arc<str>>,
) {
    let named: HashSet<&str> =
        response.topics.iter().filter_map(|topic| Some(topic.name.as_ref()?.0.as_str())).collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    for name in wanted {
        let empty = || Topic {
            name: name.clone(),
            id: Default::default(),
            error: unknown,
            internal: false,
            partitions: Vec::new(),
        };
        cluster.topics.entry(name.clone()).or_insert_with(|| Arc::new(empty()));
    }
    for (name, topic) in &mut cluster.topics {
        if !named.contains(&**name) && topic.error != unknown {
            Arc::make_mut(topic).error = unknown;
        }
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("a Metadata answer with {what}")).in_api("Metadata")
}

fn nodes(response: &MetadataResponse) -> Result<HashMap<i32, Node>> {
    let mut nodes = HashMap::new();
    for node in &response.brokers {
        let port = u16::try_from(node.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| malformed("a port that is none"))?;
        if node.host.is_empty() || node.node_id.0 < 0 {
            return Err(malformed("a node without id or host"));
        }
        let rack = node.rack.as_deref().map(Arc::from);
        let (id, host) = (node.node_id.0, Arc::from(&*node.host));
        nodes.insert(id, Node { id, host, port, rack });
    }
    Ok(nodes)
}

fn merge_topic(name: &str, old: Option<&Topic>, new: &MetadataResponseTopic, version: i16) -> Result<Topic> {
    let name = old.map_or_else(|| Arc::from(name), |old| old.name.clone());
    let error = ErrorCode::from(new.error_code);
    // A topic with an error comes without partitions. A node that has just started may not know a topic yet, so what
    // was known stays beside the error.
    if !error.is_none() && new.partitions.is_empty() {
        let (id, internal, partitions) =
            old.map_or_else(Default::default, |old| (old.id, old.internal, old.partitions.clone()));
        return Ok(Topic { name, id, error, internal, partitions });
    }
    // A changed id means that the topic was deleted and made again: its epochs begin anew.
    let old = old.filter(|old| old.id == new.topic_id || old.id.is_nil() || new.topic_id.is_nil());
    let id = if new.topic_id.is_nil() { old.map_or(new.topic_id, |old| old.id) } else { new.topic_id };
    // Partitions are never taken away from a topic, but an answer may be older than what is known.
    let known = old.map_or(&[][..], |old| &old.partitions);
    let highest = new.partitions.iter().map(|partition| partition.partition_index).max();
    let highest = highest.and_then(|number| usize::try_from(number).ok());
    let count = highest.map_or(0, |number| number.saturating_add(1)).max(known.len());
    if count > known.len().max(new.partitions.len() * 2) {
        return Err(malformed("a partition number beyond the number of partitions"));
    }
    let mut partitions: Vec<Partition> = known.to_vec();
    partitions.resize_with(count, || Partition {
        leader: None,
        leader_epoch: -1,
        replicas: Vec::new(),
        in_sync: Vec::new(),
        error: ErrorCode::LEADER_NOT_AVAILABLE,
    });
    for partition in &new.partitions {
        let at = usize::try_from(partition.partition_index)
            .map_err(|_| malformed("a negative partition number"))?;
        let Some(slot) = partitions.get_mut(at) else { continue };
        let merged = self::partition(partition, version);
        if merged.leader_epoch == -1 || merged.leader_epoch >= slot.leader_epoch {
            *slot = merged;
        }
    }
    Ok(Topic { name, id, error, internal: new.is_internal, partitions })
}

fn partition(new: &MetadataResponsePartition, version: i16) -> Partition {
    let error = ErrorCode::from(new.error_code);
    Partition {
        leader: (new.leader_id.0 >= 0).then_some(new.leader_id.0),
        leader_epoch: if version >= RELIABLE_EPOCHS { new.leader_epoch.max(-1) } else { -1 },
        replicas: new.replica_nodes.iter().map(|node| node.0).collect(),
        in_sync: new.isr_nodes.iter().map(|node| node.0).collect(),
        error,
    }
}
