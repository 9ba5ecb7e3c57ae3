//! Who chooses the partition that replies go to.
use std::collections::BTreeSet;

use rand::RngExt as _;
use tokio::sync::watch;

use super::home::{Home, Homes};
use crate::error::{Error, ErrorKind, Result};

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
            Way::SelfChosen => own(),
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
    let weight = |partition: i32| {
        // FNV-1a, then mixed: neighbouring partitions must not get neighbouring weights.
        let bytes = instance.iter().copied().chain(partition.to_be_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ hash >> 32
    };
    (0..partitions).max_by_key(|&partition| weight(partition)).unwrap_or(0)
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
