//! A node that answers from memory: it swallows and counts what is produced, and hands out one prepared batch again and
//! again. One blocking thread a connection, one request at a time, as a real node works.
use std::io::{IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::wire::{self, Fields};
use crate::{Args, Load, meter};

#[derive(Default)]
struct Counts {
    records: AtomicU64,
    value_bytes: AtomicU64,
    batches: AtomicU64,
    requests: AtomicU64,
    bad: AtomicU64,
    handed_out: AtomicU64,
}

struct Store {
    load: Load,
    port: u16,
    /// The prepared batch, as of offset 0, and its number of records.
    batch: Vec<u8>,
    per_batch: i64,
    /// Look into every record, not only into the batch headers.
    check: bool,
    counts: Counts,
}

/// Serves until its stdin is closed, then says what it counted.
pub fn serve(args: &Args) {
    let load = Load::from_args(args);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let mut batch = vec![0; wire::BATCH_HEADER];
    let value = vec![b'x'; load.value];
    let mut per_batch = 0;
    while batch.len() + load.value + 12 < load.batch {
        wire::put_record(&mut batch, per_batch, 0, &value);
        per_batch += 1;
    }
    wire::seal(&mut batch, 0, per_batch as i32, 1_700_000_000_000, (-1, -1, -1));
    let check = args.number("--check", 0) == 1;
    let store = Arc::new(Store { load, port, batch, per_batch, check, counts: Counts::default() });
    println!("sink {port}");
    let shared = store.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = shared.clone();
            std::thread::spawn(move || store.talk(stream));
        }
    });
    let _ = std::io::read_to_string(std::io::stdin());
    let (user, system) = meter::cpu();
    let Counts { records, value_bytes, batches, requests, bad, handed_out } = &store.counts;
    let get = |count: &AtomicU64| count.load(Relaxed);
    println!(
        "counted {} {} {} {} {} {} {}",
        get(records),
        get(value_bytes),
        get(batches),
        get(requests),
        get(bad),
        get(handed_out),
        user + system
    );
}

