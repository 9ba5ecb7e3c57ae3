//! Produce, versions 3 to 13, by hand: the batches go into the request without being copied, the response is read
//! without being built.
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::error_code::ErrorCode;
use super::primitives::{Cursor, Malformed, put_uvarint, uvarint_len};

/// The first version with compact fields and tags.
const FLEXIBLE: i16 = 9;
/// The first version that names topics by id.
const TOPIC_IDS: i16 = 13;

/// One batch of a request. Those of one topic stand next to each other.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) topic: Arc<str>,
    /// Nil if unknown; then the version must be below 13.
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) records: Bytes,
}

/// What a part takes in a request besides its records, at most; the topic's name counts for every part.
pub(crate) fn overhead(topic: &str) -> usize {
    topic.len() + 32
}

/// Writes the body behind `head`, which holds the request header, and returns what follows it: batches and the bytes
/// between them, in order.
pub(crate) fn encode(
    head: &mut BytesMut,
    version: i16,
    transactional_id: Option<&str>,
    acks: i16,
    timeout_ms: i32,
    parts: &[Part],
) -> Vec<Bytes> {
    let flexible = version >= FLEXIBLE;
    let same_topic = |a: &Part, b: &Part| Arc::ptr_eq(&a.topic, &b.topic) || a.topic == b.topic;
    put_nullable_string(head, flexible, transactional_id);
    head.extend_from_slice(&acks.to_be_bytes());
    head.extend_from_slice(&timeout_ms.to_be_bytes());
    put_count(head, flexible, parts.chunk_by(same_topic).count());
    // Where the batches go; most requests have few.
    let (mut few, mut many) = ([0; 32], Vec::new());
    let cuts = match few.get_mut(..parts.len()) {
        Some(few) => few,
        None => {
            many.resize(parts.len(), 0);
            many.as_mut_slice()
        }
    };
    let mut places = cuts.iter_mut();
    for topic in parts.chunk_by(same_topic) {
        if let Some(first) = topic.first() {
            if version >= TOPIC_IDS {
                head.extend_from_slice(first.topic_id.as_bytes());
            } else {
                put_nullable_string(head, flexible, Some(&first.topic));
            }
        }
        put_count(head, flexible, topic.len());
        for part in topic {
            head.extend_from_slice(&part.partition.to_be_bytes());
            put_length(head, flexible, part.records.len());
            if let Some(place) = places.next() {
                *place = head.len();
            }
            put_tags(head, flexible);
        }
        put_tags(head, flexible);
    }
    put_tags(head, flexible);
    let Some(&first) = cuts.first() else { return Vec::new() };
    let between = head.split_off(first).freeze();
    let mut tail = Vec::with_capacity(2 * parts.len());
    for (at, part) in parts.iter().enumerate() {
        tail.push(part.records.clone());
        let from = cuts.get(at).map_or(0, |cut| cut - first);
        let to = cuts.get(at + 1).map_or(between.len(), |cut| cut - first);
        if from < to {
            tail.push(between.slice(from..to));
        }
    }
    tail
}

fn put_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.extend_from_slice(&[0]);
    }
}

fn put_count(out: &mut BytesMut, flexible: bool, count: usize) {
    put_length(out, flexible, count);
}

fn put_length(out: &mut BytesMut, flexible: bool, length: usize) {
    if flexible {
        debug_assert!(uvarint_len(length as u32 + 1) <= 5);
        put_uvarint(out, length as u32 + 1);
    } else {
        out.extend_from_slice(&(length as i32).to_be_bytes());
    }
}

fn put_nullable_string(out: &mut BytesMut, flexible: bool, string: Option<&str>) {
    match (string, flexible) {
        (None, true) => out.extend_from_slice(&[0]),
        (None, false) => out.extend_from_slice(&(-1i16).to_be_bytes()),
        (Some(string), true) => put_length(out, true, string.len()),
        (Some(string), false) => out.extend_from_slice(&(string.len() as i16).to_be_bytes()),
    }
    out.extend_from_slice(string.unwrap_or_default().as_bytes());
}

/// A topic as the response names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicRef<'a> {
    Name(&'a [u8]),
    Id(Uuid),
}

/// What became of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartResponse<'a> {
    pub(crate) topic: TopicRef<'a>,
    pub(crate) partition: i32,
    pub(crate) error: ErrorCode,
    pub(crate) base_offset: i64,
    /// -1 unless the topic stamps records itself.
    pub(crate) log_append_time: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) message: Option<&'a str>,
    /// Records that caused the whole batch to be refused: place in the batch and why (KIP-467).
    pub(crate) record_errors: Vec<(i32, Option<&'a str>)>,
    /// Leader and its epoch, with the errors that say there is another (KIP-951).
    pub(crate) current_leader: Option<(i32, i32)>,
}

