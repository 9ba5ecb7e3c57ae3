//! Faults as data: a condition and an action.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;

use crate::protocol::error_code::ErrorCode;

use super::api::Api;

/// What goes wrong, and when: a condition on requests, and what becomes of those that meet it.
///
/// Without further conditions a fault strikes every request of its API, at every node, for ever. Of several faults
/// that match a request the one added first strikes.
///
/// ```
/// use std::time::Duration;
/// use milena::broker::{Api, Fault};
/// use milena::ErrorCode;
///
/// let once = Fault::on(Api::PRODUCE).topic("orders").times(1).error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
/// let flaky = Fault::on_any().node(2).probability(0.1).cut();
/// let slow = Fault::on(Api::FETCH).nth(3).delay(Duration::from_millis(20));
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    api: Option<Api>,
    node: Option<i32>,
    topic: Option<Arc<str>>,
    partition: Option<i32>,
    group: Option<Arc<str>>,
    /// How many matching requests pass before it strikes.
    skip: u64,
    /// How many more times it strikes.
    times: u64,
    probability: f64,
    pub(super) action: Action,
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    None,
    Error(ErrorCode),
    ErrorAfter(ErrorCode),
    Throttle(Duration),
    Delay(Duration),
    DropAnswer,
    Cut,
    CutAfter,
    CutMidFrame,
    Garbage(Bytes),
    Body(Bytes),
    Corrupt(usize),
    Hang,
    MoveLeader,
    MoveCoordinator,
    StopNode,
}

impl Fault {
    /// A fault of one API; it does nothing until an action is chosen.
    pub fn on(api: Api) -> Self {
        Self { api: Some(api), ..Self::on_any() }
    }

    /// A fault of every API.
    pub fn on_any() -> Self {
        Self {
            api: None,
            node: None,
            topic: None,
            partition: None,
            group: None,
            skip: 0,
            times: u64::MAX,
            probability: 1.0,
            action: Action::None,
        }
    }

    /// Only at this node.
    pub fn node(mut self, node: i32) -> Self {
        self.node = Some(node);
        self
    }

    /// Only requests that name this topic; an injected error then concerns this topic alone.
    pub fn topic(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only this partition of the topic: an injected error then concerns this partition alone.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Only requests that name this group.
    pub fn group(mut self, group: impl Into<Arc<str>>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Only the n-th matching request, counted from 1.
    pub fn nth(mut self, n: u64) -> Self {
        self.skip = n.saturating_sub(1);
        self.times = 1;
        self
    }

    /// Only the first n matching requests, or with [`Fault::after`] n requests after those.
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }

    /// Lets the first n matching requests pass.
    pub fn after(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// Strikes a matching request with this probability, drawn from the broker's seed.
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// Answers with an error code in place of doing what was asked: per partition where the API reports errors per
    /// partition, per topic where it does so per topic, otherwise for the whole request.
    pub fn error(self, code: ErrorCode) -> Self {
        self.action(Action::Error(code))
    }

    /// Produce only: writes the records, then answers with an error code all the same. Other APIs are not struck.
    pub fn error_after(self, code: ErrorCode) -> Self {
        self.action(Action::ErrorAfter(code))
    }

    /// Does what was asked, and tells the client in the answer that it was throttled for so long (KIP-219). The
    /// node itself does not wait.
    pub fn throttle(self, duration: Duration) -> Self {
        self.action(Action::Throttle(duration))
    }

    /// Does what was asked at once, and answers this much later. What comes behind on the connection waits.
    pub fn delay(self, delay: Duration) -> Self {
        self.action(Action::Delay(delay))
    }

    /// Does what was asked and never answers. The connection stays open; what comes behind on it waits for ever.
    pub fn drop_answer(self) -> Self {
        self.action(Action::DropAnswer)
    }

    /// Closes the connection without doing what was asked.
    pub fn cut(self) -> Self {
        self.action(Action::Cut)
    }

    /// Does what was asked, then closes the connection without an answer.
    pub fn cut_after(self) -> Self {
        self.action(Action::CutAfter)
    }

    /// Does what was asked, sends half of the answer, then closes the connection.
    pub fn cut_mid_frame(self) -> Self {
        self.action(Action::CutMidFrame)
    }

    /// Does what was asked and sends these bytes, as they are, in place of the answer's frame.
    pub fn garbage(self, bytes: impl Into<Bytes>) -> Self {
        self.action(Action::Garbage(bytes.into()))
    }

    /// Does what was asked and sends these bytes as the answer's body, in a frame whose length and header are right.
    pub fn body(self, bytes: impl Into<Bytes>) -> Self {
        self.action(Action::Body(bytes.into()))
    }

    /// Does what was asked and inverts the byte at this position of the answer's body.
    pub fn corrupt(self, position: usize) -> Self {
        self.action(Action::Corrupt(position))
    }

    /// Neither does what was asked nor answers. The connection stays open; what comes behind on it waits for ever.
    pub fn hang(self) -> Self {
        self.action(Action::Hang)
    }

    /// First moves the leader of every partition that the request names (of the topic, if one was given) to another
    /// replica, then does what was asked.
    pub fn move_leader(self) -> Self {
        self.action(Action::MoveLeader)
    }

    /// First makes another node the coordinator of every group that the request names, then does what was asked.
    pub fn move_coordinator(self) -> Self {
        self.action(Action::MoveCoordinator)
    }

    /// Stops the node that got the request, without doing what was asked.
    pub fn stop_node(self) -> Self {
        self.action(Action::StopNode)
    }

    pub(super) fn only_topic(&self) -> Option<&Arc<str>> {
        self.topic.as_ref()
    }

    pub(super) fn only_group(&self) -> Option<&Arc<str>> {
        self.group.as_ref()
    }

    pub(super) fn only_partition(&self) -> Option<i32> {
        self.partition
    }
}

/// The faults of a running broker. Cheap to clone; all clones speak of the same faults.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    faults: Vec<Fault>,
    struck: u64,
}

impl Faults {
    /// Adds a fault; it holds from the next request on.
    pub fn add(&self, fault: Fault) {
        self.list().faults.push(fault);
    }

    /// Removes all faults. Connections that hang because of one stay as they are.
    pub fn clear(&self) {
        self.list().faults.clear();
    }

    /// How many requests were struck so far.
    pub fn struck(&self) -> u64 {
        self.list().struck
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list().faults.is_empty()
    }

    fn list(&self) -> std::sync::MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that strikes this request, if one does. `names` says whether the request names a topic; `groups` are
    /// those it names.
    pub(super) fn strike(
        &self,
        random: &mut rand::rngs::StdRng,
        node: i32,
        api: Api,
        names: impl Fn(&str, Option<i32>) -> bool,
        groups: &[Arc<str>],
    ) -> Option<Fault> {
        let mut list = self.list();
        let mut struck = None;
        for fault in &mut list.faults {
            let matches = fault.api.is_none_or(|only| only == api)
                && fault.node.is_none_or(|only| only == node)
                && fault.group.as_ref().is_none_or(|group| groups.contains(group))
                && fault.topic.as_ref().is_none_or(|topic| names(topic, fault.partition));
            if !matches || fault.times == 0 {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.probability < 1.0 && !random.random_bool(fault.probability.clamp(0.0, 1.0)) {
                continue;
            }
            fault.times -= 1;
            struck = Some(fault.clone());
            break;
        }
        if struck.is_some() {
            list.struck += 1;
            list.faults.retain(|fault| fault.times > 0);
        }
        struck
    }
}
