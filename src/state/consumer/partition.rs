//! One partition: where it is read, from whom, and what of it was fetched ahead.
use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use super::settings::{Offset, PositionReset};
use crate::error::Error;
use crate::protocol::fetch::PartitionName;
use crate::protocol::fetch::response::Aborted;
use crate::topic_partition::TopicPartition;

/// What has to happen before the next record can be fetched.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Somebody has to tell where to begin.
    Waiting,
    /// The position is to be looked up. `end` is the end of the log, asked first where a timestamp may match nothing:
    /// a record written between the two questions is then not skipped.
    Seek { to: Offset, end: Option<i64> },
    /// The leader changed: is the position still in its log?
    Validate,
    /// Nothing: fetch.
    Fetch,
    /// Nothing will, until the application seeks: the error was reported.
    Halted(Error),
}

/// ```text
///            seek, reset                  answer                 newer leader epoch
///   (any) ----------------> Seek(offset) --------> Fetch <----------------------------> Validate
///                              At(n) goes straight to Fetch |  data damaged, position gone
///                                                           v  and no reset policy
///                                                        Halted
/// ```
/// `position <= ahead`; the buffer holds what lies between. A response counts only if `version` and `ahead` are still those it was
/// asked with.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: TopicPartition,
    /// Nil where no node told it.
    pub(super) topic_id: Uuid,
    /// Drawn anew from one counter whenever what is under way becomes stale.
    pub(super) version: u64,
    pub(super) state: State,
    /// The offset to hand out next.
    pub(super) position: i64,
    /// The leader epoch of the record before it, -1 if unknown.
    pub(super) epoch: i32,
    /// That record was read. A position that was looked up has the leader's epoch, of which the log may hold no record.
    pub(super) read: bool,
    /// The offset to fetch next, and the epoch of the record before that.
    pub(super) ahead: i64,
    pub(super) ahead_epoch: i32,
    pub(super) paused: bool,
    /// It is about to be removed: nothing of it is handed out.
    pub(super) held: bool,
    /// Fetch no more before the buffer is empty: what comes next needs the position to be there.
    pub(super) drain: bool,
    pub(super) buffer: VecDeque<Segment>,
    /// Bytes in the buffer.
    pub(super) buffered: usize,
    /// Whether it stands in the queue of partitions with something to hand out.
    pub(super) queued: bool,
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    /// A replica to read instead of the leader, and until when.
    pub(super) replica: Option<(i32, Instant)>,
    /// Replicas failed: until when only the leader is read.
    pub(super) leader_only: Option<Instant>,
    /// Since when the metadata does not know it.
    pub(super) missing: Option<Instant>,
    /// Since when the metadata knows only leaders older than the position.
    pub(super) outrun: Option<Instant>,
    /// A lookup of its position is under way.
    pub(super) asking: bool,
    pub(super) retry_at: Option<Instant>,
    /// Failures since the last success, for the backoff.
    pub(super) failures: u32,
    /// Times the batch at the position was found damaged.
    pub(super) damaged: u32,
    /// Of one that has halted: the offset behind the batch that it halted at, or where the log begins to differ from what was read.
    pub(super) behind: Option<i64>,
    /// Whether a lasting error was reported since the last success.
    pub(super) reported: bool,
    /// When it was last known that the log held nothing from `ahead` on: what comes then was written later, whatever any clock says.
    pub(super) ended: Option<Instant>,
    /// To be told with the next batch.
    pub(super) reset: Option<PositionReset>,
    pub(super) high_watermark: i64,
    pub(super) last_stable_offset: i64,
    pub(super) log_start_offset: i64,
}

/// What one response brought for one partition: a slice of the response, still compressed.
#[derive(Debug)]
pub(super) struct Segment {
    /// What was not handed out yet.
    pub(super) rest: Bytes,
    /// It was written later than this, if that is known.
    pub(super) after: Option<Instant>,
    /// Aborted transactions that begin further on, by first offset.
    pub(super) aborted: VecDeque<Aborted>,
    /// Producers whose transaction at this place of the log was aborted.
    pub(super) aborting: Vec<i64>,
}

