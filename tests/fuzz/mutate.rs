//! What happens to good bytes: what a bad peer, a bad wire or a bad disk does to them, and what somebody does who wants to.
use super::random::Random;

/// Beyond this an input does not grow: small ones are read often.
const LONGEST: usize = 16 << 10;

/// Counts, lengths, offsets and deltas at which decoders go wrong.
pub const NUMBERS: [i64; 28] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    8,
    48,
    49,
    61,
    63,
    64,
    127,
    128,
    255,
    256,
    0x3fff,
    0x4000,
    i16::MAX as i64,
    i16::MIN as i64,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    i64::MAX - (1 << 33),
    i64::MAX - (1 << 32),
    i64::MAX,
    i64::MIN,
];

/// Changes some bytes, seldom none and mostly few. `other` gives bytes of another input to splice in.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let times = match random.below(16) {
        0 => 0,
        1..=7 => 1,
        8..=11 => 2,
        12..=14 => 3 + random.below(4),
        _ => 8 + random.below(24),
    };
    for _ in 0..times {
        change(random, bytes, other);
        bytes.truncate(LONGEST);
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len());
    match random.below(16) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 if !bytes.is_empty() => bytes[at] = random.byte(),
        3 if !bytes.is_empty() => bytes[at] = *random.pick(&[0, 1, 2, 0x7f, 0x80, 0xfe, 0xff]),
        4 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(random.below(17) as u8).wrapping_sub(8),
        5..=7 => integer(random, bytes, at),
        8 | 9 => varint(random, bytes, at),
        10 => bytes.truncate(at),
        11 => {
            let end = at + random.below((bytes.len() - at).min(64) + 1);
            bytes.drain(at..end);
        }
        12 => {
            let more: Vec<u8> = (0..1 + random.below(8)).map(|_| random.byte()).collect();
            bytes.splice(at..at, more);
        }
        13 => {
            // The same again: an element too many, a tag twice, a header within a header.
            let end = at + random.below((bytes.len() - at).min(256) + 1);
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        14 if !other.is_empty() => {
            let from = random.below(other.len());
            let to = from + random.below((other.len() - from).min(512) + 1);
            let replaced = if random.once_in(2) { at } else { (at + to - from).min(bytes.len()) };
            bytes.splice(at..replaced, other[from..to].iter().copied());
        }
        _ => {
            let end = (at + 1 + random.below(16)).min(bytes.len());
            let filling = *random.pick(&[0, 0xff, 0x80]);
            bytes[at..end].fill(filling);
        }
    }
}

/// Any number that may be one of those in question, or near what is left.
fn number(random: &mut Random, left: usize) -> i64 {
    match random.below(8) {
        0 => random.u64() as i64,
        1 => (random.u64() as i64) >> random.below(64),
        2 => left as i64 + random.below(5) as i64 - 2,
        _ => *random.pick(&NUMBERS),
    }
}

fn integer(random: &mut Random, bytes: &mut [u8], at: usize) {
    let number = number(random, bytes.len() - at);
    let width = *random.pick(&[2, 4, 4, 8]);
    let big = &number.to_be_bytes()[8 - width..];
    // Some formats count the other way round.
    let little = &number.to_le_bytes()[..width];
    let digits = if random.once_in(6) { little } else { big };
    for (byte, digit) in bytes[at..].iter_mut().zip(digits) {
        *byte = *digit;
    }
}

/// Puts a varint in the place of the one that may begin here.
fn varint(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let number = number(random, bytes.len() - at);
    let number = if random.once_in(2) { (number << 1) ^ (number >> 63) } else { number.wrapping_add(1) };
    let mut rest = if random.once_in(2) { number as u32 as u64 } else { number as u64 };
    let mut varint = Vec::new();
    while rest >= 0x80 {
        varint.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    varint.push(rest as u8);
    if random.once_in(12) {
        // Longer than it need be.
        *varint.last_mut().unwrap() |= 0x80;
        varint.push(0);
    }
    let old = bytes[at..].iter().take(10).take_while(|byte| **byte >= 0x80).count() + 1;
    let end = (at + old).min(bytes.len());
    bytes.splice(at..end, varint);
}
