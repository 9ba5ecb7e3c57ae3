//! Requests and batches as bytes, without a line of milena.
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};

const ANSWER: Duration = Duration::from_secs(30);

pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(None);
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.raw(&frame);
    }

    /// Sends a frame as it is.
    pub fn raw(&mut self, frame: &[u8]) {
        self.stream.write_all(&[&(frame.len() as i32).to_be_bytes()[..], frame].concat()).unwrap();
    }

    /// The answer's frame, an error if the node closes the connection in place of it.
    pub fn frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    /// The answer to a request that was sent before.
    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let header = 4 + usize::from(R::Response::header_version(version) > 0);
        let mut body = self.frame().unwrap().split_off(header);
        let response = R::Response::decode(&mut body, version).unwrap();
        assert!(body.is_empty());
        response
    }
}

/// The timestamp of the first record of each batch: of today, since what is old is deleted.
pub fn base() -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    *BASE.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64 - 60_000)
}

/// A record batch of the test's making.
#[derive(Clone)]
pub struct Batch {
    pub records: i32,
    pub producer: (i64, i16, i32),
    pub attributes: i16,
    pub timestamp: i64,
    pub magic: i8,
    pub last_offset_delta: i32,
    pub value: usize,
}

impl Batch {
    pub fn of(records: i32) -> Self {
        let last_offset_delta = records - 1;
        Self {
            records,
            producer: (-1, -1, -1),
            attributes: 0,
            timestamp: base(),
            magic: 2,
            last_offset_delta,
            value: 5,
        }
    }

    pub fn by(id: i64, epoch: i16, sequence: i32, records: i32) -> Self {
        Self { producer: (id, epoch, sequence), ..Self::of(records) }
    }

    /// The record at each place is as many milliseconds younger than the batch.
    pub fn bytes(&self) -> Bytes {
        let mut records = BytesMut::new();
        for at in 0..self.records {
            let mut record = BytesMut::new();
            record.put_u8(0);
            varint(&mut record, at);
            varint(&mut record, at);
            varint(&mut record, -1);
            varint(&mut record, self.value as i32);
            record.put_bytes(b'v', self.value);
            varint(&mut record, 0);
            varint(&mut records, record.len() as i32);
            records.put_slice(&record);
        }
        let mut checked = BytesMut::new();
        checked.put_i16(self.attributes);
        checked.put_i32(self.last_offset_delta);
        checked.put_i64(self.timestamp);
        checked.put_i64(self.timestamp + i64::from(self.records - 1));
        checked.put_i64(self.producer.0);
        checked.put_i16(self.producer.1);
        checked.put_i32(self.producer.2);
        checked.put_i32(self.records);
        checked.put_slice(&records);
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(checked.len() as i32 + 9);
        batch.put_i32(-1);
        batch.put_i8(self.magic);
        batch.put_u32(crc32c::crc32c(&checked));
        batch.put_slice(&checked);
        batch.freeze()
    }
}

fn varint(out: &mut BytesMut, value: i32) {
    let mut value = ((value << 1) ^ (value >> 31)) as u32;
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Base offsets and leader epochs of the batches in a fetched record set, and how many bytes of a cut one follow.
pub fn batches(records: Option<&Bytes>) -> String {
    let Some(mut rest) = records.map(|records| &records[..]) else { return "null".into() };
    let mut found = Vec::new();
    while rest.len() > 16 {
        let field = |at: usize| i32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        let length = 12 + field(8) as usize;
        if length > rest.len() {
            break;
        }
        found.push(format!("{}e{}", field(4), field(12)));
        rest = &rest[length..];
    }
    format!("{found:?}+{}", if rest.is_empty() { "" } else { "cut" })
}
