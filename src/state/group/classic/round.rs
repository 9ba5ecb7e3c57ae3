//! What a member asks: to join, to be given its part, to be kept.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::leader::{self, Layout};
use super::super::requests::{JoinPlan, Sender, SyncPlan, millis};
use super::super::{Event, Ticket, What};
use super::{Classic, Progress, State};
use crate::error::Result;
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

/// The coordinator ends a round by itself when the rebalance timeout is over; its answer needs a moment to get here.
const ROUND_SLACK: Duration = Duration::from_secs(5);

impl Classic {
    /// The next thing to ask, if any, and how long the answer may take. JoinGroup waits while a commit is under way.
    pub(in super::super) fn poll(
        &mut self,
        now: Instant,
        ticket: Ticket,
        cluster: &Cluster,
        committing: bool,
        events: &mut VecDeque<Event>,
    ) -> Option<(What, Duration)> {
        let timeout = self.settings.request_timeout;
        let round_timeout = timeout.max(self.settings.rebalance_timeout + ROUND_SLACK);
        self.prepare(now, events);
        if let Some(identity) = self.leaving.pop_front() {
            return Some((What::Leave(Sender { identity, ..self.sender() }), timeout));
        }
        match &self.state {
            State::Unjoined if self.revoking.is_empty() && !committing && self.not_before.is_none() => {
                if std::mem::take(&mut self.probe) {
                    return Some((What::Probe(self.sender()), timeout.min(self.clocks.patience())));
                }
                self.probe = true;
                (self.state, self.progress) = (State::Joining(ticket), Progress::Asked);
                self.clocks.stop();
                return Some((What::Join(self.join()), round_timeout));
            }
            State::Leading { round, until } if *until <= now || round.is_known(cluster) => {
                match self.lead(now, cluster) {
                    Ok(assignments) => {
                        self.state = State::Syncing(ticket);
                        return Some((What::Sync(self.sync(assignments)), round_timeout));
                    }
                    Err(error) => self.fail(error, events),
                }
            }
            State::Following => {
                if let Some(topics) = &self.expected {
                    self.watched = Some(Layout::of(topics, cluster, self.settings.rack.is_some()));
                }
                self.state = State::Syncing(ticket);
                return Some((What::Sync(self.sync(Vec::new())), round_timeout));
            }
            _ => {}
        }
        if self.is_stable() && self.check.is_some_and(|at| at <= now) {
            self.check = None;
            return Some((What::Describe(self.settings.group.clone()), timeout));
        }
        if self.has_pulse() && !self.beating && self.clocks.is_due(now) {
            self.beating = true;
            self.clocks.wait(now);
            return Some((What::Heartbeat(self.sender()), timeout.min(self.clocks.patience())));
        }
        None
    }

    /// Before a round: what it asks to be given up beforehand.
    fn prepare(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        if self.not_before.is_some_and(|at| at <= now) {
            self.not_before = None;
        }
        if self.is_stable() && self.rejoin.is_some() && self.revoking.is_empty() && self.not_before.is_none()
        {
            self.state = State::Unjoined;
        }
        if !matches!(self.state, State::Unjoined) {
            return;
        }
        let given =
            |partition: &&TopicPartition| !self.cooperative || !self.topics.contains(partition.topic());
        let given: Vec<_> = self.owned.iter().filter(given).cloned().collect();
        self.revoke(given, events);
        if self.topics.is_empty() && self.revoking.is_empty() {
            self.leave();
        }
    }

    fn join(&mut self) -> JoinPlan {
        self.joined.clone_from(&self.topics);
        let held = if self.cooperative { &self.owned } else { &self.last };
        let settings = &*self.settings;
        let protocols = settings.assignors.iter().map(|assignor| {
            let held = (held, self.last_generation);
            let rack = settings.rack.as_deref();
            let bytes = leader::subscription(&**assignor, &self.topics, held, self.cooperative, rack);
            (assignor.name().into(), bytes)
        });
        JoinPlan {
            session_timeout: millis(settings.session_timeout),
            rebalance_timeout: millis(settings.rebalance_timeout),
            protocols: protocols.collect(),
            reason: self.rejoin.take().unwrap_or("the consumer subscribes"),
            sender: self.sender(),
        }
    }

    /// What everybody gets, made by this member; nothing if the group keeps what it has.
    fn lead(&mut self, now: Instant, cluster: &Cluster) -> Result<Vec<(Arc<str>, Bytes)>> {
        let State::Leading { round, .. } = &self.state else { return Ok(Vec::new()) };
        let Some(assignor) = self.settings.assignors.get(self.protocol) else { return Ok(Vec::new()) };
        let assignments = round.assign(&**assignor, cluster)?;
        self.watched = Some(Layout::of(&round.topics, cluster, self.settings.rack.is_some()));
        if !round.skip {
            return Ok(assignments);
        }
        self.check = Some(now);
        let own = assignments.iter().find(|(member, _)| *member == self.identity.member);
        if let Some((_, bytes)) = own {
            let (own, _) = leader::assignment(bytes, &self.settings.group)?;
            self.expected = Some(own.iter().map(|partition| partition.shared_topic().clone()).collect());
        }
        Ok(Vec::new())
    }

    fn sync(&self, assignments: Vec<(Arc<str>, Bytes)>) -> SyncPlan {
        SyncPlan { sender: self.sender(), protocol: self.protocol_name().into(), assignments }
    }
}
