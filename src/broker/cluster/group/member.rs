//! A member of a group that uses the classic protocol.
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::JoinGroupRequest;
use kafka_protocol::protocol::StrBytes;

use super::super::{ConnectionId, millis};

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: StrBytes,
    pub(crate) instance: Option<StrBytes>,
    pub(crate) client: StrBytes,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) session_timeout: Duration,
    /// Names and subscriptions, the preferred first.
    pub(crate) protocols: Vec<(StrBytes, Bytes)>,
    pub(crate) assignment: Bytes,
    /// The connections on which its requests are parked.
    pub(super) joining: Option<ConnectionId>,
    pub(super) syncing: Option<ConnectionId>,
    /// It has not asked for its assignment of this generation.
    pub(super) owes_sync: bool,
    /// It has not seen a generation.
    pub(super) new: bool,
    /// When it counts as gone. None while it waits for others.
    pub(super) expires: Option<Instant>,
}

impl Member {
    pub(super) fn new(id: StrBytes, client: StrBytes, request: &JoinGroupRequest) -> Self {
        let mut member = Self {
            id,
            instance: request.group_instance_id.clone(),
            client,
            rebalance_timeout: Duration::ZERO,
            session_timeout: Duration::ZERO,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            owes_sync: false,
            new: true,
            expires: None,
        };
        member.update(request);
        member
    }

    /// Takes over what it joins with.
    pub(super) fn update(&mut self, request: &JoinGroupRequest) {
        self.rebalance_timeout = millis(request.rebalance_timeout_ms);
        self.session_timeout = millis(request.session_timeout_ms);
        self.protocols = request
            .protocols
            .iter()
            .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
            .collect();
    }

    /// Whether it joins with what it had, byte for byte.
    pub(super) fn matches(&self, request: &JoinGroupRequest) -> bool {
        let asked = request.protocols.iter().map(|protocol| (&protocol.name, &protocol.metadata));
        asked.eq(self.protocols.iter().map(|(name, metadata)| (name, metadata)))
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| **name == *protocol)
    }

    /// Its subscription under a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| **name == *protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.expires = Some(now + self.session_timeout);
    }
}
