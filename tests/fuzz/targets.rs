//! What is fuzzed: a decoder, good inputs for it, how bad ones are made of them, and what it may take.
use milena::internals::decoders::{DECODERS, Decoder, LIMIT};

use crate::client::{self, CLIENT};
use crate::corpus::{batches, codecs, groups, messages, replies, streams};
use crate::mutate::mutate;
use crate::protocol::shape::AMPLIFICATION;
use crate::random::Random;

pub struct Target {
    pub name: &'static str,
    pub decoder: Decoder,
    pub seeds: Vec<Vec<u8>>,
    /// Makes an input.
    pub make: fn(&mut Random, &[Vec<u8>]) -> Vec<u8>,
    /// Heap bytes that may be held while it is decoded: so many for each byte of it ...
    pub multiple: usize,
    /// ... and so many besides.
    pub constant: usize,
}

/// Errors, and the like of it. With backtraces, more.
const SMALL: usize = 64 << 10;
/// Contexts of codecs, which stay for the next batch; blocks and tables of one.
const CONTEXTS: usize = 1 << 20;
/// While a batch is inflated, and old and new exist together.
const INFLATED: usize = 2 * LIMIT + CONTEXTS;

/// All of them.
pub fn targets() -> Vec<Target> {
    let target = |name, decoder, seeds, make, multiple, constant| {
        let mut all = DECODERS.iter().chain([&CLIENT]);
        let decoder = *all.find(|known| known.name == decoder).expect(decoder);
        Target { name, decoder, seeds, make, multiple, constant }
    };
    let all = vec![
        target("primitives", "primitives", primitives(), changed, 0, SMALL),
        target("frames", "frames", streams::frames(), changed, 6, 256 << 10),
        target("api_versions", "api_versions", messages::api_versions(), changed, 16, SMALL),
        target("responses", "responses", messages::responses(), changed, AMPLIFICATION, SMALL),
        target("requests", "requests", messages::requests(), changed, AMPLIFICATION, SMALL),
        target("metadata", "metadata", messages::metadata(), changed, 2 * AMPLIFICATION, SMALL),
        target("produce_response", "produce_response", messages::produce(), changed, 32, SMALL),
        target("fetch_response", "fetch_response", messages::fetch(), mended, 32, INFLATED),
        target("batches", "batches", batches::sets(), mended, 2, INFLATED),
        target("packed_batches", "batches", batches::bodies(), packed, 2, INFLATED),
        target("message_sets", "batches", batches::message_sets(), mended, 2, 2 * INFLATED),
        target("packed_message_sets", "batches", batches::inner_sets(), packed_set, 2, 2 * INFLATED),
        target("gzip", "gzip", codecs::gzip(), changed, 0, (2 << 20) + CONTEXTS),
        target("snappy", "snappy", codecs::snappy(), changed, 0, (2 << 20) + CONTEXTS),
        target("lz4", "lz4", codecs::lz4(), changed, 0, (2 << 20) + CONTEXTS),
        target("zstd", "zstd", codecs::zstd(), changed, 0, (2 << 20) + CONTEXTS),
        target("dialects", "dialects", replies::dialects(), changed, 64, SMALL),
        target("reply_ids", "reply_ids", replies::ids(), changed, 0, SMALL),
        target("subscriptions", "subscriptions", groups::subscriptions(), changed, 32, SMALL),
        target("assignments", "assignments", groups::assignments(), changed, 32, SMALL),
        // Topics and partitions that are created are part of it.
        target("broker", "broker", streams::requests(), streams::reframed, AMPLIFICATION, 64 << 20),
        target("client", "client", client::seeds(), client::seed, 0, 16 << 20),
    ];
    for decoder in DECODERS {
        assert!(
            all.iter().any(|target| target.decoder.name == decoder.name),
            "no target for {}",
            decoder.name
        );
    }
    all
}

fn primitives() -> Vec<Vec<u8>> {
    vec![b"\x01\x02\x03\x06abc\x80\x01\xff\x7f\xff\xff\x03\x01\x80\x80\x80\x80\x08\xff\xff\xff\xff\x0f\x81\x01\0".to_vec()]
}

fn changed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let (mut input, other) = (random.pick(seeds).clone(), random.pick(seeds));
    mutate(random, &mut input, other);
    input
}

/// With checksums that fit, mostly.
fn mended(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = changed(random, seeds);
    if !random.once_in(4) {
        batches::repair(&mut input);
    }
    input
}

fn packed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let body = changed(random, seeds);
    batches::packed(random, body)
}

fn packed_set(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let inner = changed(random, seeds);
    batches::packed_set(random, inner)
}
