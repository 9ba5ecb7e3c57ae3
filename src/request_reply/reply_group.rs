//! The options of a group that chooses reply partitions.
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::GroupOptions;

/// A group that requesters choose their reply partitions in, each its own; for [`ReplyAllocator::group`](crate::ReplyAllocator::group) and
/// [`ReplyAllocator::nest_group`](crate::ReplyAllocator::nest_group). A name alone will do.
///
/// The requester is a member only to choose: nothing is read or committed for the group, and whatever the group does, no reply is lost or delayed
/// for it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # let client = milena::Client::connect(&broker.address()).await?;
/// use milena::{ReplyAllocator, ReplyGroup};
///
/// let group = ReplyGroup::new("billing-callers").group_instance_id("billing-0");
/// let requester = client.requester().allocator(ReplyAllocator::group(group)).build().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ReplyGroup {
    pub(super) options: GroupOptions,
    pub(super) share: bool,
}

impl ReplyGroup {
    /// The group with this id (`group.id`), which nobody reads as.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        let mut options = GroupOptions::default();
        options.id = Some(id.into());
        Self { options, share: true }
    }

    /// Makes it a static member (`group.instance.id`, KIP-345): it keeps its partition while it restarts, for up to `session_timeout`. No two
    /// requesters may have the same one. Default: none.
    pub fn group_instance_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.options.instance = Some(id.into());
        self
    }

    /// How long the coordinator waits for a sign of life before it gives the partition to others (`session.timeout.ms`). Default 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.options.session_timeout = timeout;
        self
    }

    /// How often it gets one (`heartbeat.interval.ms`). Default 3 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.options.heartbeat_interval = interval;
        self
    }

    /// Whether a requester that has no partition of its own shares one: until the group has given it one, which a new group takes seconds for,
    /// and while there are more requesters than partitions. Sharing costs traffic and no replies. Default true.
    ///
    /// If false, building the requester waits for the group, for at most `request_timeout`; and it, or the call that is the first to need a
    /// reply topic, fails with [`ErrorKind::Starved`](crate::ErrorKind::Starved) if no partition is left.
    pub fn share(mut self, share: bool) -> Self {
        self.share = share;
        self
    }
}

impl<T: Into<Arc<str>>> From<T> for ReplyGroup {
    fn from(id: T) -> Self {
        Self::new(id)
    }
}

impl std::fmt::Debug for ReplyGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyGroup")
            .field("id", &self.options.id)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}
