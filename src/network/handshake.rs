//! From an address to a connection that is ready for requests: connect, then ask for the node's versions.
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;
use tokio::io::AsyncWriteExt;

use crate::error::{Error, ErrorKind, Result};
use crate::network::connector::Stream;
use crate::network::link::{Link, Shared};
use crate::network::metrics::add;
use crate::network::reader::FrameReader;
use crate::protocol::header;
use crate::protocol::request::Request;
use crate::protocol::version::{self, ApiVersions, Negotiation};

/// The answer to ApiVersions has a few kilobytes; nothing larger is believed of a peer that has proved nothing.
const MAX_FRAME: usize = 1024 * 1024;

/// A connection that is ready for requests.
pub(crate) struct Established {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) reader: FrameReader,
    pub(crate) versions: Arc<ApiVersions>,
}

/// Connects and negotiates, all within the connect timeout. `attempt` counts the failures before this one.
pub(crate) async fn establish(link: &Link, attempt: u32) -> Result<Established> {
    let shared = &*link.shared;
    let deadline = tokio::time::Instant::now() + shared.connect_timeout;
    let (host, port) = (&*link.address.host, link.address.port);
    let stream = shared.connector.connect(host, port, attempt, deadline).await.map_err(|error| {
        Error::new(ErrorKind::Connect, "cannot connect").at_address(&*link.text).caused_by(error)
    })?;
    match tokio::time::timeout_at(deadline, negotiate(shared, &link.text, stream)).await {
        Ok(result) => result.map_err(|error| error.at_address(&*link.text).in_api(ApiVersionsRequest::NAME)),
        Err(_) => {
            let silent = format!(
                "the node accepted the connection and then was silent for {:?}",
                shared.connect_timeout
            );
            Err(Error::new(ErrorKind::Timeout, silent)
                .at_address(&*link.text)
                .in_api(ApiVersionsRequest::NAME))
        }
    }
}

async fn negotiate(shared: &Shared, address: &Arc<str>, mut stream: Box<dyn Stream>) -> Result<Established> {
    let mut reader = FrameReader::new(MAX_FRAME.min(shared.max_frame));
    let mut asked = ApiVersionsRequest::RANGE.1;
    // Each fallback is to a lower version, so this ends.
    for correlation in 0.. {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("milena"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut encoded = header::encode(&request, asked, &shared.client_id)?;
        let len = encoded.address_to(correlation)?;
        stream.write_all(&encoded.head).await.map_err(unwilling)?;
        stream.flush().await.map_err(unwilling)?;
        add(&shared.counters.bytes_out, len as u64);
        let frame = match poll_fn(|cx| reader.poll_frame(cx, &mut stream)).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(unwilling("end of the stream")),
            Err(error) if error.kind() == ErrorKind::Connect => return Err(unwilling(error)),
            Err(error) => return Err(error),
        };
        add(&shared.counters.bytes_in, frame.len() as u64 + 4);
        match answer(asked, correlation, &frame, address)? {
            Negotiation::Done(versions) => {
                reader.set_limit(shared.max_frame);
                return Ok(Established { stream, reader, versions: Arc::new(versions) });
            }
            Negotiation::AskIn(lower) => asked = lower,
            Negotiation::Refused(code) => {
                return Err(Error::broker(code, "the node refused to tell its versions"));
            }
        }
    }
    Err(Error::new(ErrorKind::Protocol, "no version was agreed on"))
}

/// What a peer that has proved nothing yet answered, in a whole frame.
pub(crate) fn answer(asked: i16, correlation: i32, frame: &Bytes, address: &Arc<str>) -> Result<Negotiation> {
    match header::correlation(frame) {
        Some(found) if found == correlation => {}
        found => {
            let found = found.map_or("no correlation id".into(), |id| format!("correlation id {id}"));
            let message = format!("{found} where {correlation} was due: this is not a Kafka node");
            return Err(Error::new(ErrorKind::Protocol, message));
        }
    }
    // The header of this response is version 0 whatever the body is.
    let body = frame.get(4..).unwrap_or_default();
    version::decode(asked, body, address)
        .map_err(|error| Error::new(ErrorKind::Protocol, "malformed answer to ApiVersions").caused_by(error))
}

fn unwilling(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = "the peer closed the connection when asked for its versions: not a Kafka node, a listener with TLS \
                   or SASL, or a node that is just stopping";
    Error::new(ErrorKind::Connect, message).caused_by(cause)
}
