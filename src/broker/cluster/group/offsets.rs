//! Offsets that a group has committed, and those of transactions that have not ended.
use std::collections::BTreeMap;

use kafka_protocol::protocol::StrBytes;

use crate::topic_partition::TopicPartition;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// -1 if the member did not say.
    pub(crate) epoch: i32,
    pub(crate) metadata: StrBytes,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Offsets {
    committed: BTreeMap<TopicPartition, Committed>,
    /// By producer, what its open transaction will commit.
    pending: BTreeMap<i64, BTreeMap<TopicPartition, Committed>>,
}

impl Offsets {
    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<&Committed> {
        self.committed.get(partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Committed)> {
        self.committed.iter()
    }

    pub(crate) fn commit(&mut self, partition: TopicPartition, committed: Committed) {
        self.committed.insert(partition, committed);
    }

    pub(crate) fn commit_in_transaction(
        &mut self,
        producer: i64,
        partition: TopicPartition,
        committed: Committed,
    ) {
        self.pending.entry(producer).or_default().insert(partition, committed);
    }

    pub(crate) fn end_transaction(&mut self, producer: i64, commit: bool) {
        let pending = self.pending.remove(&producer).unwrap_or_default();
        self.committed.extend(pending.into_iter().filter(|_| commit));
    }

    /// Whether an open transaction may yet change it.
    pub(crate) fn is_unstable(&self, partition: &TopicPartition) -> bool {
        self.pending.values().any(|pending| pending.contains_key(partition))
    }

    pub(crate) fn delete(&mut self, partition: &TopicPartition) {
        self.committed.remove(partition);
        self.pending.values_mut().for_each(|pending| {
            pending.remove(partition);
        });
    }

    /// A topic is gone, and all that was committed for it.
    pub(crate) fn delete_topic(&mut self, topic: &str) {
        self.committed.retain(|partition, _| partition.topic() != topic);
        self.pending
            .values_mut()
            .for_each(|pending| pending.retain(|partition, _| partition.topic() != topic));
    }
}
