//! What members and leaders of type `consumer` hand to each other through the coordinator, as far as it looks inside.
use std::sync::Arc;

use crate::protocol::primitives::{Cursor, Malformed};
use crate::topic_partition::TopicPartition;

/// The protocol type of consumers.
pub(crate) const CONSUMER: &str = "consumer";

fn string<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
    let length = usize::try_from(cursor.i16()?).map_err(|_| cursor.malformed("negative length"))?;
    let bytes = cursor.bytes(length)?;
    std::str::from_utf8(bytes).map_err(|_| cursor.malformed("not UTF-8"))
}

fn count(cursor: &mut Cursor<'_>, least: usize) -> Result<usize, Malformed> {
    let count = i64::from(cursor.i32()?);
    cursor.count(count, least)
}

/// The topics that a member subscribes to.
pub(crate) fn subscribed(subscription: &[u8]) -> Result<Vec<&str>, Malformed> {
    let mut cursor = Cursor::new(subscription);
    cursor.i16()?;
    (0..count(&mut cursor, 2)?).map(|_| string(&mut cursor)).collect()
}

/// The partitions that a leader gave to a member; nothing at all counts as none.
pub(crate) fn assigned(assignment: &[u8]) -> Result<Vec<TopicPartition>, Malformed> {
    let mut partitions = Vec::new();
    if assignment.is_empty() {
        return Ok(partitions);
    }
    let mut cursor = Cursor::new(assignment);
    cursor.i16()?;
    for _ in 0..count(&mut cursor, 6)? {
        let topic: Arc<str> = Arc::from(string(&mut cursor)?);
        for _ in 0..count(&mut cursor, 4)? {
            partitions.push(TopicPartition::new(topic.clone(), cursor.i32()?));
        }
    }
    Ok(partitions)
}
