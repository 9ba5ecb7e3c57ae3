//! Which node keeps a group, and what happens to its groups when that changes.
use std::sync::Arc;
use std::time::Instant;

use super::group::classic::Terms;
use super::group::{Answer, Answers, ConsumerTerms, Group, OFFSETS_TOPIC, Shard, partition_of};
use super::parked::Waiting;
use super::{Call, Cluster, Timer, new_uuid};
use crate::protocol::error_code::ErrorCode;

impl Cluster {
    /// The partition of the offsets topic that a group belongs to, if there is that topic.
    pub(crate) fn coordinator_partition(&self, group: &str) -> Option<i32> {
        let topic = self.topics.get(OFFSETS_TOPIC)?;
        Some(partition_of(group, topic.partitions.len()))
    }

    /// The node that keeps a group, `None` while there is none.
    pub(crate) fn coordinator(&self, group: &str) -> Option<i32> {
        let partition = self.topics.partition(OFFSETS_TOPIC, self.coordinator_partition(group)?)?;
        Some(partition.leader).filter(|leader| *leader >= 0)
    }

    /// Makes the offsets topic, as the first search for a coordinator does.
    pub(crate) fn ensure_offsets_topic(&mut self, now: Instant) {
        if self.topics.get(OFFSETS_TOPIC).is_none() {
            let partitions = self.config.offsets_partitions;
            let _ = self.create_topic(OFFSETS_TOPIC, partitions, None);
            self.leaders_moved(now);
        }
    }

    /// Whether the node that got this request answers for the group, and has read what there is of it.
    pub(super) fn check_coordinator(&self, call: &Call, group: &str) -> Result<(), ErrorCode> {
        if self.coordinator(group) != Some(call.node) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        let partition =
            self.coordinator_partition(group).and_then(|partition| usize::try_from(partition).ok());
        let shard = partition.and_then(|partition| self.groups.shards.get(partition));
        match shard.is_some_and(|shard| shard.loaded <= call.now) {
            true => Ok(()),
            false => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        }
    }

