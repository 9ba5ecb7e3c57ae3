//! Real Apache Kafka for tests: brings the jars, starts one node or three on free ports, stops, pauses and restarts nodes,
//! and leaves nothing running, even when the test process is killed.
//!
//! ```ignore
//! let Some(kafka) = support::kafka::shared("4.3.1", 1) else { return }; // skipped: no Java or no Maven
//! let _calm = kafka.calm();
//! let topic = kafka.topic("orders", 4);
//! ```
mod groups;
mod node;
mod release;
mod settings;
mod tools;
mod wire;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

pub use groups::{Group, Partition};
use node::Node;
pub use release::{Release, target_dir};
pub use settings::free_ports;
pub use wire::{TopicSpec, Topology};

/// The release that everything is tested on.
pub const NEWEST: &str = "4.3.1";

/// A start takes 6 to 15 s; on a machine with many other jobs a minute was seen.
const READY: Duration = Duration::from_secs(180);

/// Pause between two looks at something that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Cluster {
    release: Release,
    dir: PathBuf,
    zookeeper: Option<Node>,
    nodes: Vec<Node>,
    calm: RwLock<()>,
    /// Nodes were stopped or paused, and nobody has waited yet until they are back.
    ailing: AtomicBool,
}

/// The cluster of this release and size that all tests of this binary share, started at the first call. None where there is
/// no Java or no Maven: the test is skipped and says so, and fails if `CI=true`.
pub fn shared(version: &'static str, nodes: usize) -> Option<&'static Cluster> {
    type Slot = Arc<OnceLock<&'static Cluster>>;
    static CLUSTERS: Mutex<Option<HashMap<(&str, usize), Slot>>> = Mutex::new(None);
    if !available() {
        return None;
    }
    let slot: Slot = {
        let mut clusters = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clusters.get_or_insert_default().entry((version, nodes)).or_default())
    };
    let start = || match Cluster::start(version, nodes) {
        Ok(cluster) => &*Box::leak(Box::new(cluster)),
        Err(error) => panic!("Kafka {version} did not start: {error}"),
    };
    Some(slot.get_or_init(start))
}

/// Whether Java and Maven are here. If not, says on stderr, past the capture of test output, that a test is skipped.
pub fn available() -> bool {
    static MISSING: OnceLock<Option<&str>> = OnceLock::new();
    let runs = |program, version| {
        let (out, err) = (Stdio::null(), Stdio::null());
        Command::new(program).arg(version).stdin(Stdio::null()).stdout(out).stderr(err).status().is_ok()
    };
    let missing = MISSING.get_or_init(|| match (runs("java", "-version"), runs("mvn", "-v")) {
        (false, _) => Some("java"),
        (_, false) => Some("mvn"),
        _ => None,
    });
    let Some(program) = missing else { return true };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{test}: no {program}, and CI must not skip"
    );
    let _ = writeln!(io::stderr(), "{test}: skipped: no {program}");
    false
}

impl Cluster {
    /// Starts a cluster of one's own and waits until every node answers and knows all others.
    pub fn start(version: &str, nodes: usize) -> io::Result<Self> {
        Self::start_release(&Release::get(version)?, nodes)
    }

    /// One node with the settings that Kafka comes with, for a bench.
    pub fn start_as_shipped(version: &str) -> io::Result<Self> {
        let mut release = Release::get(version)?;
        release.is_as_shipped = true;
        Self::start_release(&release, 1)
    }

