//! A member of a group that uses the consumer protocol (KIP-848), and how it gets from what it has to what it should have.
//!
//! ```text
//! Stable --target changed, something to give up--> Unrevoked --its heartbeat owns it no more--+
//!   ^  \--target changed--> (next epoch) <--------------------------------------------------+
//!   |                           |
//!   +--all its partitions free--+--others still hold some--> Unreleased --freed--> (next epoch)
//! ```
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// A partition as this protocol names it.
pub(crate) type Place = (Uuid, i32);

/// What a static member that leaves for a while has in place of an epoch.
pub(crate) const AWAY: i32 = -2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Stable,
    /// It has to give up partitions first.
    Unrevoked,
    /// Others have to give up partitions first.
    Unreleased,
}

#[derive(Debug, Clone)]
pub(crate) struct ConsumerMember {
    pub(crate) id: StrBytes,
    pub(crate) instance: Option<StrBytes>,
    pub(crate) rack: Option<StrBytes>,
    pub(crate) client: StrBytes,
    pub(crate) rebalance_timeout: Duration,
    /// The topics it names, and a pattern, empty if it has none.
    pub(crate) topics: BTreeSet<StrBytes>,
    pub(crate) pattern: StrBytes,
    pub(crate) assignor: Option<StrBytes>,
    pub(crate) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) progress: Progress,
    /// What it may own, with the epoch in which it got it.
    pub(crate) assigned: BTreeMap<Place, i32>,
    /// What it has to give up and may still own.
    pub(crate) revoking: BTreeMap<Place, i32>,
    /// What it should own.
    pub(crate) target: BTreeSet<Place>,
    /// When it counts as gone, and when it is out for not giving up what it has to.
    pub(super) expires: Option<Instant>,
    pub(super) revoke_by: Option<Instant>,
}

impl ConsumerMember {
    pub(super) fn new(id: StrBytes) -> Self {
        Self {
            id,
            instance: None,
            rack: None,
            client: StrBytes::default(),
            rebalance_timeout: Duration::ZERO,
            topics: BTreeSet::new(),
            pattern: StrBytes::default(),
            assignor: None,
            epoch: 0,
            previous_epoch: 0,
            progress: Progress::Stable,
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            target: BTreeSet::new(),
            expires: None,
            revoke_by: None,
        }
    }

    /// What others have to wait for.
    pub(super) fn held(&self) -> impl Iterator<Item = &Place> {
        self.assigned.keys().chain(self.revoking.keys())
    }

    pub(super) fn is_reconciled(&self, target_epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == target_epoch
    }

    /// Goes as far towards its target as it can. `owned` is what it says it owns, `held` what anybody still holds.
    pub(super) fn reconcile(
        &mut self,
        now: Instant,
        target_epoch: i32,
        owned: Option<&BTreeSet<Place>>,
        held: &BTreeSet<Place>,
    ) {
        if self.is_reconciled(target_epoch) {
            return;
        }
        // What it does not mention it may still own.
        let owns = |places: &BTreeMap<Place, i32>| {
            owned.is_none_or(|owned| places.keys().any(|place| owned.contains(place)))
        };
        let epoch = match self.progress {
            Progress::Unrevoked if owns(&self.revoking) => return,
            Progress::Unrevoked => self.epoch + 1,
            Progress::Stable | Progress::Unreleased => self.epoch,
        };
        let (kept, revoked): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.assigned)
            .into_iter()
            .partition(|(place, _)| self.target.contains(place));
        self.previous_epoch = self.epoch;
        self.assigned = kept;
        if !revoked.is_empty() && owns(&revoked) {
            self.epoch = epoch;
            self.revoking = revoked;
            self.progress = Progress::Unrevoked;
            self.revoke_by = Some(now + self.rebalance_timeout);
            return;
        }
        let missing = self.target.iter().filter(|place| !self.assigned.contains_key(place));
        let (waiting, free): (Vec<Place>, Vec<Place>) = missing.partition(|place| held.contains(place));
        self.assigned.extend(free.into_iter().map(|place| (place, target_epoch)));
        self.revoking.clear();
        self.epoch = target_epoch;
        self.progress = if waiting.is_empty() { Progress::Stable } else { Progress::Unreleased };
        self.revoke_by = None;
    }
}
