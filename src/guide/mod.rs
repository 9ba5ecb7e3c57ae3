//! Longer explanations than the page of one item holds.

#[doc = include_str!("request_reply.md")]
pub mod request_reply {}
