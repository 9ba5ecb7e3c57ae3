//! Records and record batches: written straight into their buffer, read as slices of the fetched bytes.
//!
//! Knows `protocol::primitives`, checksums and codecs; no topics, no nodes, no policy.
//!
//! - Writing: [`builder::BatchBuilder`] encodes at append and becomes a sealed batch, whose bytes are final.
//! - Reading: [`batch::batches`] cuts a fetched record set into frames without looking inside; [`reader::DecodedBatch`] inflates
//!   and validates one of them once; after that its records are views that cannot fail.
//! - Message sets of old brokers ([`legacy`]) are turned into the same form and read the same way.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))] // tests may read a clock to begin with

pub(crate) mod batch;
pub(crate) mod builder;
pub(crate) mod compression;
mod content;
mod error;
mod headers;
mod legacy;
mod owned;
pub(crate) mod reader;
#[allow(clippy::module_inception)]
mod record;

pub use compression::Compression;
pub(crate) use error::BatchError;
pub use headers::Headers;
pub use owned::OwnedRecord;
pub use reader::RecordView;
pub use record::Record;

/// Who set the timestamps of a batch's records (Kafka's `message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer, or the application through it.
    CreateTime,
    /// The broker, when it appended the batch: all records of the batch carry the same time.
    LogAppendTime,
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