    /// The same for a request that changes something, which a node that is cut off cannot write down.
    pub(super) fn check_writable(&self, call: &Call, group: &str) -> Result<(), ErrorCode> {
        self.check_coordinator(call, group)?;
        if self.groups.cut_off { Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) } else { Ok(()) }
    }

    pub(super) fn join_terms(&self) -> Terms {
        Terms { initial_delay: self.config.initial_rebalance_delay, max_size: self.config.group_max_size }
    }

    pub(super) fn consumer_terms(&self) -> ConsumerTerms {
        let config = &self.config;
        ConsumerTerms {
            session_timeout: config.consumer_session_timeout,
            max_size: config.consumer_group_max_size,
        }
    }

    /// Leaders may have changed: groups whose coordinator did are loaded anew from what was written down.
    pub(super) fn leaders_moved(&mut self, now: Instant) {
        let Some(topic) = self.topics.get(OFFSETS_TOPIC) else { return };
        let count = topic.partitions.len();
        let mut moved = vec![false; count];
        for (index, partition) in topic.partitions.iter().enumerate() {
            let (leader, epoch) = (partition.leader, partition.leader_epoch);
            let same = |shard: &Shard| (shard.leader, shard.epoch) == (leader, epoch);
            if self.groups.shards.get(index).is_some_and(same) {
                continue;
            }
            // There is nothing to read in a topic that was just made.
            let loaded = if epoch == 0 { now } else { now + self.config.coordinator_load };
            let shard = Shard { leader, epoch, loaded };
            match self.groups.shards.get_mut(index) {
                Some(slot) => *slot = shard,
                None => self.groups.shards.push(shard),
            }
            moved[index] = true;
        }
        let is_moved =
            |group: &str| moved.get(partition_of(group, count) as usize).is_some_and(|moved| *moved);
        let ids: Vec<Arc<str>> = self.groups.by_id.keys().filter(|id| is_moved(id)).cloned().collect();
        for id in ids {
            self.reload_group(now, &id);
        }
    }

    fn reload_group(&mut self, now: Instant, id: &Arc<str>) {
        let terms = self.consumer_terms();
        let Some(mut group) = self.groups.by_id.remove(id) else { return };
        if let Some(timer) = group.timer.take() {
            self.timers.remove(&timer);
        }
        let mut out = Answers::new();
        group.refuse_parked(ErrorCode::NOT_COORDINATOR, &mut out);
        self.deliver(now, out);
        let at = usize::try_from(self.coordinator_partition(id).unwrap_or(0)).unwrap_or(0);
        let loaded = self.groups.shards.get(at).map_or(now, |shard| shard.loaded);
        group.reload(loaded, terms);
        self.groups.by_id.insert(id.clone(), group);
        self.arm_group(id);
    }

    /// Runs something on a group, made if need be, then sends what it answers and waits for its next deadline.
    pub(crate) fn with_group<T>(
        &mut self,
        now: Instant,
        id: &str,
        run: impl FnOnce(&mut Group, &mut Answers) -> T,
    ) -> T {
        let id: Arc<str> = Arc::from(id);
        let group = self.groups.by_id.entry(id.clone()).or_insert_with(Group::new);
        let mut out = Answers::new();
        let result = run(group, &mut out);
        group.persist();
        self.deliver(now, out);
        self.arm_group(&id);
        result
    }

    /// The group's own time has come.
    pub(super) fn group_is_due(&mut self, now: Instant, id: &Arc<str>) {
        let terms = self.join_terms();
        let Some(group) = self.groups.by_id.get_mut(id) else { return };
        group.timer = None;
        let mut out = Answers::new();
        group.handle_deadline(now, terms, &mut out);
        self.deliver(now, out);
        self.arm_group(id);
    }

    /// One timer for each group, for its earliest deadline. Without a coordinator nobody looks at the clock.
    pub(super) fn arm_group(&mut self, id: &Arc<str>) {
        if self.groups.cut_off {
            return;
        }
        let has_coordinator = self.coordinator(id).is_some();
        let Some(group) = self.groups.by_id.get(id) else { return };
        let deadline = group.next_deadline().filter(|_| has_coordinator);
        let before = group.timer;
        if before.map(|(at, _)| at) == deadline {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&before);
        }
        let timer = deadline.map(|at| self.set_timer(at, Timer::Group(id.clone())));
        if let Some(group) = self.groups.by_id.get_mut(id) {
            group.timer = timer;
        }
    }

    /// Answers parked requests.
    fn deliver(&mut self, now: Instant, out: Answers) {
        for (id, answer) in out {
            let Some(mut call) = self.take_waiting_for_group(id) else { continue };
            call.now = now;
            match answer {
                Answer::Join(mut response) => {
                    response.throttle_time_ms = call.throttle_ms();
                    if call.version < 7 {
                        // Null came with version 7.
                        response.protocol_name.get_or_insert_default();
                    }
                    self.answer(&call, &response);
                }
                Answer::Sync(response) => {
                    self.answer(&call, &response.with_throttle_time_ms(call.throttle_ms()));
                }
            }
            self.woken.insert(id);
        }
    }

    pub(super) fn delete_group(&mut self, id: &str) {
        if let Some(timer) = self.groups.by_id.remove(id).and_then(|group| group.timer) {
            self.timers.remove(&timer);
        }
    }

    /// The id of a member that is new: its client's name or instance, and chance.
    pub(super) fn new_member_id(&mut self, prefix: &str) -> String {
        format!("{prefix}-{}", new_uuid(&mut self.random))
    }

    /// Lets a request wait until its group answers it.
    pub(super) fn park_for_group(&mut self, call: &Call) {
        self.park(call.clone(), Waiting::Group, None);
    }

    /// Has another node keep a group: another replica of its partition becomes the leader.
    pub(crate) fn move_coordinator(&mut self, now: Instant, group: &str, to: Option<i32>) -> bool {
        self.ensure_offsets_topic(now);
        let partition = self.coordinator_partition(group).unwrap_or(-1);
        self.move_leader(now, OFFSETS_TOPIC, partition, to)
    }
}
