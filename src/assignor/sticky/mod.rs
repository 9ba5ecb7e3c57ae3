//! Balanced first, then with the fewest moves: exactly, on every input.
use std::borrow::Cow;

use bytes::Bytes;

use super::{Assignor, Group, GroupAssignment, Partitions, RebalanceProtocol};
use plan::{Avoid, Plan};

pub(super) mod claims;
mod classes;
mod deal;
mod flow;
mod levels;
mod plan;
mod user_data;

use claims::Claims;

/// `sticky`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StickyAssignor {
    avoid: Avoid,
}

/// `cooperative-sticky`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CooperativeStickyAssignor {
    avoid: Avoid,
}

macro_rules! racks_first {
    ($assignor:ident) => {
        impl $assignor {
            /// Puts fewest partitions across racks before fewest moves, as Java's does. By default racks only decide between plans that move as few.
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
    plan.deal(round)
}
