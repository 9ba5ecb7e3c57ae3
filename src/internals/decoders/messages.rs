//! Answers and requests. Where a message is read by hand, the generated decoder says what it means.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as generated;
use kafka_protocol::protocol::{Decodable, Encodable};
use rand::SeedableRng as _;

use super::{ensure, records, versioned};
use crate::network::handshake;
use crate::protocol::fetch::FetchResponse;
use crate::protocol::header::{self, Answer};
use crate::protocol::primitives::{Cursor, put_uvarint, put_varint, put_varlong};
use crate::protocol::produce::{self, TopicRef};
use crate::protocol::request::{Request, Visitor, visit};
use crate::protocol::shape;
use crate::protocol::version::Negotiation;
use crate::state::backoff::Backoff;
use crate::state::metadata::{Metadata, MetadataOptions};

pub(super) fn nothing(_: &Bytes) -> Result<(), String> {
    Ok(())
}

// ---- primitives: any bytes, as varints and lengths

pub(super) fn primitives(input: &Bytes) -> bool {
    let mut cursor = Cursor::new(input);
    while !cursor.is_empty() {
        let read = cursor.uvarint().is_ok()
            && cursor.varint().is_ok()
            && cursor.varlong().is_ok()
            && cursor.varint_bytes().is_ok();
        if !read {
            return false;
        }
    }
    true
}

pub(super) fn primitives_again(input: &Bytes) -> Result<(), String> {
    let mut cursor = Cursor::new(input);
    let mut out = Vec::new();
    while !cursor.is_empty() {
        let start = cursor;
        out.clear();
        let read = (|| {
            let unsigned = cursor.uvarint()?;
            put_uvarint(&mut out, unsigned);
            let int = cursor.varint()?;
            put_varint(&mut out, int);
            let long = cursor.varlong()?;
            put_varlong(&mut out, long);
            Ok::<_, crate::protocol::primitives::Malformed>((unsigned, int, long))
        })();
        let mut again = Cursor::new(&out);
        let same = (again.uvarint(), again.varint(), again.varlong());
        let read = read.map_err(|error| error.to_string())?;
        ensure!(same == (Ok(read.0), Ok(read.1), Ok(read.2)), "{read:?} came back as {same:?}");
        ensure!(out.len() <= start.remaining() - cursor.remaining(), "{read:?} is written longer than read");
        cursor.varint_bytes().map_err(|error| error.to_string())?;
    }
    Ok(())
}

// ---- API key, version, response frame without its length

fn keyed(input: &Bytes) -> Option<(i16, i16, Bytes)> {
    let (key, rest) = versioned(input)?;
    let (version, rest) = versioned(&rest)?;
    Some((key, version, rest))
}

/// The way of an answer from the connection to whoever asked.
fn receive<R: Request>(version: i16, frame: Bytes) -> Option<R::Response> {
    header::correlation(&frame)?;
    let body = header::body(frame, R::KEY, version).ok()?;
    header::decode::<R>(&Answer { version, body, address: "peer:9092".into() }).ok()
}

struct Receive(i16, Bytes);

impl Visitor for Receive {
    type Output = bool;
    fn visit<R: Request<Response: Encodable> + Decodable>(self) -> bool {
        receive::<R>(self.0, self.1).is_some()
    }
}

pub(super) fn response(input: &Bytes) -> bool {
    keyed(input).is_some_and(|(key, version, frame)| answer_is_understood(key, version, frame))
}

pub(super) fn answer_is_understood(key: i16, version: i16, frame: Bytes) -> bool {
    visit(key, Receive(version, frame)) == Some(true)
}

struct ReceiveAgain(i16, Bytes);

impl Visitor for ReceiveAgain {
    type Output = Result<(), String>;
    fn visit<R: Request<Response: Encodable> + Decodable>(self) -> Self::Output {
        receive::<R>(self.0, self.1).map_or(Ok(()), |response| again(&response, self.0))
    }
}

pub(super) fn response_again(input: &Bytes) -> Result<(), String> {
    let found = keyed(input).and_then(|(key, version, frame)| visit(key, ReceiveAgain(version, frame)));
    found.unwrap_or(Ok(()))
}

