//! Where replies go.
use std::collections::BTreeMap;

/// Where the replies to new requests go, for each reply topic.
pub(super) type Homes = BTreeMap<String, Home>;

/// Where the replies to a member's new requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    Partition(i32),
    /// More members than partitions: none is left for this one.
    Starved,
}
