//! `reply-sticky`: which partition of a reply topic the replies to a member's new requests go to, its *home*.
//!
//! A partition that requests name is *pinned*: the home, and any that replies are still awaited on. The others that a member is given are *spare*.
//! Members claim what they were given, each claim with the generation that gave it or confirmed it. The steps of the plan:
//!
//! 1. Of several claims to one partition the newest wins, then a pinned one, then a static member's, then the first member's.
//! 2. Who claims a pinned partition keeps it, whatever comes later.
//! 3. Who has none in a topic gets one as its home: a spare of its own, else a free one, else a spare of the fullest member. Free ones are chosen
//!    by rendezvous hashing, so that a static member which starts again without memory mostly comes back to its own. If there are too few,
//!    members are served in order, static ones first, and the others are told that they are *starved*.
//! 4. Spares are [spread](Spread) over the members.
//! 5. What is given to one and claimed as spare by another is withheld for a round (KIP-429). A home is told all the same: nothing but the one
//!    member's requests names it.
//!
//! Everything depends on what members say and not on who leads.
mod plan;
pub(crate) mod wire;

pub(crate) use plan::plan;

/// The name that members agree on.
pub(crate) const NAME: &str = "reply-sticky";

/// What is done with partitions that are nobody's home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Spread {
    /// They are kept free: who comes next finds a home in the round it joins, and nobody has to give anything up for it. Right where
    /// repliers write to the partition that the request names.
    #[default]
    None,
    /// They are spread evenly, for repliers that write to any partition.
    #[cfg_attr(not(test), allow(dead_code, reason = "no requester reads partitions that it does not name"))]
    All,
    /// As `All`, but for so many of each topic, which are kept free.
    #[cfg_attr(not(test), allow(dead_code, reason = "no requester reads partitions that it does not name"))]
    Reserve(usize),
}

/// The weight of a partition for whoever has this key: where all take the heaviest, they need not talk to each other, and few move
/// when there are more partitions.
pub(crate) fn weight<'a>(key: impl IntoIterator<Item = &'a u8>, partition: i32) -> u64 {
    // FNV-1a, then mixed: neighbouring partitions must not get neighbouring weights.
    let bytes = key.into_iter().copied().chain(partition.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
}
