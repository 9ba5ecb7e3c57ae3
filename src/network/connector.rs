//! How a connection to an address comes about: TCP, or whatever the caller plugs in.
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Both directions of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) type Connected = io::Result<Box<dyn Stream>>;
type Dial = dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = Connected> + Send>> + Send + Sync;

/// Opens connections: over TCP, or over anything that carries bytes both ways, such as the in-memory connections of
/// an embedded broker.
///
/// ```
/// use milena::{Client, Connector};
///
/// # #[tokio::main]
/// # async fn main() -> milena::Result<()> {
/// let broker = milena::broker::Broker::builder().in_memory().start().await?;
/// let network = broker.network();
/// let connector = Connector::new(move |host: String, port| {
///     let stream = network.connect(&host, port);
///     async move { stream }
/// });
/// let client = Client::builder().bootstrap(&broker.address())?.connector(connector).build().await?;
/// # client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector(Kind);

#[derive(Clone)]
enum Kind {
    Tcp,
    Custom(Arc<Dial>),
}

impl Connector {
    /// Connections over TCP, the default. A name that resolves to several addresses is tried at each of them
    /// (Kafka: `client.dns.lookup=use_all_dns_ips`).
    pub fn tcp() -> Self {
        Self(Kind::Tcp)
    }

    /// Connections made by a function of host and port, which stand as bootstrap list and metadata tell them.
    pub fn new<F, T, S>(dial: F) -> Self
    where
        F: Fn(String, u16) -> T + Send + Sync + 'static,
        T: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Kind::Custom(Arc::new(move |host, port| {
            let stream = dial(host, port);
            Box::pin(async move { Ok(Box::new(stream.await?) as Box<dyn Stream>) })
        })))
    }

    /// A connection, or the reason within `deadline`. `attempt` counts the failures before it, so that a name with
    /// several addresses is not always tried at the same one first.
    pub(crate) async fn connect(&self, host: &str, port: u16, attempt: u32, deadline: Instant) -> Connected {
        match &self.0 {
            Kind::Tcp => tcp(host, port, attempt, deadline).await,
            Kind::Custom(dial) => {
                match tokio::time::timeout_at(deadline, dial(host.to_owned(), port)).await {
                    Ok(connected) => connected,
                    Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
                }
            }
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Tcp => "Connector::tcp()",
            Kind::Custom(_) => "Connector::new(..)",
        })
    }
}

async fn tcp(host: &str, port: u16, attempt: u32, deadline: Instant) -> Connected {
    let resolved = tokio::time::timeout_at(deadline, tokio::net::lookup_host((host, port))).await;
    let mut addresses: Vec<_> = match resolved {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            return Err(io::Error::new(error.kind(), format!("the name {host} does not resolve: {error}")));
        }
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time")),
    };
    addresses.dedup();
    let count = addresses.len();
    if count == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("the name {host} has no address")));
    }
    addresses.rotate_left(attempt as usize % count);
    let mut failed: Option<(io::ErrorKind, String)> = None;
    for (tried, address) in addresses.into_iter().enumerate() {
        // One silent address must not use up the time of the others.
        let share = deadline.saturating_duration_since(Instant::now()) / (count - tried) as u32;
        let result = match tokio::time::timeout(
            share.max(Duration::from_millis(1)),
            TcpStream::connect(address),
        )
        .await
        {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
        };
        let error = match result.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => error,
        };
        let cause = if count == 1 { error.to_string() } else { format!("{address}: {error}") };
        match &mut failed {
            None => failed = Some((error.kind(), cause)),
            Some((_, causes)) => *causes = format!("{causes}; {cause}"),
        }
    }
    let (kind, causes) = failed.unwrap_or((io::ErrorKind::NotFound, String::new()));
    Err(io::Error::new(kind, causes))
}
