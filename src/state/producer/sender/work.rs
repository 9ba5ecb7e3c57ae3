//! The sender's inner part: looking after a partition, building requests, settling batches.
use std::time::Instant;

use super::super::batch::{Batch, Stage};
use super::*;

/// The key of a part of a request that has been answered.
pub(super) const ANSWERED: Key = Key::MAX;

impl<T: Clone, B: Buffers<T>> Sender<T, B> {
    /// Brings a partition in line with the time and with what has changed.
    pub(super) fn visit(&mut self, now: Instant, key: Key) {
        self.expire(now, key);
        let Some(queue) = self.queues.get_mut(key) else { return };
        queue.leave_former_leader(now);
        if self.settings.idempotent && renew(queue, &mut self.identity) {
            self.counters.epochs += 1;
        }
        if queue.leader.is_none() && queue.has_work() && queue.backoff_until.is_none_or(|until| until <= now)
        {
            self.events.push_back(Event::RefreshMetadata);
            let (backoff, random) = (self.settings.backoff, &mut self.random);
            queue.back_off(|failures| now + backoff.after(failures, random));
        }
        self.seal_ahead(key);
        self.list(now, key);
        self.schedule(now, key);
    }

    /// Ends what has taken too long.
    fn expire(&mut self, now: Instant, key: Key) {
        let timeout = self.settings.delivery_timeout;
        loop {
            let Some(queue) = self.queues.get(key) else { return };
            let is_due = |created: Instant| created + timeout <= now;
            match queue.batches.front() {
                Some(batch) if is_due(batch.created) => {
                    let error = Error::new(
                        ErrorKind::Timeout,
                        format!("not acknowledged within the delivery timeout of {timeout:?}"),
                    );
                    let error = match &queue.last_error {
                        Some(cause) => error.caused_by(cause.clone()),
                        None if queue.leader.is_none() => error.caused_by("the partition has no leader"),
                        None => error,
                    };
                    self.fail(key, 0, error, Vec::new());
                }
                None if queue.look.oldest.is_some_and(is_due) => {
                    if !self.take(key, true) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Starts compressing full batches before their turn comes.
    fn seal_ahead(&mut self, key: Key) {
        if self.settings.compression == Compression::None {
            return;
        }
        while let Some(queue) = self.queues.get(key)
            && queue.look.full
            && queue.batches.len() < queue.in_flight + SEAL_AHEAD
            && self.take(key, false)
        {
            self.seal_last(key);
        }
    }

    /// Has the newest batch of the queue compressed: here if it is small.
    fn seal_last(&mut self, key: Key) {
        let number = self.next_number;
        let Some(queue) = self.queues.get_mut(key) else { return };
        let at = queue.batches.len().saturating_sub(1);
        let Some(batch) = queue.batches.back_mut() else { return };
        if batch.len() > SEAL_HERE {
            if let Some(builder) = batch.send_away(number) {
                self.next_number += 1;
                self.events.push_back(Event::Seal { key, number, builder });
            }
        } else if let Err(error) = batch.seal(self.settings.compression, self.settings.level) {
            self.fail(key, at, Error::from(error), Vec::new());
        }
    }

    /// Takes the next batch out of the buffer into the queue.
    fn take(&mut self, key: Key, open_too: bool) -> bool {
        let taken = self.buffers.take(key, open_too);
        let found = taken.is_some();
        if let Some(queue) = self.queues.get_mut(key) {
            queue.batches.extend(taken.map(Batch::new));
        }
        self.look(key);
        found
    }

    pub(super) fn take_all(&mut self, key: Key) {
        while self.take(key, true) {}
    }

    pub(super) fn look(&mut self, key: Key) {
        let look = self.buffers.look(key);
        if let Some(queue) = self.queues.get_mut(key) {
            queue.look = look;
        }
    }

    /// Puts the partition into the ready list of its leader if it has something to send.
    fn list(&mut self, now: Instant, key: Key) {
        let Some(queue) = self.queues.get(key) else { return };
        let ready = match queue.next(now, &self.settings) {
            Next::Queued(_) => true,
            Next::Buffered => queue.look.full || self.is_ripe(now, queue),
            Next::Nothing => false,
        };
        let identified = !self.settings.idempotent || queue.identity.is_some();
        if let Some(leader) = queue.leader
            && ready
            && identified
            && !queue.listed
        {
            self.nodes.entry(leader).or_default().ready.push_back(key);
            if let Some(queue) = self.queues.get_mut(key) {
                queue.listed = true;
            }
        }
    }

    /// Whether the open batch has waited long enough.
    fn is_ripe(&self, now: Instant, queue: &Queue<T>) -> bool {
        queue.look.oldest.is_some_and(|opened| self.pressed || opened + self.settings.linger <= now)
    }

    /// Sees to it that the partition is visited in time. A timer that comes too early does no harm.
    fn schedule(&mut self, now: Instant, key: Key) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let Some(due) = queue.next_deadline(now, &self.settings) else { return };
        if queue.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = queue.timer.replace(due) {
                self.timers.remove(&(timer, key));
            }
            self.timers.insert((due, key));
        }
    }

    pub(super) fn update(&mut self, now: Instant, key: Key, cluster: &Cluster) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        if let Some(topic) = cluster.topic(&queue.topic) {
            queue.topic_id = topic.id;
            if !topic.error.is_none() {
                queue.last_error =
                    Some(Error::broker(topic.error, "the topic cannot be looked up").in_api("Metadata"));
            }
        }
        let former = queue.leader;
        match cluster.partition(&queue.topic, queue.partition) {
            Some(found) => queue.handle_leader(now, found.leader, found.leader_epoch),
            None => queue.handle_leader(now, None, -1),
        }
        if queue.listed
            && queue.leader != former
            && let Some(node) = former.and_then(|former| self.nodes.get_mut(&former))
        {
            // The former leader may never have room again.
            node.ready.retain(|&ready| ready != key);
            queue.listed = false;
        }
        self.visit(now, key);
    }

    /// One request to this node, with one batch of each partition that is ready, as far as they fit.
    pub(super) fn build(&mut self, now: Instant, node: i32) -> Option<Request> {
        let ticket = Ticket(self.next_number);
        let (mut keys, mut parts) = (self.spare.pop().unwrap_or_default(), Vec::new());
        let mut size = 0;
        for _ in 0..self.nodes.get(&node)?.ready.len() {
            let Some(key) = self.nodes.get_mut(&node).and_then(|node| node.ready.pop_front()) else { break };
            if let Some(queue) = self.queues.get_mut(key) {
                queue.listed = false;
            }
            let at = self.choose(now, key, node);
            let Some(queue) = self.queues.get_mut(key) else { continue };
            let Some((at, batch)) = at.and_then(|at| Some((at, queue.batches.get(at)?))) else {
                self.visit(now, key);
                continue;
            };
            let takes = batch.len() + produce::overhead(&queue.topic);
            if !keys.is_empty() && size + takes > self.settings.max_request_size {
                queue.listed = true;
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.ready.push_front(key);
                }
                break;
            }
            let stamp = queue.stamp(at);
            match queue.batches.get_mut(at).map(|batch| (batch.attempts, batch.stamped(stamp))) {
                Some((attempts, Ok(records))) => {
                    self.counters.retries += u64::from(attempts > 0);
                    size += takes;
                    queue.sent(at, ticket, node);
                    let (topic, topic_id) = (queue.topic.clone(), queue.topic_id);
                    keys.push(key);
                    parts.push(Part { topic, topic_id, partition: queue.partition, records });
                }
                Some((_, Err(error))) => self.fail(key, at, Error::from(error), Vec::new()),
                None => {}
            }
            self.visit(now, key);
        }
        if parts.is_empty() {
            return None;
        }
        if !parts.is_sorted_by(|a, b| a.topic <= b.topic) {
            // A request names a topic once.
            let mut both: Vec<(Key, Part)> = keys.into_iter().zip(parts).collect();
            both.sort_by(|a, b| a.1.topic.cmp(&b.1.topic));
            (keys, parts) = both.into_iter().unzip();
        }
        self.next_number += 1;
        self.counters.requests += 1;
        self.counters.batches += parts.len() as u64;
        self.counters.bytes += parts.iter().map(|part| part.records.len() as u64).sum::<u64>();
        self.nodes.entry(node).or_default().in_flight += 1;
        self.requests.insert(ticket, Waiting { node, keys, sent: now });
        Some(Request::Produce { ticket, node, parts, deadline: now + self.settings.request_timeout })
    }

