//! Balanced first, then with the fewest moves: exactly, on every input.
//!
//! Partitions are not looked at one by one. Members that are alike and topics that are alike form [classes]; where everybody subscribes
//! to the same that is one of each. [Levels](levels) say how full each member is in every balanced plan, and cut the group into parts. In a part
//! [a plan](mod@plan) tells what members give up and how many partitions go where: mostly at a glance, else by the cheapest [flow]. Then
//! single partitions are [dealt](deal).
use std::borrow::Cow;

use bytes::Bytes;

use super::{Assignor, Group, GroupAssignment, Partitions, RebalanceProtocol};
use exchange::Avoid;
use plan::Plan;

pub(super) mod claims;
mod classes;
mod deal;
mod exchange;
mod fill_up;
mod flow;
mod levels;
mod plan;
mod spread;
pub(super) mod user_data;

use claims::Claims;

/// `sticky`: balances loads, and of all balanced assignments takes one that moves the fewest partitions.
///
/// * *Balanced*: no chain of members can hand partitions on from one with a load L to one with L - 2 or less; the sum of the squares of all
///   loads is the least there is.
/// * *Fewest moves*: a partition moves if it has a valid owner and ends elsewhere. Its valid owner is the member that claims it in the newest
///   generation of all that claim it, if there is only one and that still subscribes to its topic.
/// * Among those the fewest partitions go to members in racks without a replica of theirs (KIP-881), and topics are spread over members.
///
/// This holds exactly, on every input. The order of members, topics and claims changes nothing, nor does assigning again.
///
/// Members claim what they were assigned last by the bytes of [`user_data`](Assignor::user_data), as Java's do (KIP-54, KIP-341); what cannot be
/// read is no claim. The protocol is eager: all members stop for the time of a rebalance. [`CooperativeStickyAssignor`] avoids that.
///
/// ```
/// use milena::assignor::{Assignor, Group, StickyAssignor};
///
/// let sticky = StickyAssignor::default();
/// let mut group = Group::builder();
/// group.topic("orders", 3);
/// // c has left; a and b send what they had in generation 4.
/// for (member, partition) in [("a", 2), ("b", 0)] {
///     let claims = sticky.user_data(&["orders"], &[("orders", &[partition])], Some(4));
///     group.member(member).subscribe("orders").user_data(claims.unwrap());
/// }
/// let assignment = sticky.assign(&group.build()?);
/// assert_eq!(assignment.partitions(0).iter().collect::<Vec<_>>(), [(0, &[1, 2][..])]);
/// assert_eq!(assignment.partitions(1).iter().collect::<Vec<_>>(), [(0, &[0][..])]);
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct StickyAssignor {
    avoid: Avoid,
}

/// `cooperative-sticky`: plans as [`StickyAssignor`] does, and hands out in each round only what no other member may still read (KIP-429).
///
/// Members keep reading what stays theirs. A partition planned for a member is withheld if another member claims it in a newer generation than
/// that one does, or at all if that one does not; who has to give it up finds it missing, and in the next round it is handed out. Two rounds settle,
/// and together they move no more than one round of `sticky` would.
///
/// Claims are the partitions in the members' subscriptions with their generation (KIP-792); of members that send no generation there, the one in their
/// user data counts, as Java's does.
///
/// ```
/// use milena::assignor::{Assignor, CooperativeStickyAssignor, Group};
///
/// let cooperative = CooperativeStickyAssignor::default();
/// let round = |a: &[i32], b: &[i32]| {
///     let mut group = Group::builder();
///     group.topic("orders", 4);
///     group.member("a").subscribe("orders").own("orders", a.to_vec()).generation(7);
///     group.member("b").subscribe("orders").own("orders", b.to_vec()).generation(7);
///     let assignment = cooperative.assign(&group.build()?);
///     Ok::<_, milena::Error>([0, 1].map(|member| assignment.partitions(member).len()))
/// };
/// assert_eq!(round(&[0, 1, 2, 3], &[])?, [2, 0], "a has to give up two");
/// assert_eq!(round(&[0, 1], &[])?, [2, 2]);
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CooperativeStickyAssignor {
    avoid: Avoid,
}

macro_rules! racks_first {
    ($assignor:ident) => {
        impl $assignor {
            /// Puts fewest partitions across racks before fewest moves, as Java's does. By default racks only decide between plans that move as
            /// few. Balance comes first in any case.
            #[must_use]
            pub fn racks_before_moves(mut self) -> Self {
                self.avoid = Avoid::Racks;
                self
            }
        }
    };
}
racks_first!(StickyAssignor);
racks_first!(CooperativeStickyAssignor);

impl Assignor for StickyAssignor {
    fn name(&self) -> &str {
        "sticky"
    }

    fn user_data(&self, _: &[&str], owned: &[(&str, &[i32])], generation: Option<i32>) -> Option<Bytes> {
        Some(user_data::encode(owned, generation))
    }

    fn assign(&self, group: &Group) -> GroupAssignment {
        let claims = group.members().iter().map(|member| {
            let told = member.user_data.as_ref().and_then(|bytes| user_data::decode(group, bytes));
            let (partitions, generation) = told.unwrap_or_default();
            (Cow::Owned(partitions), generation.unwrap_or(-1))
        });
        let (partitions, generations) = claims.unzip();
        plan(group, &Claims { partitions, generations }, self.avoid, false).into()
    }
}

impl CooperativeStickyAssignor {
    /// The plan that a cooperative group comes to: what [`assign`](Assignor::assign) hands out, and with it what other members have to give up first.
    pub fn plan(&self, group: &Group) -> GroupAssignment {
        plan(group, &Self::claims(group), self.avoid, false).into()
    }

    fn claims(group: &Group) -> Claims<'_> {
        let mut claims = Claims::of_subscriptions(group);
        for (member, generation) in group.members().iter().zip(&mut claims.generations) {
            if let (None, Some(bytes)) = (member.generation, &member.user_data) {
                *generation = user_data::decode_generation(group, bytes).unwrap_or(-1);
            }
        }
        claims
    }
}

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative, RebalanceProtocol::Eager]
    }

    fn user_data(&self, _: &[&str], _: &[(&str, &[i32])], generation: Option<i32>) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(&generation.unwrap_or(-1).to_be_bytes()))
    }

    fn assign(&self, group: &Group) -> GroupAssignment {
        plan(group, &Self::claims(group), self.avoid, true).into()
    }
}

fn plan(group: &Group, claims: &Claims<'_>, avoid: Avoid, round: bool) -> Vec<Partitions> {
    let bases = claims::bases(group);
    let classes = classes::Classes::new(group, &bases);
    let mut plan = Plan::new(&classes, &bases, claims);
    plan.balance(avoid);
    let mut dealt = plan.deal();
    let subscriptions: Vec<&[u32]> = group.members().iter().map(|member| &member.topics[..]).collect();
    plan.spread(&subscriptions, &mut dealt);
    let members = dealt.into_iter().enumerate();
    members.map(|(member, dealt)| plan.partitions(member as u32, dealt, round)).collect()
}
