//! Ports, settings and formatting of a cluster's nodes.
use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use super::node::Node;
use super::release::Release;

/// Below the ports that the kernel gives to outgoing connections, which would now and then be in the way of a broker.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Small, quick, and with timers short enough that a fault test takes seconds. Releases ignore what they do not know.
const COMMON: &str = "
num.network.threads=2
num.io.threads=2
background.threads=2
num.recovery.threads.per.data.dir=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
log.cleaner.dedupe.buffer.size=2097152
log.index.size.max.bytes=1048576
log.segment.bytes=16777216
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
auto.leader.rebalance.enable=false
controlled.shutdown.enable=false
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
replica.lag.time.max.ms=3000
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=300
group.consumer.min.assignment.interval.ms=0
group.consumer.assignment.interval.ms=0
group.share.min.session.timeout.ms=1000
group.share.session.timeout.ms=6000
group.share.min.heartbeat.interval.ms=100
group.share.heartbeat.interval.ms=300
group.share.min.record.lock.duration.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
";

pub struct Plan<'a> {
    release: &'a Release,
    dir: &'a Path,
    /// One a node for clients, one a node for the controllers, one for ZooKeeper.
    ports: &'a [u16],
    nodes: usize,
}

impl<'a> Plan<'a> {
    pub fn new(release: &'a Release, dir: &'a Path, ports: &'a [u16], nodes: usize) -> Self {
        Self { release, dir, ports, nodes }
    }

    /// Writes every node's settings. The first of the pair is ZooKeeper, where the release needs it.
    pub fn write(&self) -> io::Result<(Option<Node>, Vec<Node>)> {
        let mut nodes = Vec::new();
        for index in 0..self.nodes {
            let dir = self.dir.join(format!("n{}", index + 1));
            let node = Node::new(index as i32 + 1, self.ports[index], "kafka.Kafka", dir);
            write(&node, &self.node(index, &node.dir))?;
            nodes.push(node);
        }
        if !self.release.needs_zookeeper() {
            return Ok((None, nodes));
        }
        let class = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        let node = Node::new(0, self.zookeeper_port(), class, self.dir.join("zookeeper"));
        let data = node.dir.join("data");
        let text = format!(
            "clientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\ndataDir={}\n",
            node.port,
            data.display()
        );
        write(&node, &text)?;
        Ok((Some(node), nodes))
    }

    fn node(&self, index: usize, dir: &Path) -> String {
        let (id, port) = (index + 1, self.ports[index]);
        let copies = self.nodes.min(3);
        let in_sync = copies.div_ceil(2);
        let data = dir.join("data");
        let common = if self.release.is_as_shipped { "" } else { COMMON };
        let mut text = format!(
            "{common}log.dirs={}\nbroker.rack=r{id}\ndefault.replication.factor={copies}\nmin.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={copies}\ntransaction.state.log.replication.factor={copies}\n\
             transaction.state.log.min.isr={in_sync}\nshare.coordinator.state.topic.replication.factor={copies}\n\
             share.coordinator.state.topic.min.isr={in_sync}\ninter.broker.listener.name=PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n",
            data.display()
        );
        if self.release.needs_zookeeper() {
            text += &format!(
                "broker.id={id}\nzookeeper.connect=127.0.0.1:{}\nzookeeper.session.timeout.ms=6000\n\
                 listeners=PLAINTEXT://127.0.0.1:{port}\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT\n",
                self.zookeeper_port()
            );
        } else {
            let voters: Vec<_> = (0..self.nodes)
                .map(|voter| format!("{}@127.0.0.1:{}", voter + 1, self.controller_port(voter)))
                .collect();
            text += &format!(
                "node.id={id}\nprocess.roles=broker,controller\ncontroller.quorum.voters={}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{}\ncontroller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n",
                voters.join(","),
                self.controller_port(index)
            );
        }
        text
    }

    fn controller_port(&self, index: usize) -> u16 {
        self.ports[self.nodes + index]
    }

    fn zookeeper_port(&self) -> u16 {
        self.ports[2 * self.nodes]
    }
}

fn write(node: &Node, text: &str) -> io::Result<()> {
    fs::create_dir_all(&node.dir)?;
    fs::write(node.settings(), text)
}

/// Formats the nodes' storage, all at once.
pub fn format(release: &Release, nodes: &[Node]) -> io::Result<()> {
    let id = cluster_id();
    let mut formats = Vec::new();
    for node in nodes {
        let mut java = release.java(&release.tool("StorageTool"));
        java.args(["format", "-t", &id, "-c"]).arg(node.settings());
        formats.push(java.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    }
    for format in formats {
        let output = format.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("formatting failed: {said}")));
        }
    }
    Ok(())
}

/// Sixteen random bytes in URL-safe base64 without padding; a leading letter, since a dash would look like an option.
fn cluster_id() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = random();
    let mut id: String = (0..21).map(|_| char::from(LETTERS[(random() % 64) as usize])).collect();
    id.replace_range(..1, "m");
    // The last character carries two bits only.
    id.push(char::from(LETTERS[(random() % 4) as usize * 16]));
    id
}

/// Ports that nobody listens on now, held all at once so that they differ.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut random = random();
    let mut held = Vec::new();
    let mut ports = HashSet::new();
    for _ in 0..1000 {
        if held.len() == count {
            break;
        }
        let port = PORTS.start + (random() % u64::from(PORTS.end - PORTS.start)) as u16;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            ports.insert(port);
            held.push(listener);
        }
    }
    if ports.len() < count { Err(io::Error::other("no free ports")) } else { Ok(ports.into_iter().collect()) }
}

/// The standard library's hasher is seeded by the system: random enough to choose ports and names.
fn random() -> impl FnMut() -> u64 {
    let (state, mut count) = (RandomState::new(), 0u64);
    move || {
        count += 1;
        state.hash_one(count)
    }
}
