//! What members of `reply-sticky` say: claims to the leader, homes to the members. All integers are big-endian.
//!
//! ```text
//! claims: version u8 = 1, count i32, { topic: len i16, name; id 16 bytes; count i32, { partition i32, generation i32, hold u8 } }
//! homes:  version u8 = 1, count i32, { topic: len i16, name; home i32; starved u8; lost: count i32, { partition i32 } }
//! ```
//!
//! The id of a topic is zero where it is not known, the home -1 where there is none. What cannot be read says nothing.
use bytes::{BufMut, Bytes, BytesMut};

use super::super::sticky::user_data::{i32, split};

const VERSION: u8 = 1;

/// The id of a topic; zero: not known.
pub(crate) type TopicId = [u8; 16];

/// What a member claims a partition as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// No request names it.
    Spare,
    /// Replies are awaited on it.
    Pinned,
    /// New requests name it.
    Home,
}

/// A partition that a member holds, and the generation in which that was given or confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) partition: i32,
    pub(crate) generation: i32,
    pub(crate) hold: Hold,
}

/// What a member claims of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicClaims<'a> {
    pub(crate) topic: &'a str,
    /// Of the topic whose partitions these are: it may have been created again since.
    pub(crate) id: TopicId,
    pub(crate) claims: Vec<Claim>,
}

/// What a member is told of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given<'a> {
    pub(crate) topic: &'a str,
    pub(crate) home: Option<i32>,
    /// More members than partitions: there is no home.
    pub(crate) starved: bool,
    /// Pinned partitions that another has the newer claim to.
    pub(crate) lost: Vec<i32>,
}

pub(crate) fn encode_claims(topics: &[TopicClaims<'_>]) -> Bytes {
    encode(topics, |out, of| {
        put_name(out, of.topic);
        out.put_slice(&of.id);
        out.put_i32(of.claims.len() as i32);
        for claim in &of.claims {
            out.put_i32(claim.partition);
            out.put_i32(claim.generation);
            out.put_u8(claim.hold as u8);
        }
    })
}

pub(crate) fn decode_claims(bytes: &[u8]) -> Option<Vec<TopicClaims<'_>>> {
    decode(bytes, |rest| {
        let topic = name(rest)?;
        let id = split(rest, 16)?.try_into().ok()?;
        let claims = list(rest, |rest| {
            let (partition, generation) = (i32(rest)?, i32(rest)?);
            let hold = match split(rest, 1)? {
                [0] => Hold::Spare,
                [1] => Hold::Pinned,
                [2] => Hold::Home,
                _ => return None,
            };
            Some(Claim { partition, generation, hold })
        })?;
        Some(TopicClaims { topic, id, claims })
    })
}

pub(crate) fn encode_given(topics: &[Given<'_>]) -> Bytes {
    encode(topics, |out, of| {
        put_name(out, of.topic);
        out.put_i32(of.home.unwrap_or(-1));
        out.put_u8(of.starved.into());
        out.put_i32(of.lost.len() as i32);
        of.lost.iter().for_each(|partition| out.put_i32(*partition));
    })
}

pub(crate) fn decode_given(bytes: &[u8]) -> Option<Vec<Given<'_>>> {
    decode(bytes, |rest| {
        let (topic, home, starved) = (name(rest)?, i32(rest)?, split(rest, 1)? != [0]);
        let home = Some(home).filter(|home| *home >= 0);
        Some(Given { topic, home, starved, lost: list(rest, i32)? })
    })
}

fn encode<T>(topics: &[T], write: impl Fn(&mut BytesMut, &T)) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    out.put_i32(topics.len() as i32);
    topics.iter().for_each(|topic| write(&mut out, topic));
    out.freeze()
}

fn decode<'a, T>(bytes: &'a [u8], read: impl Fn(&mut &'a [u8]) -> Option<T>) -> Option<Vec<T>> {
    let (version, mut rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    list(&mut rest, read)
}

/// As many as are there: a count that lies takes no memory.
fn list<'a, T>(rest: &mut &'a [u8], read: impl Fn(&mut &'a [u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = u32::try_from(i32(rest)?).ok()?;
    (0..count).map(|_| read(rest)).collect()
}

fn put_name(out: &mut BytesMut, name: &str) {
    out.put_i16(name.len() as i16);
    out.put_slice(name.as_bytes());
}

fn name<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len: [u8; 2] = split(rest, 2)?.try_into().ok()?;
    std::str::from_utf8(split(rest, usize::try_from(i16::from_be_bytes(len)).ok()?)?).ok()
}
