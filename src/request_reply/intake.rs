//! The task of a responder: reads requests, starts their handlers, tells the group what is finished.
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::at_once::AtOnce;
use super::serve::{Ending, Serving, take};
use crate::consumer::{Batch, BatchRecords, Consumer, ConsumerEvent, ConsumerHandle, ConsumerRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::state::reply::dialect::read_control;
use crate::state::reply::intake::Work;
use crate::topic_partition::TopicPartition;

/// So many requests are begun before others on the thread have a turn: events that are handled at once take no place.
const TURN: usize = 512;

impl Work for ConsumerRecord {
    fn offset(&self) -> i64 {
        ConsumerRecord::offset(self)
    }

    /// Keys that are taken for equal by chance have turns without need, which is all.
    fn key(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        ConsumerRecord::key(self)?.hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// What is left of a batch.
pub(super) enum Rest {
    Read(BatchRecords),
    /// Without control records.
    Sifted(std::vec::IntoIter<ConsumerRecord>),
}

impl Iterator for Rest {
    type Item = ConsumerRecord;

    fn next(&mut self) -> Option<ConsumerRecord> {
        match self {
            Self::Read(records) => records.next(),
            Self::Sifted(records) => records.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Read(records) => records.size_hint(),
            Self::Sifted(records) => records.size_hint(),
        }
    }
}

impl ExactSizeIterator for Rest {}

/// Reads the request topics until it is told to stop, and waits for the handlers it started.
pub(super) async fn serve(ending: Ending, mut consumer: Consumer, handlers: TaskSet) {
    let serving = &ending.0;
    let mut reading = Reading {
        serving,
        handlers: &handlers,
        consumer: consumer.handle(),
        ticks: serving.config.alone.is_none().then(|| {
            // What is finished waits for the next tick, then for the consumer's next commit.
            let mut ticks = interval(serving.config.consumer.commit_interval() / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }),
        at_once: AtOnce::default(),
        revoking: None,
        outcome: None,
        until: None,
    };
    reading.read(&mut consumer).await;
    reading.tell_finished();
    let outcome = reading.outcome.take().unwrap_or(Ok(()));
    let left = serving.state().intake.running() as u64;
    if left > 0 {
        // Their requests are not committed: where there is a group, another member answers them.
        tracing::warn!(group = %serving.config.group, handlers = left, "handlers are cut off");
        serving.count(|metrics| metrics.cut_off += left);
        handlers.abort();
    }
    handlers.close().await;
    consumer.close().await;
    serving.ended.send_replace(Some(outcome));
}

struct Reading<'a> {
    serving: &'a Arc<Serving>,
    handlers: &'a TaskSet,
    at_once: AtOnce,
    consumer: ConsumerHandle,
    /// When to tell the group what is finished, if there is one.
    ticks: Option<Interval>,
    /// Partitions to be given up, and how long their handlers are waited for; for ever if that is too far off.
    revoking: Option<(BTreeSet<TopicPartition>, Option<Instant>)>,
    /// How it ends, once that is decided.
    outcome: Option<Result<()>>,
    /// How long the last handlers are waited for.
    until: Option<Instant>,
}

impl Reading<'_> {
    async fn read(&mut self, consumer: &mut Consumer) {
        let mut stop = self.serving.stop.subscribe();
        while !self.is_done() {
            let event = {
                let broken = matches!(self.outcome, Some(Err(_)));
                // Kept while handlers end: who drops it is gone for a moment, as the group sees it.
                let mut next = std::pin::pin!(async {
                    match broken {
                        true => std::future::pending().await,
                        false => consumer.next_event().await,
                    }
                });
                loop {
                    self.start().await;
                    self.give_up_if_idle();
                    if self.is_done() {
                        return;
                    }
                    let revoking = self.revoking.as_ref().and_then(|(_, until)| *until);
                    let until = revoking.into_iter().chain(self.until).min();
                    tokio::select! {
                        biased;
                        _ = stop.wait_for(|stop| *stop), if self.outcome.is_none() => self.end(Ok(())),
                        () = self.serving.ended_one.notified() => {}
                        () = tick(&mut self.ticks) => self.tell_finished(),
                        () = at(until) => {}
                        event = &mut next => break event,
                    }
                }
            };
            self.handle(event).await;
        }
    }

    async fn handle(&mut self, event: Result<Option<ConsumerEvent>>) {
        match event {
            Ok(Some(ConsumerEvent::Batch(batch))) => self.put(batch).await,
            Ok(Some(ConsumerEvent::Assigned(partitions))) => {
                self.serving.count(|metrics| metrics.assigned += partitions.len() as u64);
                for partition in &partitions {
                    // It may have been paused when this member had it before. An error: it is gone again.
                    let _ = match self.outcome {
                        None => self.consumer.resume(partition),
                        Some(_) => self.consumer.pause(partition),
                    };
                }
            }
            Ok(Some(ConsumerEvent::Revoked(partitions))) => {
                let state = &mut *self.serving.state();
                state.watched = true;
                partitions.iter().for_each(|partition| state.intake.stop(partition));
                let until = Instant::now().checked_add(self.serving.config.revocation_timeout);
                self.revoking.get_or_insert_with(|| (BTreeSet::new(), until)).0.extend(partitions);
            }
            Ok(Some(ConsumerEvent::Lost(partitions))) => {
                tracing::warn!(group = %self.serving.config.group, ?partitions, "request partitions were lost");
                self.serving.count(|metrics| metrics.lost_partitions += partitions.len() as u64);
                let state = &mut *self.serving.state();
                partitions.iter().for_each(|partition| state.intake.forget(partition));
                if let Some((revoking, _)) = &mut self.revoking {
                    partitions.iter().for_each(|partition| _ = revoking.remove(partition));
                }
            }
            Ok(None) => self.end(Err(Error::closed("client"))),
            Err(error) => {
                let halted =
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Position);
                if halted || self.consumer.failure().is_some() {
                    self.end(Err(error));
                } else {
                    // The consumer goes on by itself.
                    tracing::warn!(%error, group = %self.serving.config.group, "reading requests");
                }
            }
        }
    }

    async fn put(&mut self, batch: Batch) {
        // What it has handed out before it was told to pause is for another.
        if self.outcome.is_none() {
            let (partition, end) = (batch.topic_partition().clone(), batch.next_offset());
            self.serving.state().intake.put(&partition, Rest::Read(batch.records()), end);
            self.start().await;
            self.sift(&partition);
            if self.serving.state().intake.pause_if_full(&partition) {
                let _ = self.consumer.pause(&partition);
            }
        }
    }

    /// Control records need no place and cannot wait for their turn: those who run may wait for them.
    fn sift(&self, partition: &TopicPartition) {
        let handlers = self.serving.config.handlers.get(partition.topic());
        if handlers.is_none_or(|handlers| handlers.request.is_none()) {
            return;
        }
        let Some((waiting, end)) = self.serving.state().intake.take_back(partition) else { return };
        let requests: Vec<_> = waiting
            .filter(|record| match read_control(record.headers()) {
                Some(control) => {
                    self.serving.control(&control);
                    false
                }
                None => true,
            })
            .collect();
        self.serving.state().intake.put(partition, Rest::Sifted(requests.into_iter()), end);
    }

    /// Starts what may run.
    async fn start(&mut self) {
        for started in 1.. {
            let taken = self.serving.state().intake.take();
            let Some((ticket, record)) = taken else { break };
            take(self.serving, self.handlers, &mut self.at_once, ticket, record);
            if started % TURN == 0 {
                self.at_once.settle(self.serving, self.handlers);
                tokio::task::yield_now().await;
            }
        }
        self.at_once.settle(self.serving, self.handlers);
        let resumable = self.serving.state().intake.take_resumable();
        for partition in resumable {
            // An error: it is not this member's any more.
            let _ = self.consumer.resume(partition);
        }
    }

    /// Takes nothing more; what runs may end.
    fn end(&mut self, outcome: Result<()>) {
        if self.outcome.as_ref().is_none_or(|before| before.is_ok() && outcome.is_err()) {
            self.outcome = Some(outcome);
        }
        self.until = self.until.or(Instant::now().checked_add(self.serving.config.drain_timeout));
        {
            let state = &mut *self.serving.state();
            state.watched = true;
            state.intake.stop_all();
        }
        for partition in self.consumer.assignment() {
            let _ = self.consumer.pause(partition);
        }
    }

    fn is_done(&self) -> bool {
        self.outcome.is_some() && (self.serving.state().intake.running() == 0 || is_over(self.until))
    }

    /// Gives up what the group asks back when its handlers have ended, or the time for that is over.
    fn give_up_if_idle(&mut self) {
        let Some((partitions, until)) = &self.revoking else { return };
        let idle = {
            let state = self.serving.state();
            partitions.iter().all(|partition| state.intake.is_idle(partition))
        };
        if !idle && !is_over(*until) {
            return;
        }
        self.tell_finished();
        let Some((partitions, _)) = self.revoking.take() else { return };
        self.serving.count(|metrics| metrics.revoked += partitions.len() as u64);
        {
            let state = &mut *self.serving.state();
            state.watched = self.outcome.is_some();
            partitions.iter().for_each(|partition| state.intake.forget(partition));
        }
        self.consumer.release();
    }

    /// Tells the group what is finished; the consumer commits it.
    fn tell_finished(&self) {
        if self.ticks.is_some() {
            let floors = self.serving.state().intake.take_floors();
            for (partition, floor) in floors {
                // An error: it is not this member's any more.
                let _ = self.consumer.finish(partition, floor);
            }
        }
    }
}

fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until <= Instant::now())
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => _ = ticks.tick().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