/// Where a node that a leader hint names can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint<'a> {
    pub(crate) node: i32,
    pub(crate) host: &'a str,
    pub(crate) port: i32,
    pub(crate) rack: Option<&'a str>,
}

/// A response: read, checked and forgotten; nothing is allocated unless a part failed.
#[derive(Debug, Default)]
pub(crate) struct ProduceResponse<'a> {
    pub(crate) throttle_ms: i32,
    pub(crate) endpoints: Vec<Endpoint<'a>>,
}

/// Reads a response body, hands each part to `each`, in order, and returns the rest.
///
/// Parts are handed out before the end has been read: an error after that leaves those standing.
pub(crate) fn decode<'a>(
    body: &'a [u8],
    version: i16,
    mut each: impl FnMut(PartResponse<'a>),
) -> Result<ProduceResponse<'a>, Malformed> {
    let flexible = version >= FLEXIBLE;
    let mut at = Cursor::new(body);
    for _ in 0..count(&mut at, flexible, 6)? {
        let topic = if version >= TOPIC_IDS {
            TopicRef::Id(at.uuid()?)
        } else {
            TopicRef::Name(nullable_bytes(&mut at, flexible)?.ok_or(at.malformed("topic name is null"))?)
        };
        for _ in 0..count(&mut at, flexible, 22)? {
            each(part(&mut at, topic, version)?);
        }
        tags(&mut at, flexible, |_, _| Ok(()))?;
    }
    let mut response = ProduceResponse { throttle_ms: at.i32()?, endpoints: Vec::new() };
    tags(&mut at, flexible, |tag, mut value| {
        if tag == 0 && version >= 10 {
            for _ in 0..count(&mut value, true, 10)? {
                response.endpoints.push(endpoint(&mut value)?);
            }
        }
        Ok(())
    })?;
    match at.is_empty() {
        true => Ok(response),
        false => Err(at.malformed("bytes behind the response")),
    }
}

fn part<'a>(at: &mut Cursor<'a>, topic: TopicRef<'a>, version: i16) -> Result<PartResponse<'a>, Malformed> {
    let flexible = version >= FLEXIBLE;
    let mut part = PartResponse {
        topic,
        partition: at.i32()?,
        error: ErrorCode::from(at.i16()?),
        base_offset: at.i64()?,
        log_append_time: at.i64()?,
        log_start_offset: if version >= 5 { at.i64()? } else { -1 },
        message: None,
        record_errors: Vec::new(),
        current_leader: None,
    };
    if version >= 8 {
        for _ in 0..count(at, flexible, 5)? {
            part.record_errors.push((at.i32()?, nullable_string(at, flexible)?));
            tags(at, flexible, |_, _| Ok(()))?;
        }
        part.message = nullable_string(at, flexible)?;
    }
    tags(at, flexible, |tag, mut value| {
        if tag == 0 && version >= 10 {
            part.current_leader = Some((value.i32()?, value.i32()?));
        }
        Ok(())
    })?;
    Ok(part)
}

fn endpoint<'a>(at: &mut Cursor<'a>) -> Result<Endpoint<'a>, Malformed> {
    let endpoint = Endpoint {
        node: at.i32()?,
        host: nullable_string(at, true)?.ok_or(at.malformed("host is null"))?,
        port: at.i32()?,
        rack: nullable_string(at, true)?,
    };
    tags(at, true, |_, _| Ok(()))?;
    Ok(endpoint)
}

/// The count of an array whose elements take at least `element` bytes each; null counts as empty.
fn count(at: &mut Cursor<'_>, flexible: bool, element: usize) -> Result<usize, Malformed> {
    let count = match flexible {
        true => i64::from(at.uvarint()?) - 1,
        false => i64::from(at.i32()?),
    };
    if count == -1 { Ok(0) } else { at.count(count, element) }
}

fn nullable_bytes<'a>(at: &mut Cursor<'a>, flexible: bool) -> Result<Option<&'a [u8]>, Malformed> {
    let length = match flexible {
        true => i64::from(at.uvarint()?) - 1,
        false => i64::from(at.i16()?),
    };
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| at.malformed("negative length"))?;
    at.bytes(length).map(Some)
}

fn nullable_string<'a>(at: &mut Cursor<'a>, flexible: bool) -> Result<Option<&'a str>, Malformed> {
    let bytes = nullable_bytes(at, flexible)?;
    bytes.map(std::str::from_utf8).transpose().map_err(|_| at.malformed("string is not UTF-8"))
}

