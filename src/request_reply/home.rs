//! What an allocator tells a requester, and what it asks of it.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where the replies to new requests go, for each reply topic.
pub(super) type Homes = BTreeMap<String, Home>;

/// Where those of one topic go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// This partition.
    Partition(i32),
    /// More members than partitions: none is left for this one.
    Starved,
}

/// The partitions that replies are still awaited on, for each reply topic.
pub(super) type Pins = Arc<dyn Fn() -> BTreeMap<String, BTreeSet<i32>> + Send + Sync>;
