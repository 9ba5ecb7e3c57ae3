//! What can be wrong with the links to a node, and what it means for one of them.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// A request's length and API key.
const HEAD: usize = 6;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the node.
    Requests,
    /// From the node to the client.
    Answers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// All connections are reset, once.
    Cut,
    /// Each connection is reset after so many more bytes: usually within a frame.
    CutAfter { way: Way, bytes: usize },
    /// Bytes arrive later by this time, and each chunk by up to `jitter` more.
    Delay { way: Way, by: Duration, jitter: Duration },
    /// So many bytes pass in a second, of each connection.
    Throttle { way: Way, bytes: usize },
    /// Bytes arrive in pieces of this size.
    Slice { way: Way, bytes: usize },
    /// A black hole: connections stay open and nothing passes.
    Hold(Hold),
    /// All connections are reset and new ones refused.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub requests: bool,
    pub answers: bool,
    /// Spares connections that are made later.
    pub old_only: bool,
    /// Only connections that have carried a request with this API key.
    pub carrying: Option<i16>,
    /// What was held is delivered in the end, even if the client has given up its connection meanwhile. Otherwise it is
    /// lost, and the connections are reset.
    pub late: bool,
}

/// The faults of one line. Links and faults are numbered together, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    last: u64,
    faults: Vec<(u64, LinkFault)>,
    /// Links with a lower number are reset.
    cut_below: u64,
    /// And those that have carried a request with this API key.
    cut_carrying: Vec<(u64, i16)>,
}

impl Conditions {
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn strike(&mut self, fault: LinkFault) -> u64 {
        let number = self.number();
        if matches!(fault, LinkFault::Cut | LinkFault::Refuse) {
            self.cut_below = number;
        }
        if fault != LinkFault::Cut {
            self.faults.push((number, fault));
        }
        number
    }

    pub(super) fn lift(&mut self, number: u64) {
        let Some(at) = self.faults.iter().position(|(struck, _)| *struck == number) else { return };
        let fault = self.faults.swap_remove(at).1;
        if let LinkFault::Hold(Hold { late: false, old_only, carrying, .. }) = fault {
            let below = if old_only { number } else { self.number() };
            match carrying {
                Some(api_key) => self.cut_carrying.push((below, api_key)),
                None => self.cut_below = self.cut_below.max(below),
            }
        }
    }

    pub(super) fn refuses(&self) -> bool {
        self.faults.iter().any(|(_, fault)| *fault == LinkFault::Refuse)
    }

    pub(super) fn cuts(&self, link: u64, carried: &Carried) -> bool {
        let mut carrying = self.cut_carrying.iter();
        link < self.cut_below || carrying.any(|(below, api_key)| link < *below && carried.has(*api_key))
    }

    pub(super) fn holds(&self, link: u64, way: Way, carried: &Carried) -> bool {
        self.faults.iter().any(|(number, fault)| match fault {
            LinkFault::Hold(hold) => {
                let this_way = if way == Way::Requests { hold.requests } else { hold.answers };
                let this_kind = hold.carrying.is_none_or(|api_key| carried.has(api_key));
                this_way && this_kind && (!hold.old_only || link < *number)
            }
            _ => false,
        })
    }

    pub(super) fn delay(&self, towards: Way, random: &mut StdRng) -> Duration {
        let mut sum = Duration::ZERO;
        for (_, fault) in &self.faults {
            if let LinkFault::Delay { way, by, jitter } = fault
                && *way == towards
            {
                sum += *by + jitter.mul_f64(random.random());
            }
        }
        sum
    }

    /// Bytes a second.
    pub(super) fn rate(&self, towards: Way) -> Option<usize> {
        self.of(|fault| match *fault {
            LinkFault::Throttle { way, bytes } => (way == towards).then_some(bytes),
            _ => None,
        })
    }

    pub(super) fn slice(&self, towards: Way) -> Option<usize> {
        self.of(|fault| match *fault {
            LinkFault::Slice { way, bytes } => (way == towards).then_some(bytes),
            _ => None,
        })
    }

    /// The fault that resets this way's links, and after how many bytes.
    pub(super) fn cut_after(&self, towards: Way) -> Option<(u64, usize)> {
        self.faults.iter().find_map(|(number, fault)| match *fault {
            LinkFault::CutAfter { way, bytes } if way == towards => Some((*number, bytes)),
            _ => None,
        })
    }

    fn of(&self, part: impl Fn(&LinkFault) -> Option<usize>) -> Option<usize> {
        self.faults.iter().filter_map(|(_, fault)| part(fault)).min()
    }
}

/// The API keys below 64 whose requests a link has carried, a bit each.
#[derive(Default)]
pub(super) struct Carried(AtomicU64);

impl Carried {
    fn add(&self, api_key: i16) {
        if (0..64).contains(&api_key) {
            self.0.fetch_or(1 << api_key, Relaxed);
        }
    }

    fn has(&self, api_key: i16) -> bool {
        self.0.load(Relaxed) >> api_key & 1 == 1
    }
}

/// Reads along as requests pass.
#[derive(Default)]
pub(super) struct Requests {
    /// The length of the present one and its API key, as far as they have come.
    head: Vec<u8>,
    /// Bytes that it still has behind those.
    rest: usize,
}

impl Requests {
    pub(super) fn follow(&mut self, mut bytes: &[u8], carried: &Carried) {
        while !bytes.is_empty() {
            let past = self.rest.min(bytes.len());
            (self.rest, bytes) = (self.rest - past, &bytes[past..]);
            let wanted = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if let [a, b, c, d, e, f] = self.head[..] {
                carried.add(i16::from_be_bytes([e, f]));
                self.rest = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(2);
                self.head.clear();
            }
        }
    }
}
