//! The node's side of incremental fetch sessions (KIP-227).
use std::sync::Arc;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use uuid::Uuid;

use super::Node;
use crate::protocol::error_code::ErrorCode;

/// One partition that a fetch asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// As it was asked for: empty if by id.
    pub(crate) topic: Arc<str>,
    /// Nil if asked for by name.
    pub(crate) id: Uuid,
    pub(crate) index: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) offset: i64,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: usize,
}

impl Wanted {
    fn is(&self, topic: &str, id: Uuid, index: i32) -> bool {
        self.index == index && self.id == id && *self.topic == *topic
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    /// The epoch that the next request has to carry.
    epoch: i32,
    by_id: bool,
    partitions: Vec<Cached>,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    /// What the last answer said, -1 where the next answer has to say it again.
    high_watermark: i64,
    log_start: i64,
}

/// What a request is to the sessions of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// It stands alone.
    Alone,
    /// It names all partitions and asks for a session.
    Full,
    /// It names what changed in this session.
    Incremental(i32),
}

pub(crate) fn wanted(request: &FetchRequest) -> Vec<Wanted> {
    let mut all = Vec::new();
    for topic in &request.topics {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        all.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: name.clone(),
            id: topic.topic_id,
            index: partition.partition,
            leader_epoch: partition.current_leader_epoch,
            offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        }));
    }
    all
}

/// Finds the session of a request, brings it up to date, and lists what is to be fetched.
pub(crate) fn open(
    node: &mut Node,
    request: &FetchRequest,
    by_id: bool,
) -> Result<(Context, Vec<Wanted>), ErrorCode> {
    let (id, epoch) = (request.session_id, request.session_epoch);
    if epoch <= 0 {
        if id != 0 {
            node.sessions.remove(&id);
        }
        let context = if epoch == 0 { Context::Full } else { Context::Alone };
        return Ok((context, wanted(request)));
    }
    let session = node.sessions.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
    if session.epoch != epoch {
        return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    }
    if session.by_id != by_id {
        return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
    }
    session.epoch = next_epoch(epoch);
    for changed in wanted(request) {
        let same = |cached: &&mut Cached| cached.wanted.is(&changed.topic, changed.id, changed.index);
        match session.partitions.iter_mut().find(same) {
            Some(cached) => cached.wanted = changed,
            None => session.partitions.push(Cached::new(changed)),
        }
    }
    for topic in &request.forgotten_topics_data {
        session.partitions.retain(|cached| {
            !topic.partitions.iter().any(|index| cached.wanted.is(&topic.topic, topic.topic_id, *index))
        });
    }
    Ok((Context::Incremental(id), session.subjects().collect()))
}

/// Keeps a new session, if there is room for it.
pub(crate) fn keep(
    node: &mut Node,
    id: i32,
    by_id: bool,
    limit: usize,
    answers: &[(Wanted, PartitionData)],
) -> bool {
    if answers.is_empty() || node.sessions.len() >= limit {
        return false;
    }
    let mut session = Session { epoch: next_epoch(0), by_id, partitions: Vec::with_capacity(answers.len()) };
    for (wanted, data) in answers {
        let mut cached = Cached::new(wanted.clone());
        cached.differs(data);
        session.partitions.push(cached);
    }
    node.sessions.insert(id, session);
    true
}

/// Leaves only those answers that tell the session's client something new. Partitions that had records go to the end
/// of the order, so that no partition starves behind a busy one.
pub(crate) fn reduce(node: &mut Node, id: i32, answers: &mut Vec<(Wanted, PartitionData)>) {
    let Some(session) = node.sessions.get_mut(&id) else { return };
    let mut fed = Vec::new();
    answers.retain(|(wanted, data)| {
        let same = |cached: &Cached| cached.wanted.is(&wanted.topic, wanted.id, wanted.index);
        let Some(at) = session.partitions.iter().position(same) else { return true };
        let differs = session.partitions[at].differs(data);
        if data.records.as_ref().is_some_and(|records| !records.is_empty()) {
            fed.push(session.partitions.remove(at));
        }
        differs
    });
    session.partitions.append(&mut fed);
}

impl Session {
    /// All that it fetches.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Wanted> {
        self.partitions.iter().map(|cached| cached.wanted.clone())
    }
}

impl Cached {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, high_watermark: -1, log_start: -1 }
    }

    /// Whether an answer says anything that the last one did not, and remembers what it says.
    fn differs(&mut self, data: &PartitionData) -> bool {
        let mut differs = data.records.as_ref().is_some_and(|records| !records.is_empty())
            || data.high_watermark != self.high_watermark
            || data.log_start_offset != self.log_start
            || data.preferred_read_replica.0 >= 0
            || data.diverging_epoch.epoch >= 0;
        self.high_watermark = data.high_watermark;
        self.log_start = data.log_start_offset;
        if data.error_code != 0 {
            // An error is told every time, and what comes after it as well.
            self.high_watermark = -1;
            differs = true;
        }
        differs
    }
}

/// Epoch 0 asks for a new session, so it is left out when they wrap.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}
