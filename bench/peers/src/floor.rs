//! The floor: one blocking thread, frames by hand, nothing else. No retries, no memory bound, no handle per record.
use std::io::{IoSlice, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Load;
use crate::meter::{Figures, Meter};
use crate::wire::{self, Fields};

/// Requests under way at once, as all clients here are allowed.
const IN_FLIGHT: usize = 5;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the sink listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

struct Open {
    batch: Vec<u8>,
    count: i32,
    sequence: i32,
}

pub fn produce(address: SocketAddr, load: &Load) -> Figures {
    let mut stream = connect(address);
    let mut open: Vec<Open> = (0..load.partitions)
        .map(|_| Open { batch: vec![0; wire::BATCH_HEADER], count: 0, sequence: 0 })
        .collect();
    let (mut head, mut answer, mut in_flight, mut correlation) = (Vec::new(), Vec::new(), 0, 0);
    let mut value = vec![b'x'; load.value];
    let mut now = timestamp();
    let mut meter = Meter::start();
    for at in 0..load.warm_up + load.records {
        if at == load.warm_up {
            meter = Meter::start();
        }
        value[0] = at as u8;
        let partition = (at % load.partitions as u64) as usize;
        let this = &mut open[partition];
        if this.batch.len() + load.value + 12 > load.batch {
            send(&mut stream, &mut head, this, partition as i32, correlation, now);
            (in_flight, correlation, now) = (in_flight + 1, correlation + 1, timestamp());
            if in_flight == IN_FLIGHT {
                wire::read_frame(&mut stream, &mut answer).expect("an answer");
                in_flight -= 1;
            }
        }
        wire::put_record(&mut this.batch, i64::from(this.count), 0, &value);
        this.count += 1;
    }
    for (partition, this) in open.iter_mut().enumerate().filter(|(_, this)| this.count > 0) {
        send(&mut stream, &mut head, this, partition as i32, correlation, now);
        in_flight += 1;
    }
    for _ in 0..in_flight {
        wire::read_frame(&mut stream, &mut answer).expect("an answer");
    }
    meter.stop(load.records)
}

fn timestamp() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

fn send(
    stream: &mut TcpStream,
    head: &mut Vec<u8>,
    open: &mut Open,
    partition: i32,
    correlation: i32,
    now: i64,
) {
    wire::seal(&mut open.batch, 0, open.count, now, (4242, 0, open.sequence));
    wire::request(head, wire::PRODUCE, 7, correlation);
    head.extend((-1i16).to_be_bytes()); // no transaction
    head.extend((-1i16).to_be_bytes()); // acks=all
    head.extend(30_000i32.to_be_bytes());
    head.extend(1i32.to_be_bytes());
    wire::put_string(head, wire::TOPIC);
    head.extend(1i32.to_be_bytes());
    head.extend(partition.to_be_bytes());
    head.extend((open.batch.len() as i32).to_be_bytes());
    wire::finish(head, open.batch.len());
    let mut slices = [IoSlice::new(head), IoSlice::new(&open.batch)];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let written = stream.write_vectored(rest).expect("the sink reads");
        IoSlice::advance_slices(&mut rest, written);
    }
    open.sequence += open.count;
    open.count = 0;
    open.batch.truncate(wire::BATCH_HEADER);
}

/// Reads every record borrowed, with the checksum, the next fetch sent before the records are looked at.
pub fn consume(address: SocketAddr, load: &Load) -> Figures {
    let mut stream = connect(address);
    let mut offsets = vec![0i64; load.partitions as usize];
    let (mut head, mut frame, mut next) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut bytes) = (0u64, 0u64);
    let mut meter = Meter::start();
    let mut metered_from = None;
    fetch(&mut stream, &mut head, &offsets);
    wire::read_frame(&mut stream, &mut frame).expect("an answer");
    loop {
        let sets = record_sets(&frame, &mut offsets);
        if metered_from.is_none() && seen >= load.warm_up {
            meter = Meter::start();
            metered_from = Some(seen);
        }
        fetch(&mut stream, &mut head, &offsets);
        for (start, end) in sets {
            let mut rest = &frame[start..end];
            while rest.len() > wire::BATCH_HEADER {
                let length = 12 + Fields(&rest[8..]).i32() as usize;
                let (batch, behind) = rest.split_at(length);
                rest = behind;
                let crc = u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"));
                assert_eq!(crc, crc32c::crc32c(&batch[21..]));
                let count = Fields(&batch[57..]).i32();
                let mut body = Fields(&batch[wire::BATCH_HEADER..]);
                for _ in 0..count {
                    body.varint();
                    body.take(1);
                    body.varint();
                    body.varint();
                    let key = body.varint();
                    body.take(key.max(0) as usize);
                    let value = body.varint();
                    bytes += body.take(value.max(0) as usize).len() as u64;
                    body.varint();
                }
                seen += count as u64;
            }
        }
        if seen >= load.warm_up + load.records {
            break;
        }
        wire::read_frame(&mut stream, &mut next).expect("an answer");
        std::mem::swap(&mut frame, &mut next);
    }
    assert_eq!(bytes, seen * load.value as u64);
    meter.stop(seen - metered_from.unwrap_or(0))
}

fn fetch(stream: &mut TcpStream, head: &mut Vec<u8>, offsets: &[i64]) {
    wire::request(head, wire::FETCH, 11, 0);
    head.extend((-1i32).to_be_bytes());
    head.extend(500i32.to_be_bytes());
    head.extend(1i32.to_be_bytes());
    head.extend((50i32 << 20).to_be_bytes());
    head.push(0);
    head.extend(0i32.to_be_bytes());
    head.extend((-1i32).to_be_bytes());
    head.extend(1i32.to_be_bytes());
    wire::put_string(head, wire::TOPIC);
    head.extend((offsets.len() as i32).to_be_bytes());
    for (partition, offset) in offsets.iter().enumerate() {
        head.extend((partition as i32).to_be_bytes());
        head.extend((-1i32).to_be_bytes());
        head.extend(offset.to_be_bytes());
        head.extend((-1i64).to_be_bytes());
        head.extend((1i32 << 20).to_be_bytes());
    }
    head.extend(0i32.to_be_bytes());
    wire::put_string(head, "");
    wire::finish(head, 0);
    stream.write_all(head).expect("the sink reads");
}

/// Where in the frame each partition's batches lie; moves the offsets behind them by the batch headers alone.
fn record_sets(frame: &[u8], offsets: &mut [i64]) -> Vec<(usize, usize)> {
    let mut fields = Fields(frame);
    fields.take(4 + 4 + 6);
    let mut sets = Vec::with_capacity(offsets.len());
    for _ in 0..fields.i32() {
        fields.string();
        for _ in 0..fields.i32() {
            let partition = fields.i32() as usize;
            fields.take(2 + 8 + 8 + 8 + 4 + 4);
            let records = fields.bytes();
            let end = frame.len() - fields.0.len();
            sets.push((end - records.len(), end));
            let mut rest = records;
            while rest.len() > wire::BATCH_HEADER {
                let length = 12 + Fields(&rest[8..]).i32() as usize;
                offsets[partition] = Fields(rest).i64() + i64::from(Fields(&rest[57..]).i32());
                rest = &rest[length..];
            }
        }
    }
    sets
}
