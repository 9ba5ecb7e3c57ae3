//! The options of a client, by method or by Kafka's key.
use std::sync::Arc;
use std::time::Duration;

use crate::client::config::{ClientConfig, parse_bootstrap, value};
use crate::client::{Client, Core};
use crate::error::{Error, ErrorKind, Result};
use crate::network::connector::Connector;
use crate::network::link::now;

/// Options of a [`Client`]. The values are checked in [`ClientBuilder::build`].
#[derive(Debug, Clone, Default)]
pub struct ClientBuilder {
    config: ClientConfig,
}

impl ClientBuilder {
    /// Addresses to find the cluster by: `host:port`, separated by commas; the port is 9092 unless given. All but one
    /// may fail. Required. Kafka: `bootstrap.servers`.
    pub fn bootstrap(mut self, list: &str) -> Result<Self> {
        self.config.bootstrap = parse_bootstrap(list)?;
        Ok(self)
    }

    /// How the nodes' logs and quotas name this client. Default: `milena`. Kafka: `client.id`.
    pub fn client_id(mut self, client_id: impl Into<Arc<str>>) -> Self {
        self.config.client_id = client_id.into();
        self
    }

    /// Where this client runs, for reading from the nearest replica (KIP-392), and for assignors that look at racks: a consumer that leads
    /// its group then also begins a round when replicas move to other racks (KIP-881). Default: none. Kafka: `client.rack`.
    pub fn client_rack(mut self, rack: impl Into<Arc<str>>) -> Self {
        self.config.client_rack = Some(rack.into()).filter(|rack| !rack.is_empty());
        self
    }

