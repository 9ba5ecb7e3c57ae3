//! Promise A1 for the decoders of `kafka-protocol`: after the check of a body's shape they hold at most a fixed multiple of
//! its bytes. The modules are compiled into this test, because only a test may count allocations.
#![allow(unsafe_code, dead_code, unreachable_pub, missing_docs, clippy::type_complexity)]

#[path = "../src/protocol"]
mod protocol {
    pub(crate) mod primitives;
    pub(crate) mod request;
    pub(crate) mod shape;
}

#[path = "support/allocations.rs"]
mod allocations;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::request::Codec;
use protocol::shape::AMPLIFICATION;
use protocol::shape::tests::{Filling, every};
use std::cmp::Ordering;

/// The most bytes held while a body is decoded and dropped.
fn peak(codec: &Codec, version: i16, body: &[u8]) -> usize {
    let mut body = Bytes::copy_from_slice(body);
    allocations::peak(|| _ = (codec.decode)(version, &mut body))
}

#[test]
fn every_array_of_every_message_as_long_as_its_bytes_allow() {
    let mut worst = (0, String::new());
    for (key, version, check, codec, shape) in every() {
        for array in 0..12 {
            for (known, unknown) in
                [(false, None), (true, None), (false, Some(&[][..])), (true, Some(&[][..]))]
            {
                let elements = |at: usize, least: usize| match at.cmp(&array) {
                    Ordering::Less => 1,
                    Ordering::Equal => 5_000 / least,
                    Ordering::Greater => 0,
                };
                let body = Filling { elements: &elements, text: b"", known, unknown }.write(shape);
                if body.len() < 4_000 {
                    break; // there are not so many arrays
                }
                assert_eq!(check(key, version, &body), Ok(()));
                let ratio = peak(codec, version, &body).div_ceil(body.len());
                if ratio > worst.0 {
                    worst = (ratio, format!("API {key} version {version} array {array} {unknown:?}"));
                }
            }
        }
    }
    println!("worst: {} bytes held for each byte received, {}", worst.0, worst.1);
    assert!(worst.0 <= AMPLIFICATION, "{worst:?}");
}

#[test]
fn wrong_bytes_that_pass_the_check_stay_within_the_bound() {
    let bodies: Vec<_> = every()
        .map(|(key, version, check, codec, shape)| {
            let filling = Filling { elements: &|_, _| 2, text: b"text", known: true, unknown: Some(b"new") };
            (key, version, check, codec, filling.write(shape))
        })
        .collect();
    let wrong = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    proptest!(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() }, |(which in any::<prop::sample::Index>(), wrong in wrong)| {
        let (key, version, check, codec, body) = which.get(&bodies);
        let mut body = body.clone();
        for (at, byte) in &wrong {
            if !body.is_empty() {
                *at.get_mut(&mut body) = *byte;
            }
        }
        if check(*key, *version, &body).is_ok() {
            // An error takes some room too, and more where backtraces are on.
            prop_assert!(peak(codec, *version, &body) <= AMPLIFICATION * body.len() + (64 << 10));
        }
    });
}
