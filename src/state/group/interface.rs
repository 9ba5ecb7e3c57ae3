//! What a member is told once, what it asks, what it is answered, what it tells.
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, DescribeGroupsResponse, FindCoordinatorResponse, HeartbeatResponse,
    JoinGroupResponse, LeaveGroupResponse, OffsetCommitResponse, OffsetFetchResponse, SyncGroupResponse,
};

use super::place::Place;
use super::requests::{BeatPlan, CommitPlan, JoinPlan, OffsetFetchPlan, Sender, SyncPlan};
use crate::assignor::Assignor;
use crate::error::{Error, Result};
use crate::state::backoff::Backoff;
use crate::topic_partition::TopicPartition;

/// Names a request; gets exactly one answer.
pub(crate) type Ticket = u64;

/// Which protocol a consumer is a member of its group by (`group.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup: a member assigns, and everybody meets in rounds (`classic`). The default; every node has it.
    #[default]
    Classic,
    /// ConsumerGroupHeartbeat: the coordinator assigns, and each member moves by itself (`consumer`, KIP-848). Nodes from Kafka 4.0 on.
    Consumer,
}

/// The options of a membership, checked.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) group: Arc<str>,
    /// Of a static member (`group.instance.id`).
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) max_poll_interval: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: Backoff,
    /// In the order in which they are preferred.
    pub(crate) assignors: Vec<Arc<dyn Assignor>>,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) protocol: GroupProtocol,
    /// The coordinator's assignor (`group.remote.assignor`), and topics that it finds by itself (RE2/J); both only of `Consumer`.
    pub(crate) remote_assignor: Option<Arc<str>>,
    pub(crate) regex: Option<Arc<str>>,
}

/// Under which id and in which generation a member takes part; generation -1: it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) generation: i32,
    /// Empty until the coordinator gave one.
    pub(crate) member: Arc<str>,
}

impl Identity {
    pub(crate) fn none() -> Self {
        Self { generation: -1, member: "".into() }
    }
}

/// A request that is to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    /// `None`: any node will do.
    pub(crate) node: Option<i32>,
    pub(crate) ticket: Ticket,
    /// How long the answer may take.
    pub(crate) timeout: Duration,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Find(Arc<str>),
    /// A heartbeat that goes before JoinGroup on its connection.
    Probe(Sender),
    /// A look at the whole group.
    Describe(Arc<str>),
    Join(JoinPlan),
    Sync(SyncPlan),
    Heartbeat(Sender),
    Leave(Sender),
    Beat(BeatPlan),
    Commit(CommitPlan),
    Fetch(OffsetFetchPlan),
}

impl What {
    /// Whether it only says that a member lives. A node answers that at once, so that it must not stand behind a commit, which waits
    /// for replicas. Who joins or leaves by a heartbeat stays in line with the commits: the last of them comes before the farewell.
    pub(crate) fn is_sign_of_life(&self) -> bool {
        match self {
            Self::Heartbeat(_) => true,
            Self::Beat(plan) => plan.sender.identity.generation > 0,
            _ => false,
        }
    }
}

/// What was answered to one.
#[derive(Debug)]
pub(crate) enum Answer {
    Find(FindCoordinatorResponse),
    Describe(DescribeGroupsResponse),
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Beat(ConsumerGroupHeartbeatResponse),
    Commit(OffsetCommitResponse),
    Fetch(OffsetFetchResponse),
}

impl Answer {
    /// How long the node asks to be left alone (KIP-219).
    pub(crate) fn throttle(&self) -> Option<Duration> {
        let millis = match self {
            Self::Find(answer) => answer.throttle_time_ms,
            Self::Describe(answer) => answer.throttle_time_ms,
            Self::Join(answer) => answer.throttle_time_ms,
            Self::Sync(answer) => answer.throttle_time_ms,
            Self::Heartbeat(answer) => answer.throttle_time_ms,
            Self::Leave(answer) => answer.throttle_time_ms,
            Self::Beat(answer) => answer.throttle_time_ms,
            Self::Commit(answer) => answer.throttle_time_ms,
            Self::Fetch(answer) => answer.throttle_time_ms,
        };
        u64::try_from(millis).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
    }
}

/// What the shell is to do besides sending requests; the first four are the membership's.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Assigned(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Failed(Error),
    /// Something is wrong, and goes on by itself.
    Warned(Error),
    /// A topic was assigned that metadata does not know.
    Refresh,
    /// What [`Group::topics`](super::Group::topics) says has changed.
    Topics,
    /// A commit has ended: what of it is committed, and what went wrong with the rest.
    Committed {
        id: u64,
        done: Vec<(TopicPartition, i64)>,
        error: Option<Error>,
    },
    /// Where the group stands in a partition: nowhere yet, at a place, or it cannot be told.
    Offset(TopicPartition, Result<Option<Place>>),
}

/// Whether a topic is wanted, by its name.
pub(crate) type Pattern = Arc<dyn Fn(&str) -> bool + Send + Sync>;
