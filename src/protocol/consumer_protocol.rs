//! What members of a classic group tell each other through the coordinator, which does not look into it: the subscription each
//! member sends when it joins, and the assignment that the leader makes for it.
//!
//! Both are a version and the fields of that version; a newer version has the known fields first. These bytes come from any client
//! there is: reading bounds everything by their length, and what is wrong is named.
use bytes::{BufMut, Bytes, BytesMut};

use super::primitives::{Cursor, Malformed};

/// The newest layout there is (KIP-881).
pub(crate) const NEWEST: i16 = 3;

/// A member's subscription or assignment that does not follow the layout: which field, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {malformed}")]
pub(crate) struct MalformedField {
    pub(crate) field: &'static str,
    pub(crate) malformed: Malformed,
}

fn field<T>(field: &'static str, read: Result<T, Malformed>) -> Result<T, MalformedField> {
    read.map_err(|malformed| MalformedField { field, malformed })
}

/// Numbers of partitions, as they lie in the bytes or as they are to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Numbers<'a> {
    Wire(&'a [[u8; 4]]),
    Plain(&'a [i32]),
}

impl<'a> Numbers<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Wire(numbers) => numbers.len(),
            Self::Plain(numbers) => numbers.len(),
        }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = i32> + use<'a> {
        let (wire, plain): (&[[u8; 4]], &[i32]) = match self {
            Self::Wire(numbers) => (numbers, &[]),
            Self::Plain(numbers) => (&[], numbers),
        };
        wire.iter().map(|bytes| i32::from_be_bytes(*bytes)).chain(plain.iter().copied())
    }
}

impl PartialEq for Numbers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Partitions by topic, borrowed from the bytes that were read or from what is to be written.
pub(crate) type TopicNumbers<'a> = Vec<(&'a str, Numbers<'a>)>;

/// What a member wants, holds and says about itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Subscription<'a> {
    pub(crate) topics: Vec<&'a str>,
    pub(crate) user_data: Option<&'a [u8]>,
    /// From version 1 on (KIP-429).
    pub(crate) owned: TopicNumbers<'a>,
    /// The generation that `owned` is of; from version 2 on (KIP-792).
    pub(crate) generation: Option<i32>,
    /// From version 3 on (KIP-881).
    pub(crate) rack: Option<&'a str>,
}

impl<'a> Subscription<'a> {
    /// Reads a subscription of any version; a newer one than is known as far as it is known.
    ///
    /// Some clients announce version 1 and leave out what it added: that is read as version 0.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, MalformedField> {
        let mut cursor = Cursor::new(bytes);
        let version = version(&mut cursor)?;
        let mut read = Self {
            topics: field("subscribed topics", topics(&mut cursor))?,
            user_data: field("user data", nullable(&mut cursor))?,
            ..Self::default()
        };
        if version >= 2 || version == 1 && !cursor.is_empty() {
            read.owned = field("owned partitions", topic_numbers(&mut cursor))?;
        }
        if version >= 2 {
            read.generation = Some(field("generation", cursor.i32())?).filter(|generation| *generation >= 0);
        }
        if version >= 3 {
            read.rack = field("rack", nullable_string(&mut cursor))?;
        }
        Ok(read)
    }

    /// Writes it in `version`, 0 to [`NEWEST`], topics and partitions sorted: equal subscriptions are equal bytes, since a coordinator
    /// rebalances the group when a member's bytes change.
    pub(crate) fn encode(&self, version: i16) -> Bytes {
        let mut topics: Vec<&str> = self.topics.clone();
        topics.sort_unstable();
        topics.dedup();
        let names: usize = topics.iter().map(|topic| 2 + topic.len()).sum();
        let user_data = self.user_data.map_or(0, <[u8]>::len);
        let rack = self.rack.map_or(0, str::len);
        let mut out = BytesMut::with_capacity(24 + names + user_data + rack + size(&self.owned));
        out.put_i16(version);
        out.put_i32(topics.len() as i32);
        topics.into_iter().for_each(|topic| put_string(&mut out, topic));
        put_nullable(&mut out, self.user_data);
        if version >= 1 {
            put_topic_numbers(&mut out, &self.owned);
        }
        if version >= 2 {
            out.put_i32(self.generation.unwrap_or(-1));
        }
        if version >= 3 {
            match self.rack {
                Some(rack) => put_string(&mut out, rack),
                None => out.put_i16(-1),
            }
        }
        out.freeze()
    }
}

/// What the leader gives a member. All versions are alike.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Assignment<'a> {
    pub(crate) partitions: TopicNumbers<'a>,
    pub(crate) user_data: Option<&'a [u8]>,
}

