//! Kafka's primitive encodings over plain slices: big-endian integers, varints, lengths that cannot lie.
use bytes::{BufMut, Bytes};

/// Bytes that do not follow the protocol: what was expected, and how many bytes were left when it was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({left} bytes before the end)")]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
    pub(crate) left: usize,
}

/// A reader that moves forward over a slice and never past its end. It allocates nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

macro_rules! fixed {
    ($($name:ident $type:ty;)*) => {$(
        #[inline]
        pub(crate) fn $name(&mut self) -> Result<$type, Malformed> {
            let (head, rest) = self.rest.split_first_chunk().ok_or(self.malformed(concat!(stringify!($type), " cut off")))?;
            self.rest = rest;
            Ok(<$type>::from_be_bytes(*head))
        }
    )*};
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, left: self.rest.len() }
    }

    fixed! {
        u8 u8;
        i8 i8;
        i16 i16;
        i32 i32;
        u32 u32;
        i64 i64;
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(self.malformed("length beyond the end"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn uuid(&mut self) -> Result<uuid::Uuid, Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(self.malformed("uuid cut off"))?;
        self.rest = rest;
        Ok(uuid::Uuid::from_bytes(*head))
    }

    /// An unsigned varint of at most 32 bits.
    #[inline(always)]
    pub(crate) fn uvarint(&mut self) -> Result<u32, Malformed> {
        // Lengths and deltas of usual records fit one byte or two; this path decides how fast batches are read.
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                Ok(u32::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                Ok(u32::from(a & 0x7f) | u32::from(b) << 7)
            }
            _ => self.uvarint_slow(),
        }
    }

    #[cold]
    fn uvarint_slow(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for (at, &byte) in self.rest.iter().take(5).enumerate() {
            if at == 4 && byte > 0x0f {
                return Err(self.malformed("varint above 32 bits"));
            }
            value |= u32::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.malformed("varint cut off"))
    }

    /// A zigzag varint (`VARINT`).
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<i32, Malformed> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zigzag varint of 64 bits (`VARLONG`).
    #[inline(always)]
    pub(crate) fn varlong(&mut self) -> Result<i64, Malformed> {
        let raw = match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                u64::from(a)
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                u64::from(a & 0x7f) | u64::from(b) << 7
            }
            _ => self.uvarlong_slow()?,
        };
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    #[cold]
    fn uvarlong_slow(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            if at == 9 && byte > 0x01 {
                return Err(self.malformed("varlong above 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.malformed("varlong cut off"))
    }

    /// A nullable field with a zigzag length, as record keys and values are.
    #[inline(always)]
    pub(crate) fn varint_bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.varint()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| self.malformed("negative length"))?;
                self.bytes(len).map(Some)
            }
        }
    }

    /// A count of elements, each of at least `element` bytes: never more than the bytes left can hold.
    pub(crate) fn count(&self, count: i64, element: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(count).map_err(|_| self.malformed("negative count"))?;
        if count.saturating_mul(element.max(1)) > self.rest.len() {
            return Err(self.malformed("count beyond the end"));
        }
        Ok(count)
    }
}

/// The part of `whole` that `part`, a slice of it, covers: shares the buffer instead of copying.
pub(crate) fn share(whole: &Bytes, part: &[u8]) -> Bytes {
    whole.slice_ref(part)
}

#[inline]
pub(crate) fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
pub(crate) fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub(crate) fn put_uvarint(out: &mut impl BufMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[inline]
pub(crate) fn put_varint(out: &mut impl BufMut, value: i32) {
    put_uvarint(out, zigzag(value));
}

#[inline]
pub(crate) fn put_varlong(out: &mut impl BufMut, value: i64) {
    let mut value = zigzag_long(value);
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[inline]
pub(crate) fn uvarint_len(value: u32) -> usize {
    (38 - (value | 1).leading_zeros() as usize) / 7
}

#[inline]
pub(crate) fn varint_len(value: i32) -> usize {
    uvarint_len(zigzag(value))
}

#[inline]
pub(crate) fn varlong_len(value: i64) -> usize {
    (70 - (zigzag_long(value) | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(int in any::<i32>(), long in any::<i64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, int);
            prop_assert_eq!(out.len(), varint_len(int));
            put_varlong(&mut out, long);
            prop_assert_eq!(out.len(), varint_len(int) + varlong_len(long));
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint(), Ok(int));
            prop_assert_eq!(cursor.varlong(), Ok(long));
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut cursor = Cursor::new(&bytes);
            let _ = cursor.uvarint();
            let _ = cursor.varlong();
            let _ = cursor.varint_bytes();
            let _ = cursor.uuid();
        }
    }

    #[test]
    fn overlong_and_cut_varints_are_refused() {
        assert!(Cursor::new(&[0xff; 5]).uvarint().is_err());
        assert!(Cursor::new(&[0xff; 11]).varlong().is_err());
        assert!(Cursor::new(&[0x80]).uvarint().is_err());
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(), Ok(u32::MAX));
    }

    #[test]
    fn a_count_larger_than_the_rest_is_refused() {
        assert!(Cursor::new(&[0; 8]).count(3, 4).is_err());
        assert!(Cursor::new(&[0; 8]).count(-2, 1).is_err());
        assert_eq!(Cursor::new(&[0; 8]).count(2, 4), Ok(2));
    }
}
