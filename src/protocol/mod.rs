//! Bytes and messages: frames, headers, version negotiation, error codes.
//!
//! The message structs come from `kafka-protocol`. This layer is pure: it knows no time, no socket and nothing above it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod error_code;
pub(crate) mod primitives;
pub(crate) mod request;