impl Store {
    fn talk(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (mut body, mut out) = (Vec::new(), Vec::new());
        while wire::read_frame(&mut stream, &mut body).is_ok() {
            let mut fields = Fields(&body);
            let (api, version) = (fields.i16(), fields.i16());
            let correlation = fields.i32();
            fields.string();
            out.clear();
            out.extend([0; 4]);
            out.extend(correlation.to_be_bytes());
            let wanted = match api {
                wire::API_VERSIONS => self.api_versions(version, &mut out),
                wire::METADATA => self.metadata(version, &mut out),
                wire::INIT_PRODUCER_ID => {
                    out.extend([0; 6]);
                    out.extend(4242i64.to_be_bytes());
                    out.extend(0i16.to_be_bytes());
                    Vec::new()
                }
                wire::PRODUCE => {
                    if !self.produce(version, fields, &mut out) {
                        continue;
                    }
                    Vec::new()
                }
                wire::LIST_OFFSETS => {
                    self.list_offsets(version, fields, &mut out);
                    Vec::new()
                }
                wire::FETCH => {
                    if self.fetch(version, fields, correlation, &mut stream).is_err() {
                        return;
                    }
                    continue;
                }
                _ => return,
            };
            out.extend(wanted);
            wire::finish(&mut out, 0);
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }

    fn api_versions(&self, version: i16, out: &mut Vec<u8>) -> Vec<u8> {
        let known = version <= 2;
        out.extend((if known { 0i16 } else { 35 }).to_be_bytes());
        out.extend((wire::VERSIONS.len() as i32).to_be_bytes());
        for (key, min, max) in wire::VERSIONS {
            out.extend([key, min, max].iter().flat_map(|number| number.to_be_bytes()));
        }
        if known && version >= 1 { vec![0; 4] } else { Vec::new() }
    }

    fn metadata(&self, version: i16, out: &mut Vec<u8>) -> Vec<u8> {
        if version >= 3 {
            out.extend([0; 4]);
        }
        out.extend(1i32.to_be_bytes());
        out.extend(1i32.to_be_bytes());
        wire::put_string(out, "127.0.0.1");
        out.extend(i32::from(self.port).to_be_bytes());
        out.extend((-1i16).to_be_bytes()); // no rack
        if version >= 2 {
            wire::put_string(out, "bench-cluster");
        }
        out.extend(1i32.to_be_bytes()); // controller
        out.extend(1i32.to_be_bytes());
        out.extend(0i16.to_be_bytes());
        wire::put_string(out, wire::TOPIC);
        out.push(0);
        out.extend(self.load.partitions.to_be_bytes());
        for partition in 0..self.load.partitions {
            out.extend(0i16.to_be_bytes());
            out.extend(partition.to_be_bytes());
            out.extend(1i32.to_be_bytes());
            if version >= 7 {
                out.extend(0i32.to_be_bytes());
            }
            for _ in 0..2 {
                out.extend(1i32.to_be_bytes());
                out.extend(1i32.to_be_bytes());
            }
            if version >= 5 {
                out.extend([0; 4]);
            }
        }
        Vec::new()
    }

    /// False where no answer is wanted (`acks=0`).
    fn produce(&self, version: i16, mut fields: Fields<'_>, out: &mut Vec<u8>) -> bool {
        self.counts.requests.fetch_add(1, Relaxed);
        fields.string();
        let acks = fields.i16();
        fields.i32();
        let topics = fields.i32();
        out.extend(topics.to_be_bytes());
        for _ in 0..topics {
            let name = fields.string();
            wire::put_string(out, std::str::from_utf8(name).expect("a topic name"));
            let partitions = fields.i32();
            out.extend(partitions.to_be_bytes());
            for _ in 0..partitions {
                out.extend(fields.i32().to_be_bytes());
                self.count(fields.bytes());
                out.extend(0i16.to_be_bytes());
                out.extend(0i64.to_be_bytes());
                out.extend((-1i64).to_be_bytes());
                if version >= 5 {
                    out.extend(0i64.to_be_bytes());
                }
            }
        }
        out.extend([0; 4]);
        acks != 0
    }

    fn count(&self, batch: &[u8]) {
        let counts = &self.counts;
        let records = Fields(&batch[57..]).i32() as u64;
        counts.batches.fetch_add(1, Relaxed);
        counts.records.fetch_add(records, Relaxed);
        if !self.check {
            return;
        }
        let mut body = Fields(&batch[wire::BATCH_HEADER..]);
        let crc = u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"));
        let mut good = crc == crc32c::crc32c(&batch[21..]);
        for at in 0..records {
            body.varint();
            body.take(1);
            body.varint();
            good &= body.varint() == at as i64;
            let key = body.varint();
            body.take(key.max(0) as usize);
            let value = body.varint();
            body.take(value.max(0) as usize);
            counts.value_bytes.fetch_add(value as u64, Relaxed);
            good &= body.varint() == 0;
        }
        counts.bad.fetch_add(u64::from(!(good && body.0.is_empty())), Relaxed);
    }

    /// As many batches as the log of each partition has.
    fn end(&self) -> i64 {
        let all = (self.load.records + self.load.warm_up) as i64;
        let each = all / i64::from(self.load.partitions) + 1;
        (each / self.per_batch + 1) * self.per_batch
    }

    fn list_offsets(&self, version: i16, mut fields: Fields<'_>, out: &mut Vec<u8>) {
        fields.i32();
        if version >= 2 {
            fields.take(1);
            out.extend([0; 4]);
        }
        let topics = fields.i32();
        out.extend(topics.to_be_bytes());
        for _ in 0..topics {
            wire::put_string(out, std::str::from_utf8(fields.string()).expect("a topic name"));
            let partitions = fields.i32();
            out.extend(partitions.to_be_bytes());
            for _ in 0..partitions {
                out.extend(fields.i32().to_be_bytes());
                if version >= 4 {
                    fields.i32();
                }
                let offset = if fields.i64() == -1 { self.end() } else { 0 };
                out.extend(0i16.to_be_bytes());
                out.extend((-1i64).to_be_bytes());
                out.extend(offset.to_be_bytes());
                if version >= 4 {
                    out.extend(0i32.to_be_bytes());
                }
            }
        }
    }

    fn fetch(
        &self,
        version: i16,
        mut fields: Fields<'_>,
        correlation: i32,
        stream: &mut TcpStream,
    ) -> std::io::Result<()> {
        self.counts.requests.fetch_add(1, Relaxed);
        fields.take(4);
        let wait = fields.i32();
        fields.i32();
        let max_bytes = fields.i32() as usize;
        fields.take(1);
        if version >= 7 {
            fields.take(8);
        }
        let mut wanted = Vec::new();
        for _ in 0..fields.i32() {
            fields.string();
            for _ in 0..fields.i32() {
                let partition = fields.i32();
                if version >= 9 {
                    fields.i32();
                }
                let offset = fields.i64();
                if version >= 5 {
                    fields.i64();
                }
                wanted.push((partition, offset, fields.i32() as usize));
            }
        }
        let mut head = Vec::with_capacity(64);
        head.extend([0; 4]);
        head.extend(correlation.to_be_bytes());
        head.extend([0; 4]); // throttle
        if version >= 7 {
            head.extend([0; 6]); // no error, no session
        }
        head.extend(i32::from(!wanted.is_empty()).to_be_bytes());
        if !wanted.is_empty() {
            wire::put_string(&mut head, wire::TOPIC);
            head.extend((wanted.len() as i32).to_be_bytes());
        }
        // One owned piece before each partition's batches; the batches' first eight bytes hold their offset.
        let (mut pieces, mut total, mut any) = (Vec::new(), 0usize, false);
        for (partition, offset, most) in wanted {
            let mut piece = std::mem::take(&mut head);
            piece.extend(partition.to_be_bytes());
            piece.extend(0i16.to_be_bytes());
            piece.extend(self.end().to_be_bytes());
            piece.extend(self.end().to_be_bytes());
            if version >= 5 {
                piece.extend(0i64.to_be_bytes());
            }
            piece.extend((-1i32).to_be_bytes()); // no aborted transactions
            if version >= 11 {
                piece.extend((-1i32).to_be_bytes());
            }
            let first = offset / self.per_batch;
            let left = (self.end() / self.per_batch - first).max(0) as usize;
            let room = most.min(max_bytes.saturating_sub(total)) / self.batch.len();
            let batches = left.min(room.max(usize::from(!any)));
            any |= batches > 0;
            total += batches * self.batch.len();
            piece.extend(((batches * self.batch.len()) as i32).to_be_bytes());
            self.counts.handed_out.fetch_add(batches as u64 * self.per_batch as u64, Relaxed);
            let bases = (0..batches)
                .map(|at| ((first + at as i64) * self.per_batch).to_be_bytes())
                .collect::<Vec<_>>();
            pieces.push((piece, bases));
        }
        if !any {
            std::thread::sleep(std::time::Duration::from_millis(wait.max(1) as u64));
        }
        let size = head.len() + pieces.iter().map(|(piece, _)| piece.len()).sum::<usize>() + total - 4;
        let first = pieces.first_mut().map_or(&mut head, |(piece, _)| piece);
        first[..4].copy_from_slice(&(size as u32).to_be_bytes());
        let mut slices = vec![IoSlice::new(&head)];
        for (piece, bases) in &pieces {
            slices.push(IoSlice::new(piece));
            for base in bases {
                slices.push(IoSlice::new(base));
                slices.push(IoSlice::new(&self.batch[8..]));
            }
        }
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let most = rest.len().min(1000);
            let written = stream.write_vectored(&rest[..most])?;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }
}
