//! milena: an Apache Kafka client in pure Rust.
//!
//! It speaks Kafka's TCP protocol itself: producer, consumer, administration, and on top of them a request-reply layer
//! whose replies are not lost to a rebalance. Nothing in a default build is written in C.
#![forbid(unsafe_code)]

mod admin;
pub mod assignor;
mod client;
mod consumer;
mod error;
mod network;
mod partitioner;
mod producer;
pub mod protocol;
mod record;
mod request_reply;
#[cfg(test)]
mod simulation;
mod state;
mod topic_partition;

#[cfg(feature = "broker")]
pub mod broker;
#[cfg(any(doc, doctest))]
pub mod guide;
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
#[doc(hidden)]
#[cfg(feature = "__internals")]
pub mod internals;

pub use admin::{
    Admin, ClusterDescription, GroupDescription, GroupListing, GroupMemberDescription, NewTopic,
    NodeDescription, PartitionDescription, TopicConfig, TopicDescription,
};
pub use client::{Client, ClientBuilder, Target};
pub use consumer::{
    Batch, BatchIter, BatchRecords, Commit, Consumer, ConsumerBuilder, ConsumerEvent, ConsumerHandle,
    ConsumerRecord, RecordStream,
};
pub use error::{Error, ErrorKind, Result};
pub use network::{connector::Connector, metrics::ClientMetrics};
pub use partitioner::{ConsistentRandomPartitioner, Murmur2Partitioner, Partitioner};
pub use producer::{Acks, Delivery, Producer, ProducerBuilder, ProducerMetrics, ProducerTopic, Written};
pub use protocol::error_code::ErrorCode;
pub use record::{Compression, Headers, OwnedRecord, Record, RecordView, TimestampType};
pub use request_reply::{
    Answer, AnswerSink, AnswerStream, Answers, Call, CallFuture, CallToken, CodecError, Decode, Encode,
    ErrorReply, Event, FromRequest, GatherCall, Gathered, GroupReply, IntoAnswer, IntoAnswers, PendingCall,
    Refusal, Reply, ReplyAllocator, ReplyGroup, ReplyStream, Request, Requester, RequesterBuilder,
    RequesterMetrics, Responder, ResponderBuilder, ResponderMetrics, Status, StreamCall,
};
#[cfg(feature = "json")]
pub use request_reply::{Json, json};
pub use state::consumer::{
    ConsumerMetrics, ConsumerNodeMetrics, IsolationLevel, Offset, OffsetReset, PositionReset, ResetReason,
};
pub use state::group::{CommittedOffset, GroupProtocol};
pub use state::reply::dialect::Dialect;
pub use topic_partition::TopicPartition;
