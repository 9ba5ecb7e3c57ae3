//! Requests to bytes with their header, answers from bytes.
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Decodable;
#[cfg(test)]
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::error::{Error, ErrorKind};
use crate::protocol::primitives::Cursor;
use crate::protocol::request::{Request, response_header_version};
use crate::protocol::{shape, version};

/// Where in a frame the correlation id stands: after the length, the API key and the version.
const CORRELATION_AT: usize = 8;
/// Length, key, version, correlation id, length of the client id, number of tagged fields.
const HEADER: usize = 15;
/// Room for what is written by hand in front of the records of a few partitions.
const BY_HAND: usize = 128;

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
    let size = request.compute_size(version).map_err(|error| unfit(error.to_string()))?;
    let mut head = begin::<R>(version, client_id, size);
    request.encode(&mut head, version).map_err(|error| unfit(error.to_string()))?;
    Ok(Encoded { api_key: R::KEY, version, head, tail: Vec::new(), answered: true })
}

/// Room for the length, and the request header: the beginning of a body written by hand follows.
pub(crate) fn head<R: Request>(version: i16, client_id: &str) -> BytesMut {
    begin::<R>(version, client_id, BY_HAND)
}

fn begin<R: Request>(version: i16, client_id: &str, room: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(HEADER + client_id.len() + room);
    head.put_i32(0); // length
    head.put_i16(R::KEY);
    head.put_i16(version);
    head.put_i32(0); // correlation id
    // The configuration sees to it that the client id is short.
    head.put_i16(client_id.len() as i16);
    head.put_slice(client_id.as_bytes());
    if R::header_version(version) >= 2 {
        head.put_u8(0); // no tagged fields
    }
    head
}

/// Separates the correlation id from the rest of a response frame.
pub(crate) fn correlation(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|id| i32::from_be_bytes(*id))
}

/// The body of a response frame whose request was sent with this key in this version.
pub(crate) fn body(mut frame: Bytes, api_key: i16, version: i16) -> Result<Bytes, Error> {
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
    // Shortened, not sliced: a second handle would cost an allocation.
    frame.advance(at);
    Ok(frame)
}

/// The response to a request of type `R`; bytes left over are an error.
pub(crate) fn decode<R: Request>(answer: &Answer) -> Result<R::Response, Error> {
    let malformed = |cause: String| {
        Error::new(ErrorKind::Protocol, format!("malformed answer to {} version {}", R::NAME, answer.version))
            .in_api(R::NAME)
            .at_address(&*answer.address)
            .caused_by(cause)
    };
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
pub(crate) fn respond<R: Encodable + HeaderVersion>(correlation: i32, version: i16, response: &R) -> Bytes {
    let mut frame = BytesMut::from(&[0; 4][..]);
    let header = kafka_protocol::messages::ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    response.encode(&mut frame, version).unwrap();
    let len = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest, MetadataResponse, RequestHeader};

    #[test]
    fn a_header_written_by_hand_is_the_codecs_own() {
        for version in 0..=MetadataRequest::RANGE.1 {
            let mut encoded = encode(&MetadataRequest::default(), version, "client").unwrap();
            let len = encoded.address_to(77).unwrap();
            assert_eq!(len, encoded.head.len());
            let mut frame = encoded.head.freeze();
            assert_eq!(frame.split_to(4)[..], (len as i32 - 4).to_be_bytes());
            let header = RequestHeader::decode(&mut frame, MetadataRequest::header_version(version)).unwrap();
            assert_eq!((header.request_api_key, header.request_api_version), (3, version));
            assert_eq!((header.correlation_id, header.client_id.as_deref()), (77, Some("client")));
            assert_eq!(MetadataRequest::decode(&mut frame, version).unwrap(), MetadataRequest::default());
        }
    }

    #[test]
    fn a_request_that_the_version_cannot_express_is_refused() {
        let request = ApiVersionsRequest::default();
        assert_eq!(encode(&request, 99, "").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn bytes_after_a_response_are_an_error() {
        let frame = respond(1, 12, &MetadataResponse::default()).slice(4..);
        let body = body(frame, 3, 12).unwrap();
        let answer = |body| Answer { version: 12, body, address: "node:1".into() };
        assert!(decode::<MetadataRequest>(&answer(body.clone())).is_ok());
        let longer = Bytes::from([&body[..], &[0]].concat());
        let error = decode::<MetadataRequest>(&answer(longer)).unwrap_err();
        assert!(error.to_string().contains("node:1") && error.api() == Some("Metadata"), "{error}");
    }

    #[test]
    fn a_response_header_is_read_by_the_api_it_belongs_to() {
        let frame = Bytes::from_static(&[0, 0, 0, 1, 1, 9, 2, 7, 7, 5]);
        assert_eq!(correlation(&frame), Some(1));
        assert_eq!(body(frame.clone(), 3, 12).unwrap()[..], [5], "tagged fields are skipped");
        assert_eq!(body(frame.clone(), 3, 8).unwrap()[..], frame[4..]);
        assert_eq!(
            body(frame.clone(), 18, 4).unwrap()[..],
            frame[4..],
            "ApiVersions has the old header always"
        );
        assert!(body(frame.slice(..7), 3, 12).is_err() && body(frame.slice(..3), 3, 1).is_err());
    }
}
