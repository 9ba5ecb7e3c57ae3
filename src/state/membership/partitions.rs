//! Partitions that come and go.
use std::collections::BTreeSet;
use std::time::Instant;

use super::{Membership, Notice, Progress, Revoking, Stage};
use crate::state::consumer::Consumer;
use crate::topic_partition::TopicPartition;

impl Membership {
    pub(super) fn assigned(&mut self, reader: &mut Consumer, now: Instant, partitions: Vec<TopicPartition>) {
        for partition in &partitions {
            self.progress.insert(partition.clone(), Progress { committed: -1, ..Progress::default() });
            reader.add_waiting(now, partition.clone());
            if self.paused.remove(partition) {
                reader.pause(partition);
            }
        }
        self.paused.clear();
        if let Some(interval) = self.settings.auto_commit {
            self.commit_at.get_or_insert(now + interval);
        }
        self.group.fetch(partitions.iter().cloned());
        self.notify(Notice::Assigned(partitions));
    }

    pub(super) fn revoke(&mut self, reader: &mut Consumer, now: Instant, partitions: Vec<TopicPartition>) {
        partitions.iter().for_each(|partition| reader.hold(partition));
        let until = now + self.settings.revoke_within;
        let revoking = self.revoking.get_or_insert_with(|| Revoking {
            partitions: BTreeSet::new(),
            stage: Stage::Application,
            until,
        });
        revoking.partitions.extend(partitions.iter().cloned());
        revoking.stage = Stage::Application;
        self.notify(Notice::Revoked(partitions));
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        if self.listening {
            self.notices.push_back(notice);
        }
    }

    /// Whether the application has finished with what it was handed of what is to be given up.
    pub(super) fn is_idle(&self) -> bool {
        let mut partitions = self.revoking.iter().flat_map(|revoking| &revoking.partitions);
        !partitions.any(|partition| self.progress.get(partition).is_some_and(|progress| progress.unfinished))
    }

    /// The application is done: commit, then give up.
    pub(super) fn give_up(&mut self, reader: &mut Consumer, now: Instant) {
        let Some(partitions) = self.revoking.as_ref().map(|revoking| revoking.partitions.clone()) else {
            return;
        };
        if self.settings.auto_commit.is_some() {
            let offsets = self.committable(reader, |name| partitions.contains(name));
            if !offsets.is_empty() {
                let id = self.start_commit(offsets, now + self.settings.commit_within);
                if let Some(revoking) = &mut self.revoking {
                    revoking.stage = Stage::Commit(id);
                }
                return;
            }
        }
        self.given_up(reader);
    }

    pub(super) fn given_up(&mut self, reader: &mut Consumer) {
        let Some(revoking) = self.revoking.take() else { return };
        let paused = reader.paused().into_iter().filter(|partition| revoking.partitions.contains(partition));
        self.paused.extend(paused);
        revoking.partitions.iter().for_each(|partition| self.remove(reader, partition));
        self.group.revoked();
    }

    pub(super) fn remove(&mut self, reader: &mut Consumer, partition: &TopicPartition) {
        reader.remove(partition);
        let handed = self.progress.remove(partition).map(|of| (of.handed, of.committed));
        if handed.is_some_and(|(handed, committed)| handed.is_some_and(|handed| handed.offset > committed)) {
            self.forgone = Some(partition.clone());
        }
        self.removals += 1;
        self.last.take_if(|last| last == partition);
    }
}
