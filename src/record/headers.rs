//! The headers of a record that was read.
use crate::protocol::primitives::{Cursor, Malformed};

/// The headers of a record in their order: an iterator of key and value, which may be null.
///
/// Keys may repeat and need not be UTF-8. Copying the iterator is cheap; it borrows the batch.
#[derive(Clone)]
pub struct Headers<'a> {
    rest: Cursor<'a>,
    left: usize,
}

impl<'a> Headers<'a> {
    #[inline]
    pub(super) fn none() -> Self {
        Self { rest: Cursor::new(&[]), left: 0 }
    }

    /// Reads the count and takes what follows as the headers.
    #[inline]
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        // Nearly all records have none.
        if let [0] = bytes {
            return Ok(Self::none());
        }
        let mut rest = Cursor::new(bytes);
        let count = rest.varint()?;
        // A header is at least two lengths.
        let left = rest.count(i64::from(count), 2)?;
        Ok(Self { rest, left })
    }

    /// Walks all headers and sees that nothing is left over.
    #[inline]
    pub(super) fn validate(&self) -> Result<(), Malformed> {
        let mut walk = self.clone();
        for _ in 0..self.left {
            walk.read()?;
        }
        if walk.rest.is_empty() { Ok(()) } else { Err(walk.rest.malformed("bytes behind the last header")) }
    }

    #[inline]
    fn read(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), Malformed> {
        let key = self.rest.varint_bytes()?.ok_or(self.rest.malformed("header key is null"))?;
        Ok((key, self.rest.varint_bytes()?))
    }

    /// The value of the last header of this key, as Kafka's `lastHeader`: `None` without such a header, `Some(None)` if it is null.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Option<&'a [u8]>> {
        let key = key.as_ref();
        self.clone()
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .fold(None, |_, value| Some(value))
    }

    /// Whether there are none (left).
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // Validated when the batch was decoded.
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
