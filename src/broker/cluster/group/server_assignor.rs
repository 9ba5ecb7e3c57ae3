//! The assignors that a coordinator has itself: `uniform` and `range`. Both keep what members have where they can.
use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::consumer_member::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerAssignor {
    Uniform,
    Range,
}

impl ServerAssignor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn is_known(name: &str) -> bool {
        [Self::Uniform, Self::Range].iter().any(|assignor| assignor.name() == name)
    }
}

/// What each member should own: all partitions of every topic that somebody wants. Members are given by their
/// subscriptions and by what they should have owned so far, in an order that does not change from call to call.
pub(super) fn assign(
    assignor: ServerAssignor,
    wanted: Vec<BTreeSet<Uuid>>,
    current: Vec<BTreeSet<Place>>,
    topics: &BTreeMap<Uuid, usize>,
) -> Vec<BTreeSet<Place>> {
    match assignor {
        ServerAssignor::Range => range(&wanted, topics),
        ServerAssignor::Uniform => uniform(&wanted, current, topics),
    }
}

/// Neighbouring partitions of each topic, so that the same partition of two topics goes to the same member.
fn range(wanted: &[BTreeSet<Uuid>], topics: &BTreeMap<Uuid, usize>) -> Vec<BTreeSet<Place>> {
    let mut targets = vec![BTreeSet::new(); wanted.len()];
    for (topic, partitions) in topics {
        let takers: Vec<usize> = (0..wanted.len()).filter(|at| wanted[*at].contains(topic)).collect();
        for (rank, at) in takers.iter().enumerate() {
            let bound = |rank: usize| {
                let (each, more) = (partitions / takers.len(), partitions % takers.len());
                rank * each + rank.min(more)
            };
            targets[*at].extend((bound(rank)..bound(rank + 1)).map(|index| (*topic, index as i32)));
        }
    }
    targets
}

/// As many partitions for each as can be, whatever their topics.
fn uniform(
    wanted: &[BTreeSet<Uuid>],
    current: Vec<BTreeSet<Place>>,
    topics: &BTreeMap<Uuid, usize>,
) -> Vec<BTreeSet<Place>> {
    let exists = |(topic, index): &Place| topics.get(topic).is_some_and(|count| (*index as usize) < *count);
    let mut targets: Vec<BTreeSet<Place>> = current;
    for (target, wanted) in targets.iter_mut().zip(wanted) {
        target.retain(|place| exists(place) && wanted.contains(&place.0));
    }
    let taken: BTreeSet<Place> = targets.iter().flatten().copied().collect();
    for (topic, partitions) in topics {
        for place in
            (0..*partitions).map(|index| (*topic, index as i32)).filter(|place| !taken.contains(place))
        {
            let takers = (0..wanted.len()).filter(|at| wanted[*at].contains(topic));
            if let Some(least) = takers.min_by_key(|at| targets[*at].len()) {
                targets[least].insert(place);
            }
        }
    }
    // Each step makes the sum of squares smaller, so there is a last one.
    while let Some((from, to, place)) = unfair(wanted, &targets) {
        targets[from].remove(&place);
        targets[to].insert(place);
    }
    targets
}

/// A partition that a member with much less could have instead.
fn unfair(wanted: &[BTreeSet<Uuid>], targets: &[BTreeSet<Place>]) -> Option<(usize, usize, Place)> {
    let mut by_load: Vec<usize> = (0..targets.len()).collect();
    by_load.sort_by_key(|at| targets[*at].len());
    by_load.iter().find_map(|to| {
        by_load.iter().rev().take_while(|from| targets[**from].len() > targets[*to].len() + 1).find_map(
            |from| {
                let place = targets[*from].iter().rev().find(|(topic, _)| wanted[*to].contains(topic))?;
                Some((*from, *to, *place))
            },
        )
    })
}
