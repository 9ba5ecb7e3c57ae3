//! Chance from a seed: the same seed gives the same input.
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

pub struct Random(SmallRng);

impl Random {
    /// The chance behind the n-th input of a target.
    pub fn of(seed: u64, target: &str, index: u64) -> Self {
        let name = target.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(SmallRng::seed_from_u64(seed ^ name ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// 0 to `end`, which is not among them.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    pub fn u64(&mut self) -> u64 {
        self.0.random()
    }
}
