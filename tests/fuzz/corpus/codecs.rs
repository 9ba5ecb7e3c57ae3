//! Compressed bytes as we write them, and as others do. The first byte stands for a limit, see the decoders.
use milena::Compression;
use milena::internals::decoders::compress;
use std::io::Write as _;

fn texts() -> Vec<Vec<u8>> {
    let words: Vec<u8> = (0..600).flat_map(|word| format!("w{} ", word * 7919 % 97).into_bytes()).collect();
    let noise: Vec<u8> = (0..300u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![Vec::new(), b"x".to_vec(), vec![0; 40_000], words, noise, b"abcdefgh".repeat(9)]
}

/// With a limit that suffices, mostly.
fn limited(packed: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    packed.into_iter().map(|packed| [&[0], &packed[..]].concat()).collect()
}

fn ours(codec: Compression) -> Vec<Vec<u8>> {
    texts().iter().map(|text| compress(codec, text)).collect()
}

pub fn gzip() -> Vec<Vec<u8>> {
    let mut all = ours(Compression::Gzip);
    all.push([&all[1][..], &all[3]].concat()); // two members
    for level in [0, 1, 9] {
        let mut encoder = flate2::GzBuilder::new()
            .filename("name")
            .comment("comment")
            .extra(vec![1, 2])
            .write(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(&texts()[3]).unwrap();
        all.push(encoder.finish().unwrap());
    }
    limited(all)
}

pub fn snappy() -> Vec<Vec<u8>> {
    let mut all = ours(Compression::Snappy);
    all.extend(texts().iter().map(|text| snap::raw::Encoder::new().compress_vec(text).unwrap()));
    limited(all)
}

pub fn lz4() -> Vec<Vec<u8>> {
    let mut all = ours(Compression::Lz4);
    all.push([&all[1][..], &all[3]].concat()); // two frames
    let text = &texts()[3];
    let block = lz4_flex::block::compress(&text[..1000]);
    let linked = lz4_flex::block::compress_with_dict(&text[1000..], &text[..1000]);
    let length = |block: &[u8]| (block.len() as u32).to_le_bytes();
    for (flags, size) in [(0x60, false), (0x40, false), (0x48, true), (0x5c, true), (0x54, false)] {
        let mut frame = vec![0x04, 0x22, 0x4d, 0x18, flags, 0x50];
        if size {
            frame.extend((text.len() as u64).to_le_bytes());
        }
        frame.push(0); // a wrong checksum of the header, as old clients wrote it
        let second =
            if flags & 0x20 == 0 { linked.clone() } else { lz4_flex::block::compress(&text[1000..]) };
        for block in [&block, &second] {
            frame.extend(length(block));
            frame.extend(block);
            frame.extend(if flags & 0x10 != 0 { &[1, 2, 3, 4][..] } else { &[] });
        }
        frame.extend([0; 4]);
        frame.extend(if flags & 4 != 0 { &[1, 2, 3, 4][..] } else { &[] });
        all.push(frame);
    }
    limited(all)
}

pub fn zstd() -> Vec<Vec<u8>> {
    let mut all = ours(Compression::Zstd);
    all.push([&all[1][..], &all[3]].concat()); // two frames
    all.push([b"\x50\x2a\x4d\x18\x03\0\0\0abc", &all[1][..]].concat()); // a skippable one first
    // Blocks that are stored, that repeat a byte, and none; with and without a size.
    all.push(b"\x28\xb5\x2f\xfd\x00\x38\x18\0\0abc\x42\0\0x\x01\0\0".to_vec());
    all.push(b"\x28\xb5\x2f\xfd\x20\x03\x19\0\0abc".to_vec());
    limited(all)
}
