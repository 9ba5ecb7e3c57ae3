//! A cluster with two topics, the processes on it, and the log that decides in the end.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use milena::{Client, Offset};

use crate::book::{Book, Verdict};
use crate::kafka::TopicSpec;
use crate::kafka::{Cluster, NEWEST, let_pass, shared, wait_for};
use crate::links::Links;
use crate::process::Process;

/// A reply that is in the log so long before its deadline must be handed over.
const GRACE: Duration = Duration::from_millis(500);

pub(crate) struct Stage {
    pub(crate) cluster: &'static Cluster,
    pub(crate) requests: String,
    pub(crate) replies: String,
    pub(crate) partitions: i32,
    pub(crate) callers: Vec<Process>,
    pub(crate) responders: Vec<Process>,
    pub(crate) book: Arc<Book>,
    /// What callers are told besides where they are.
    pub(crate) manner: Vec<(&'static str, String)>,
    next: usize,
    pub(crate) starts: Vec<u64>,
    pub(crate) grace: Duration,
    /// Some of it was deleted, or truncated away.
    pub(crate) log_is_cut: bool,
    /// Those that come from now on have links of their own.
    pub(crate) own_links: bool,
}

impl Stage {
    /// `None` where there is no Kafka.
    pub(crate) fn new(nodes: usize, partitions: i32) -> Option<Self> {
        let in_sync = [("min.insync.replicas", if nodes > 2 { "2" } else { "1" })];
        let replication = nodes as i16;
        let spec = TopicSpec { partitions, replication, configs: &in_sync, ..TopicSpec::default() };
        Self::with(nodes, &spec)
    }

    /// With a reply topic like this, but for its name.
    pub(crate) fn with(nodes: usize, spec: &TopicSpec<'_>) -> Option<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let cluster = shared(NEWEST, nodes)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |what: &str| format!("{what}-{}-{number}", std::process::id());
        let (requests, replies) = (name("requests"), name("replies"));
        cluster.create_topic(&TopicSpec {
            name: &requests,
            partitions: 6,
            replication: nodes as i16,
            configs: &[("min.insync.replicas", if nodes > 2 { "2" } else { "1" })],
            ..TopicSpec::default()
        });
        let stamped = ("message.timestamp.type", "LogAppendTime");
        let configs = [spec.configs, &[stamped]].concat();
        cluster.create_topic(&TopicSpec { name: &replies, configs: &configs, ..*spec });
        let partitions = spec.partitions.max(spec.assignment.len() as i32);
        Some(Self {
            cluster,
            requests,
            replies,
            partitions,
            callers: Vec::new(),
            responders: Vec::new(),
            book: Arc::default(),
            manner: Vec::new(),
            next: 0,
            starts: Vec::new(),
            grace: GRACE,
            log_is_cut: false,
            own_links: false,
        })
    }

    /// Tells callers that come from now on something more.
    pub(crate) fn tell(&mut self, name: &'static str, value: impl ToString) {
        self.manner.retain(|(known, _)| *known != name);
        self.manner.push((name, value.to_string()));
    }