    /// The batch of the partition that goes to this node now, taken out of the buffer if need be.
    fn choose(&mut self, now: Instant, key: Key, node: i32) -> Option<usize> {
        let queue = self.queues.get(key).filter(|queue| queue.leader == Some(node))?;
        match queue.next(now, &self.settings) {
            Next::Queued(at) => return Some(at),
            Next::Nothing => return None,
            Next::Buffered => {}
        }
        let (at, ripe) = (queue.batches.len(), self.is_ripe(now, queue));
        if !self.take(key, ripe) {
            return None;
        }
        if self.settings.compression != Compression::None {
            self.seal_last(key);
        }
        let queue = self.queues.get(key)?;
        (queue.next(now, &self.settings) == Next::Queued(at)).then_some(at)
    }

    /// The request is over: its node has room for another.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<(i32, Vec<Key>)> {
        let ended = self.requests.remove(&ticket)?;
        if let Some(node) = self.nodes.get_mut(&ended.node) {
            node.in_flight -= 1;
        }
        Some((ended.node, ended.keys))
    }

    /// One part of an answer.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        key: Key,
        ticket: Ticket,
        address: &str,
        part: PartResponse<'_>,
    ) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let Some(at) = queue.find(ticket) else { return self.visit(now, key) };
        let reaction = reaction(part.error, queue.identity.is_some());
        if reaction == Reaction::Written || reaction == Reaction::WrittenSomewhere {
            let base_offset =
                (reaction == Reaction::Written && part.base_offset >= 0).then_some(part.base_offset);
            let log_append_time = (part.log_append_time >= 0).then_some(part.log_append_time);
            if let Some(batch) = queue.written(now, at) {
                self.settled(key, batch, Outcome::Written { base_offset, log_append_time });
            }
            return self.visit(now, key);
        }
        let error = refused(part.error, part.message, address);
        tracing::debug!(%error, topic = &*queue.topic, partition = queue.partition, "batch refused");
        if let (Reaction::NewIdentity, Some(refused)) = (reaction, queue.identity) {
            self.identity.replace(refused);
        }
        queue.requeue(at, !proves_absence(part.error));
        let (unsure, first) = queue.batches.get(at).map_or((false, 0), |batch| (batch.unsure, batch.first));
        if part.error.refreshes_metadata() {
            self.events.push_back(Event::RefreshMetadata);
        }
        match reaction {
            Reaction::Retry => self.retry(now, key, at, error),
            // Those before it go again first, then it is judged.
            Reaction::OutOfOrder if at > 0 && !queue.must_bump => {}
            Reaction::OutOfOrder if !unsure => {
                if !queue.must_bump {
                    tracing::warn!(
                        topic = &*queue.topic,
                        partition = queue.partition,
                        "records before this batch are missing in the log; going on under a new producer epoch"
                    );
                    queue.must_bump = true;
                }
            }
            Reaction::NewEpoch | Reaction::NewIdentity if !unsure => {
                queue.must_bump = true;
                self.retry(now, key, at, error);
            }
            Reaction::Split if !unsure && self.split(key, at) => self.counters.splits += 1,
            // Also an unsure batch that the log has no place for now: an earlier attempt may be on its way still.
            _ => {
                let culprit = |(place, message): &(i32, Option<&str>)| {
                    let place = first.saturating_add(u32::try_from(*place).ok()?);
                    Some((place, refused(part.error, message.or(part.message), address)))
                };
                let culprits: Vec<_> = part.record_errors.iter().filter_map(culprit).collect();
                let error = match culprits.is_empty() {
                    true => error,
                    false => refused(part.error, Some("another record of the batch was refused"), address),
                };
                self.fail(key, at, error, culprits);
            }
        }
        self.visit(now, key);
    }

    /// The batch at `at`, queued again, waits; those behind it that failed with it do not make it wait longer.
    fn retry(&mut self, now: Instant, key: Key, at: usize, error: Error) {
        let (backoff, random) = (self.settings.backoff, &mut self.random);
        if let Some(queue) = self.queues.get_mut(key) {
            queue.last_error = Some(error);
            let waits = queue.backoff_until.is_some_and(|until| until > now);
            if at == 0 || !waits {
                queue.back_off(|failures| now + backoff.after(failures, random));
            }
        }
    }

    /// Divides the batch at `at`, and has later ones made smaller. `false` if it cannot be divided.
    fn split(&mut self, key: Key, at: usize) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return false };
        let Some(batch) = queue.batches.remove(at) else { return false };
        let half = batch.size / 2;
        match batch.split() {
            Ok((first, second)) => {
                let divided = second.is_some();
                if let Some(second) = second {
                    queue.batches.insert(at, second);
                    self.buffers.shrink(key, half);
                }
                queue.batches.insert(at, first);
                for at in [at, at + usize::from(divided)] {
                    if let Some(batch) = queue.batches.get_mut(at)
                        && batch.seal(self.settings.compression, self.settings.level).is_err()
                    {
                        batch.stage = Stage::Queued;
                    }
                }
                divided
            }
            Err((batch, error)) => {
                tracing::error!(%error, "a batch of our own cannot be read back");
                queue.batches.insert(at, batch);
                false
            }
        }
    }

    /// The parts of a request that got no answer.
    pub(super) fn unanswered(
        &mut self,
        now: Instant,
        ticket: Ticket,
        mut keys: Vec<Key>,
        failure: &NoAnswer,
    ) {
        let hopeless = !failure.sent && !failure.error.is_retriable();
        for key in keys.drain(..).filter(|&key| key != ANSWERED) {
            let Some(queue) = self.queues.get_mut(key) else { continue };
            if let Some(at) = queue.find(ticket) {
                queue.requeue(at, failure.sent);
                if hopeless || (failure.sent && self.settings.acks == 0) {
                    self.fail(key, at, failure.error.clone(), Vec::new());
                } else {
                    self.retry(now, key, at, failure.error.clone());
                }
            }
            self.visit(now, key);
        }
        self.spare.push(keys);
    }

    /// What waits for a producer id will not get one.
    pub(super) fn fail_waiting(&mut self, error: &Error) {
        for key in 0..self.queues.len() {
            let waits = |queue: &Queue<T>| queue.identity.is_none() || queue.must_bump;
            if !self.queues.get(key).is_some_and(waits) {
                continue;
            }
            self.take_all(key);
            let idle = |batch: &Batch<T>| !batch.is_in_flight() && !batch.unsure;
            while let Some(at) = self.queues.get(key).and_then(|queue| queue.batches.iter().position(idle)) {
                self.fail(key, at, error.clone(), Vec::new());
            }
        }
    }

    /// Gives up the batch at `at`.
    pub(super) fn fail(&mut self, key: Key, at: usize, error: Error, culprits: Vec<(u32, Error)>) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let Some((batch, unsure)) = queue.give_up(at) else { return };
        let (topic, partition) = (&queue.topic, queue.partition);
        let place = |error: Error| {
            let error = error.on_partition(topic.clone(), partition);
            if unsure { error.unsure() } else { error }
        };
        let culprits = culprits.into_iter().map(|(at, error)| (at, place(error))).collect();
        let outcome = Outcome::Failed { error: place(error), culprits };
        self.settled(key, batch, outcome);
    }

    pub(super) fn settled(&mut self, key: Key, batch: Batch<T>, outcome: Outcome) {
        let (tag, reserved) = (batch.tag.clone(), batch.reserved);
        let (first, count, total) = (batch.first, batch.count as u32, batch.total);
        match &outcome {
            Outcome::Written { .. } => self.counters.written += u64::from(count),
            Outcome::Failed { .. } => self.counters.failed += u64::from(count),
        }
        let bytes = batch.into_bytes();
        self.events.push_back(Event::Settled { tag, key, first, count, total, outcome, reserved, bytes });
    }

    pub(super) fn hint(
        &mut self,
        key: Key,
        leader: i32,
        epoch: i32,
        endpoint: Option<&produce::Endpoint<'_>>,
    ) {
        let Some(queue) = self.queues.get(key) else { return };
        let endpoint = endpoint.and_then(|endpoint| {
            let port = u16::try_from(endpoint.port).ok()?;
            Some(Endpoint { host: endpoint.host.to_owned(), port, rack: endpoint.rack.map(str::to_owned) })
        });
        let (topic, partition) = (queue.topic.clone(), queue.partition);
        self.events.push_back(Event::LeaderHint { topic, partition, leader, epoch, endpoint });
    }
}

/// Takes over the known identity where the partition needs one, or a newer one. Says whether an epoch began for it.
fn renew<T: Clone>(queue: &mut Queue<T>, identity: &mut Identity) -> bool {
    let began = match queue.identity {
        Some(old) if queue.must_bump && queue.is_drained() => identity.bump(old),
        Some(_) => return false,
        None => false,
    };
    if let Some(known) = identity.known() {
        queue.adopt(known);
    }
    began
}

/// Whether a part of an answer is about this partition.
pub(super) fn names<T>(queue: &Queue<T>, part: &PartResponse<'_>) -> bool {
    queue.partition == part.partition
        && match part.topic {
            TopicRef::Name(name) => queue.topic.as_bytes() == name,
            TopicRef::Id(id) => queue.topic_id == id,
        }
}

fn refused(code: ErrorCode, message: Option<&str>, address: &str) -> Error {
    Error::broker(code, message.unwrap_or("the batch was refused")).in_api("Produce").at_address(address)
}

pub(super) fn malformed(address: &str, error: Malformed) -> Error {
    Error::new(ErrorKind::Protocol, "malformed answer to Produce")
        .in_api("Produce")
        .at_address(address)
        .retriable(true)
        .caused_by(error)
}