    /// How long a request may take, its way to the node included. A connection whose node does not answer in time is
    /// closed. Default: 30 s. Kafka: `request.timeout.ms`.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// How long it may take until a connection stands and the node has told its versions. Default: 10 s. Kafka:
    /// `socket.connection.setup.timeout.ms` (KIP-601), which covers TCP alone and grows with failures; this does not.
    ///
    /// What is under way to a node that has left the cluster, or lives elsewhere by now, fails when nothing was heard for as long.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// After how long a connection on which nothing happens is closed; zero: never. Default: 9 min, a minute before
    /// the nodes do it. Kafka: `connections.max.idle.ms`.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        self
    }

    /// After how long metadata is fetched again although nothing calls for it. Default: 5 min. Kafka:
    /// `metadata.max.age.ms`.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.config.metadata_max_age = age;
        self
    }

    /// The waits before something is tried again: the first, and the longest that doubling leads to. Each is spread by
    /// 20 %. Default: 100 ms and 1 s. Kafka: `retry.backoff.ms` and `retry.backoff.max.ms` (KIP-580).
    pub fn retry_backoff(mut self, first: Duration, max: Duration) -> Self {
        (self.config.retry_backoff.first, self.config.retry_backoff.max) = (first, max);
        self
    }

    /// The waits before a node is connected to again, as for [`ClientBuilder::retry_backoff`]. Default: 50 ms and 1 s.
    /// Kafka: `reconnect.backoff.ms` and `reconnect.backoff.max.ms`.
    pub fn reconnect_backoff(mut self, first: Duration, max: Duration) -> Self {
        (self.config.reconnect_backoff.first, self.config.reconnect_backoff.max) = (first, max);
        self
    }

    /// The longest answer that is read. Default: 100 MiB. librdkafka: `receive.message.max.bytes`; Java has no limit.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.config.max_frame = bytes;
        self
    }

    /// How connections are made. Default: [`Connector::tcp`].
    pub fn connector(mut self, connector: Connector) -> Self {
        self.config.connector = connector;
        self
    }

    #[cfg(test)]
    pub(crate) fn wall_clock(mut self, clock: super::clock::WallClock) -> Self {
        self.config.wall_clock = clock;
        self
    }

    /// One option by Kafka's key, with the value as text: durations in milliseconds.
    ///
    /// Fails for a key that is none of a client's, and for a value that does not fit.
    ///
    /// ```
    /// # fn main() -> milena::Result<()> {
    /// let builder = milena::Client::builder().set("client.id", "billing")?.set("request.timeout.ms", "5000")?;
    /// assert!(builder.set("request.timeout.ms", "soon").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn set(self, key: &str, value: &str) -> Result<Self> {
        let millis = || value::millis(key, value);
        let (retry, reconnect) = (self.config.retry_backoff, self.config.reconnect_backoff);
        // As in Kafka, a first wait above the longest one raises it.
        Ok(match key {
            "bootstrap.servers" | "metadata.broker.list" => self.bootstrap(value)?,
            "client.id" => self.client_id(value),
            "client.rack" => self.client_rack(value),
            "request.timeout.ms" | "socket.timeout.ms" => self.request_timeout(millis()?),
            "socket.connection.setup.timeout.ms" => self.connect_timeout(millis()?),
            "connections.max.idle.ms" if value.trim() == "-1" => self.idle_timeout(Duration::ZERO),
            "connections.max.idle.ms" => self.idle_timeout(millis()?),
            "metadata.max.age.ms" | "topic.metadata.refresh.interval.ms" => self.metadata_max_age(millis()?),
            "retry.backoff.ms" => self.retry_backoff(millis()?, retry.max.max(millis()?)),
            "retry.backoff.max.ms" => self.retry_backoff(retry.first.min(millis()?), millis()?),
            "reconnect.backoff.ms" => self.reconnect_backoff(millis()?, reconnect.max.max(millis()?)),
            "reconnect.backoff.max.ms" => self.reconnect_backoff(reconnect.first.min(millis()?), millis()?),
            "receive.message.max.bytes" => self.max_frame(value::integer(key, value)?),
            "metadata.recovery.strategy" => self.recovery(key, value)?,
            "client.dns.lookup" => {
                value::one_of(key, value, &[("use_all_dns_ips", ())])?;
                self
            }
            "security.protocol" => {
                value::one_of(key, value, &[("PLAINTEXT", ())])?;
                self
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("option {key}: a client has no such option"),
                ));
            }
        })
    }

    fn recovery(mut self, key: &str, value: &str) -> Result<Self> {
        self.config.rebootstrap = value::one_of(key, value, &[("rebootstrap", true), ("none", false)])?;
        Ok(self)
    }

    /// Whether [`ClientBuilder::set`] knows the key, for those who sort options by their owner.
    pub fn knows(key: &str) -> bool {
        match Self::default().set(key, "\0") {
            Ok(_) => true,
            Err(error) => !error.to_string().ends_with("no such option"),
        }
    }

    /// Checks the options and looks for the cluster.
    ///
    /// Fails for options that do not fit, and with the cause at each address when no bootstrap server works. Nothing
    /// keeps running then. A client that has once found its cluster goes on looking by itself whenever it is gone.
    ///
    /// Cancel safe: dropping the future gives everything up. It must be called within a tokio runtime.
    pub async fn build(self) -> Result<Client> {
        self.config.check()?;
        let core = Core::start(self.config);
        let (mut cluster, mut trouble) = (core.watch_cluster(), core.watch_trouble());
        let deadline = now() + core.config().request_timeout;
        tokio::select! {
            biased;
            _ = cluster.wait_for(|cluster| !cluster.nodes.is_empty()) => Ok(Client { core }),
            error = async { trouble.wait_for(Option::is_some).await.ok().and_then(|error| error.clone()) } => {
                Err(error.unwrap_or_else(|| Error::closed("the client")))
            }
            _ = tokio::time::sleep_until(deadline.into()) => {
                let servers: Vec<_> = core.config().bootstrap.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                let message = format!("no bootstrap server answered in time: {}", servers.join(", "));
                Err(Error::new(ErrorKind::Timeout, message).in_api("Metadata"))
            }
        }
    }
}
