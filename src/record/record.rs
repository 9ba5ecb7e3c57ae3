//! A record to be sent.

/// A record to be sent: borrowed bytes that are copied once, into the batch.
///
/// Null and empty are different things, for keys, values and header values alike.
///
/// ```
/// use milena::Record;
///
/// let order = Record::value("3 apples").key("customer-42").header("trace", "7f").timestamp(1_700_000_000_000);
/// assert_eq!(order.key, Some(b"customer-42".as_slice()));
///
/// let forgotten = Record::tombstone().key("customer-42");
/// assert_eq!(forgotten.value, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// The value; `None` is null, which deletes the key in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The key, by which the partition is chosen and the log compacted; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Milliseconds since 1970-01-01 UTC; `None`, the default, is the time at which the record is appended to its batch.
    pub timestamp: Option<i64>,
    /// The partition; `None`, the default, leaves the choice to the partitioner.
    pub partition: Option<i32>,
    /// The headers, in order; keys may repeat, values may be null.
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> Record<'a> {
    /// A record with this value, without key and headers.
    pub fn value<V: AsRef<[u8]> + ?Sized>(value: &'a V) -> Self {
        Self { value: Some(value.as_ref()), ..Self::tombstone() }
    }

    /// A record with a null value: in a compacted topic it deletes its key.
    pub fn tombstone() -> Self {
        Self { value: None, key: None, timestamp: None, partition: None, headers: Vec::new() }
    }

    /// Sets the key.
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the timestamp, in milliseconds since 1970-01-01 UTC.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Sets the partition, so that no partitioner is asked.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Adds a header behind those that are there.
    pub fn header<K: AsRef<[u8]> + ?Sized, V: AsRef<[u8]> + ?Sized>(
        mut self,
        key: &'a K,
        value: &'a V,
    ) -> Self {
        self.headers.push((key.as_ref(), Some(value.as_ref())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.headers.push((key.as_ref(), None));
        self
    }

    /// Adds headers behind those that are there, for instance those of a record that was read.
    pub fn headers(mut self, headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Self {
        self.headers.extend(headers);
        self
    }
}
