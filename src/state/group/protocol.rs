//! One of the two protocols that a group can have, behind what both can do.
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;

use super::classic::Classic;
use super::modern::Modern;
use super::reaction::{Api, Reaction};
use super::requests::Sender;
use super::{Event, GroupProtocol, Identity, Pattern, Settings, Ticket, What};
use crate::error::Error;
use crate::state::metadata::Cluster;
use crate::topic_partition::TopicPartition;

/// See [`Classic`] and [`Modern`].
pub(super) enum Protocol {
    Classic(Box<Classic>),
    Modern(Box<Modern>),
}

/// The same of whichever it is.
macro_rules! either {
    ($self:ident, $one:ident => $do:expr) => {
        match $self {
            Protocol::Classic($one) => $do,
            Protocol::Modern($one) => $do,
        }
    };
}

impl Protocol {
    pub(super) fn new(now: Instant, settings: Arc<Settings>, random: &mut SmallRng) -> Self {
        match settings.protocol {
            GroupProtocol::Classic => Self::Classic(Box::new(Classic::new(now, settings))),
            GroupProtocol::Consumer => Self::Modern(Box::new(Modern::new(now, settings, random))),
        }
    }

    /// What only the classic protocol has answers to.
    pub(super) fn classic(&mut self) -> Option<&mut Classic> {
        match self {
            Self::Classic(classic) => Some(classic),
            Self::Modern(_) => None,
        }
    }

    /// What only the newer protocol has answers to.
    pub(super) fn modern(&mut self) -> Option<&mut Modern> {
        match self {
            Self::Classic(_) => None,
            Self::Modern(modern) => Some(modern),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        topics: BTreeSet<Arc<str>>,
        pattern: Option<Pattern>,
        events: &mut VecDeque<Event>,
    ) {
        match self {
            Self::Classic(classic) => classic.subscribe(now, topics, pattern, events),
            Self::Modern(modern) => modern.subscribe(now, topics, events),
        }
    }

    pub(super) fn revoked(&mut self) -> BTreeSet<TopicPartition> {
        either!(self, one => one.revoked())
    }

    pub(super) fn asked(&mut self, now: Instant, waiting: bool) {
        either!(self, one => one.asked(now, waiting));
    }

    pub(super) fn leave(&mut self) {
        either!(self, one => one.leave());
    }

    pub(super) fn check_application(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        either!(self, one => one.check_application(now, events));
    }

    /// True if the coordinator has been silent for too long, which only a classic member can know.
    pub(super) fn session_ended(&mut self, now: Instant) -> bool {
        match self {
            Self::Classic(classic) => classic.session_ended(now),
            Self::Modern(_) => false,
        }
    }

    pub(super) fn coordinator_found(&mut self, now: Instant) {
        if let Self::Classic(classic) = self {
            classic.coordinator_found(now);
        }
    }

    pub(super) fn handle_metadata(&mut self, now: Instant, cluster: &Cluster) {
        if let Self::Classic(classic) = self {
            classic.handle_metadata(now, cluster);
        }
    }

    /// A request of the member ended without an answer. Says whether it was one that is waited for.
    pub(super) fn unanswered(&mut self, api: Api, ticket: Ticket) -> bool {
        match self {
            Self::Classic(classic) if api == Api::Heartbeat => {
                classic.beaten();
                true
            }
            Self::Classic(classic) => classic.awaits(ticket),
            Self::Modern(modern) => modern.ended(ticket),
        }
    }

    #[allow(clippy::too_many_arguments)] // each is a fact about the answer, and none belongs to another
    pub(super) fn react(
        &mut self,
        now: Instant,
        api: Api,
        sent: &Identity,
        reaction: Reaction,
        error: &Error,
        random: &mut SmallRng,
        events: &mut VecDeque<Event>,
    ) {
        either!(self, one => one.react(now, api, sent, reaction, error, random, events));
    }

    pub(super) fn fail(&mut self, error: Error, events: &mut VecDeque<Event>) {
        either!(self, one => one.fail(error, events));
    }

    pub(super) fn poll(
        &mut self,
        now: Instant,
        ticket: Ticket,
        cluster: &Cluster,
        committing: bool,
        events: &mut VecDeque<Event>,
    ) -> Option<(What, Duration)> {
        match self {
            Self::Classic(classic) => classic.poll(now, ticket, cluster, committing, events),
            Self::Modern(modern) => modern.poll(now, ticket, cluster, events),
        }
    }

    pub(super) fn next_deadline(&self, known: bool) -> Option<Instant> {
        either!(self, one => one.next_deadline(known))
    }

    pub(super) fn identity(&self) -> &Identity {
        either!(self, one => one.identity())
    }

    pub(super) fn sender(&self) -> Sender {
        either!(self, one => one.sender())
    }

    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        either!(self, one => one.topics())
    }

    pub(super) fn is_stable(&self) -> bool {
        either!(self, one => one.is_stable())
    }

    /// Whether it has asked to join, and may have another identity by now.
    pub(super) fn is_asking(&self) -> bool {
        match self {
            Self::Classic(classic) => classic.is_asking(),
            Self::Modern(_) => false,
        }
    }

    pub(super) fn may_commit(&self) -> bool {
        either!(self, one => one.may_commit())
    }

    pub(super) fn needs_coordinator(&self) -> bool {
        either!(self, one => one.needs_coordinator())
    }
}
