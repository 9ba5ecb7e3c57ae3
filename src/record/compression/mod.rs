//! The codecs of record batches. Each is a cargo feature; without it, its batches give an error that names it.
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::BatchError;
use crate::error::{Error, ErrorKind};

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(test)]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

/// How the batches of a producer are compressed (Kafka's `compression.type`).
///
/// Parses from and displays as Kafka's names: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip: small, slow; every client reads it.
    Gzip,
    /// Snappy: fast, in the framing that Java's client writes.
    Snappy,
    /// LZ4 frames: fast.
    Lz4,
    /// Zstandard: small and fairly fast; needs nodes of Kafka 2.1 or newer.
    Zstd,
}

impl Compression {
    /// Its number in a batch's attributes.
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub(crate) fn from_id(id: u8) -> Result<Self, BatchError> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .get(usize::from(id))
            .copied()
            .ok_or(BatchError::UnknownCodec(id))
    }

    /// Kafka's name, which is also that of the cargo feature.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        (0..5).filter_map(|id| Self::from_id(id).ok()).find(|codec| codec.name() == name).ok_or_else(|| {
            let message = format!("unknown compression {name:?}: none, gzip, snappy, lz4 or zstd");
            Error::new(ErrorKind::Config, message)
        })
    }
}

/// Whether this build has the codec.
pub(crate) fn available(codec: Compression) -> Result<(), BatchError> {
    let there = match codec {
        Compression::None => true,
        Compression::Gzip => cfg!(feature = "gzip"),
        Compression::Snappy => cfg!(feature = "snappy"),
        Compression::Lz4 => cfg!(feature = "lz4"),
        Compression::Zstd => cfg!(feature = "zstd"),
    };
    if there { Ok(()) } else { Err(BatchError::MissingFeature { codec: codec.name() }) }
}

/// Appends the compressed `input` to `out`. `level` is the codec's own scale; `None` is its default.
#[cfg_attr(not(any(feature = "gzip", feature = "zstd")), allow(unused_variables))] // only they have levels
pub(crate) fn compress(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    match codec {
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::compress(level, input, out),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::compress(input, out),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::compress(input, out),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::compress(level, input, out),
        #[allow(unreachable_patterns)]
        codec => Err(BatchError::MissingFeature { codec: codec.name() }),
    }
}

/// Inflates `input`. The result has at most `limit` bytes, and never more than twice that is held on the way to it,
/// whatever the input claims.
pub(crate) fn decompress(codec: Compression, input: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
    Ok(match codec {
        Compression::None if input.len() > limit => return Err(BatchError::TooLarge { limit }),
        Compression::None => input.clone(),
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::decompress(input, limit)?.into(),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::decompress(input, limit)?.into(),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::decompress(input, limit)?.into(),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::decompress(input, limit)?.into(),
        #[allow(unreachable_patterns)]
        codec => return Err(BatchError::MissingFeature { codec: codec.name() }),
    })
}

/// Room for `more` bytes behind those there: twice as much as before, but nothing that the limit forbids to use.
#[cfg(any(feature = "snappy", feature = "lz4", feature = "zstd"))]
fn make_room(out: &mut Vec<u8>, more: usize, limit: usize) {
    let need = out.len() + more;
    if need > out.capacity() {
        let capacity = out.capacity().saturating_mul(2).min(limit).max(need);
        out.reserve_exact(capacity - out.len());
    }
}

/// Contexts of codecs, kept because making one costs more than a small batch does.
#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
struct Pool<T>(std::sync::Mutex<Vec<T>>);

#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
impl<T> Pool<T> {
    /// As many as compress at the same time on a usual machine; more are made and thrown away.
    const KEPT: usize = 4;

    const fn new() -> Self {
        Self(std::sync::Mutex::new(Vec::new()))
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
    }

    fn put(&self, context: T) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.len() < Self::KEPT {
            kept.push(context);
        }
    }
}
