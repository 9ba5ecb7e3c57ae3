//! Random groups of the kinds that assignors get wrong.
use rand::prelude::*;

use super::{Case, Member};

type Family = fn(&mut StdRng) -> Case;

pub(super) const FAMILIES: [(&str, Family); 5] = [
    ("general", general),
    ("random owner", random_owner),
    ("uniform", uniform),
    ("stale and double claims", stale),
    ("impossible claims", impossible),
];

fn topics(rng: &mut StdRng) -> Vec<i32> {
    (0..rng.random_range(1..=6)).map(|_| rng.random_range(1..=7)).collect()
}

fn some_topics(rng: &mut StdRng, topics: usize) -> Vec<usize> {
    let share = rng.random_range(0.2..0.9);
    (0..topics).filter(|_| rng.random_bool(share)).collect()
}

fn empty(rng: &mut StdRng, equal: bool) -> Case {
    let topics = topics(rng);
    let members = (0..rng.random_range(1..=10)).map(|_| Member {
        topics: if equal { (0..topics.len()).collect() } else { some_topics(rng, topics.len()) },
        generation: 1,
        ..Member::default()
    });
    Case { members: members.collect(), topics, ..Case::default() }
}

/// Changes a group as life does: a member comes or goes, a subscription changes, a topic grows.
fn change(rng: &mut StdRng, case: &mut Case, equal: bool) {
    let all = case.topics.len();
    match rng.random_range(0..if equal { 3 } else { 4 }) {
        0 if case.members.len() > 1 => {
            let leaves = rng.random_range(0..case.members.len());
            case.members.remove(leaves);
        }
        0 | 1 => {
            let topics = if equal { (0..all).collect() } else { some_topics(rng, all) };
            case.members.push(Member { topics, generation: -1, ..Member::default() });
        }
        2 => {
            let grows = rng.random_range(0..all);
            case.topics[grows] += rng.random_range(1..=4);
        }
        _ => {
            let changes = rng.random_range(0..case.members.len());
            case.members[changes].topics = some_topics(rng, all);
        }
    }
}

fn changed(rng: &mut StdRng, equal: bool) -> Case {
    let mut case = empty(rng, equal);
    case = case.after(&case.plan(), 1);
    for _ in 0..rng.random_range(1..=2) {
        change(rng, &mut case, equal);
    }
    case
}

/// A balanced group after one change or two.
fn general(rng: &mut StdRng) -> Case {
    changed(rng, false)
}

/// Equal subscriptions.
fn uniform(rng: &mut StdRng) -> Case {
    changed(rng, true)
}

/// Most partitions claimed by a subscriber, whichever.
fn random_owner(rng: &mut StdRng) -> Case {
    let mut case = empty(rng, false);
    for topic in 0..case.topics.len() {
        for number in 0..case.topics[topic] {
            let mut able = case.members.iter_mut().filter(|member| member.topics.contains(&topic));
            if rng.random_bool(0.8)
                && let Some(owner) = able.by_ref().choose(rng)
            {
                owner.owned.push((topic, number));
            }
        }
    }
    case
}

/// Members that missed a round or two, so that several claim one partition, in one generation or in several.
fn stale(rng: &mut StdRng) -> Case {
    let equal = rng.random_bool(0.3);
    let mut case = empty(rng, equal);
    for member in &mut case.members {
        member.generation = *[-1, 1, 2, 3].choose(rng).unwrap();
        for (topic, count) in case.topics.iter().enumerate() {
            let share = rng.random_range(0.0..0.5);
            let claims = (0..*count).filter(|_| rng.random_bool(share));
            member.owned.extend(claims.map(|number| (topic, number)));
        }
        // Some still claim what they no longer subscribe to, most do not.
        if rng.random_bool(0.7) {
            let topics = member.topics.clone();
            member.owned.retain(|(topic, _)| topics.contains(topic));
        }
    }
    case
}

/// Claims on partitions that never were, negative ones, doubled ones, and on topics that are gone.
fn impossible(rng: &mut StdRng) -> Case {
    let mut case = if rng.random_bool(0.5) { changed(rng, false) } else { stale(rng) };
    let gone = case.topics.len();
    case.topics.push(0);
    for member in &mut case.members {
        for _ in 0..rng.random_range(0..4) {
            let topic = rng.random_range(0..=gone);
            let number = *[-1, i32::MIN, i32::MAX, 7, 8, 11, 0].choose(rng).unwrap();
            member.owned.push((topic, number));
        }
        if rng.random_bool(0.3) {
            member.owned.extend(member.owned.clone());
        }
        if rng.random_bool(0.2) {
            member.topics.push(gone);
        }
    }
    case
}

/// Puts a group on racks.
pub(super) fn on_racks(rng: &mut StdRng, mut case: Case) -> Case {
    const RACKS: [&str; 4] = ["a", "b", "c", "d"];
    let racks = &RACKS[..rng.random_range(2..=4)];
    let replicas = rng.random_range(1..=2);
    let topics = case.topics.clone();
    case.racks = topics
        .iter()
        .map(|count| (0..*count).map(|_| racks.sample(rng, replicas).copied().collect()).collect())
        .collect();
    for member in &mut case.members {
        member.rack = rng.random_bool(0.85).then(|| *racks.choose(rng).unwrap());
    }
    case
}
