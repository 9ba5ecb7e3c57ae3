//! A small node for tests: one listener, answers made by a function.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiVersionsResponse, RequestHeader, api_versions_response::ApiVersion};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::Client;
use crate::error::Result;
use crate::network::task::TaskSet;
use crate::protocol::header::respond;

/// A deadline that an honest peer keeps.
pub(crate) fn soon() -> Instant {
    tokio::time::Instant::now().into_std() + Duration::from_secs(10)
}

/// A request as a peer sees it.
pub(crate) struct Request {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    /// What follows the header.
    pub(crate) body: Bytes,
    /// Where the peer listens.
    pub(crate) port: u16,
}

pub(crate) struct Peer {
    port: u16,
    _tasks: TaskSet,
}

impl Peer {
    /// A node that answers versions and metadata.
    pub(crate) async fn start() -> Self {
        Self::with(|request| Some(honest(&request))).await
    }

    /// A node whose answers, with their length, come from a function; `None` closes the connection.
    pub(crate) async fn with(answer: impl Fn(Request) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tasks, answer) = (TaskSet::current(), Arc::new(answer));
        let connections = tasks.child();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, port, answer.clone()));
            }
        });
        Self { port, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        Client::connect(&format!("127.0.0.1:{}", self.port)).await
    }
}

pub(crate) async fn serve<S, F>(mut stream: S, port: u16, answer: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request) -> Option<Bytes>,
{
    while let Ok(len) = stream.read_i32().await {
        let mut frame = vec![0; len as usize];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let key = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let mut body = Bytes::from(frame);
        let flexible = match key {
            18 => version >= 3,
            3 => version >= 9,
            _ => false,
        };
        let header = RequestHeader::decode(&mut body, if flexible { 2 } else { 1 }).unwrap();
        let request = Request { key, version, correlation: header.correlation_id, body, port };
        let Some(answer) = answer(request) else { return };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

pub(crate) fn honest(request: &Request) -> Bytes {
    match request.key {
        18 => respond(request.correlation, request.version, &versions()),
        3 => {
            let wanted = MetadataRequest::decode(&mut request.body.clone(), request.version).unwrap();
            let topics = wanted.topics.unwrap_or_default().into_iter().filter_map(|topic| topic.name);
            let response = metadata(&[(1, request.port)], topics.map(|name| topic(&name, 3)).collect());
            respond(request.correlation, request.version, &response)
        }
        key => panic!("an honest peer knows nothing of API {key}"),
    }
}

/// Metadata of a cluster that has no topic.
pub(crate) fn without_topics(request: &Request) -> Bytes {
    let wanted = MetadataRequest::decode(&mut request.body.clone(), request.version).unwrap();
    let topics = wanted.topics.unwrap_or_default().into_iter().filter_map(|topic| topic.name);
    let missing = topics.map(|name| topic(&name, 0).with_error_code(3).with_topic_id(uuid::Uuid::nil()));
    let response = metadata(&[(1, request.port)], missing.collect());
    respond(request.correlation, request.version, &response)
}

pub(crate) fn versions() -> ApiVersionsResponse {
    let ranges = [(3, 0, 12), (18, 0, 4)];
    let api =
        |(key, min, max)| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max);
    ApiVersionsResponse::default().with_api_keys(ranges.into_iter().map(api).collect())
}

pub(crate) fn metadata(nodes: &[(i32, u16)], topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let node = |(id, port): &(i32, u16)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*id))
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(*port))
    };
    MetadataResponse::default()
        .with_brokers(nodes.iter().map(node).collect())
        .with_controller_id(BrokerId(nodes[0].0))
        .with_topics(topics)
}

pub(crate) fn topic(name: &TopicName, partitions: i32) -> MetadataResponseTopic {
    let partition = |number| {
        MetadataResponsePartition::default()
            .with_partition_index(number)
            .with_leader_id(BrokerId(1))
            .with_leader_epoch(5)
    };
    MetadataResponseTopic::default()
        .with_name(Some(name.clone()))
        .with_topic_id(uuid::Uuid::from_u128(7))
        .with_partitions((0..partitions).map(partition).collect())
}
