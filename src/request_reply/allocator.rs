//! Who chooses the partition that replies go to.
use std::collections::BTreeSet;
use std::sync::Arc;

use rand::RngExt as _;
use tokio::sync::watch;

use super::group_home::GroupHome;
use super::home::{Home, Homes};
use super::reply_group::ReplyGroup;
use crate::client::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::state::reply::home_claims::{Pins, Strategy, weight};

/// Who chooses the reply partition of a [`Requester`](crate::Requester); see
/// [`RequesterBuilder::allocator`](crate::RequesterBuilder::allocator).
///
/// It only says where the replies to *new* requests go. No promise depends on it: any number of requesters may share a partition, and a
/// partition that is not chosen any more is read on until the last call that points at it has ended.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # let client = milena::Client::connect(&broker.address()).await?;
/// use milena::ReplyAllocator;
///
/// let requester = client.requester().allocator(ReplyAllocator::fixed(3)).build().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct ReplyAllocator(Way);

#[derive(Debug, Clone, Default)]
enum Way {
    #[default]
    SelfChosen,
    Fixed(i32),
    Broadcast,
    Group(Strategy, Box<ReplyGroup>),
    /// Somebody else says, and may change its mind.
    Watched(watch::Receiver<Homes>),
}

impl ReplyAllocator {
    /// The requester itself: by its instance id, or at random. It asks nobody, so that it is ready at once. The default.
    pub fn self_chosen() -> Self {
        Self(Way::SelfChosen)
    }

    /// This partition, for instance by the ordinal of a stateful set.
    pub fn fixed(partition: i32) -> Self {
        Self(Way::Fixed(partition))
    }

    /// All partitions are read, and requests name none: for responders that choose the partition of a reply themselves. Each requester
    /// then reads all replies of all that share the topic.
    pub fn broadcast() -> Self {
        Self(Way::Broadcast)
    }

    /// A group in which requesters choose, so that each has a partition of its own as long as there are enough, and reads nobody else's
    /// replies. It has to be a group of their own. A home never moves while its requester lives, whoever else comes or goes; a requester
    /// that was shut out goes on with the one it had.
    ///
    /// Calls do not wait for the group: until it has chosen, the requester shares a partition. See [`ReplyGroup::share`].
    pub fn group(group: impl Into<ReplyGroup>) -> Self {
        Self(Way::Group(Strategy::ReplySticky, Box::new(group.into())))
    }

    /// The group that the clients of a NestJS service choose in, by the `groupId` of their options, to which NestJS adds `-client`: for
    /// requesters that take the place of such clients one after the other. Use it with [`Dialect::Nest`](crate::Dialect::Nest), whose reply topics
    /// are theirs, and name the topics at once by [`RequesterBuilder::request_topics`](crate::RequesterBuilder::request_topics): all clients stop
    /// while the group meets.
    ///
    /// While one of NestJS leads, two requesters may be given the same partition, and one may be left without although some are free, as
    /// it goes with NestJS alone. No reply is lost for that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("sum", 1)?;
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// use milena::{Dialect, ReplyAllocator};
    ///
    /// let requester = client.requester().dialect(Dialect::Nest).request_topics(["sum"]);
    /// let requester = requester.allocator(ReplyAllocator::nest_group("billing")).build().await?;
    /// # Ok(()) }
    /// ```
    pub fn nest_group(group: impl Into<ReplyGroup>) -> Self {
        let mut group = Box::new(group.into());
        group.options.id = group.options.id.map(|id| format!("{id}-client").into());
        Self(Way::Group(Strategy::Nest, group))
    }

    /// The group, if it is one; the allocator is then what the group says.
    pub(super) fn join(&mut self, core: &Arc<Core>, pins: Pins) -> Result<Option<GroupHome>> {
        let Way::Group(strategy, group) = &self.0 else { return Ok(None) };
        let group = GroupHome::start(core, (**group).clone(), *strategy, pins)?;
        *self = Self::watched(group.homes());
        Ok(Some(group))
    }

    /// What the channel says, and while it says nothing of a topic, the requester itself.
    pub(super) fn watched(homes: watch::Receiver<Homes>) -> Self {
        Self(Way::Watched(homes))
    }

    pub(super) fn changes(&self) -> Option<&watch::Receiver<Homes>> {
        match &self.0 {
            Way::Watched(homes) => Some(homes),
            _ => None,
        }
    }

    pub(super) fn is_broadcast(&self) -> bool {
        matches!(self.0, Way::Broadcast)
    }

    /// The partition that new requests are to name, if they name one, and those that are to be read, of so many.
    pub(super) fn choose(
        &self,
        topic: &str,
        instance: Option<&str>,
        count: i32,
    ) -> Result<(Option<i32>, BTreeSet<i32>)> {
        let own = || match instance {
            Some(id) => rendezvous(id.as_bytes(), count),
            None => rand::rng().random_range(0..count),
        };
        let home = match &self.0 {
            Way::Broadcast => return Ok((None, (0..count).collect())),
            Way::SelfChosen | Way::Group(..) => own(),
            Way::Fixed(partition) => *partition,
            Way::Watched(homes) => match homes.borrow().get(topic) {
                Some(Home::Partition(partition)) => *partition,
                // To share a partition costs traffic, not replies.
                Some(Home::Starved) | None => own(),
            },
        };
        if !(0..count).contains(&home) {
            let message = format!("the reply topic has only {count} partitions");
            return Err(Error::new(ErrorKind::Config, message).on_partition(topic, home));
        }
        Ok((Some(home), [home].into()))
    }
}

/// The partition with the highest hash of instance and partition: all know it without talking, and few move when the
/// number of partitions changes.
fn rendezvous(instance: &[u8], partitions: i32) -> i32 {
    (0..partitions).max_by_key(|&partition| weight(instance, partition)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_spread_and_mostly_stay_when_partitions_are_added() {
        let homes = |partitions| -> Vec<i32> {
            (0..1200).map(|i| rendezvous(format!("instance-{i}").as_bytes(), partitions)).collect()
        };
        let (before, after) = (homes(12), homes(13));
        for partition in 0..12 {
            let share = before.iter().filter(|&&home| home == partition).count();
            assert!((60..150).contains(&share), "{partition}: {share}");
        }
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(moved < 150, "{moved}");
    }
}
