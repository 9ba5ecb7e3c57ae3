//! Requests to bytes with their header, answers from bytes.
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::error::{Error, ErrorKind};
use crate::protocol::primitives::Cursor;
use crate::protocol::request::{Request, response_header_version};
use crate::protocol::{shape, version};

/// Where in a frame the correlation id stands: after the length, the API key and the version.
const CORRELATION_AT: usize = 8;

/// A request as bytes, built for the version that the connection negotiated.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) api_key: i16,
    pub(crate) version: i16,
    /// Length prefix, request header and the beginning of the body. The connection writes length and correlation id in.
    pub(crate) head: BytesMut,
    /// What follows the head, written in the same vectored write and not copied.
    pub(crate) tail: Vec<Bytes>,
    /// False for a produce request with `acks=0`: it is complete once it is written.
    pub(crate) answered: bool,
}

impl Encoded {
    /// Writes the length and the correlation id into the head; returns the length of the whole frame.
    pub(crate) fn address_to(&mut self, correlation: i32) -> Result<usize, Error> {
        let total = self.head.len() + self.tail.iter().map(Bytes::len).sum::<usize>();
        let length = i32::try_from(total - 4).map_err(|_| {
            Error::new(ErrorKind::Config, format!("a request of {total} bytes does not fit a frame"))
                .in_api(version::name(self.api_key))
        })?;
        self.head[..4].copy_from_slice(&length.to_be_bytes());
        self.head[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
        Ok(total)
    }
}

/// A node's answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The version the request was sent in, hence the version to decode by.
    pub(crate) version: i16,
    /// What follows the response header.
    pub(crate) body: Bytes,
    /// Where it came from, for errors.
    pub(crate) address: Arc<str>,
}

/// A whole request as one buffer.
pub(crate) fn encode<R: Request>(request: &R, version: i16, client_id: &str) -> Result<Encoded, Error> {
    let unfit = |cause: String| {
        Error::new(
            ErrorKind::Unsupported,
            format!("version {version} of {} cannot express this request", R::NAME),
        )
        .in_api(R::NAME)
        .caused_by(cause)
    };
    let mut head = head::<R>(version, client_id);
    head.reserve(request.compute_size(version).map_err(|error| unfit(error.to_string()))?);
    request.encode(&mut head, version).map_err(|error| unfit(error.to_string()))?;
    Ok(Encoded { api_key: R::KEY, version, head, tail: Vec::new(), answered: true })
}

/// Room for the length, and the request header: the beginning of a body written by hand follows.
pub(crate) fn head<R: Request>(version: i16, client_id: &str) -> BytesMut {
    let mut head = BytesMut::with_capacity(64 + client_id.len());
    head.extend_from_slice(&[0; 4]);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    // It fails for a client id above 32 KiB only, and the configuration refuses that.
    let encoded = header.encode(&mut head, R::header_version(version));
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    head
}

/// Separates the correlation id from the rest of a response frame.
pub(crate) fn correlation(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|id| i32::from_be_bytes(*id))
}

/// The body of a response frame whose request was sent with this key in this version.
pub(crate) fn body(frame: Bytes, api_key: i16, version: i16) -> Result<Bytes, Error> {
    let malformed = |error: crate::protocol::primitives::Malformed| {
        Error::new(ErrorKind::Protocol, "malformed response header")
            .in_api(version::name(api_key))
            .caused_by(error)
    };
    let mut cursor = Cursor::new(&frame);
    cursor.i32().map_err(malformed)?;
    if response_header_version(api_key, version) >= 1 {
        // Tagged fields, none of which is known.
        for _ in 0..cursor.uvarint().map_err(malformed)? {
            cursor.uvarint().map_err(malformed)?;
            let len = cursor.uvarint().map_err(malformed)? as usize;
            cursor.bytes(len).map_err(malformed)?;
        }
    }
    let at = frame.len() - cursor.remaining();
    Ok(frame.slice(at..))
}

/// The response to a request of type `R`; bytes left over are an error.
pub(crate) fn decode<R: Request>(answer: &Answer) -> Result<R::Response, Error> {
    let malformed = |cause: String| {
        Error::new(ErrorKind::Protocol, format!("malformed answer to {} version {}", R::NAME, answer.version))
            .in_api(R::NAME)
            .at_address(&*answer.address)
            .caused_by(cause)
    };
    shape::check_response(R::KEY, answer.version, &answer.body)
        .map_err(|error| malformed(error.to_string()))?;
    // The codec reserves what an array claims, so the claims are checked against the bytes at hand first.
    shape::check_response(R::KEY, answer.version, &answer.body)
        .map_err(|error| malformed(error.to_string()))?;
    let mut body = answer.body.clone();
    let response =
        R::Response::decode(&mut body, answer.version).map_err(|error| malformed(error.to_string()))?;
    if !body.is_empty() {
        return Err(malformed(format!("{} bytes after its end", body.len())));
    }
    Ok(response)
}

/// A response as the frame that a node would send it in.
#[cfg(test)]
pub(crate) fn respond<R: Encodable + kafka_protocol::protocol::HeaderVersion>(
    correlation: i32,
    version: i16,
    response: &R,
) -> Bytes {
    let mut frame = BytesMut::from(&[0; 4][..]);
    let header = kafka_protocol::messages::ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    response.encode(&mut frame, version).unwrap();
    let len = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame.freeze()
}
