//! What the sticky assignors of Java send to the leader: the last assignment and its generation, or the generation alone.
use bytes::{BufMut, Bytes, BytesMut};

use super::super::{Group, Partitions};

/// `sticky`'s bytes, version 1: partitions by topic, then the generation.
pub(super) fn encode(owned: &[(&str, &[i32])], generation: Option<i32>) -> Bytes {
    let size: usize = owned.iter().map(|(topic, numbers)| 6 + topic.len() + 4 * numbers.len()).sum();
    let mut out = BytesMut::with_capacity(8 + size);
    out.put_i32(owned.len() as i32);
    for (topic, numbers) in owned {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
        out.put_i32(numbers.len() as i32);
        numbers.iter().for_each(|number| out.put_i32(*number));
    }
    out.put_i32(generation.unwrap_or(-1));
    out.freeze()
}

/// Reads what [`encode`] writes, and version 0, which has no generation. `None` if it is neither: that member claims nothing.
///
/// What does not exist in the group is left out.
pub(super) fn decode(group: &Group, bytes: &[u8]) -> Option<(Partitions, Option<i32>)> {
    let mut rest = bytes;
    let count = i32(&mut rest).filter(|count| *count >= 0)?;
    let mut owned = Partitions::default();
    let mut next = 0;
    for _ in 0..count {
        let len = split(&mut rest, 2).map(|len| i16::from_be_bytes([len[0], len[1]]))?;
        let name = split(&mut rest, usize::try_from(len).ok()?)?;
        // Written in order, topics mostly follow each other.
        let topics = group.topics();
        let topic = match topics.get(next).or(topics.first()) {
            Some(topic) if topic.name.as_bytes() == name => Some(if next < topics.len() { next } else { 0 }),
            _ => std::str::from_utf8(name).ok().and_then(|name| group.topic(name)),
        };
        let numbers = usize::try_from(i32(&mut rest)?).ok()?.checked_mul(4)?;
        let (numbers, _) = split(&mut rest, numbers)?.as_chunks::<4>();
        if let Some(topic) = topic {
            next = topic + 1;
            owned.extend(topic, numbers.iter().map(|number| i32::from_be_bytes(*number)));
        }
    }
    Some((owned.existing(group.topics()), i32(&mut rest).filter(|generation| *generation >= 0)))
}

/// The generation that `cooperative-sticky` sends. Some clients send `sticky`'s bytes under that name.
pub(super) fn decode_generation(group: &Group, bytes: &[u8]) -> Option<i32> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(generation) => Some(i32::from_be_bytes(generation)).filter(|generation| *generation >= 0),
        Err(_) => decode(group, bytes)?.1,
    }
}

/// The next so many bytes.
pub(in crate::assignor) fn split<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

pub(in crate::assignor) fn i32(rest: &mut &[u8]) -> Option<i32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(i32::from_be_bytes(*head))
}