impl Segment {
    pub(super) fn new(records: Bytes, after: Option<Instant>, mut aborted: Vec<Aborted>) -> Self {
        // Kafka sends them in order, other brokers do not.
        aborted.sort_unstable_by_key(|aborted| aborted.first_offset);
        Self { rest: records, after, aborted: aborted.into(), aborting: Vec::new() }
    }

    /// Whether data of `producer_id` up to `last_offset` belongs to an aborted transaction. Asked in the order of the log.
    pub(super) fn is_aborted(&mut self, producer_id: i64, last_offset: i64) -> bool {
        while let Some(next) = self.aborted.front()
            && next.first_offset <= last_offset
        {
            self.aborting.push(next.producer_id);
            self.aborted.pop_front();
        }
        self.aborting.contains(&producer_id)
    }

    /// The abort marker of `producer_id` was reached.
    pub(super) fn end_aborted(&mut self, producer_id: i64) {
        self.aborting.retain(|id| *id != producer_id);
    }
}

impl Partition {
    pub(super) fn new(name: TopicPartition, version: u64) -> Self {
        Self {
            name,
            topic_id: Uuid::nil(),
            version,
            state: State::Seek { to: Offset::Beginning, end: None },
            position: 0,
            epoch: -1,
            read: false,
            ahead: 0,
            ahead_epoch: -1,
            paused: false,
            held: false,
            drain: false,
            buffer: VecDeque::new(),
            buffered: 0,
            queued: false,
            leader: None,
            leader_epoch: -1,
            replica: None,
            leader_only: None,
            missing: None,
            outrun: None,
            asking: false,
            retry_at: None,
            failures: 0,
            damaged: 0,
            behind: None,
            reported: false,
            reset: None,
            ended: None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
        }
    }

    pub(super) fn wire_name(&self) -> PartitionName {
        PartitionName {
            topic: self.name.shared_topic().clone(),
            topic_id: self.topic_id,
            partition: self.name.partition(),
        }
    }

    /// A node has told what there is from the place asked for on: if that was all, it is the end for now.
    pub(super) fn saw_end(&mut self, now: Instant) {
        if (0..=self.ahead).contains(&self.high_watermark) && !self.drain {
            self.ended = Some(now);
        }
    }

    /// Forgets what was fetched ahead and what is under way, and goes on from the position.
    pub(super) fn restart(&mut self, version: u64) {
        self.version = version;
        self.ended = None;
        self.ahead = self.position;
        self.ahead_epoch = self.epoch;
        self.buffer.clear();
        self.buffered = 0;
        self.drain = false;
        self.asking = false;
        self.retry_at = None;
    }

    /// The position is known to be `offset`.
    pub(super) fn place(&mut self, version: u64, offset: i64, epoch: i32) {
        self.position = offset;
        self.epoch = epoch;
        self.read = false;
        self.state = State::Fetch;
        self.restart(version);
    }

    /// Goes to `to`, whatever happened before.
    pub(super) fn seek(&mut self, version: u64, to: Offset) {
        self.failures = 0;
        self.damaged = 0;
        self.behind = None;
        self.reported = false;
        match to {
            Offset::At(offset) => self.place(version, offset, -1),
            to => {
                self.restart(version);
                self.state = State::Seek { to, end: None };
            }
        }
    }

    pub(super) fn progressed(&mut self) {
        self.failures = 0;
        self.retry_at = None;
        self.reported = false;
    }

    /// Whether there is something to hand out.
    pub(super) fn is_ready(&self) -> bool {
        !self.paused && !self.held && !self.buffer.is_empty() && !matches!(self.state, State::Halted(_))
    }

    /// The node to fetch from.
    pub(super) fn source(&self) -> Option<i32> {
        self.replica.map(|(node, _)| node).or(self.leader)
    }

    /// Copies what waits, so that a partition that may wait for long does not keep whole responses in memory.
    pub(super) fn detach(&mut self) {
        for segment in &mut self.buffer {
            segment.rest = Bytes::copy_from_slice(&segment.rest);
        }
    }
}
