//! Bytes and messages: frames, headers, version negotiation, error codes.
//!
//! The message structs come from `kafka-protocol`. This layer is pure: it knows no time, no socket and nothing above it.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))] // tests may read a clock to begin with

pub(crate) mod consumer_protocol;
pub(crate) mod error_code;
pub(crate) mod fetch;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod primitives;
pub(crate) mod produce;
pub(crate) mod request;
pub(crate) mod shape;
pub(crate) mod version;

pub use kafka_protocol::messages;
pub use request::Request;
