//! Plain numbers about a consumer.

/// What a consumer did since it was built, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerMetrics {
    /// Fetch requests answered.
    pub fetches: u64,
    /// Bytes of record sets that arrived, as they came over the wire.
    pub fetched_bytes: u64,
    /// Of these, bytes of batches handed out.
    pub delivered_bytes: u64,
    /// Of these, bytes of batches that are for no application: control records, aborted transactions, emptied by compaction.
    pub skipped_bytes: u64,
    /// Of these, bytes thrown away because a seek, a removal or a truncation had made them stale.
    pub stale_bytes: u64,
    /// Of these, bytes of last batches that the byte limit had cut off; they are fetched again.
    pub cut_bytes: u64,
    /// Records handed out.
    pub records: u64,
    /// Batches handed out.
    pub batches: u64,
    /// Bytes that wait to be handed out.
    pub buffered_bytes: u64,
    /// Partitions read at present.
    pub partitions: usize,
    /// Positions that the reset policy moved.
    pub resets: u64,
    /// By node, in order of its id.
    pub nodes: Vec<ConsumerNodeMetrics>,
}

/// One node, as a consumer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerNodeMetrics {
    /// The node's id.
    pub node: i32,
    /// Whether a fetch is under way, perhaps parked there until there is data.
    pub in_flight: bool,
    /// Fetch requests it answered.
    pub fetches: u64,
    /// Bytes of record sets it sent.
    pub fetched_bytes: u64,
}
