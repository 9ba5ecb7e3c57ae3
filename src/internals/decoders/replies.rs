//! Headers of requests and replies, and reply correlation ids.
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ensure;
use crate::state::reply::correlation::ReplyCorrelation;
use crate::state::reply::dialect::{Asked, Capabilities, ReplyAddress, ReplyHead, read_reply, read_request};
use crate::state::reply::router::{Addressee, Router};

// ---- headers: length and bytes of the key, length and bytes of the value, 255 for null; what is cut off ends early

fn headers(mut input: &[u8]) -> Vec<(&[u8], Option<&[u8]>)> {
    let mut headers = Vec::new();
    while let Some((&len, rest)) = input.split_first() {
        let (key, rest) = rest.split_at(rest.len().min(usize::from(len)));
        let (len, rest) = rest.split_first().map_or((255, rest), |(len, rest)| (*len, rest));
        let (value, rest) = rest.split_at(if len == 255 { 0 } else { rest.len().min(usize::from(len)) });
        headers.push((key, (len != 255).then_some(value)));
        input = rest;
    }
    headers
}

pub(super) fn dialects(input: &Bytes) -> bool {
    let headers = headers(input);
    let asked = read_request(headers.iter().copied());
    let reply = read_reply(headers.iter().copied());
    matches!(asked, Asked::Request(_)) || reply.error.is_some()
}

/// Whatever a caller says of itself, the answer carries its id, and does not look like a request.
pub(super) fn answers_find_back(input: &Bytes) -> Result<(), String> {
    let headers = headers(input);
    let Asked::Request(origin) = read_request(headers.iter().copied()) else { return Ok(()) };
    ensure!(origin.partition.is_none_or(|partition| partition >= 0), "partition {:?}", origin.partition);
    for now in [i64::MIN, 0, i64::MAX] {
        let _ = origin.left(now, Some(now), Some(now));
    }
    let heads = [
        (ReplyHead::item(&origin, 0), false),
        (ReplyHead::last(&origin, 1), false),
        (ReplyHead::end(&origin, 1), false),
        (ReplyHead::error(&origin, 0, 13, "no \"\u{1}\""), true),
    ];
    for (head, error) in heads {
        let head = head.responder("adders", Capabilities { credit: true, ..Capabilities::default() });
        let answer: Vec<_> =
            head.headers().into_iter().map(|(name, value)| (name.as_bytes(), Some(value.to_vec()))).collect();
        let answer = || answer.iter().map(|(name, value)| (*name, value.as_deref()));
        let read = read_reply(answer());
        let id = read.id.ok_or("a reply without an id")?;
        let known = headers.iter().any(|(_, value)| *value == Some(id));
        ensure!(known, "the id is not the caller's: {id:?}");
        ensure!(error == read.error.is_some(), "an error: {error}, read as {:?}", read.error);
        ensure!(!read.is_request, "a reply that its caller takes for a request");
        ensure!(read_request(answer()) == Asked::Event, "a reply that looks like a request");
    }
    Ok(())
}

// ---- a reply correlation id; eight calls are pending

const CALLS: u64 = 8;

fn router() -> Router<()> {
    let mut router = Router::new(ReplyCorrelation::new(1, 2));
    let deadline = Instant::now() + Duration::from_secs(1);
    router.homes_mut().settle(ReplyAddress::new("t", 0).into(), [0].into(), uuid::Uuid::nil());
    for _ in 0..CALLS {
        if let Some((home, _)) = router.homes().home("t") {
            let _ = router.register_at(home, deadline, 0, ());
        }
    }
    router
}

/// The ids of the calls that are pending.
pub fn reply_ids() -> Vec<Vec<u8>> {
    (0..CALLS).map(|call| ReplyCorrelation::new(1, 2).id(call).to_vec()).collect()
}

pub(super) fn ids(input: &Bytes) -> bool {
    router().handle_reply(input) != Addressee::Stranger
}

pub(super) fn ids_again(input: &Bytes) -> Result<(), String> {
    let mut router = router();
    let first = router.handle_reply(input);
    let call = ReplyCorrelation::new(1, 2).call(input);
    ensure!(call.is_some_and(|call| call < CALLS), "{first:?} of a call that was never made");
    ensure!(
        call.map(|call| ReplyCorrelation::new(1, 2).id(call)).as_ref().map(|id| &id[..]) == Some(input),
        "two spellings"
    );
    ensure!(router.handle_reply(input) == Addressee::Duplicate, "answered twice");
    Ok(())
}