impl<'a> Assignment<'a> {
    /// Reads an assignment of any version. No bytes at all, which a coordinator gives a member that the leader forgot, are one
    /// without partitions.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, MalformedField> {
        let mut cursor = Cursor::new(bytes);
        if cursor.is_empty() {
            return Ok(Self::default());
        }
        version(&mut cursor)?;
        Ok(Self {
            partitions: field("assigned partitions", topic_numbers(&mut cursor))?,
            user_data: field("user data", nullable(&mut cursor))?,
        })
    }

    /// Writes it in `version`, topics and partitions sorted.
    pub(crate) fn encode(&self, version: i16) -> Bytes {
        let user_data = self.user_data.map_or(0, <[u8]>::len);
        let mut out = BytesMut::with_capacity(10 + user_data + size(&self.partitions));
        out.put_i16(version);
        put_topic_numbers(&mut out, &self.partitions);
        put_nullable(&mut out, self.user_data);
        out.freeze()
    }
}

fn version(cursor: &mut Cursor<'_>) -> Result<i16, MalformedField> {
    let version = field("version", cursor.i16())?;
    let known = if version < 0 { Err(cursor.malformed("negative version")) } else { Ok(version) };
    field("version", known)
}

fn text<'a>(cursor: &mut Cursor<'a>, len: usize) -> Result<&'a str, Malformed> {
    std::str::from_utf8(cursor.bytes(len)?).map_err(|_| cursor.malformed("not UTF-8"))
}

fn string<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
    let len = cursor.i16()?;
    text(cursor, usize::try_from(len).map_err(|_| cursor.malformed("negative length"))?)
}

fn nullable_string<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, Malformed> {
    match cursor.i16()? {
        -1 => Ok(None),
        len => {
            let len = usize::try_from(len).map_err(|_| cursor.malformed("negative length"))?;
            text(cursor, len).map(Some)
        }
    }
}

fn nullable<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    match cursor.i32()? {
        -1 => Ok(None),
        len => {
            let len = usize::try_from(len).map_err(|_| cursor.malformed("negative length"))?;
            cursor.bytes(len).map(Some)
        }
    }
}

fn topics<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<&'a str>, Malformed> {
    let count = i64::from(cursor.i32()?);
    (0..cursor.count(count, 2)?).map(|_| string(cursor)).collect()
}

fn topic_numbers<'a>(cursor: &mut Cursor<'a>) -> Result<TopicNumbers<'a>, Malformed> {
    let count = i64::from(cursor.i32()?);
    let mut read = Vec::with_capacity(cursor.count(count, 6)?);
    for _ in 0..count {
        let topic = string(cursor)?;
        let numbers = i64::from(cursor.i32()?);
        let numbers = cursor.count(numbers, 4)? * 4;
        read.push((topic, Numbers::Wire(cursor.bytes(numbers)?.as_chunks().0)));
    }
    Ok(read)
}

fn size(topics: &TopicNumbers<'_>) -> usize {
    topics.iter().map(|(topic, numbers)| 6 + topic.len() + 4 * numbers.len()).sum()
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    out.put_i32(bytes.map_or(-1, |bytes| bytes.len() as i32));
    out.put_slice(bytes.unwrap_or_default());
}

