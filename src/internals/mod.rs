//! The one back door: hot paths for this crate's own benches and tests of memory, decoders for its fuzz targets. No part
//! of the public interface.
pub mod decoders;

use bytes::Bytes;

use crate::assignor::{Assignor, Group};
use crate::protocol::consumer_protocol::{Assignment, NEWEST, Numbers, Subscription};
use crate::record::batch::{RawBatch, Stamp};
use crate::record::builder::BatchBuilder;
use crate::record::reader::DecodedBatch;
use crate::{Compression, Error, ErrorKind, Record, RecordView};

/// A batch builder.
#[derive(Debug)]
pub struct Builder(BatchBuilder);

impl Builder {
    /// Empty, with room for so many bytes.
    pub fn new(capacity: usize) -> Self {
        Self(BatchBuilder::new(capacity))
    }

    /// Appends unless the batch would then be above `limit` bytes.
    #[inline]
    pub fn try_append(&mut self, limit: usize, timestamp: i64, record: &Record<'_>) -> Option<i32> {
        self.0.try_append(limit, timestamp, record)
    }

    /// Seals it.
    pub fn seal(self, codec: Compression) -> Result<Bytes, Error> {
        Ok(self.0.seal(codec, None, Stamp::NONE)?)
    }
}

/// A batch that was read.
#[derive(Debug)]
pub struct Decoded(DecodedBatch);

impl Decoded {
    /// Reads one batch: header, checksum, all records validated.
    pub fn decode(bytes: &Bytes, limit: usize) -> Result<Self, Error> {
        let raw = RawBatch::single(bytes)?;
        raw.verify_crc()?;
        Ok(Self(DecodedBatch::decode(&raw, limit)?))
    }

    /// Its records.
    #[inline]
    pub fn records(&self) -> impl Iterator<Item = RecordView<'_>> {
        self.0.records()
    }
}

/// A subscription as a member sends it.
pub fn subscription(topics: &[&str], owned: &[(&str, &[i32])], generation: i32) -> Bytes {
    let owned = owned.iter().map(|(topic, numbers)| (*topic, Numbers::Plain(numbers))).collect();
    let (topics, generation) = (topics.to_vec(), Some(generation));
    Subscription { topics, owned, generation, ..Subscription::default() }.encode(NEWEST)
}

/// What the leader of a group does in a round: from the members' subscriptions to their assignments.
pub fn lead(
    assignor: &dyn Assignor,
    topics: &[(String, i32)],
    members: &[(String, Bytes)],
) -> Result<Vec<Bytes>, Error> {
    let mut group = Group::builder();
    for (topic, partitions) in topics {
        group.topic(topic, *partitions);
    }
    for (id, bytes) in members {
        let read = Subscription::decode(bytes)
            .map_err(|error| Error::new(ErrorKind::Protocol, format!("member {id}: {error}")))?;
        let mut member = group.member(&**id).generation(read.generation);
        for topic in read.topics {
            member = member.subscribe(topic);
        }
        for (topic, numbers) in read.owned {
            member = member.own(topic, numbers.iter());
        }
    }
    let group = group.build()?;
    let assignment = assignor.assign(&group);
    let encoded = (0..assignment.len()).map(|member| {
        let partitions = assignment.partitions(member).iter();
        let named =
            partitions.map(|(topic, numbers)| (&*group.topics()[topic].name, Numbers::Plain(numbers)));
        Assignment { partitions: named.collect(), user_data: None }.encode(NEWEST)
    });
    Ok(encoded.collect())
}
