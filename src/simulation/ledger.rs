//! What the members of the group have read, against what the coordinator says.
use std::collections::{BTreeMap, BTreeSet};

use super::grouping::{GROUP, Grouping, Life};
use super::truth::{TOPIC, Truth};
use crate::broker::GroupView;
use crate::broker::cluster::Cluster;

/// What all members together have finished with, and what is committed.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    finished: BTreeMap<i32, BTreeSet<i64>>,
    committed: BTreeMap<i32, i64>,
}

impl Ledger {
    pub(super) fn finished(&mut self, partition: i32, offsets: Vec<i64>) {
        self.finished.entry(partition).or_default().extend(offsets);
    }

    /// Where the group stood in a partition at the last look.
    pub(super) fn committed(&self, partition: i32) -> i64 {
        self.committed.get(&partition).copied().unwrap_or_default()
    }

    fn is_finished(&self, partition: i32, offset: i64) -> bool {
        self.finished.get(&partition).is_some_and(|finished| finished.contains(&offset))
    }

    /// The first record that nobody has finished with.
    pub(super) fn first_unread(&self, truth: &Truth, committed: bool) -> Option<(i32, i64)> {
        truth.logs().find_map(|(partition, log)| {
            let end = if committed { log.stable } else { log.readable };
            let due =
                |offset: &i64| log.entries[offset].is_for(committed) && !self.is_finished(partition, *offset);
            let mut offsets = log.entries.range(..end).map(|(offset, _)| *offset);
            offsets.find(due).map(|offset| (partition, offset))
        })
    }

    /// What is committed was finished with, and never goes back.
    pub(super) fn check(&mut self, view: &GroupView, truth: &Truth, committed: bool) -> Result<(), String> {
        for (partition, log) in truth.logs() {
            let Some(offset) = view.committed(TOPIC, partition).map(|of| of.offset) else { continue };
            let before = self.committed.insert(partition, offset).unwrap_or(-1);
            if offset < before {
                return Err(format!(
                    "commit: partition {partition}: {before} was committed, and now {offset} is"
                ));
            }
            let unfinished = log
                .entries
                .range(before.max(0)..offset.max(0))
                .find(|(offset, entry)| entry.is_for(committed) && !self.is_finished(partition, **offset));
            if let Some((at, entry)) = unfinished {
                return Err(format!(
                    "commit: partition {partition}: {offset} is committed, and nobody has finished with {at} ({})",
                    entry.value
                ));
            }
        }
        Ok(())
    }
}

/// G1: among those whom the coordinator knows as members, no two own a partition.
pub(super) fn check_owners(view: &GroupView, members: &[Grouping]) -> Result<(), String> {
    let mut owners: BTreeMap<i32, usize> = BTreeMap::new();
    for (at, member) in members.iter().enumerate().filter(|(_, member)| member.life != Life::Gone) {
        let identity = member.membership.group().identity();
        if !view.members().iter().any(|known| *known.id() == *identity.member) {
            continue;
        }
        // A static member that misses a round stays a member all the same (KIP-345), and what the leader is shown of it is what it had
        // said before: what it was given last may go to another, of which nothing but the end of its next round can tell it. Once it
        // stands where the coordinator does, what holds for all holds for it.
        let is_up_to_date = member.membership.group().is_stable() && identity.generation == view.generation();
        if member.is_static_by_rounds() && !is_up_to_date {
            continue;
        }
        for partition in member.partitions() {
            if let Some(other) = owners.insert(partition, at) {
                let all: Vec<_> = members.iter().map(Grouping::describe).collect();
                return Err(format!(
                    "G1: members {other} and {at} both own partition {partition}: {all:#?} {view:#?}"
                ));
            }
        }
    }
    Ok(())
}

/// Whether every partition has its owner, and everybody knows.
pub(super) fn has_converged(cluster: &Cluster, members: &[Grouping], partitions: i32) -> bool {
    let Some(view) = view(cluster) else { return false };
    let living: Vec<_> = members.iter().filter(|member| member.lives()).collect();
    let owned: usize = living.iter().map(|member| member.partitions().len()).sum();
    view.state() == "Stable"
        && view.members().len() == living.len()
        && owned == partitions as usize
        && living.iter().all(|member| member.membership.group().is_stable())
}

pub(super) fn view(cluster: &Cluster) -> Option<GroupView> {
    cluster.groups.get(GROUP).map(|group| GroupView::new(group, &cluster.topics))
}