    fn start_release(release: &Release, nodes: usize) -> io::Result<Self> {
        // Ports are chosen free, but somebody may be quicker to bind one.
        Self::start_once(release, nodes).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Self::start_once(release, nodes),
            _ => Err(error),
        })
    }

    fn start_once(release: &Release, count: usize) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
        sweep(&root);
        let dir = root.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let ports = settings::free_ports(2 * count + 1)?;
        let plan = settings::Plan::new(release, &dir, &ports, count);
        let (zookeeper, mut nodes) = plan.write()?;
        let mut cluster = Self {
            release: release.clone(),
            dir,
            zookeeper,
            nodes: vec![],
            calm: RwLock::default(),
            ailing: AtomicBool::new(false),
        };
        match &cluster.zookeeper {
            Some(zookeeper) => zookeeper.start(release)?,
            None => settings::format(release, &nodes)?,
        }
        nodes.iter().try_for_each(|node| node.start(release))?;
        cluster.nodes.append(&mut nodes);
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The addresses of all nodes, running or not.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// For a test that wants all nodes up: no node is stopped or paused while the guard lives.
    pub fn calm(&self) -> RwLockReadGuard<'_, ()> {
        let calm = self.calm.read().unwrap_or_else(PoisonError::into_inner);
        self.heal();
        calm
    }

    /// For a test that stops or pauses nodes: it is alone, and when the guard goes all nodes are started again.
    pub fn faults(&self) -> Faults<'_> {
        let alone = self.calm.write().unwrap_or_else(PoisonError::into_inner);
        self.heal();
        self.ailing.store(true, Ordering::Relaxed);
        Faults { _alone: alone, cluster: self }
    }

    /// After a fault: waits until every node answers and all replicas are in sync.
    fn heal(&self) {
        if self.ailing.load(Ordering::Relaxed) {
            self.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
            self.wait_until_in_sync();
            self.ailing.store(false, Ordering::Relaxed);
        }
    }

    /// Makes a topic of this many partitions, replicated to all nodes, under a name of its own. Returns the name.
    pub fn topic(&self, prefix: &str, partitions: i32) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let replication = self.nodes.len() as i16;
        self.create_topic(&TopicSpec { name: &name, partitions, replication, ..TopicSpec::default() });
        name
    }

    /// Makes a topic and waits until every running node knows a leader for each of its partitions.
    pub fn create_topic(&self, spec: &TopicSpec<'_>) {
        let controller = |topology: &Topology| self.port_of(topology.controller);
        wait_for("creation of a topic", READY, || {
            let port = controller(&self.topology(&[])?).unwrap_or(self.nodes[0].port);
            wire::create_topic(port, spec).map_err(|error| error.to_string())
        });
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            wait_for("leaders of a new topic", READY, || {
                let seen = wire::metadata(node.port, &[spec.name]).map_err(|error| error.to_string())?;
                let led =
                    |topic: &wire::TopicState| topic.partitions.iter().all(|partition| partition.leader >= 0);
                let known = |topic: &&wire::TopicState| {
                    topic.error == 0 && !topic.partitions.is_empty() && led(topic)
                };
                seen.topics.iter().find(known).map(drop).ok_or_else(|| format!("node {}: none yet", node.id))
            });
        }
    }

    /// What one of the running nodes says about the cluster and these topics.
    pub fn topology(&self, topics: &[&str]) -> Result<Topology, String> {
        let mut reason = "no node runs".to_owned();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            match wire::metadata(node.port, topics) {
                Ok(topology) => return Ok(topology),
                Err(error) => reason = format!("node {}: {error}", node.id),
            }
        }
        Err(reason)
    }

    /// The node that leads a partition now.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        wait_for("a leader", READY, || {
            let topology = self.topology(&[topic])?;
            let mut partitions = topology.topics.iter().flat_map(|topic| &topic.partitions);
            let found = partitions.find(|found| found.id == partition && found.leader >= 0);
            found.map(|found| found.leader).ok_or_else(|| format!("{topic}-{partition} has none"))
        })
    }

    /// Makes this node the first replica of a partition and its leader, and waits until another node says so. All nodes must be
    /// up, or about to be, and hold a replica.
    pub fn move_leader(&self, topic: &str, partition: i32, to: i32) {
        let others = self.nodes.iter().map(|node| node.id).filter(|id| *id != to);
        let replicas: Vec<i32> = std::iter::once(to).chain(others).collect();
        wait_for("a leader's move", READY, || {
            let port = self.port_of(self.topology(&[])?.controller).unwrap_or(self.nodes[0].port);
            wire::reassign(port, topic, partition, &replicas)
                .and_then(|()| wire::elect_preferred(port, topic, partition))
                .map_err(|error| error.to_string())
        });
        wait_for("a moved leader", READY, || match self.leader(topic, partition) {
            leader if leader == to => Ok(()),
            leader => Err(format!("{topic}-{partition}: still {leader}")),
        });
    }

    /// The ports of all nodes, running or not, in the order of their ids from 1.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// (id, port, process id) of every node that runs.
    pub fn running(&self) -> Vec<(i32, u16, u32)> {
        self.nodes.iter().filter_map(|node| Some((node.id, node.port, node.pid()?))).collect()
    }

    pub fn release(&self) -> &Release {
        &self.release
    }

    fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap_or_else(|| panic!("no node {id}"))
    }

    fn port_of(&self, id: i32) -> Option<u16> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.port)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + READY;
        for node in &self.nodes {
            while let Err(reason) = self.is_ready(node) {
                if let Some(log) = node.gone() {
                    let kind = match log.contains("BindException") || log.contains("already in use") {
                        true => io::ErrorKind::AddrInUse,
                        false => io::ErrorKind::Other,
                    };
                    return Err(io::Error::new(kind, format!("node {} ended:\n{log}", node.id)));
                }
                if Instant::now() > deadline {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("node {}: {reason}", node.id),
                    ));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(())
    }

    /// Answers ApiVersions, lists all nodes and a controller, and every partition is in sync on all its nodes.
    fn is_ready(&self, node: &Node) -> Result<(), String> {
        wire::api_versions(node.port).map_err(|error| error.to_string())?;
        let seen = wire::metadata(node.port, &[]).map_err(|error| error.to_string())?;
        if seen.nodes.len() != self.nodes.len() || seen.controller < 0 {
            return Err(format!("lists {} nodes and controller {}", seen.nodes.len(), seen.controller));
        }
        let lag = |topic: &&wire::TopicState| topic.partitions.iter().any(|partition| partition.leader < 0);
        seen.topics.iter().find(lag).map_or(Ok(()), |topic| Err(format!("{} has no leader", topic.name)))
    }

    /// Waits until the replicas of all partitions are back in sync, which a restarted node needs a few seconds for.
    fn wait_until_in_sync(&self) {
        wait_for("all replicas in sync", READY, || {
            let topology = self.topology(&[])?;
            let topics = topology.topics.iter();
            let partitions =
                topics.flat_map(|topic| topic.partitions.iter().map(move |found| (topic, found)));
            let mut behind = partitions.filter(|(_, found)| found.in_sync.len() < found.replicas);
            behind.next().map_or(Ok(()), |(topic, found)| Err(format!("{}-{}", topic.name, found.id)))
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        self.zookeeper = None;
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The right to stop and pause nodes of a shared cluster.
pub struct Faults<'a> {
    cluster: &'a Cluster,
    _alone: RwLockWriteGuard<'a, ()>,
}

impl Faults<'_> {
    /// SIGKILL: the node is gone at once, and its connections with it.
    pub fn kill(&self, node: i32) {
        self.cluster.node(node).kill();
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn pause(&self, node: i32) {
        self.cluster.node(node).signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self, node: i32) {
        self.cluster.node(node).signal("CONT");
    }

    /// Starts a killed node again, with its data. Does not wait until it is ready.
    pub fn restart(&self, node: i32) {
        let node = self.cluster.node(node);
        node.start(&self.cluster.release).unwrap_or_else(|error| panic!("node {}: {error}", node.id));
    }

    /// Waits until every node answers and all replicas are in sync.
    pub fn wait_until_healed(&self) {
        self.cluster.ailing.store(true, Ordering::Relaxed);
        self.cluster.heal();
    }
}

impl Drop for Faults<'_> {
    fn drop(&mut self) {
        for node in &self.cluster.nodes {
            if node.is_running() {
                node.signal("CONT");
            } else if let Err(error) = node.start(&self.cluster.release) {
                let _ = writeln!(io::stderr(), "node {} did not start again: {error}", node.id);
            }
        }
    }
}

/// Looks until the condition gives a value; fails with its last reason after the deadline.
pub fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(value) => return value,
            Err(reason) => assert!(Instant::now() < deadline, "{what}: not within {within:?}: {reason}"),
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Lets time pass, for a fault that is to strike midway: to wait for something, use [`wait_for`].
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// Removes what processes that are gone have left behind.
fn sweep(root: &Path) {
    let is_gone = |name: &str| {
        let process = name.split('-').next().unwrap_or_default();
        !process.is_empty() && !Path::new("/proc").join(process).exists() && Path::new("/proc/self").exists()
    };
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if is_gone(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
