//! Every codec: what it writes it reads; what others write it reads; what nobody should write costs little.
use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn packed(codec: Compression, input: &[u8]) -> Bytes {
    let mut out = b"head".to_vec();
    compress(codec, None, input, &mut out).unwrap();
    assert!(out.starts_with(b"head"));
    Bytes::from(out).slice(4..)
}

/// Text-like input: words repeat, so that matches are long and reach far.
fn words() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..60usize, 0..30_000).prop_map(|words| {
        words.iter().flat_map(|word| format!("w{} ", word * word * 7919).into_bytes()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_written_is_read(input in prop_oneof![words(), proptest::collection::vec(any::<u8>(), 0..200_000)]) {
        for codec in CODECS {
            let packed = packed(codec, &input);
            prop_assert_eq!(&decompress(codec, &packed, input.len()).unwrap()[..], &input[..], "{}", codec);
            if let Some(less) = input.len().checked_sub(1) {
                prop_assert!(decompress(codec, &packed, less).is_err(), "{} kept no limit", codec);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damaged_input_neither_panics_nor_passes_the_limit(
        words in proptest::collection::vec(0..40usize, 1..300),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        limit in 0..6000usize,
    ) {
        let input: Vec<u8> = words.iter().flat_map(|word| format!("word{word} ").into_bytes()).collect();
        for codec in CODECS {
            let mut bytes = packed(codec, &input).to_vec();
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(1 + cut.index(bytes.len() * 2).min(bytes.len() - 1));
            if let Ok(out) = decompress(codec, &bytes.into(), limit) {
                prop_assert!(out.len() <= limit);
            }
        }
    }

    #[test]
    fn garbage_neither_panics_nor_passes_the_limit(
        start in prop::sample::select(vec![
            vec![], b"\x1f\x8b\x08\0\0\0\0\0\0\0".to_vec(), b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec(),
            b"\x04\x22\x4d\x18\x60\x40\x82".to_vec(), b"\x04\x22\x4d\x18\x40\x70\xdf".to_vec(),
            b"\x28\xb5\x2f\xfd\x00\x58".to_vec(), b"\x28\xb5\x2f\xfd\xa0\xff\xff\xff\x7f".to_vec(),
        ]),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes: Bytes = [start, bytes].concat().into();
        for codec in CODECS {
            if let Ok(out) = decompress(codec, &bytes, 5000) {
                prop_assert!(out.len() <= 5000);
            }
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeroes = vec![0; 32 << 20];
    for codec in CODECS {
        let bomb = packed(codec, &zeroes);
        assert!(matches!(decompress(codec, &bomb, 1 << 20), Err(BatchError::TooLarge { .. })), "{codec}");
        assert_eq!(decompress(codec, &bomb, zeroes.len()).unwrap().len(), zeroes.len());
    }
}

#[test]
fn several_gzip_members_and_zstd_frames_are_one_text() {
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let two: Bytes = [packed(codec, b"one, "), packed(codec, b"two")].concat().into();
        assert_eq!(&decompress(codec, &two, 100).unwrap()[..], b"one, two", "{codec}");
    }
}

#[test]
fn levels_are_taken_and_wild_ones_bent() {
    let input = b"all work and no play ".repeat(99);
    for codec in CODECS {
        for level in [i32::MIN, -1, 0, 1, 9, 19, i32::MAX] {
            let mut out = Vec::new();
            compress(codec, Some(level), &input, &mut out).unwrap();
            assert_eq!(
                &decompress(codec, &out.into(), input.len()).unwrap()[..],
                &input[..],
                "{codec} {level}"
            );
        }
    }
}

/// A block of `x` and a match of 99 more, as LZ4 codes it.
const XS: [u8; 6] = [0x1f, b'x', 1, 0, 80, 0];

#[test]
fn lz4_frames_with_every_flag_are_read() {
    let block = |extra: &[u8]| [&6u32.to_le_bytes()[..], &XS, extra].concat();
    let frame = |flags: u8, head: &[u8], blocks: &[Vec<u8>], tail: &[u8]| -> Bytes {
        // The header checksum is wrong on purpose: clients of message format 0 computed it so.
        [&[0x04, 0x22, 0x4d, 0x18, flags, 0x40][..], head, &[0xee], &blocks.concat(), &[0; 4], tail]
            .concat()
            .into()
    };
    let inflate = |frame: Bytes| decompress(Compression::Lz4, &frame, 1000);
    assert_eq!(inflate(frame(0x60, &[], &[block(&[])], &[])).unwrap(), vec![b'x'; 100]);
    assert_eq!(inflate(frame(0x70, &[], &[block(b"sum1"), block(b"sum2")], &[])).unwrap().len(), 200);
    assert_eq!(inflate(frame(0x64, &[], &[block(&[])], b"sums")).unwrap().len(), 100);
    assert_eq!(inflate(frame(0x68, &100u64.to_le_bytes(), &[block(&[])], &[])).unwrap().len(), 100);
    assert!(inflate(frame(0x68, &101u64.to_le_bytes(), &[block(&[])], &[])).is_err());
    // Linked: the second block reaches into the first.
    let tail = [&9u32.to_le_bytes()[..], &[0x04, 50, 0, 0x50, b'y', b'y', b'y', b'y', b'y']].concat();
    assert_eq!(
        inflate(frame(0x40, &[], &[block(&[]), tail.clone()], &[])).unwrap()[100..],
        *b"xxxxxxxxyyyyy"
    );
    assert!(
        inflate(frame(0x60, &[], &[block(&[]), tail], &[])).is_err(),
        "independent blocks cannot reach back"
    );
}

#[test]
fn names_are_kafkas() {
    for (name, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().zip(0..) {
        let codec = Compression::from_id(codec).unwrap();
        assert_eq!((codec.to_string().as_str(), name.parse::<Compression>().unwrap()), (*name, codec));
    }
    assert!("brotli".parse::<Compression>().is_err());
    assert!(matches!(Compression::from_id(5), Err(BatchError::UnknownCodec(5))));
}
