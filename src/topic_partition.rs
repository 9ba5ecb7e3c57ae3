//! The name of one partition.
use std::fmt;
use std::sync::Arc;

/// A partition of a topic. Cheap to clone.
///
/// ```
/// use milena::TopicPartition;
///
/// let partition = TopicPartition::new("orders", 3);
/// assert_eq!(partition, TopicPartition::from(("orders", 3)));
/// assert_eq!(partition.to_string(), "orders-3");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// Partition number `partition`, from 0 on, of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The topic's name, shared instead of copied.
    pub(crate) fn shared_topic(&self) -> &Arc<str> {
        &self.topic
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

impl From<&TopicPartition> for TopicPartition {
    fn from(partition: &TopicPartition) -> Self {
        partition.clone()
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
