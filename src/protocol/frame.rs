//! The length in front of every response, and what it gives away when the peer does not speak Kafka.
use crate::error::{Error, ErrorKind};

/// A response holds at least its correlation id.
const SHORTEST: usize = 4;

/// How many bytes follow the length prefix.
///
/// Peers that speak something else are told apart by their first bytes, which are then not a length at all.
pub(crate) fn length(prefix: [u8; 4], limit: usize) -> Result<usize, Error> {
    let protocol = |message: String| Err(Error::new(ErrorKind::Protocol, message));
    if &prefix == b"HTTP" {
        return protocol("an HTTP server answered: this is not a Kafka listener".into());
    }
    // An alert or a handshake record of TLS 1.0 to 1.3.
    if matches!(prefix, [0x15 | 0x16, 0x03, 0x00..=0x04, _]) {
        return protocol("a TLS listener answered a connection without TLS".into());
    }
    match usize::try_from(i32::from_be_bytes(prefix)) {
        Err(_) => protocol(format!("negative frame length {}", i32::from_be_bytes(prefix))),
        Ok(len) if len < SHORTEST => protocol(format!("frame length {len} is too short for any response")),
        Ok(len) if len > limit => protocol(format!(
            "frame length {len} is above the limit of {limit}: raise `max_frame`, or this is not a Kafka node"
        )),
        Ok(len) => Ok(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_cannot_be_are_refused_by_name() {
        let text = |prefix| length(prefix, 1000).unwrap_err().to_string();
        assert_eq!(length([0, 0, 0, 4], 1000).ok(), Some(4));
        assert_eq!(length([0, 0, 3, 0xe8], 1000).ok(), Some(1000));
        assert!(text([0, 0, 3, 0xe9]).contains("above the limit"));
        assert!(text([0xff, 0xff, 0xff, 0xff]).contains("negative"));
        assert!(text([0, 0, 0, 3]).contains("too short"));
        assert!(text(*b"HTTP").contains("HTTP server"));
        assert!(text([0x15, 3, 3, 0]).contains("TLS"));
    }
}
