//! Just enough of Kafka's protocol, written out by hand, to see whether a cluster is ready and to make topics. It must not
//! share a line with milena: a harness built on the client under test would share its mistakes.
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for one answer of a node that starts up or is paused.
pub(super) const ANSWER: Duration = Duration::from_secs(3);

/// Creation waits for the controller, which may be electing itself.
const CREATE: Duration = Duration::from_secs(15);

pub struct Topology {
    /// (node id, port), in the order of the answer.
    pub nodes: Vec<(i32, u16)>,
    pub controller: i32,
    pub topics: Vec<TopicState>,
}

pub struct TopicState {
    pub name: String,
    pub error: i16,
    pub partitions: Vec<PartitionState>,
}

pub struct PartitionState {
    pub id: i32,
    pub leader: i32,
    pub replicas: usize,
    pub in_sync: Vec<i32>,
}

/// A topic as CreateTopics wants it.
#[derive(Default)]
pub struct TopicSpec<'a> {
    pub name: &'a str,
    /// Replicas of each partition, the first one leads at the start; or empty, and `partitions` and `replication` count.
    pub assignment: &'a [&'a [i32]],
    pub partitions: i32,
    pub replication: i16,
    pub configs: &'a [(&'a str, &'a str)],
}

/// Whether the node answers ApiVersions v0 without an error.
pub fn api_versions(port: u16) -> io::Result<()> {
    let mut answer = exchange(port, 18, 0, &[], ANSWER)?;
    match answer.i16()? {
        0 => Ok(()),
        code => Err(io::Error::other(format!("ApiVersions: error {code}"))),
    }
}

/// Metadata v1 of these topics; of all topics for an empty list.
pub fn metadata(port: u16, topics: &[&str]) -> io::Result<Topology> {
    let mut body = Vec::new();
    body.extend(if topics.is_empty() { -1i32 } else { topics.len() as i32 }.to_be_bytes());
    topics.iter().for_each(|topic| string(&mut body, topic));
    let mut answer = exchange(port, 3, 1, &body, ANSWER)?;
    let nodes = answer.list(|node| {
        let id = node.i32()?;
        node.string()?; // the host: always the loopback here
        let port = node.i32()?;
        node.string()?; // the rack
        Ok((id, port as u16))
    })?;
    let controller = answer.i32()?;
    let topics = answer.list(|topic| {
        let (error, name) = (topic.i16()?, topic.string()?);
        topic.take(1)?; // whether it is internal
        let partitions = topic.list(|partition| {
            partition.i16()?;
            let (id, leader) = (partition.i32()?, partition.i32()?);
            let replicas = partition.list(Answer::i32)?.len();
            Ok(PartitionState { id, leader, replicas, in_sync: partition.list(Answer::i32)? })
        })?;
        Ok(TopicState { name, error, partitions })
    })?;
    Ok(Topology { nodes, controller, topics })
}

/// CreateTopics v2. A topic that exists already is fine.
pub fn create_topic(port: u16, spec: &TopicSpec<'_>) -> io::Result<()> {
    const EXISTS: i16 = 36;
    let mut body = Vec::new();
    body.extend(1i32.to_be_bytes());
    string(&mut body, spec.name);
    let by_count = spec.assignment.is_empty();
    body.extend(if by_count { spec.partitions } else { -1 }.to_be_bytes());
    body.extend(if by_count { spec.replication } else { -1 }.to_be_bytes());
    body.extend((spec.assignment.len() as i32).to_be_bytes());
    for (partition, replicas) in spec.assignment.iter().enumerate() {
        body.extend((partition as i32).to_be_bytes());
        body.extend((replicas.len() as i32).to_be_bytes());
        replicas.iter().for_each(|node| body.extend(node.to_be_bytes()));
    }
    body.extend((spec.configs.len() as i32).to_be_bytes());
    for (key, value) in spec.configs {
        string(&mut body, key);
        string(&mut body, value);
    }
    body.extend((CREATE.as_millis() as i32).to_be_bytes());
    body.push(0); // not only a validation
    let mut answer = exchange(port, 19, 2, &body, CREATE * 2)?;
    answer.i32()?; // throttle time
    let errors = answer.list(|topic| {
        topic.string()?;
        Ok((topic.i16()?, topic.string()?))
    })?;
    match errors.as_slice() {
        [(0 | EXISTS, _)] => Ok(()),
        other => Err(io::Error::other(format!("CreateTopics {}: {other:?}", spec.name))),
    }
}

