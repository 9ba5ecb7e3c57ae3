//! `NestReplyPartitionAssigner`: the assigner of NestJS clients, whose members take the lowest partition that they are given as the one
//! that replies go to, and claim it when they join.
//!
//! As NestJS does: claims first, then one partition to each member that has none, then the rest in turn over all topics. Where its own
//! assigner is at fault, this one differs, in ways that members cannot tell from other groups:
//!
//! * a partition claimed twice goes to the first of the two, one that does not exist to nobody; what cannot be read claims nothing;
//! * only who subscribes to a topic gets its partitions, of all topics that are subscribed to;
//! * the rest goes only to members whose lowest is lower, so that no home moves; if there is none, it stays free for who comes next.
use std::collections::BTreeSet;

use super::{Group, GroupAssignment};

/// The name that members agree on.
pub(crate) const NAME: &str = "NestReplyPartitionAssigner";

pub(crate) fn assign(group: &Group) -> GroupAssignment {
    let members = group.members();
    let wants = |member: usize, topic: usize| members[member].topics.binary_search(&(topic as u32)).is_ok();
    // For each topic what is free, and what each member has; its first is its lowest.
    let mut free: Vec<BTreeSet<i32>> =
        group.topics().iter().map(|topic| (0..topic.partitions).collect()).collect();
    let mut given: Vec<Vec<Vec<i32>>> = vec![vec![Vec::new(); members.len()]; free.len()];
    for (at, member) in members.iter().enumerate() {
        for (name, claimed) in member.user_data.iter().flat_map(|data| claims(data)) {
            let Some(topic) = group.topic(name).filter(|topic| wants(at, *topic)) else { continue };
            if given[topic][at].is_empty() && free[topic].remove(&claimed) {
                given[topic][at].push(claimed);
            }
        }
    }
    for (at, member) in members.iter().enumerate() {
        for topic in member.topics.iter().map(|topic| *topic as usize) {
            if given[topic][at].is_empty() {
                given[topic][at].extend(free[topic].pop_first());
            }
        }
    }
    let rest =
        free.iter().enumerate().flat_map(|(topic, free)| free.iter().map(move |number| (topic, *number)));
    for (turn, (topic, number)) in rest.enumerate() {
        let mut order = (0..members.len()).map(|step| (turn + step) % members.len());
        let lower = |at: &usize| given[topic][*at].first().is_some_and(|home| *home < number);
        if let Some(at) = order.find(lower) {
            given[topic][at].push(number);
        }
    }
    let mut assignment = GroupAssignment::new(members.len());
    for at in 0..members.len() {
        let topics = given.iter().enumerate();
        topics.for_each(|(topic, given)| {
            assignment.partitions_mut(at).extend(topic, given[at].iter().copied());
        });
        // Members read these bytes: none at all would be null.
        assignment.set_user_data(at, bytes::Bytes::new());
    }
    assignment
}

/// What a member sends: its homes, as NestJS writes them.
pub(crate) fn encode_claims<'a>(homes: impl Iterator<Item = (&'a str, i32)>) -> String {
    let homes: Vec<String> = homes.map(|(topic, home)| format!("\"{topic}\":{home}")).collect();
    format!("{{\"previousAssignment\":{{{}}}}}", homes.join(","))
}

/// Reads them. `null`, which older peers send, and what is no whole number claim nothing. Names of topics need no escapes, so that signs
/// can be looked for as they are.
fn claims(data: &[u8]) -> impl Iterator<Item = (&str, i32)> {
    let text = std::str::from_utf8(data).unwrap_or_default();
    let list = text.split_once("\"previousAssignment\"").and_then(|(_, rest)| {
        let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('{')?;
        Some(rest.split_once('}')?.0)
    });
    list.into_iter().flat_map(|list| list.split(',')).filter_map(|entry| {
        let (name, number) = entry.rsplit_once(':')?;
        let name = name.trim().strip_prefix('"')?.strip_suffix('"')?;
        Some((name, number.trim().parse().ok()?))
    })
}
