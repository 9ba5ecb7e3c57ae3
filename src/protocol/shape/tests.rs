use super::*;
use crate::protocol::primitives::put_uvarint;
use crate::protocol::request::{CODECS, Codec};
use proptest::prelude::*;

pub(crate) type Check = fn(i16, i16, &[u8]) -> Result<(), Malformed>;

/// Every API in both directions, in every version.
pub(crate) fn every() -> impl Iterator<Item = (i16, i16, Check, &'static Codec, &'static Shape)> {
    let both = CODECS.iter().flat_map(|(key, request, response)| {
        [
            (*key, request, check_request as Check, &TABLE.requests),
            (*key, response, check_response, &TABLE.responses),
        ]
    });
    both.flat_map(|(key, codec, check, messages)| {
        (codec.versions.0..=codec.versions.1).map(move |version| {
            let shape = messages[key as usize].as_ref().and_then(|message| message.shape(version));
            (
                key,
                version,
                check,
                codec,
                shape.unwrap_or_else(|| panic!("API {key} version {version} has no shape")),
            )
        })
    })
}

/// What a body of some shape is filled with.
#[derive(Clone, Copy)]
pub(crate) struct Filling<'a> {
    /// Elements of an array, by the number of arrays before it and the least size of an element.
    pub(crate) elements: &'a dyn Fn(usize, usize) -> usize,
    pub(crate) text: &'a [u8],
    /// Whether known tagged fields are there.
    pub(crate) known: bool,
    /// A tagged field that nobody knows, for every structure.
    pub(crate) unknown: Option<&'a [u8]>,
}

impl Filling<'_> {
    pub(crate) fn write(self, shape: &Shape) -> Vec<u8> {
        let mut writer = Writer { shape, filling: self, arrays: 0, out: Vec::new() };
        writer.steps(&shape.steps);
        writer.out
    }
}

struct Writer<'a> {
    shape: &'a Shape,
    filling: Filling<'a>,
    arrays: usize,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn steps(&mut self, mut steps: &[Step]) {
        while let Some((&step, rest)) = steps.split_first() {
            steps = rest;
            match step {
                Step::Fixed(len) => self.out.extend(std::iter::repeat_n(1, len)),
                Step::String | Step::Bytes => {
                    self.length(step, self.filling.text.len());
                    self.out.extend(self.filling.text);
                }
                Step::Array { body, least } => {
                    let count = (self.filling.elements)(self.arrays, least);
                    self.arrays += 1;
                    self.length(step, count);
                    (0..count).for_each(|_| self.steps(&steps[..body]));
                    steps = &steps[body..];
                }
                Step::Optional { body } => {
                    self.out.push(1);
                    self.steps(&steps[..body]);
                    steps = &steps[body..];
                }
                Step::Tags { body } => {
                    self.tags(&steps[..body]);
                    steps = &steps[body..];
                }
                Step::Tag { .. } => unreachable!(),
            }
        }
    }

    fn length(&mut self, step: Step, len: usize) {
        match step {
            _ if self.shape.flexible => put_uvarint(&mut self.out, len as u32 + 1),
            Step::String => self.out.extend((len as i16).to_be_bytes()),
            _ => self.out.extend((len as i32).to_be_bytes()),
        }
    }

    fn tags(&mut self, mut steps: &[Step]) {
        let mut values = Vec::new();
        while let Some((&Step::Tag { tag, body }, rest)) = steps.split_first()
            && self.filling.known
        {
            let start = self.out.len();
            self.steps(&rest[..body]);
            values.push((tag, self.out.split_off(start)));
            steps = &rest[body..];
        }
        values.extend(self.filling.unknown.map(|value| (99, value.to_vec())));
        put_uvarint(&mut self.out, values.len() as u32);
        for (tag, value) in values {
            put_uvarint(&mut self.out, tag);
            put_uvarint(&mut self.out, value.len() as u32);
            self.out.extend(value);
        }
    }
}

#[test]
fn every_version_of_every_api_has_the_shape_that_its_decoder_reads() {
    let mut checked = 0;
    for (key, version, check, codec, shape) in every() {
        for (count, known, unknown) in
            [(0, false, None), (1, true, None), (2, false, Some(b"new")), (3, true, Some(b"new"))]
        {
            let unknown = unknown.map(|value| &value[..]);
            let body = Filling { elements: &|_, _| count, text: b"text", known, unknown }.write(shape);
            let (left, again) =
                (codec.recode)(version, &body).unwrap_or_else(|| panic!("{key} v{version}: {body:02x?}"));
            assert_eq!((left, &again), (0, &body), "API {key} version {version}");
            assert_eq!(check(key, version, &body), Ok(()), "API {key} version {version}");
            checked += 1;
        }
    }
    assert!(checked > 1_000, "{checked}");
}

#[test]
fn prefixes_and_bytes_left_over_are_refused() {
    for (key, version, check, codec, shape) in every() {
        let full =
            Filling { elements: &|_, _| 2, text: b"text", known: true, unknown: Some(b"new") }.write(shape);
        for body in (codec.default)(version).into_iter().chain([full]) {
            assert_eq!(check(key, version, &body), Ok(()), "API {key} version {version}");
            for end in 0..body.len() {
                assert!(
                    check(key, version, &body[..end]).is_err(),
                    "API {key} version {version} cut at {end}"
                );
            }
            let longer = [&body[..], &[0]].concat();
            assert!(check(key, version, &longer).is_err(), "API {key} version {version}");
        }
    }
}

#[test]
fn a_count_that_the_rest_cannot_hold_is_refused() {
    // Metadata 13: throttle time, then brokers: 2^28 of them in five bytes.
    let body = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1, 1];
    assert_eq!(check_response(3, 13, &body).map_err(|error| error.what), Err("count beyond the end"));
    let body = [0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    assert_eq!(check_response(3, 4, &body).map_err(|error| error.what), Err("count beyond the end"));
}

#[test]
fn an_unknown_api_or_version_is_refused() {
    for (key, version) in [(-1, 0), (4, 0), (1_000, 0), (3, -1), (3, 14), (0, 2), (i16::MAX, i16::MIN)] {
        assert_eq!(
            check_response(key, version, &[]).map_err(|error| error.what),
            Err("unknown API or version")
        );
    }
}

#[test]
fn tags_are_in_order_and_as_long_as_they_say() {
    // Produce 10: no responses, throttle time, then the tagged fields.
    let check = |tags: &[u8]| check_response(0, 10, &[&[1, 0, 0, 0, 0], tags].concat());
    assert_eq!(check(&[2, 0, 1, 1, 7, 0]), Ok(()));
    assert!(check(&[2, 7, 0, 0, 1, 1]).is_err(), "order");
    assert!(check(&[2, 7, 0, 7, 0]).is_err(), "twice");
    assert!(check(&[1, 0, 2, 1, 0]).is_err(), "longer than its field");
    assert!(check(&[1, 0, 0]).is_err(), "shorter than its field");
    assert!(check(&[200, 1, 7, 0]).is_err(), "count");
}

#[test]
fn a_tag_above_31_bits_is_refused() {
    // Found by tests/fuzz: written again, the message had another size than computed.
    let check = |tag: &[u8]| check_response(0, 10, &[&[1, 0, 0, 0, 0, 1], tag, &[1, 7]].concat());
    assert_eq!(check(b"\xff\xff\xff\xff\x07"), Ok(()));
    assert!(check(b"\x80\x80\x80\x80\x08").is_err());
    assert!(check(b"\xff\xff\xff\xff\x0f").is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(key in 0i16..93, version in 0i16..19, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (check_request(key, version, &body), check_response(key, version, &body));
    }
}
