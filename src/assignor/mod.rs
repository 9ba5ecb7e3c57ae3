//! Who reads what: the leader of a consumer group assigns its partitions to its members.
//!
//! | assignor | Kafka's name | protocol | what it does |
//! | --- | --- | --- | --- |
//! | [`RangeAssignor`] | `range` | eager | of each topic a run of partitions to each subscriber; equal topics side by side |
//! | [`RoundRobinAssignor`] | `roundrobin` | eager | all partitions dealt in turn |
//! | [`StickyAssignor`] | `sticky` | eager | loads balanced, with the fewest moves there can be |
//! | [`CooperativeStickyAssignor`] | `cooperative-sticky` | cooperative | the same, and what stays is read on meanwhile |
//!
//! An [`Assignor`] is a pure function of a [`Group`]: no clock, no chance, no order of a hash table. On the wire the built-in ones
//! are Java's, so that one group may have members of several clients, whichever leads.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))] // tests may read a clock to begin with
use std::fmt::Debug;

use bytes::Bytes;

mod group;
pub(crate) mod nest;
mod partitions;
mod range;
pub(crate) mod reply;
mod roundrobin;
mod sticky;

pub use group::{Group, GroupBuilder, GroupMember, GroupTopic, MemberEntry, TopicEntry};
pub use partitions::{GroupAssignment, Partitions};
pub use range::RangeAssignor;
pub use roundrobin::RoundRobinAssignor;
pub use sticky::{CooperativeStickyAssignor, StickyAssignor};

/// How a group goes from one assignment to the next (KIP-429).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RebalanceProtocol {
    /// Every member gives up everything, then the group is assigned anew.
    Eager,
    /// Members keep what stays theirs; what moves is given up in one round and handed out in the next.
    Cooperative,
}

/// Assigns the partitions of a group to its members. (`partition.assignment.strategy`)
///
/// The assignor whose name all members list is used; the leader's makes the assignment. All calls are short and on the thread that
/// drives the membership.
///
/// ```
/// use milena::assignor::{Assignor, Group, GroupAssignment};
///
/// /// Everything to the first member that subscribes: others stand by.
/// #[derive(Debug)]
/// struct FirstTakesAll;
///
/// impl Assignor for FirstTakesAll {
///     fn name(&self) -> &str {
///         "first-takes-all"
///     }
///
///     fn assign(&self, group: &Group) -> GroupAssignment {
///         let mut assignment = GroupAssignment::new(group.members().len());
///         for (place, topic) in group.topics().iter().enumerate() {
///             let first = group.members().iter().position(|member| member.topics.contains(&(place as u32)));
///             if let Some(first) = first {
///                 assignment.partitions_mut(first).extend(place, 0..topic.partitions);
///             }
///         }
///         assignment
///     }
/// }
///
/// let mut group = Group::builder();
/// group.topic("orders", 3);
/// group.member("b").subscribe("orders");
/// group.member("a").subscribe("orders");
/// let assignment = FirstTakesAll.assign(&group.build()?);
/// assert_eq!((assignment.partitions(0).len(), assignment.partitions(1).len()), (3, 0));
/// # Ok::<(), milena::Error>(())
/// ```
pub trait Assignor: Debug + Send + Sync + 'static {
    /// The name by which members agree on it.
    fn name(&self) -> &str;

    /// The protocols it can work under; by default eager only.
    ///
    /// A cooperative assignor must not hand out what another member may still hold, see [`Group::withhold`].
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// What this member sends to the leader's assignor each time it joins; by default nothing.
    ///
    /// `topics` are those it subscribes to. `owned` is what it was assigned last, by topic, and `generation` the one in which that
    /// was, `None` if there is none. Under the eager protocol, where a member holds nothing while it joins, `owned` is what it has just given up.
    fn user_data(&self, topics: &[&str], owned: &[(&str, &[i32])], generation: Option<i32>) -> Option<Bytes> {
        let _ = (topics, owned, generation);
        None
    }

    /// The assignment, made on the leader.
    ///
    /// Each partition goes to one member at most, one that subscribes to its topic.
    fn assign(&self, group: &Group) -> GroupAssignment;

    /// Tells this member's assignor what the leader's gave it, with the bytes that [`GroupAssignment::set_user_data`] set, and in which
    /// generation; by default nothing is done.
    fn on_assignment(&self, partitions: &[(&str, &[i32])], user_data: Option<&[u8]>, generation: i32) {
        let _ = (partitions, user_data, generation);
    }
}

#[cfg(test)]
mod tests;
