//! The records: each says who wrote it, to which partition, and as which of its records there. All it holds follows
//! from that.
use std::ops::Range;

use milena::{Record, RecordView};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A writer's record in a known partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) writer: u8,
    pub(crate) number: u32,
}

/// What such a record holds.
#[derive(PartialEq, Eq)]
pub(crate) struct Content {
    value: Vec<u8>,
    key: Option<String>,
    header: Option<[u8; 4]>,
}

const HEADER: &str = "number";

impl Numbered {
    /// Its content in the partition at this place, with a value about as long as one of `sizes`.
    pub(crate) fn content(self, place: usize, sizes: &Range<usize>) -> Content {
        let spread = self.number.wrapping_mul(2_654_435_761) as usize;
        Content::new(self, place, sizes.start + spread % sizes.len())
    }

    /// Reads a record of the partition at this place, and compares all of it with what it should hold.
    pub(crate) fn read(place: usize, record: &RecordView<'_>) -> Result<Self, String> {
        let header = record.headers().get(HEADER).flatten();
        Self::of(place, record.value().ok_or("it has no value")?, record.key(), header)
    }

    fn of(place: usize, value: &[u8], key: Option<&[u8]>, header: Option<&[u8]>) -> Result<Self, String> {
        let head = value.split(|byte| *byte == b'|').next().unwrap_or_default();
        let head = String::from_utf8_lossy(&head[..head.len().min(60)]);
        let numbers: Option<Vec<usize>> =
            head.split(' ').map(|word| word.get(1..).and_then(|number| number.parse().ok())).collect();
        let Some(&[writer, number, written_to, size]) = numbers.as_deref() else {
            return Err(format!("it begins with {head:?}"));
        };
        let numbered = Self { writer: writer as u8, number: number as u32 };
        let expected = Content::new(numbered, written_to, size.min(value.len()));
        if written_to != place {
            Err(format!("{head:?} belongs into another partition"))
        } else if expected.value != value {
            Err(format!("{head:?} has another value"))
        } else if expected.key() != key || expected.header() != header {
            Err(format!("{head:?} has another key or another header"))
        } else {
            Ok(numbered)
        }
    }
}

impl Content {
    /// Half of the value is noise, half is easily compressed.
    fn new(Numbered { writer, number }: Numbered, place: usize, size: usize) -> Self {
        let mut random =
            SmallRng::seed_from_u64(u64::from(number) << 16 | (place as u64) << 8 | u64::from(writer));
        let mut value = format!("w{writer} n{number} p{place} s{size}|").into_bytes();
        value.extend((0..size / 2).map(|_| random.random::<u8>()));
        value.extend(b"one after another, ".iter().cycle().take(size - size / 2));
        let key = (!number.is_multiple_of(3)).then(|| format!("{writer}-{number}"));
        Self { value, key, header: number.is_multiple_of(4).then(|| number.to_be_bytes()) }
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref().map(str::as_bytes)
    }

    fn header(&self) -> Option<&[u8]> {
        self.header.as_ref().map(<[u8; 4]>::as_slice)
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let mut record = Record::value(&self.value);
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        match &self.header {
            Some(number) => record.header(HEADER, number),
            None => record,
        }
    }
}

#[test]
fn a_damaged_record_is_seen() {
    let numbered = Numbered { writer: 1, number: 4 };
    let content = numbered.content(2, &(100..101));
    let (value, key, header) = (&content.value[..], content.key(), content.header());
    assert_eq!(Numbered::of(2, value, key, header), Ok(numbered));
    assert!(Numbered::of(3, value, key, header).unwrap_err().contains("another partition"));
    for at in 0..value.len() {
        let mut damaged = value.to_vec();
        damaged[at] ^= 1;
        assert!(Numbered::of(2, &damaged, key, header).is_err(), "byte {at}");
    }
    assert!(Numbered::of(2, &value[..value.len() - 1], key, header).is_err());
    assert!(Numbered::of(2, value, None, header).is_err());
    assert!(Numbered::of(2, value, key, None).is_err());
    let other = Numbered { writer: 1, number: 5 }.content(2, &(100..101));
    assert_ne!(other.key(), key);
    assert!(Numbered::of(2, &other.value, key, header).is_err());
}