/// Written, read and written again it is the same. (Not all messages are equal to themselves: some hold NaN.)
fn again<M: Encodable + Decodable>(message: &M, version: i16) -> Result<(), String> {
    let write = |message: &M| {
        let mut out = BytesMut::new();
        message.encode(&mut out, version).map(|()| out.freeze())
    };
    let first = write(message).map_err(|error| format!("cannot be written again: {error}"))?;
    let size = message.compute_size(version).map_err(|error| error.to_string())?;
    ensure!(size == first.len(), "{} bytes where {size} were computed", first.len());
    let mut rest = first.clone();
    let read = M::decode(&mut rest, version).map_err(|error| format!("cannot be read again: {error}"))?;
    let second = write(&read).map_err(|error| error.to_string())?;
    ensure!(rest.is_empty() && first == second, "another message when read again");
    Ok(())
}

// ---- API key, version, body of a request

struct Serve(i16, Bytes);

impl Visitor for Serve {
    type Output = bool;
    fn visit<R: Request<Response: Encodable> + Decodable>(mut self) -> bool {
        R::decode(&mut self.1, self.0).is_ok()
    }
}

pub(super) fn request(input: &Bytes) -> bool {
    let Some((key, version, body)) = keyed(input) else { return false };
    shape::check_request(key, version, &body).is_ok() && visit(key, Serve(version, body)) == Some(true)
}

struct ServeAgain(i16, Bytes);

impl Visitor for ServeAgain {
    type Output = Result<(), String>;
    fn visit<R: Request<Response: Encodable> + Decodable>(mut self) -> Self::Output {
        let request = R::decode(&mut self.1, self.0).map_err(|error| error.to_string())?;
        ensure!(self.1.is_empty(), "{} bytes left over behind a shape that fits", self.1.len());
        again(&request, self.0)
    }
}

pub(super) fn request_again(input: &Bytes) -> Result<(), String> {
    let found = keyed(input).and_then(|(key, version, body)| visit(key, ServeAgain(version, body)));
    found.unwrap_or(Ok(()))
}

// ---- one byte of version, response frame without its length

fn asked(input: &Bytes) -> Option<(i16, Bytes)> {
    let asked = i16::from(*input.first()?) % 5;
    Some((asked, input.slice(1..)))
}

fn negotiate(asked: i16, frame: &Bytes) -> Option<Negotiation> {
    handshake::answer(asked, header::correlation(frame)?, frame, &"peer:9092".into()).ok()
}

pub(super) fn api_versions(input: &Bytes) -> bool {
    asked(input).and_then(|(asked, frame)| negotiate(asked, &frame)).is_some()
}

pub(super) fn api_versions_as_generated(input: &Bytes) -> Result<(), String> {
    let Some((asked, frame)) = asked(input) else { return Ok(()) };
    match negotiate(asked, &frame) {
        Some(Negotiation::AskIn(lower)) => {
            ensure!((0..asked).contains(&lower), "asked in {asked}, falls back to {lower}");
        }
        Some(Negotiation::Done(versions)) => {
            let Some(whole) = receive::<generated::ApiVersionsRequest>(asked, frame) else { return Ok(()) };
            for api in &whole.api_keys {
                let same = whole.api_keys.iter().filter(|other| other.api_key == api.api_key).count();
                let range = versions.range(api.api_key);
                ensure!(
                    range == Some((api.min_version, api.max_version)) || same > 1,
                    "API {} in {range:?}",
                    api.api_key
                );
            }
        }
        Some(Negotiation::Refused(_)) | None => {}
    }
    Ok(())
}

// ---- version, body of a Metadata answer: what the client then knows of the cluster

pub(super) fn metadata(input: &Bytes) -> bool {
    let Some((version, body)) = versioned(input) else { return false };
    let answer = Answer { version, body, address: "peer:9092".into() };
    let Ok(response) = header::decode::<generated::MetadataRequest>(&answer) else { return false };
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let backoff = Backoff { first: second, max: second };
    let options = MetadataOptions { max_age: 300 * second, backoff, bootstrap: 1, rebootstrap: true };
    let mut metadata = Metadata::new(now, options, rand::rngs::SmallRng::seed_from_u64(1));
    for topic in &response.topics {
        let name = topic.name.as_ref().map_or("", |name| name.0.as_str());
        metadata.want(&Arc::from(name), true);
    }
    // The second answer meets what the first one left.
    for at in [now, now + 1000 * second] {
        if let Some(query) = metadata.poll_request(at) {
            metadata.handle_response(at, query.ticket, &response, version);
        }
        while metadata.poll_event().is_some() {}
    }
    true
}

// ---- version, body of a Produce answer

