//! What a group keeps while its static leader is away and comes back (KIP-345, KIP-814).
//!
//! A leader looks after the topics of all members, and has their partitions divided again when there are more of them. One that comes back
//! is told to let things be, and not what they are: if a topic grew meanwhile, the new partitions would be nobody's until something else
//! begins a round. So it has the group described.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::DescribeGroupsResponse;

use super::leader::partitions;
use super::reaction::is_passing;
use super::{Answer, Group, Identity};
use crate::error::Result;
use crate::protocol::consumer_protocol::{Assignment, Subscription};
use crate::protocol::error_code::ErrorCode;

impl Group {
    pub(super) fn described(&mut self, now: Instant, sent: &Identity, answer: Result<Answer>) {
        let kept = match &answer {
            Ok(Answer::Describe(answer)) => Kept::read(answer),
            // Who may not look has to do without.
            Err(error) if !is_passing(error) => Kept::Hidden,
            _ => Kept::Moving,
        };
        if *sent != *self.membership.identity() {
            return;
        }
        let Some(classic) = self.membership.classic() else { return };
        match kept {
            Kept::Hidden => {}
            Kept::Moving => classic.check_again(now),
            Kept::Seen { topics, given } => {
                let all = topics.iter().map(|topic| partitions(&self.cluster, topic)).sum::<Option<usize>>();
                classic.look_after(topics, &self.cluster);
                match all {
                    Some(all) => classic.keep(given == all),
                    None => classic.check_again(now),
                }
            }
        }
    }
}

enum Kept {
    /// The topics that members subscribe to, and how many partitions are somebody's.
    Seen { topics: BTreeSet<Arc<str>>, given: usize },
    /// It cannot be seen now.
    Moving,
    /// It never can.
    Hidden,
}

impl Kept {
    fn read(answer: &DescribeGroupsResponse) -> Self {
        let Some(group) = answer.groups.first() else { return Self::Hidden };
        let code = ErrorCode::from(group.error_code);
        if !code.is_none() && !code.is_retriable() {
            return Self::Hidden;
        }
        if &*group.group_state != "Stable" {
            return Self::Moving;
        }
        let (mut topics, mut given) = (BTreeSet::new(), 0);
        for member in &group.members {
            // What cannot be read claims nothing and gets nothing.
            let subscription = Subscription::decode(&member.member_metadata).ok();
            topics
                .extend(subscription.into_iter().flat_map(|subscription| subscription.topics).map(Arc::from));
            let assigned = Assignment::decode(&member.member_assignment).ok();
            given += assigned
                .iter()
                .flat_map(|assigned| &assigned.partitions)
                .map(|(_, of)| of.iter().count())
                .sum::<usize>();
        }
        Self::Seen { topics, given }
    }
}
