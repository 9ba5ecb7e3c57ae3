//! Which partition a record goes to: pure functions of its key and the number of partitions.
//!
//! A record that names its partition is never asked about. One without a choice of its own goes to the topic's *sticky*
//! partition: the producer fills a batch there before it moves on (KIP-480, KIP-794).
use std::fmt::Debug;
use std::sync::Arc;

/// Chooses partitions, see [`ProducerBuilder::partitioner`](crate::ProducerBuilder::partitioner).
///
/// A choice has to be a pure function of its arguments if equal keys are to meet in one partition. It is made on the
/// thread that sends, so it should be short. It may be asked for more than once for one record, when the first choice has no room.
///
/// ```
/// use milena::Partitioner;
///
/// /// Orders of one country, named by the first two bytes of the key, stay together.
/// #[derive(Debug)]
/// struct ByCountry;
///
/// impl Partitioner for ByCountry {
///     fn partition(&self, _topic: &str, key: Option<&[u8]>, partitions: u32) -> Option<u32> {
///         let country = key?.get(..2)?;
///         Some((u32::from(country[0]) * 31 + u32::from(country[1])) % partitions)
///     }
/// }
/// assert_eq!(ByCountry.partition("orders", Some(b"CZ-17"), 4), Some(3));
/// assert_eq!(ByCountry.partition("orders", None, 4), None);
/// ```
pub trait Partitioner: Debug + Send + Sync + 'static {
    /// The partition of a record with this key, in `0..partitions`, or `None` for the sticky one.
    ///
    /// `partitions` is at least 1 and counts all partitions of the topic, those without a leader included. A number out
    /// of range is an error of [`ErrorKind::Record`](crate::ErrorKind::Record) at `send`.
    fn partition(&self, topic: &str, key: Option<&[u8]>, partitions: u32) -> Option<u32>;
}

/// The default: `murmur2(key) mod partitions`, as Java's producer and librdkafka's `murmur2_random` do; sticky without key.
///
/// An empty key is a key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Murmur2Partitioner;

impl Partitioner for Murmur2Partitioner {
    #[inline]
    fn partition(&self, _topic: &str, key: Option<&[u8]>, partitions: u32) -> Option<u32> {
        Some((murmur2(key?) & 0x7fff_ffff) % partitions)
    }
}

/// librdkafka's default, `consistent_random`: `crc32(key) mod partitions`; sticky without key and with an empty one.
///
/// For topics that are also written by librdkafka, or a client on top of it, with its default partitioner.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsistentRandomPartitioner;

impl Partitioner for ConsistentRandomPartitioner {
    fn partition(&self, _topic: &str, key: Option<&[u8]>, partitions: u32) -> Option<u32> {
        key.filter(|key| !key.is_empty()).map(|key| crc32(key) % partitions)
    }
}

/// The built-in ones without a call through a table, for the path that every record takes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Choice {
    #[default]
    Murmur2,
    Custom(Arc<dyn Partitioner>),
}

impl Choice {
    #[inline]
    pub(crate) fn partition(&self, topic: &str, key: Option<&[u8]>, partitions: u32) -> Option<u32> {
        match self {
            Self::Murmur2 => Murmur2Partitioner.partition(topic, key, partitions),
            Self::Custom(partitioner) => partitioner.partition(topic, key, partitions),
        }
    }
}

/// The next sticky partition: the less is queued for one, the likelier it is (`partitioner.adaptive.partitioning.enable`).
///
/// `queues` has a length for each partition, `None` for those that cannot be written to now. With equal lengths the choice is
/// uniform; if none can be written to, it is uniform among all. `draw` is a random number.
pub(crate) fn next_sticky(queues: &[Option<u32>], draw: u64) -> usize {
    let all = queues.len().max(1) as u64;
    let Some(longest) = queues.iter().flatten().max() else {
        return (draw % all) as usize;
    };
    let weight = |queue: u32| u64::from(longest - queue) + 1;
    let total: u64 = queues.iter().flatten().map(|&queue| weight(queue)).sum();
    let mut rest = draw % total.max(1);
    for (at, queue) in queues.iter().enumerate() {
        let Some(queue) = queue else { continue };
        match rest.checked_sub(weight(*queue)) {
            Some(less) => rest = less,
            None => return at,
        }
    }
    0
}

/// MurmurHash2, 32 bits, with the seed of Java's client.
#[inline]
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (at, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// CRC-32 (IEEE), bit by bit: keys are short, and this partitioner is not the default.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by Java's client (`Utils.murmur2`), the last four by librdkafka.
    const MURMUR2: &[(&[u8], u32)] = &[
        (b"", 0x106e_08d9),
        (b"a", 0xa2d0_b27c),
        (b"ab", 0x12d8_262a),
        (b"abc", 0x1c94_221b),
        (b"abcd", 0xb11a_b5f4),
        (b"21", 0xc5f2_f8ec),
        (b"foobar", 0xd0e4_7bbe),
        (b"a-little-bit-long-string", 0xc53b_1da0),
        (b"a-little-bit-longer-string", 0xa768_c9c3),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 0xfc7d_49cd),
        (b"kafka", 0xd067_cf64),
        (b"giberish123456789", 0x8f55_2b0c),
        (b"1234", 0x9fc9_7b14),
        (b"key", 0xbfa1_76a9),
        ("été".as_bytes(), 0x82c2_5499),
        (b"PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c),
        (b"reAmbleWillBeRemoved,ThePrePartThatIs", 0x4a62_b377),
        (b"234", 0xe7c0_09ca),
        (b"4", 0x5a4b_5ca1),
    ];

    #[test]
    fn murmur2_is_javas() {
        for &(key, hash) in MURMUR2 {
            assert_eq!(murmur2(key), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_key_gets_the_partition_java_gives_it() {
        let rows: [(&[u8], u32, u32); 6] = [
            (b"", 3, 0),
            (b"", 10, 1),
            (b"a", 12, 4),
            (b"test-key-1", 100, 86),
            (b"kafka", 3, 1),
            (b"21", 100, 40),
        ];
        for (key, partitions, expected) in rows {
            assert_eq!(Choice::default().partition("t", Some(key), partitions), Some(expected));
        }
        assert_eq!(Choice::default().partition("t", None, 3), None, "no key: sticky");
    }

    #[test]
    fn consistent_random_is_librdkafkas() {
        for (key, crc) in [("key", 0x8a90_aba9), ("kafka", 0x5bbc_7517), ("123456789", 0xcbf4_3926_u32)] {
            assert_eq!(crc32(key.as_bytes()), crc);
            assert_eq!(ConsistentRandomPartitioner.partition("t", Some(key.as_bytes()), 7), Some(crc % 7));
        }
        assert_eq!(ConsistentRandomPartitioner.partition("t", Some(b""), 7), None, "an empty key is none");
    }

    #[test]
    fn the_next_sticky_partition_is_weighted_as_javas() {
        let queues = [Some(0), Some(3), Some(1)];
        let chosen: Vec<usize> = (0..8).map(|draw| next_sticky(&queues, draw)).collect();
        assert_eq!(chosen, [0, 0, 0, 0, 1, 2, 2, 2]);
        let without_leader = [None, Some(2), None, Some(2)];
        assert_eq!((0..4).map(|draw| next_sticky(&without_leader, draw)).collect::<Vec<_>>(), [1, 3, 1, 3]);
        assert_eq!((0..3).map(|draw| next_sticky(&[None, None], draw)).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
