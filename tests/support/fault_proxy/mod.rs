//! A TCP proxy that does to connections what networks do: it cuts, delays, throttles, slices, holds and refuses them.
//!
//! All that it knows of Kafka is where a request has its API key: a listener for each node, and bytes that are forwarded. A client is
//! led through it by [`FaultProxy::connector`], so the nodes' own links stay whole.
mod fault;
mod link;

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use milena::Connector;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use fault::Conditions;
pub use fault::{Hold, LinkFault, Way};

/// More connections to one node are reset as they come.
const MOST_LINKS: usize = 200;

/// Pause before a port is bound again that is still taken.
const BIND_AGAIN: Duration = Duration::from_millis(20);

pub struct FaultProxy {
    lines: Vec<Arc<Line>>,
    _listeners: JoinSet<()>,
}

/// The way to one node.
struct Line {
    node: u16,
    port: u16,
    seed: u64,
    conditions: watch::Sender<Conditions>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    links: AtomicU64,
    resets: AtomicU64,
    late: AtomicU64,
}

/// What went through the proxy so far.
#[derive(Debug, Default)]
pub struct Passed {
    pub links: u64,
    pub resets: u64,
    /// Bytes of requests that a node got after its client had given the connection up.
    pub late_bytes: u64,
}

/// A fault that holds until it is lifted.
#[derive(Clone, Copy, Debug)]
pub struct Struck {
    line: usize,
    number: u64,
}

impl FaultProxy {
    /// Listens for each pair of a node's port and a port of its own. Jitter is drawn from the seed.
    pub async fn start(ports: impl IntoIterator<Item = (u16, u16)>, seed: u64) -> io::Result<Self> {
        let (mut lines, mut listeners) = (Vec::new(), JoinSet::new());
        for (node, port) in ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
            let port = listener.local_addr()?.port();
            let conditions = watch::Sender::new(Conditions::default());
            let line = Arc::new(Line { node, port, seed, conditions, counts: Counts::default() });
            listeners.spawn(line.clone().listen(listener));
            lines.push(line);
        }
        Ok(Self { lines, _listeners: listeners })
    }

    /// Leads connections to the nodes through the proxy, and all others straight to their goal.
    pub fn connector(&self) -> Connector {
        connector(self.ports())
    }

    /// For each node its port and that of the proxy before it.
    pub fn ports(&self) -> HashMap<u16, u16> {
        self.lines.iter().map(|line| (line.node, line.port)).collect()
    }

    /// Something happens to the links of the node at this place.
    pub fn strike(&self, line: usize, fault: LinkFault) -> Struck {
        let mut number = 0;
        self.lines[line].conditions.send_modify(|conditions| number = conditions.strike(fault));
        Struck { line, number }
    }

    /// The fault is over. Bytes that it held back go their way, or their connections are reset.
    pub fn lift(&self, struck: Struck) {
        self.lines[struck.line].conditions.send_modify(|conditions| conditions.lift(struck.number));
    }

    pub fn passed(&self) -> Passed {
        self.lines.iter().fold(Passed::default(), |sum, line| Passed {
            links: sum.links + line.counts.links.load(Relaxed),
            resets: sum.resets + line.counts.resets.load(Relaxed),
            late_bytes: sum.late_bytes + line.counts.late.load(Relaxed),
        })
    }
}

impl Line {
    /// Accepts connections, but while they are refused: then the port is closed.
    async fn listen(self: Arc<Self>, first: TcpListener) {
        let mut conditions = self.conditions.subscribe();
        let (mut listener, mut links) = (Some(first), JoinSet::new());
        loop {
            let Some(open) = &listener else {
                let _ = conditions.wait_for(|now| !now.refuses()).await;
                listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.ok();
                if listener.is_none() {
                    tokio::time::sleep(BIND_AGAIN).await;
                }
                continue;
            };
            tokio::select! {
                _ = conditions.wait_for(Conditions::refuses) => listener = None,
                accepted = open.accept() => {
                    while links.try_join_next().is_some() {}
                    if let Ok((client, _)) = accepted && links.len() < MOST_LINKS {
                        links.spawn(self.clone().forward(client));
                    }
                }
            }
        }
    }

    async fn forward(self: Arc<Self>, client: TcpStream) {
        let mut number = 0;
        self.conditions.send_modify(|conditions| number = conditions.number());
        self.counts.links.fetch_add(1, Relaxed);
        if let Ok(node) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.node)).await {
            let _ = client.set_nodelay(true).and(node.set_nodelay(true));
            link::forward(&self, number, client, node).await;
        }
    }
}

/// Leads connections to the first port of each pair to the second, for a client that may be in another process than the proxy.
pub fn connector(ports: HashMap<u16, u16>) -> Connector {
    Connector::new(move |host, port| {
        let port = ports.get(&port).copied().unwrap_or(port);
        async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    })
}
