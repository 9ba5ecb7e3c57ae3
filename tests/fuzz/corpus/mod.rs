//! Good inputs, from which bad ones are made.
pub mod batches;
pub mod codecs;
pub mod groups;
pub mod messages;
pub mod replies;
pub mod streams;
