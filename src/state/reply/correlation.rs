//! Reply correlation ids: 16 hex digits that name the requester, 16 that name the call.
//!
//! Lower-case hex survives every dialect: it is valid UTF-8 and starts with neither NUL nor a bracket, so NestJS takes it
//! neither for binary nor for JSON. (Not to be confused with the correlation id of the wire's request header.)

/// A reply correlation id as it is written into headers.
pub(crate) type ReplyId = [u8; 32];

/// Makes and recognises the ids of one requester.
///
/// The nonce is new in every requester, so replies to a former life of the same process are strangers. The number of
/// the call goes through a keyed permutation: it can be recovered without a table of texts, and whoever sees one id does
/// not know the next one.
#[derive(Debug, Clone)]
pub(crate) struct ReplyCorrelation {
    nonce: [u8; 16],
    keys: [u32; 4],
}

impl ReplyCorrelation {
    /// Both numbers come from the system's generator.
    pub(crate) fn new(nonce: u64, key: u64) -> Self {
        let (high, low) = halves(key);
        Self { nonce: hex(nonce), keys: [high, low, mix(high ^ 0x9e37_79b9), mix(low ^ 0x85eb_ca6b)] }
    }

    pub(crate) fn id(&self, call: u64) -> ReplyId {
        let mut id = [0; 32];
        id[..16].copy_from_slice(&self.nonce);
        id[16..].copy_from_slice(&hex(self.permute(call)));
        id
    }

    /// The number of the call, if the id was made by this requester.
    pub(crate) fn call(&self, id: &[u8]) -> Option<u64> {
        // Other requesters share the partition: their replies end at this comparison.
        let number = id.strip_prefix(&self.nonce)?;
        Some(self.restore(from_hex(number.try_into().ok()?)?))
    }

    /// A Feistel network: a permutation whatever the round function is.
    fn permute(&self, call: u64) -> u64 {
        let (mut left, mut right) = halves(call);
        for key in self.keys {
            (left, right) = (right, left ^ mix(right ^ key));
        }
        join(left, right)
    }

    fn restore(&self, number: u64) -> u64 {
        let (mut left, mut right) = halves(number);
        for key in self.keys.iter().rev() {
            (left, right) = (right ^ mix(left ^ key), left);
        }
        join(left, right)
    }
}

fn halves(number: u64) -> (u32, u32) {
    ((number >> 32) as u32, number as u32)
}

fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Every bit of the input reaches every bit of the output.
fn mix(mut word: u32) -> u32 {
    word = (word ^ word >> 16).wrapping_mul(0x7feb_352d);
    word = (word ^ word >> 15).wrapping_mul(0x846c_a68b);
    word ^ word >> 16
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|i| DIGITS[(number >> (60 - 4 * i)) as usize & 15])
}

fn from_hex(text: &[u8; 16]) -> Option<u64> {
    text.iter().try_fold(0, |number, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_32_lower_case_hex_digits_led_by_the_nonce() {
        let id = ReplyCorrelation::new(0x0123_4567_89ab_cdef, 7).id(0);
        assert!(id.starts_with(b"0123456789abcdef"));
        assert!(id.iter().all(|digit| DIGITS.contains(digit)));
    }

    #[test]
    fn consecutive_ids_do_not_look_consecutive() {
        let correlation = ReplyCorrelation::new(1, 2);
        let (first, second) = (correlation.id(0), correlation.id(1));
        let same = first[16..].iter().zip(&second[16..]).filter(|(a, b)| a == b).count();
        assert!(same < 8, "{} {}", String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
    }

    #[test]
    fn another_requesters_id_is_a_stranger() {
        let ours = ReplyCorrelation::new(1, 9);
        assert_eq!(ours.call(&ReplyCorrelation::new(2, 9).id(5)), None);
        let upper = ours.id(5).to_ascii_uppercase();
        assert_eq!(ours.call(&upper).is_some(), upper == ours.id(5));
    }

    proptest! {
        #[test]
        fn every_call_is_recovered(nonce: u64, key: u64, call: u64) {
            let correlation = ReplyCorrelation::new(nonce, key);
            prop_assert_eq!(correlation.call(&correlation.id(call)), Some(call));
        }

        #[test]
        fn any_bytes_may_come_as_an_id(bytes: Vec<u8>) {
            let _ = ReplyCorrelation::new(1, 2).call(&bytes);
        }
    }
}
