//! What a client is told at its start: plain values, checked once.
use std::sync::Arc;
use std::time::Duration;

use super::clock::WallClock;
use crate::error::{Error, ErrorKind, Result};
use crate::network::connector::Connector;
use crate::state::backoff::Backoff;

/// Of a node that is named without a port.
const DEFAULT_PORT: u16 = 9092;
/// A frame carries the client id with a 16-bit length in every request; nobody needs more.
const LONGEST_CLIENT_ID: usize = 1024;
/// Below this, not even an honest list of topics fits.
const SMALLEST_FRAME: usize = 64 * 1024;
/// Times are added to one another; nobody means a longer one.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The options of a client, after they were checked.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    pub(crate) bootstrap: Vec<(Arc<str>, u16)>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_rack: Option<Arc<str>>,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// `None`: connections are kept however idle.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) metadata_max_age: Duration,
    pub(crate) retry_backoff: Backoff,
    pub(crate) reconnect_backoff: Backoff,
    pub(crate) max_frame: usize,
    pub(crate) rebootstrap: bool,
    pub(crate) connector: Connector,
    pub(crate) wall_clock: WallClock,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            client_id: "milena".into(),
            client_rack: None,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(9 * 60)),
            metadata_max_age: Duration::from_secs(5 * 60),
            retry_backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) },
            reconnect_backoff: Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) },
            max_frame: 100 * 1024 * 1024,
            rebootstrap: true,
            connector: Connector::tcp(),
            wall_clock: WallClock::default(),
        }
    }
}

impl ClientConfig {
    /// Checks what single setters cannot see.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::Config, message));
        if self.bootstrap.is_empty() {
            return invalid("no bootstrap address (bootstrap.servers)");
        }
        if self.client_id.len() > LONGEST_CLIENT_ID {
            return invalid("client_id (client.id) is longer than 1024 bytes");
        }
        for (name, time) in [
            ("request_timeout", self.request_timeout),
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout.unwrap_or(LONGEST)),
            ("metadata_max_age", self.metadata_max_age),
            ("retry_backoff", self.retry_backoff.max),
            ("reconnect_backoff", self.reconnect_backoff.max),
        ] {
            if time.is_zero() || time > LONGEST {
                return invalid(&format!("{name} must be above zero and below ten years"));
            }
        }
        if self.max_frame < SMALLEST_FRAME || self.max_frame > i32::MAX as usize {
            return invalid("max_frame must lie between 64 KiB and 2 GiB");
        }
        for (name, backoff) in
            [("retry_backoff", self.retry_backoff), ("reconnect_backoff", self.reconnect_backoff)]
        {
            if backoff.first.is_zero() || backoff.first > backoff.max {
                return invalid(&format!(
                    "{name}: the first wait must be above zero and not above the longest"
                ));
            }
        }
        Ok(())
    }
}

/// Splits a bootstrap list: `host`, `host:port`, `[v6]:port`, `PLAINTEXT://host:port`, separated by commas.
pub(crate) fn parse_bootstrap(list: &str) -> Result<Vec<(Arc<str>, u16)>> {
    let mut servers: Vec<(Arc<str>, u16)> = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let invalid =
            |why: &str| Error::new(ErrorKind::Config, format!("bootstrap address `{entry}`: {why}"));
        let address = match entry.split_once("://") {
            None => entry,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("PLAINTEXT") => rest,
            Some((scheme, _)) => return Err(invalid(&format!("the protocol {scheme} is not supported"))),
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or_else(|| invalid("`]` is missing"))?;
                (host, rest.strip_prefix(':'))
            }
            // More than one colon: an IPv6 address without a port.
            None if address.matches(':').count() > 1 => (address, None),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(invalid("the port is not a number between 1 and 65535")),
            },
        };
        let server = (Arc::from(host), port);
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        return Err(Error::new(ErrorKind::Config, "the bootstrap list is empty"));
    }
    Ok(servers)
}

/// Values of options given as text under Kafka's keys.
pub(crate) mod value {
    use super::*;

    fn invalid(key: &str, value: &str, wanted: &str) -> Error {
        Error::new(ErrorKind::Config, format!("option {key}: `{value}` is not {wanted}"))
    }

    /// A duration in milliseconds.
    pub(crate) fn millis(key: &str, value: &str) -> Result<Duration> {
        let time = integer::<u64>(key, value).map(Duration::from_millis)?;
        if time > LONGEST {
            return Err(invalid(key, value, "below ten years"));
        }
        Ok(time)
    }

    /// A whole number.
    pub(crate) fn integer<T: std::str::FromStr>(key: &str, value: &str) -> Result<T> {
        value.trim().parse().map_err(|_| invalid(key, value, "a number in range"))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(key: &str, value: &str) -> Result<bool> {
        match value.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid(key, value, "true or false")),
        }
    }

    /// One of several words.
    pub(crate) fn one_of<T: Copy>(key: &str, value: &str, words: &[(&str, T)]) -> Result<T> {
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value.trim()));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            invalid(key, value, &format!("one of {}", words.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_lists_are_read_as_kafka_users_write_them() {
        let parse = |list| {
            let servers = parse_bootstrap(list).unwrap();
            servers.into_iter().map(|(host, port)| format!("{host} {port}")).collect::<Vec<_>>()
        };
        assert_eq!(parse("a:1, b:2 ,a:1,"), ["a 1", "b 2"]);
        assert_eq!(parse("a,[::1]:9,::1,PLAINTEXT://c:3"), ["a 9092", "::1 9", "::1 9092", "c 3"]);
        for wrong in ["", " , ", ":1", "a:", "a:0", "a:70000", "a:b", "[::1", "SSL://a:1"] {
            let error = parse_bootstrap(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        }
    }
}