pub(super) fn produce(input: &Bytes) -> bool {
    let Some((version @ 3..=13, body)) = versioned(input) else { return false };
    produce::decode(&body, version, drop).is_ok()
}

pub(super) fn produce_as_generated(input: &Bytes) -> Result<(), String> {
    let Some((version @ 3..=13, body)) = versioned(input) else { return Ok(()) };
    let answer = Answer { version, body: body.clone(), address: "peer:9092".into() };
    let Ok(whole) = header::decode::<generated::ProduceRequest>(&answer) else { return Ok(()) };
    let mut parts = Vec::new();
    let rest = produce::decode(&body, version, |part| parts.push(part)).map_err(|error| error.to_string())?;
    let all = whole
        .responses
        .iter()
        .flat_map(|topic| topic.partition_responses.iter().map(move |part| (topic, part)));
    ensure!(all.clone().count() == parts.len(), "{} parts", parts.len());
    for (ours, (topic, part)) in parts.iter().zip(all) {
        let same_topic = match ours.topic {
            TopicRef::Name(name) => name == topic.name.as_bytes(),
            TopicRef::Id(id) => id == topic.topic_id,
        };
        let same = same_topic
            && (ours.partition, ours.error.code()) == (part.index, part.error_code)
            && (ours.base_offset, ours.log_append_time) == (part.base_offset, part.log_append_time_ms)
            && ours.log_start_offset == part.log_start_offset
            && ours.message == part.error_message.as_deref()
            && ours.record_errors.len() == part.record_errors.len()
            && ours.current_leader.map_or(-1, |(leader, _)| leader) == part.current_leader.leader_id.0;
        ensure!(same, "{ours:?} is {part:?}");
    }
    let endpoints = whole.node_endpoints.iter().map(|node| (node.node_id.0, &*node.host, node.port));
    ensure!(rest.throttle_ms == whole.throttle_time_ms, "throttle time {}", rest.throttle_ms);
    ensure!(
        rest.endpoints.iter().map(|node| (node.node, node.host, node.port)).eq(endpoints),
        "{:?}",
        rest.endpoints
    );
    Ok(())
}

// ---- version, body of a Fetch answer, with the batches in it

pub(super) fn fetch(input: &Bytes) -> bool {
    let Some((version @ 4..=18, body)) = versioned(input) else { return false };
    let Ok(response) = FetchResponse::decode(&body, version) else { return false };
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        records::batches(&partition.records);
    }
    true
}

pub(super) fn fetch_as_generated(input: &Bytes) -> Result<(), String> {
    let Some((version @ 4..=18, body)) = versioned(input) else { return Ok(()) };
    let ours = FetchResponse::decode(&body, version).map_err(|error| error.to_string())?;
    let answer = Answer { version, body, address: "peer:9092".into() };
    let Ok(whole) = header::decode::<generated::FetchRequest>(&answer) else { return Ok(()) };
    let head = (whole.throttle_time_ms, whole.error_code, whole.session_id, whole.responses.len());
    ensure!((ours.throttle_ms, ours.error.code(), ours.session_id, ours.topics.len()) == head, "{head:?}");
    for (ours, topic) in ours.topics.iter().zip(&whole.responses) {
        let same = ours.name == topic.topic.as_bytes() && ours.id == topic.topic_id;
        ensure!(same && ours.partitions.len() == topic.partitions.len(), "{:?}", topic.topic);
        for (ours, part) in ours.partitions.iter().zip(&topic.partitions) {
            let aborted = part.aborted_transactions.iter().flatten();
            let aborted = aborted.map(|aborted| (aborted.producer_id.0, aborted.first_offset));
            let leader = Some((part.current_leader.leader_id.0, part.current_leader.leader_epoch));
            let same = (ours.partition, ours.error.code()) == (part.partition_index, part.error_code)
                && (ours.high_watermark, ours.last_stable_offset)
                    == (part.high_watermark, part.last_stable_offset)
                && ours.log_start_offset == part.log_start_offset
                && ours.records == part.records.clone().unwrap_or_default()
                && ours.leader == leader.filter(|(leader, _)| *leader >= 0)
                && ours.preferred_replica.unwrap_or(-1) == part.preferred_read_replica.0.max(-1)
                && ours.aborted.iter().map(|ours| (ours.producer_id, ours.first_offset)).eq(aborted);
            ensure!(same, "{ours:?} is {part:?}");
            records::batches_hold(&ours.records)?;
        }
    }
    Ok(())
}
