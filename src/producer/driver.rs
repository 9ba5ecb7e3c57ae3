//! The producer's one task: carries news to the machine and its wishes to the connections.
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use tokio::sync::watch;

use super::delivery::Completion;
use super::shared::{Partitions, Shared, lock};
use crate::client::{Core, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::{self, Encoded, Inbox, Purpose};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::header;
use crate::protocol::produce::{self, Part};
use crate::protocol::request::Request as _;
use crate::protocol::version::ApiVersions;
use crate::record::{BatchError, Compression};
use crate::state::metadata::{Cluster, Node};
use crate::state::producer::{Event, Key, NoAnswer, ProducerIdentity, Request, Sender, Ticket};

/// The first version of Produce that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// The last version of Produce that names topics.
const NAMES_UNTIL: i16 = 12;

type Identified = (Ticket, Result<ProducerIdentity>);
type SealedBatches = Arc<Mutex<Vec<(Key, u64, Result<Bytes, BatchError>)>>>;

pub(super) struct Driver {
    shared: Arc<Shared>,
    sender: Sender<Arc<Completion>, Partitions>,
    inbox: Arc<Inbox<Ticket>>,
    sealed: SealedBatches,
    cluster: watch::Receiver<Arc<Cluster>>,
    /// The request for a producer id that is under way.
    identity: Option<Pin<Box<dyn Future<Output = Identified> + Send>>>,
    signalled: Vec<Key>,
    outcomes: Vec<(Ticket, call::Outcome)>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            sender: Sender::new(shared.options.settings(), Partitions(Vec::new()), rand::random()),
            inbox: Inbox::new(shared.wake.clone()),
            sealed: SealedBatches::default(),
            cluster: shared.core.watch_cluster(),
            identity: None,
            signalled: Vec::new(),
            outcomes: Vec::new(),
            shared,
        }
    }

    /// Ends when the producer was closed and everything is settled.
    pub(super) async fn run(mut self) {
        let mut closing = false;
        loop {
            let now = super::now();
            if self.shared.closing.load(Ordering::SeqCst) && !closing {
                closing = true;
                self.shared.close_buffers();
            }
            self.take_in(now, closing);
            self.put_out(now);
            if closing && self.sender.is_idle() {
                return;
            }
            let deadline = self.sender.next_deadline();
            let wake = self.shared.wake.clone();
            tokio::select! {
                _ = wake.notified() => {}
                changed = self.cluster.changed() => {
                    if changed.is_err() {
                        return; // the client is gone
                    }
                    let cluster = self.cluster.borrow_and_update().clone();
                    self.shared.learn_all(&cluster);
                    self.sender.handle_metadata(super::now(), &cluster);
                }
                (ticket, answer) = wait_for(&mut self.identity) => {
                    self.identity = None;
                    self.sender.handle_identity(super::now(), ticket, answer);
                }
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// All that happened since the last turn.
    fn take_in(&mut self, now: Instant, closing: bool) {
        let new = self.shared.partitions_from(self.sender.buffers().0.len());
        if !new.is_empty() {
            let cluster = self.shared.core.cluster();
            for partition in new {
                let (topic, number) = (partition.topic.clone(), partition.number);
                self.sender.buffers().0.push(partition);
                self.sender.add_partition(now, topic, number, &cluster);
            }
        }
        let flushes = std::mem::take(&mut *lock(&self.shared.flushes));
        self.shared.signalled(&mut self.signalled);
        if !flushes.is_empty() || closing {
            for key in 0..self.sender.buffers().0.len() {
                lock(&self.sender.buffers().0[key].buffer).close_open();
                self.sender.handle_appended(now, key);
            }
            self.signalled.clear();
        }
        for key in self.signalled.drain(..) {
            self.sender.handle_appended(now, key);
        }
        for flush in flushes {
            let mut batches: Vec<_> = self.sender.tags().cloned().collect();
            for partition in &self.sender.buffers().0 {
                batches.extend(lock(&partition.buffer).tags().cloned());
            }
            // Whoever asked may have gone.
            let _ = flush.send(batches);
        }
        for (key, number, sealed) in std::mem::take(&mut *lock(&self.sealed)) {
            self.sender.handle_sealed(now, key, number, sealed);
        }
        self.inbox.swap(&mut self.outcomes);
        for (ticket, outcome) in self.outcomes.drain(..) {
            match outcome {
                Ok(_) if self.shared.options.acks.code() == 0 => {
                    self.sender.handle_unacknowledged(now, ticket)
                }
                Ok(answer) => {
                    self.sender.handle_produced(now, ticket, answer.version, &answer.address, &answer.body);
                }
                Err(call::Failure { error, sent }) => {
                    self.sender.handle_disconnect(now, ticket, &NoAnswer { error, sent });
                }
            }
        }
        self.sender.press(now, self.shared.waiting.load(Ordering::SeqCst) > 0);
        self.sender.handle_deadline(now);
    }

    /// All that the machine wants done.
    fn put_out(&mut self, now: Instant) {
        while let Some(request) = self.sender.poll_request(now) {
            match request {
                Request::Produce { ticket, node, parts, deadline } => {
                    self.produce(ticket, node, parts, deadline)
                }
                Request::InitProducerId { ticket } => {
                    let core = self.shared.core.clone();
                    self.identity = Some(Box::pin(async move { (ticket, identify(&core).await) }));
                }
            }
        }
        while let Some(event) = self.sender.poll_event() {
            self.handle(event);
        }
        *lock(&self.shared.counters) = self.sender.counters();
    }

    fn produce(&self, ticket: Ticket, node: i32, parts: Vec<Part>, deadline: Instant) {
        let options = &self.shared.options;
        let (acks, compression) = (options.acks.code(), options.compression);
        let timeout = options.request_timeout.as_millis().try_into().unwrap_or(i32::MAX);
        let client_id = self.shared.core.config().client_id.clone();
        let build = move |versions: &ApiVersions| {
            let nameless = parts.iter().any(|part| part.topic_id.is_nil());
            let most = if nameless { NAMES_UNTIL } else { i16::MAX };
            let version = versions.choose_at_most::<ProduceRequest>(most)?;
            if compression == Compression::Zstd && version < ZSTD_SINCE {
                return Err(
                    Error::new(ErrorKind::Unsupported, "the node is too old for zstd").in_api("Produce")
                );
            }
            let mut head = header::head::<ProduceRequest>(version, &client_id);
            let tail = produce::encode(&mut head, version, None, acks, timeout, &parts);
            Ok(Encoded { api_key: ProduceRequest::KEY, version, head, tail, answered: acks != 0 })
        };
        let completion = call::Completion::inbox(&self.inbox, ticket);
        self.shared.core.submit(node, Purpose::Produce, deadline, build, completion);
    }

    fn handle(&mut self, event: Event<Arc<Completion>>) {
        match event {
            Event::Settled { tag, key, first, count, total, outcome, reserved, bytes } => {
                if reserved > 0
                    && let Some(partition) = self.sender.buffers().0.get(key)
                {
                    partition.unsettled.fetch_sub(1, Ordering::Relaxed);
                }
                let last = tag.settle(first, count, total, outcome);
                if let Some(bytes) = bytes {
                    self.shared.recycle(bytes);
                }
                self.shared.release(reserved);
                if last {
                    self.shared.spend(tag);
                }
            }
            Event::Seal { key, number, builder } => {
                let (codec, level) = (self.shared.options.compression, self.shared.options.level);
                let (sealed, wake) = (self.sealed.clone(), self.shared.wake.clone());
                self.shared.core.tasks().compute(move || {
                    let bytes = builder.seal(codec, level, crate::record::batch::Stamp::NONE);
                    lock(&sealed).push((key, number, bytes));
                    wake.notify_one();
                });
            }
            Event::RefreshMetadata => self.shared.core.refresh(),
            Event::LeaderHint { topic, partition, leader, epoch, endpoint } => {
                let node = endpoint.map(|endpoint| Node {
                    id: leader,
                    host: endpoint.host.into(),
                    port: endpoint.port,
                    rack: endpoint.rack.map(Into::into),
                });
                self.shared.core.leader_hint(&topic, partition, leader, epoch, node);
            }
            Event::Throttle { node, until } => self.shared.core.throttle(node, Purpose::Produce, until),
        }
    }
}

impl Drop for Driver {
    /// Whatever way the task ends, nobody is left waiting.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.room.close();
        self.shared.close_buffers();
        let now = Instant::now();
        let cluster = Cluster::default();
        for partition in self.shared.partitions_from(self.sender.buffers().0.len()) {
            let (topic, number) = (partition.topic.clone(), partition.number);
            self.sender.buffers().0.push(partition);
            self.sender.add_partition(now, topic, number, &cluster);
        }
        self.sender.abandon(&Error::closed("the producer"));
        while let Some(event) = self.sender.poll_event() {
            if let Event::Settled { .. } = event {
                self.handle(event);
            }
        }
        *lock(&self.shared.counters) = self.sender.counters();
        self.shared.ended.send_replace(true);
    }
}

/// Asks for a producer id.
async fn identify(core: &Core) -> Result<ProducerIdentity> {
    let build = |_| {
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX)
    };
    let answer = core.call::<InitProducerIdRequest>(Target::Any, Purpose::Rest, build).await?;
    let code = ErrorCode::from(answer.error_code);
    if !code.is_none() {
        return Err(Error::broker(code, "no producer id was given").in_api("InitProducerId"));
    }
    Ok(ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch })
}

async fn wait_for(future: &mut Option<Pin<Box<dyn Future<Output = Identified> + Send>>>) -> Identified {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
