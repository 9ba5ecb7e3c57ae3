//! Everything that the members of a group have told so far.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::{Event, Line};
use crate::support::kafka::Partition;

#[derive(Default)]
pub(crate) struct History {
    told: Mutex<Told>,
}

#[derive(Default)]
pub(crate) struct Told {
    /// In the order of arrival, which for one member is the order of its telling.
    pub(crate) lines: Vec<Line>,
    /// The partitions of each member, by what it has told.
    owned: BTreeMap<usize, BTreeSet<Partition>>,
    /// The offset after the last record that anybody has read, and the time of its telling.
    read: BTreeMap<Partition, (i64, u64)>,
    closed: BTreeSet<usize>,
    members: usize,
}

impl History {
    /// The place of one more member in the list of all.
    pub(crate) fn introduce(&self) -> usize {
        let mut told = self.lock();
        told.members += 1;
        told.members - 1
    }

    pub(crate) fn tell(&self, line: Line) {
        let mut told = self.lock();
        let owned = told.owned.entry(line.member).or_default();
        match &line.event {
            Event::Assigned(partitions) => owned.extend(partitions.iter().cloned()),
            Event::Revoked(partitions) | Event::Lost(partitions) => {
                owned.retain(|partition| !partitions.contains(partition));
            }
            Event::Closed | Event::Killed => {
                owned.clear();
                told.closed.insert(line.member);
            }
            Event::Records(partition, offsets) => {
                let end = offsets.last().map_or(0, |last| last + 1);
                let read = told.read.entry(partition.clone()).or_default();
                *read = (read.0.max(end), line.at);
            }
            Event::Committed(_) | Event::Trouble(_) | Event::Halted => {}
        }
        told.lines.push(line);
    }

    /// What this member owns by what it has told.
    pub(crate) fn owned(&self, member: usize) -> Vec<Partition> {
        self.lock().owned.get(&member).into_iter().flatten().cloned().collect()
    }

    /// How far a partition was read, and when the last of it was told.
    pub(crate) fn read(&self, partition: &Partition) -> (i64, u64) {
        self.lock().read.get(partition).copied().unwrap_or_default()
    }

    pub(crate) fn is_closed(&self, member: usize) -> bool {
        self.lock().closed.contains(&member)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time as members tell it.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
