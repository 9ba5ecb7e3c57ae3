//! How a run with a consumer group is set up.
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::super::grouping::{GROUP, Terms};
use super::{BACKOFF, Plan, Weather, millis};
use crate::assignor::{
    Assignor, CooperativeStickyAssignor, RangeAssignor, RoundRobinAssignor, StickyAssignor,
};
use crate::broker::Release;
use crate::state::group::{self, GroupProtocol};
use crate::state::membership;

/// How the members of a run divide the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Division {
    Range,
    RoundRobin,
    Sticky,
    Cooperative,
    /// By the coordinator (KIP-848).
    Consumer,
}

/// What a run with a group has besides.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct GroupPlan {
    pub(in super::super) division: Division,
    pub(in super::super) members: usize,
    pub(super) session_timeout: Duration,
    pub(super) heartbeat_interval: Duration,
    rebalance_timeout: Duration,
    max_poll_interval: Duration,
    fixed: bool,
}

impl Plan {
    /// A storm over a group, with nobody else who writes or reads.
    pub(in super::super) fn of_groups(random: &mut SmallRng) -> Self {
        let mut plan = Self::new(random);
        let division = match random.random_range(0..10) {
            0 => Division::Range,
            1 => Division::RoundRobin,
            2 | 3 => Division::Sticky,
            4..7 => Division::Cooperative,
            _ => Division::Consumer,
        };
        plan.weather = Weather::Storm;
        plan.producers.clear();
        plan.consumers.truncate(1);
        plan.between_commands = None;
        plan.between_faults = millis(random, 200..3000);
        plan.between_writes = millis(random, 60..400);
        plan.length = millis(random, 10_000..40_000);
        // What is asked of the coordinator may have to wait behind that.
        plan.delay = plan.delay.min(Duration::from_millis(4));
        plan.bulk = false;
        plan.late_requests = false;
        if division == Division::Consumer {
            plan.release = Release::V4_1;
        } else if !plan.has_epochs() {
            plan.release = Release::V2_4;
        }
        plan.group = Some(GroupPlan {
            division,
            members: random.random_range(1..5),
            session_timeout: millis(random, 6000..10_000),
            heartbeat_interval: millis(random, 300..2000),
            rebalance_timeout: millis(random, 5000..12_000),
            max_poll_interval: millis(random, 5000..15_000),
            fixed: random.random_bool(0.3),
        });
        plan
    }

    /// One more member, the `number`th there has been; in the place of a static one that is gone, if there is one.
    pub(in super::super) fn member(
        &self,
        random: &mut SmallRng,
        number: usize,
        instance: Option<Arc<str>>,
    ) -> Option<Terms> {
        let plan = self.group?;
        let assignors: Vec<Arc<dyn Assignor>> = match plan.division {
            Division::Range | Division::Consumer => vec![Arc::new(RangeAssignor)],
            Division::RoundRobin => vec![Arc::new(RoundRobinAssignor)],
            Division::Sticky => vec![Arc::new(StickyAssignor::default())],
            Division::Cooperative => vec![Arc::new(CooperativeStickyAssignor::default())],
        };
        let fixed = || (plan.fixed && random.random_bool(0.5)).then(|| format!("i{number}").into());
        let group = group::Settings {
            group: GROUP.into(),
            instance: instance.or_else(fixed),
            session_timeout: plan.session_timeout,
            heartbeat_interval: plan.heartbeat_interval,
            rebalance_timeout: plan.rebalance_timeout,
            max_poll_interval: plan.max_poll_interval,
            request_timeout: self.request_timeout,
            backoff: BACKOFF,
            assignors,
            rack: None,
            protocol: match plan.division {
                Division::Consumer => GroupProtocol::Consumer,
                _ => GroupProtocol::Classic,
            },
            remote_assignor: None,
            regex: None,
        };
        let habits = membership::Settings {
            auto_commit: random.random_bool(0.8).then(|| millis(random, 100..3000)),
            auto_store: random.random_bool(0.7),
            hold_revoked: false,
            revoke_within: plan.rebalance_timeout * 3 / 4,
            commit_within: self.request_timeout,
        };
        let mut reading = self.consumers.first()?.clone();
        // Where nothing is committed all has to be read.
        reading.reset = crate::state::consumer::OffsetReset::Earliest;
        let (listening, work) = (random.random_bool(0.5), millis(random, 0..300));
        Some(Terms { group, habits, reading, listening, work })
    }

    /// How long a group may take, when nothing goes wrong any more, until everybody has what is his. That a topic has grown is seen when
    /// the metadata is too old.
    pub(in super::super) fn settling(&self) -> Duration {
        let group = self.group.map_or(Duration::ZERO, |group| {
            group.session_timeout + 2 * group.rebalance_timeout + group.max_poll_interval
        });
        group + self.metadata_max_age + 3 * self.request_timeout + Duration::from_secs(60)
    }
}
