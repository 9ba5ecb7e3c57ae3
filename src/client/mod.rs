//! The client: shared metadata and connections, from which all other handles come.
mod builder;
pub(crate) mod clock;
pub(crate) mod config;
mod coordinator;
pub(crate) mod core;
mod driver;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::builder::ClientBuilder;
pub(crate) use self::core::Core;
pub use self::core::Target;

use crate::error::Result;
use crate::network::call::Purpose;
use crate::network::metrics::ClientMetrics;
use crate::protocol::request::Request;

/// A Kafka cluster: what is known of it, and the connections to its nodes, shared by everything made from it.
///
/// Cheap to clone; hundreds of producers and consumers may share one. When the last handle is gone, so are the
/// connections; [`Client::close`] does the same and waits until it is done.
#[derive(Debug, Clone)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// A client with all options at their defaults, once it has found the cluster. `bootstrap` is a list of addresses
    /// such as `kafka-1:9092,kafka-2:9092` (Kafka: `bootstrap.servers`), of which one that works is enough.
    ///
    /// Fails with the cause at each address when none of them works, at the latest after `request_timeout`.
    ///
    /// Cancel safe: dropping the future gives everything up.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> milena::Result<()> {
    /// let broker = milena::broker::Broker::start().await?; // in place of a Kafka
    /// let client = milena::Client::connect(&broker.address()).await?;
    /// assert!(client.admin().list_topics().await?.is_empty());
    /// client.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(bootstrap: &str) -> Result<Self> {
        Self::builder().bootstrap(bootstrap)?.build().await
    }

    /// Options first, then [`ClientBuilder::build`].
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Sends any request that Kafka's protocol knows, and returns its answer: `build` is given the version that was
    /// agreed on with the node, and the message types are in [`protocol::messages`](crate::protocol::messages).
    ///
    /// Nothing is retried once the request is on its way; error codes within the answer are for the caller to read.
    /// Fails when no node can be reached, when the node does not answer within `request_timeout`, and when there is no
    /// common version or the version cannot express the request.
    ///
    /// Cancel safe: a request that was handed over is sent all the same, and its answer is thrown away.
    ///
    /// ```
    /// use milena::protocol::messages::ApiVersionsRequest;
    /// use milena::{Client, Target};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # let client = Client::connect(&broker.address()).await?;
    /// let request = |_version| {
    ///     ApiVersionsRequest::default()
    ///         .with_client_software_name("example".into())
    ///         .with_client_software_version("1".into())
    /// };
    /// let answer = client.request(Target::Any, request).await?;
    /// assert!(answer.api_keys.iter().any(|api| api.api_key == 0), "it can produce");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request<R: Request>(
        &self,
        to: Target,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response> {
        self.core.call(to, Purpose::Rest, build).await
    }

    /// What the client's connections did so far.
    pub fn metrics(&self) -> ClientMetrics {
        self.core.metrics()
    }

    /// Closes all connections and waits until everything has ended. Close producers and consumers first: what is still
    /// under way fails. All clones are closed with it.
    ///
    /// Cancel safe: the connections are closed even if the future is dropped.
    pub async fn close(&self) {
        self.core.close().await;
    }
}
