//! Batches that are damaged, or that inflate to more than anybody wants.
use super::{MEMORY, allocations, client, every_answer_tampered, names};
use milena::broker::Broker;
use milena::{Compression, Error, ErrorKind, Offset, Record};
use std::io::Write;

/// A batch of one record, well formed but for what is asked for.
fn batch(magic: u8, codec: u8, body: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; 61];
    batch[8..12].copy_from_slice(&(49 + body.len() as i32).to_be_bytes());
    batch[16] = magic;
    batch[22] = codec;
    batch[43..57].fill(0xff); // no producer
    batch[60] = 1;
    batch.extend(body);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Reads a log that begins with this batch: the error, which must not cost much, and that reading goes on behind it.
async fn corrupt(bytes: Vec<u8>) -> Error {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    broker.append_batch("orders", 0, bytes).unwrap();
    broker.append("orders", 0, &[Record::value("good")]).unwrap();
    let client = client(&broker).await;
    let mut consumer = client
        .consumer()
        .assign_at([(("orders", 0), Offset::Beginning)])
        .max_batch(1 << 20)
        .build()
        .await
        .unwrap();
    let mut error = None;
    let peak = allocations::peak_of(async { error = consumer.next().await.err() }).await;
    assert!(peak < MEMORY, "{peak}");
    let error = error.unwrap();
    println!("{error}");
    assert_eq!(
        (error.kind(), error.topic(), error.partition()),
        (ErrorKind::Corrupt, Some("orders"), Some(0))
    );
    consumer.seek(("orders", 0), 1).unwrap();
    let good = consumer.next().await.unwrap().unwrap();
    assert_eq!(good.iter().next().unwrap().value(), Some(&b"good"[..]));
    error
}

#[tokio::test(start_paused = true)]
async fn damaged_batches() {
    let record = b"\x10\0\0\0\x01\x02x\0\0"; // length 8, then no key and the value x
    let mut wrong = batch(2, 0, record);
    wrong[65] ^= 1;
    names(&corrupt(wrong).await, "checksum", &["orders"]);
    names(&corrupt(batch(2, 5, record)).await, "unknown codec 5", &["orders"]);
    names(&corrupt(batch(2, 0, &record[..5])).await, "record", &["orders"]);
    for codec in 1..5 {
        corrupt(batch(2, codec, b"this is compressed by nobody")).await;
        corrupt(batch(2, codec, b"")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_format_of_the_future() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    broker.append("orders", 0, &[Record::value("x")]).unwrap();
    let stored = broker.log("orders", 0).unwrap().batches()[0].clone();
    let magic = move |frame: &mut Vec<u8>| {
        if let Some(at) = frame.windows(stored.len()).position(|window| window == stored) {
            frame[at + 16] = 3;
        }
    };
    // Once may be an accident on the way; what comes again is told.
    let client = every_answer_tampered(&broker, 1, magic).await;
    let mut consumer =
        client.consumer().assign_at([(("orders", 0), Offset::Beginning)]).build().await.unwrap();
    let error = consumer.next().await.unwrap_err();
    println!("{error}");
    names(&error, "orders", &["magic"]);
    assert_eq!((error.kind(), error.address()), (ErrorKind::Corrupt, Some(&*broker.address())));
}

/// A batch as milena writes it.
async fn written_in_lz4(value: &[u8]) -> Vec<u8> {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    let client = client(&broker).await;
    let producer = client.producer().compression(Compression::Lz4).max_request_size(2 * value.len());
    let producer = producer.buffer_memory(4 * value.len()).build().await.unwrap();
    producer.send("orders", Record::value(value)).await.unwrap().await.unwrap();
    broker.log("orders", 0).unwrap().batches()[0].to_vec()
}

#[tokio::test(start_paused = true)]
async fn decompression_bombs() {
    let zeros = vec![0; 16 << 20];
    let limit = ["inflates to more than the limit"];

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&zeros).unwrap();
    names(&corrupt(batch(2, 1, &gzip.finish().unwrap())).await, "orders", &limit);

    names(
        &corrupt(batch(2, 2, &snap::raw::Encoder::new().compress_vec(&zeros).unwrap())).await,
        "orders",
        &limit,
    );
    // A few bytes that say that they are four gigabytes.
    corrupt(batch(2, 2, b"\xff\xff\xff\xff\x0f\0\0")).await;

    names(&corrupt(written_in_lz4(&zeros).await).await, "orders", &limit);

    // Blocks that repeat one byte 128 Ki times, in a window of as much.
    let mut zstd = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    (0..4_000).for_each(|_| zstd.extend(b"\x02\0\x10\0"));
    zstd.extend(b"\x01\0\0");
    names(&corrupt(batch(2, 4, &zstd)).await, "orders", &limit);
    // A window, and then a content, of gigabytes.
    corrupt(batch(2, 4, b"\x28\xb5\x2f\xfd\x00\xb0\x01\0\0")).await;
    corrupt(batch(2, 4, b"\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\0\0\0\0\x01\0\0")).await;
}