fn put_topic_numbers(out: &mut BytesMut, topics: &TopicNumbers<'_>) {
    let mut sorted: Vec<&(&str, Numbers<'_>)> = topics.iter().collect();
    sorted.sort_by_key(|(topic, _)| *topic);
    out.put_i32(sorted.len() as i32);
    for (topic, numbers) in sorted {
        put_string(out, topic);
        out.put_i32(numbers.len() as i32);
        if numbers.iter().is_sorted() {
            numbers.iter().for_each(|number| out.put_i32(number));
        } else {
            let mut numbers: Vec<i32> = numbers.iter().collect();
            numbers.sort_unstable();
            numbers.into_iter().for_each(|number| out.put_i32(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USER_DATA: &[u8] = &[1, 2, 3];

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The example of Kafka's own serialisation, out of order.
    fn subscription(version: i16) -> Subscription<'static> {
        Subscription {
            topics: vec!["t2", "t1"],
            user_data: Some(USER_DATA),
            owned: if version >= 1 { partitions() } else { vec![] },
            generation: (version >= 2).then_some(9),
            rack: (version >= 3).then_some("rack-a"),
        }
    }

    fn partitions() -> TopicNumbers<'static> {
        vec![("t2", Numbers::Plain(&[5])), ("t1", Numbers::Plain(&[1, 0]))]
    }

    fn sorted() -> TopicNumbers<'static> {
        vec![("t1", Numbers::Plain(&[0, 1])), ("t2", Numbers::Plain(&[5]))]
    }

    #[test]
    fn subscriptions_are_javas_bytes() {
        for (version, text) in [
            (0, "000000000002000274310002743200000003010203"),
            (
                1,
                "0001000000020002743100027432000000030102030000000200027431000000020000000000000001000274320000000100000005",
            ),
            (
                2,
                "000200000002000274310002743200000003010203000000020002743100000002000000000000000100027432000000010000000500000009",
            ),
            (
                3,
                "00030000000200027431000274320000000301020300000002000274310000000200000000000000010002743200000001000000050000000900067261636b2d61",
            ),
        ] {
            let mut wanted = subscription(version);
            assert_eq!(wanted.encode(version), hex(text), "version {version}");
            wanted.topics.sort_unstable();
            wanted.owned.clone_from(&if version >= 1 { sorted() } else { vec![] });
            assert_eq!(Subscription::decode(&hex(text)).unwrap(), wanted, "version {version}");
        }
        let none = Subscription { topics: vec!["t1"], ..Subscription::default() };
        assert_eq!(none.encode(0), hex("00000000000100027431ffffffff"));
        assert_eq!(Subscription::decode(&none.encode(3)).unwrap(), none);
    }

    #[test]
    fn assignments_are_javas_bytes() {
        for version in 0..=NEWEST {
            let bytes = hex(&format!(
                "{version:04x}0000000200027431000000020000000000000001000274320000000100000005{}",
                "00000003010203"
            ));
            let assignment = Assignment { partitions: partitions(), user_data: Some(USER_DATA) };
            assert_eq!(assignment.encode(version), bytes);
            let wanted = Assignment { partitions: sorted(), user_data: Some(USER_DATA) };
            assert_eq!(Assignment::decode(&bytes).unwrap(), wanted);
        }
        assert_eq!(Assignment::decode(&[]).unwrap(), Assignment::default(), "forgotten by the leader");
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        let mut bytes = subscription(3).encode(3).to_vec();
        bytes[..2].copy_from_slice(&7i16.to_be_bytes());
        bytes.extend(b"something new");
        assert_eq!(Subscription::decode(&bytes), Subscription::decode(&subscription(3).encode(3)));
        let mut bytes = Assignment { partitions: partitions(), user_data: None }.encode(3).to_vec();
        bytes[..2].copy_from_slice(&i16::MAX.to_be_bytes());
        bytes.extend(b"something new");
        assert_eq!(Assignment::decode(&bytes).unwrap().partitions, sorted());
    }

    #[test]
    fn version_1_without_owned_partitions_is_read_as_version_0() {
        let mut bytes = subscription(0).encode(0).to_vec();
        bytes[1] = 1;
        assert_eq!(Subscription::decode(&bytes), Subscription::decode(&subscription(0).encode(0)));
        bytes[1] = 2;
        assert_eq!(Subscription::decode(&bytes).unwrap_err().field, "owned partitions");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, field, what) in [
            ("", "version", "i16 cut off"),
            ("ffff", "version", "negative version"),
            ("0000ffffffff", "subscribed topics", "negative count"),
            ("00007fffffff", "subscribed topics", "count beyond the end"),
            ("000000000001ffff", "subscribed topics", "negative length"),
            ("0000000000010001ff", "subscribed topics", "not UTF-8"),
            ("000000000000fffffffe", "user data", "negative length"),
            ("00000000000000000001", "user data", "length beyond the end"),
            ("000200000000ffffffff0000000100017400000002", "owned partitions", "count beyond the end"),
            ("000200000000ffffffff00000000", "generation", "i32 cut off"),
            ("000300000000ffffffff00000000ffffffff0002ff", "rack", "length beyond the end"),
        ] {
            let error = Subscription::decode(&hex(bytes)).unwrap_err();
            assert_eq!((error.field, error.malformed.what), (field, what), "{bytes}");
        }
        let error = Assignment::decode(&hex("0000")).unwrap_err();
        assert_eq!(error.to_string(), "assigned partitions: i32 cut off (0 bytes before the end)");
    }

    #[test]
    fn a_negative_generation_is_none() {
        let bytes = Subscription { generation: None, ..subscription(3) }.encode(3);
        assert_eq!(Subscription::decode(&bytes).unwrap().generation, None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..4u8) {
            let _ = (Subscription::decode(&bytes), Assignment::decode(&bytes));
            if let [high, low, ..] = &mut bytes[..] {
                (*high, *low) = (0, version);
            }
            let _ = (Subscription::decode(&bytes), Assignment::decode(&bytes));
        }

        #[test]
        fn a_damaged_subscription_never_panics(at in 0..200usize, byte in any::<u8>(), cut in 0..200usize) {
            let mut bytes = subscription(3).encode(3).to_vec();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(cut.max(1));
            if let Ok(read) = Subscription::decode(&bytes) {
                let again = read.encode(3);
                prop_assert!(Subscription::decode(&again).is_ok());
            }
        }
    }
}