/// Reads tagged fields; each value must lie within its length.
fn tags<'a>(
    at: &mut Cursor<'a>,
    flexible: bool,
    mut each: impl FnMut(u32, Cursor<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if !flexible {
        return Ok(());
    }
    for _ in 0..at.uvarint()? {
        let tag = at.uvarint()?;
        let size = at.uvarint()? as usize;
        each(tag, Cursor::new(at.bytes(size)?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::produce_response::*;
    use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse as Whole, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use proptest::prelude::*;

    fn part_of(topic: &str, partition: i32, records: &'static [u8]) -> Part {
        Part {
            topic: topic.into(),
            topic_id: Uuid::from_u128(7),
            partition,
            records: Bytes::from_static(records),
        }
    }

    #[test]
    fn every_version_of_the_request_is_what_kafka_protocol_reads() {
        let parts = [part_of("a", 0, b"first"), part_of("a", 3, b"second"), part_of("b", 1, &[9; 300])];
        for version in 3..=13 {
            let mut bytes = BytesMut::new();
            let tail = encode(&mut bytes, version, None, -1, 30_000, &parts);
            assert!(tail.iter().any(|piece| piece.as_ptr() == parts[2].records.as_ptr()), "copied");
            let whole: Vec<u8> = bytes.iter().copied().chain(tail.iter().flatten().copied()).collect();
            let mut rest = Bytes::from(whole);
            let request = ProduceRequest::decode(&mut rest, version).unwrap();
            assert!(rest.is_empty(), "version {version}");
            assert_eq!((request.acks, request.timeout_ms, request.topic_data.len()), (-1, 30_000, 2));
            let seen: Vec<_> = request.topic_data.iter().map(|topic| topic.name.as_str()).collect();
            assert_eq!(seen, if version < 13 { ["a", "b"] } else { ["", ""] });
            assert_eq!(request.topic_data[0].topic_id.is_nil(), version < 13);
            let records = |topic: usize, at: usize| {
                let data = &request.topic_data[topic].partition_data[at];
                (data.index, data.records.clone().unwrap())
            };
            assert_eq!(records(0, 0), (0, Bytes::from_static(b"first")));
            assert_eq!(records(0, 1), (3, Bytes::from_static(b"second")));
            assert_eq!(records(1, 0), (1, Bytes::from_static(&[9; 300])));
        }
    }

    fn response(version: i16) -> Bytes {
        let mut part = PartitionProduceResponse::default()
            .with_index(4)
            .with_error_code(6)
            .with_base_offset(70)
            .with_log_append_time_ms(8)
            .with_log_start_offset(if version >= 5 { 9 } else { -1 });
        let mut whole = Whole::default().with_throttle_time_ms(11);
        if version >= 8 {
            part = part.with_error_message(Some(StrBytes::from_static_str("no"))).with_record_errors(vec![
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(2)
                    .with_batch_index_error_message(Some(StrBytes::from_static_str("bad"))),
            ]);
        }
        if version >= 10 {
            part = part.with_current_leader(
                LeaderIdAndEpoch::default().with_leader_id(BrokerId(3)).with_leader_epoch(12),
            );
            whole = whole.with_node_endpoints(vec![
                NodeEndpoint::default()
                    .with_node_id(BrokerId(3))
                    .with_host(StrBytes::from_static_str("h"))
                    .with_port(99),
            ]);
        }
        let mut topic = TopicProduceResponse::default().with_partition_responses(vec![part]);
        topic = match version {
            13 => topic.with_topic_id(Uuid::from_u128(7)),
            _ => topic.with_name(TopicName(StrBytes::from_static_str("a"))),
        };
        let mut bytes = BytesMut::new();
        whole.with_responses(vec![topic]).encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    #[test]
    fn every_version_of_the_response_is_read() {
        for version in 3..=13 {
            let body = response(version);
            let mut parts = Vec::new();
            let rest = decode(&body, version, |part| parts.push(part)).unwrap();
            assert_eq!(rest.throttle_ms, 11);
            let [part] = parts.as_slice() else { panic!("{parts:?}") };
            let topic = if version < 13 { TopicRef::Name(b"a") } else { TopicRef::Id(Uuid::from_u128(7)) };
            assert_eq!(
                (part.topic, part.partition, part.error),
                (topic, 4, ErrorCode::NOT_LEADER_OR_FOLLOWER)
            );
            assert_eq!((part.base_offset, part.log_append_time), (70, 8));
            assert_eq!(part.message, (version >= 8).then_some("no"));
            assert_eq!(part.record_errors.len(), usize::from(version >= 8));
            assert_eq!(part.current_leader, (version >= 10).then_some((3, 12)));
            assert_eq!(rest.endpoints.len(), usize::from(version >= 10));
        }
    }

    #[test]
    fn a_cut_response_is_refused_wherever_it_is_cut() {
        for version in [3, 8, 9, 13] {
            let body = response(version);
            for length in 0..body.len() {
                assert!(
                    decode(&body[..length], version, |_| {}).is_err(),
                    "version {version}, {length} bytes"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_responses_never_panic(body in proptest::collection::vec(any::<u8>(), 0..80), version in 3i16..=13) {
            let _ = decode(&body, version, |_| {});
        }
    }
}