    fn start(&mut self, role: &str, more: &[(&'static str, String)]) -> Process {
        let name = format!("{role}{}", self.next);
        self.next += 1;
        let mut args = vec![
            ("role", role.to_owned()),
            ("bootstrap", self.cluster.bootstrap()),
            ("requests", self.requests.clone()),
            ("replies", self.replies.clone()),
            ("group", format!("{}-responders", self.requests)),
        ];
        args.extend_from_slice(more);
        let links = self.own_links.then(|| Links::new(&self.cluster.ports()));
        args.extend(links.iter().map(|links| ("links", links.describe())));
        let mut process = Process::start(&name, &args, &self.book);
        process.links = links;
        process
    }

    /// Starts callers side by side and waits until all of them call. If nothing else was told, every other one has its reply partition chosen in
    /// a group.
    pub(crate) fn come(&mut self, count: usize) {
        let come: Vec<_> = (0..count)
            .map(|_| {
                let mut manner = self.manner.clone();
                if self.next % 2 == 1 && manner.iter().all(|(name, _)| *name != "home") {
                    manner.push(("home", format!("group:{}-callers", self.replies)));
                }
                self.start("caller", &manner)
            })
            .collect();
        self.starts.extend(come.iter().map(Process::wait_until_ready));
        self.callers.extend(come);
    }

    pub(crate) fn respond(&mut self, count: usize) {
        self.respond_as(count, &[]);
    }

    /// Starts responders side by side that are told this as well.
    pub(crate) fn respond_as(&mut self, count: usize, manner: &[(&'static str, String)]) {
        let come: Vec<_> = (0..count).map(|_| self.start("responder", manner)).collect();
        for process in &come {
            process.wait_until_ready();
        }
        self.responders.extend(come);
    }

    /// The one that has been there for the longest time.
    pub(crate) fn oldest(&mut self) -> Process {
        self.callers.remove(0)
    }

    /// Everybody leaves; then the log is read.
    pub(crate) fn end(mut self) -> Verdict {
        let mut callers = std::mem::take(&mut self.callers);
        callers.iter_mut().for_each(Process::tell_to_leave);
        callers.into_iter().for_each(Process::leave);
        std::mem::take(&mut self.responders).into_iter().for_each(Process::leave);
        let log = self.log();
        self.book.judge(&log, self.log_is_cut, self.grace)
    }

    /// By token: when its first reply was appended, in microseconds since 1970.
    fn log(&self) -> BTreeMap<String, u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect(&self.cluster.bootstrap()).await.expect("a client");
            let partitions = || (0..self.partitions).map(|partition| (&*self.replies, partition));
            let begin = partitions().map(|of| (of, Offset::Beginning));
            let mut consumer = client.consumer().assign_at(begin).build().await.expect("a consumer");
            let ends = consumer.handle().end_offsets(partitions()).await.expect("ends");
            let begins = consumer.handle().beginning_offsets(partitions()).await.expect("beginnings");
            let wanted = ends.values().sum::<i64>() - begins.values().sum::<i64>();
            let (mut log, mut read, began) = (BTreeMap::new(), 0, Instant::now());
            while read < wanted {
                assert!(began.elapsed() < Duration::from_secs(120), "{read} of {wanted} replies were read");
                let Ok(Some(batch)) = consumer.next().await else { continue };
                for record in batch.records() {
                    read += 1;
                    let text = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
                    let parts: Vec<_> = text.split(' ').collect();
                    // Of a stream the last item counts.
                    if let [_, _, item, items] = parts[..]
                        && item.parse::<u64>().ok().map(|item| item + 1) != items.parse().ok()
                    {
                        continue;
                    }
                    let token = parts[0].to_owned();
                    // The node's clock counts milliseconds; the call ends in the same one or later.
                    let at = u64::try_from(record.timestamp()).unwrap_or(0) * 1_000;
                    log.entry(token).and_modify(|first: &mut u64| *first = at.min(*first)).or_insert(at);
                }
            }
            client.close().await;
            log
        })
    }

    /// Waits until all reply partitions have a leader and replicas in sync like that.
    pub(crate) fn wait_for_replicas(&self, what: &str, suits: impl Fn(i32, &[i32]) -> bool) {
        wait_for(what, Duration::from_secs(60), || {
            let topology = self.cluster.topology(&[&self.replies])?;
            let partitions = &topology.topics[0].partitions;
            let is_there = partitions.iter().all(|found| suits(found.leader, &found.in_sync));
            let states = partitions.iter().map(|found| (found.leader, &found.in_sync));
            if is_there { Ok(()) } else { Err(format!("{:?}", states.collect::<Vec<_>>())) }
        });
    }

    /// The reply topic gets more partitions.
    pub(crate) fn grow(&mut self, partitions: i32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect(&self.cluster.bootstrap()).await.expect("a client");
            client.admin().create_partitions(&self.replies, partitions).await.expect("more partitions");
            client.close().await;
        });
        self.partitions = partitions;
    }

    /// All replies that are in the log are deleted.
    pub(crate) fn delete_replies(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect(&self.cluster.bootstrap()).await.expect("a client");
            for partition in 0..self.partitions {
                // Up to the high watermark.
                client.admin().delete_records(&self.replies, partition, -1).await.expect("deleted");
            }
            client.close().await;
        });
    }

    pub(crate) fn pass(&self, seconds: f64) {
        let_pass(Duration::from_secs_f64(seconds));
    }
}
