//! What an allocator tells a requester.
use std::collections::BTreeMap;

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