/// AlterPartitionReassignments v0: the replicas of a partition in a new order, the preferred leader first.
pub fn reassign(port: u16, topic: &str, partition: i32, replicas: &[i32]) -> io::Result<()> {
    // A compact array or string is as long as its first byte says, less one; a 0 after each part: no tagged fields.
    let mut body = vec![0];
    body.extend((CREATE.as_millis() as i32).to_be_bytes());
    body.extend([2, topic.len() as u8 + 1]);
    body.extend(topic.as_bytes());
    body.push(2);
    body.extend(partition.to_be_bytes());
    body.push(replicas.len() as u8 + 1);
    replicas.iter().for_each(|node| body.extend(node.to_be_bytes()));
    body.extend([0, 0, 0]);
    let mut answer = exchange(port, 45, 0, &body, CREATE * 2)?;
    answer.take(1)?; // the header's tagged fields
    answer.i32()?; // throttle time
    let whole = answer.i16()?;
    answer.compact_string()?; // its message
    answer.take(1)?; // topics, of which there is one
    answer.compact_string()?;
    answer.take(1)?; // partitions
    answer.i32()?;
    match (whole, answer.i16()?) {
        (0, 0) => Ok(()),
        codes => Err(io::Error::other(format!("AlterPartitionReassignments {topic}-{partition}: {codes:?}"))),
    }
}

/// ElectLeaders v1: the preferred leader of a partition takes over, if it does not lead already.
pub fn elect_preferred(port: u16, topic: &str, partition: i32) -> io::Result<()> {
    const NOT_NEEDED: i16 = 84;
    let mut body = vec![0]; // the preferred one, not an unclean election
    body.extend(1i32.to_be_bytes());
    string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((CREATE.as_millis() as i32).to_be_bytes());
    let mut answer = exchange(port, 43, 1, &body, CREATE * 2)?;
    answer.i32()?; // throttle time
    let whole = answer.i16()?;
    let topics = answer.list(|topic| {
        topic.string()?;
        topic.list(|partition| {
            partition.i32()?;
            Ok((partition.i16()?, partition.string()?))
        })
    })?;
    match (whole, topics.concat().as_slice()) {
        (0, [] | [(0 | NOT_NEEDED, _)]) => Ok(()),
        (code, other) => {
            Err(io::Error::other(format!("ElectLeaders {topic}-{partition}: {code}, {other:?}")))
        }
    }
}

pub(super) fn exchange(port: u16, key: i16, version: i16, body: &[u8], wait: Duration) -> io::Result<Answer> {
    let mut socket = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), ANSWER)?;
    socket.set_read_timeout(Some(wait))?;
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(7i32.to_be_bytes());
    string(&mut request, "harness");
    request.extend(body);
    let mut frame = (request.len() as i32).to_be_bytes().to_vec();
    frame.append(&mut request);
    socket.write_all(&frame)?;
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    socket.take(u64::from(u32::from_be_bytes(length))).read_to_end(&mut bytes)?;
    let mut answer = Answer { bytes, at: 0 };
    match answer.i32()? {
        7 => Ok(answer),
        other => Err(io::Error::other(format!("correlation id {other}"))),
    }
}

pub(super) fn string(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as i16).to_be_bytes());
    to.extend(text.as_bytes());
}

pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
}

impl Answer {
    pub(super) fn take(&mut self, n: usize) -> io::Result<&[u8]> {
        let bytes = self.bytes.get(self.at..self.at + n).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.at += n;
        Ok(bytes)
    }

    pub(super) fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().unwrap()))
    }

    pub(super) fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().unwrap()))
    }

    /// A null string reads as an empty one.
    pub(super) fn string(&mut self) -> io::Result<String> {
        let length = self.i16()?.max(0) as usize;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    pub(super) fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.i32()?.max(0) as usize;
        Ok(self.take(length)?.to_vec())
    }

    /// A null string reads as an empty one.
    pub(super) fn compact_string(&mut self) -> io::Result<String> {
        let length = self.varint()?.saturating_sub(1);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// Tagged fields, of which there are none.
    pub(super) fn tags(&mut self) -> io::Result<()> {
        self.varint().map(drop)
    }

    fn varint(&mut self) -> io::Result<usize> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return Ok(value);
            }
        }
    }

    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let count = self.i32()?.max(0);
        (0..count).map(|_| item(self)).collect()
    }

    pub(super) fn compact_list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let count = self.varint()?.saturating_sub(1);
        (0..count).map(|_| item(self)).collect()
    }
}
