//! Every place where bytes of a peer are read, by name: what `tests/fuzz` tries to break.
//!
//! An input is what a peer sends, behind a few bytes that stand for what the library knows already, such as the version that it
//! asked in. Each module says which.
mod groups;
mod messages;
mod records;
mod replies;
mod streams;

use bytes::{Buf, Bytes};

use crate::Compression;
use crate::record::compression;
pub use replies::reply_ids;

/// One way from bytes of a peer to something that the library believes.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// What it reads.
    pub name: &'static str,
    /// Reads an input as the library does; whether it was accepted. Nothing else happens here: memory and time are the decoder's.
    pub decode: fn(&Bytes) -> bool,
    /// What must hold besides of an input that was accepted, such as that it is the same again when it is written and read.
    pub check: fn(&Bytes) -> Result<(), String>,
}

/// What a batch may inflate to in here.
pub const LIMIT: usize = 64 << 10;

/// All of them.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "primitives", decode: messages::primitives, check: messages::primitives_again },
    Decoder { name: "frames", decode: streams::frames, check: streams::frames_however_cut },
    Decoder {
        name: "api_versions",
        decode: messages::api_versions,
        check: messages::api_versions_as_generated,
    },
    Decoder { name: "responses", decode: messages::response, check: messages::response_again },
    Decoder { name: "requests", decode: messages::request, check: messages::request_again },
    Decoder { name: "metadata", decode: messages::metadata, check: messages::nothing },
    Decoder { name: "produce_response", decode: messages::produce, check: messages::produce_as_generated },
    Decoder { name: "fetch_response", decode: messages::fetch, check: messages::fetch_as_generated },
    Decoder { name: "batches", decode: records::batches, check: records::batches_hold },
    Decoder { name: "gzip", decode: records::gzip, check: records::gzip_again },
    Decoder { name: "snappy", decode: records::snappy, check: records::snappy_again },
    Decoder { name: "lz4", decode: records::lz4, check: records::lz4_again },
    Decoder { name: "zstd", decode: records::zstd, check: records::zstd_again },
    Decoder { name: "dialects", decode: replies::dialects, check: replies::answers_find_back },
    Decoder { name: "reply_ids", decode: replies::ids, check: replies::ids_again },
    Decoder { name: "subscriptions", decode: groups::subscription, check: groups::subscription_again },
    Decoder { name: "assignments", decode: groups::assignment, check: groups::assignment_again },
    Decoder { name: "broker", decode: streams::broker, check: streams::broker_answers },
];

/// Compressed as a producer does it.
pub fn compress(codec: Compression, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression::compress(codec, None, input, &mut out) {
        Ok(()) => out,
        Err(_) => Vec::new(), // not in this build
    }
}

/// Says what does not hold.
macro_rules! ensure {
    ($condition:expr, $($what:tt)*) => {
        if !$condition {
            return Err(format!($($what)*));
        }
    };
}
use ensure;

/// The version in front of an input, and the rest.
fn versioned(input: &Bytes) -> Option<(i16, Bytes)> {
    let mut input = input.clone();
    let version = input.try_get_i16().ok()?;
    Some((version, input))
}
