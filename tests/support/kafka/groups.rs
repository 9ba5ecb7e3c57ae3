//! What the coordinator says of a group. By hand, as all of the harness's protocol.
use std::collections::BTreeMap;
use std::io;

use super::wire::{self, ANSWER, Answer};
use super::{Cluster, READY, wait_for};

pub type Partition = (String, i32);

/// A group as its coordinator defines it.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// `Stable`, `PreparingRebalance` ..
    pub state: String,
    /// Each member's partitions, sorted, by its client id.
    pub members: BTreeMap<String, Vec<Partition>>,
    /// What each says that it owns, and of which generation; of the classic protocol.
    pub claims: BTreeMap<String, (Vec<Partition>, i32)>,
}

impl Cluster {
    /// The node that coordinates a group now.
    pub fn coordinator(&self, group: &str) -> i32 {
        wait_for("a coordinator", READY, || {
            let mut reason = "no node runs".to_owned();
            for (_, port, _) in self.running() {
                match find_coordinator(port, group) {
                    Ok(node) => return Ok(node),
                    Err(error) => reason = error.to_string(),
                }
            }
            Err(reason)
        })
    }

    /// Whether another node still takes `node` for the coordinator of a group.
    pub fn is_taken_for_coordinator(&self, node: i32, group: &str) -> bool {
        let mut others = self.running().into_iter().filter(|(other, ..)| *other != node);
        others.any(|(_, port, _)| find_coordinator(port, group).is_ok_and(|found| found == node))
    }

    /// A group with the classic protocol, or with that of KIP-848.
    pub fn group(&self, group: &str, is_classic: bool) -> io::Result<Group> {
        let port = self.node(self.coordinator(group)).port;
        if is_classic { describe_classic(port, group) } else { describe(port, group) }
    }
}

/// FindCoordinator v0.
fn find_coordinator(port: u16, group: &str) -> io::Result<i32> {
    let mut body = Vec::new();
    wire::string(&mut body, group);
    let mut answer = wire::exchange(port, 10, 0, &body, ANSWER)?;
    match answer.i16()? {
        0 => answer.i32(),
        code => Err(io::Error::other(format!("FindCoordinator {group}: error {code}"))),
    }
}

/// DescribeGroups v0.
fn describe_classic(port: u16, group: &str) -> io::Result<Group> {
    let mut body = 1i32.to_be_bytes().to_vec();
    wire::string(&mut body, group);
    let mut answer = wire::exchange(port, 15, 0, &body, ANSWER)?;
    let groups = answer.list(|found| {
        let error = found.i16()?;
        found.string()?; // its id
        let state = found.string()?;
        found.string()?; // protocol type
        found.string()?; // protocol
        let members = found.list(|member| {
            member.string()?; // its id
            let client = member.string()?;
            member.string()?; // host
            let claim = claimed(member.bytes()?)?;
            let assignment = member.bytes()?;
            Ok((client, assigned(assignment)?, claim))
        })?;
        let claims = members.iter().map(|(client, _, claim)| (client.clone(), claim.clone())).collect();
        let members = members.into_iter().map(|(client, assigned, _)| (client, assigned)).collect();
        Ok((error, Group { state, members, claims }))
    })?;
    match groups.into_iter().next() {
        Some((0, found)) => Ok(found),
        other => Err(io::Error::other(format!("DescribeGroups {group}: {other:?}"))),
    }
}

/// What a member claims to own, if its subscription is new enough to say so.
fn claimed(bytes: Vec<u8>) -> io::Result<(Vec<Partition>, i32)> {
    if bytes.is_empty() {
        return Ok((vec![], -1));
    }
    let mut subscription = Answer { bytes, at: 0 };
    let version = subscription.i16()?;
    subscription.list(Answer::string)?; // topics
    subscription.bytes()?; // user data
    // NestJS says version 1 and leaves this out.
    let is_there = version >= 1 && subscription.at < subscription.bytes.len();
    let owned = if is_there { subscription.partitions()? } else { vec![] };
    Ok((owned, if version >= 2 { subscription.i32()? } else { -1 }))
}

/// What a leader gave to a member.
fn assigned(bytes: Vec<u8>) -> io::Result<Vec<Partition>> {
    if bytes.is_empty() {
        return Ok(vec![]);
    }
    let mut assignment = Answer { bytes, at: 0 };
    assignment.i16()?; // version
    assignment.partitions()
}

impl Answer {
    /// Sorted.
    fn partitions(&mut self) -> io::Result<Vec<Partition>> {
        let topics = self.list(|topic| {
            let name = topic.string()?;
            topic.list(|partition| Ok((name.clone(), partition.i32()?)))
        })?;
        let mut partitions = topics.concat();
        partitions.sort();
        Ok(partitions)
    }
}

/// ConsumerGroupDescribe v0.
fn describe(port: u16, group: &str) -> io::Result<Group> {
    // Tagged fields of the header, one group, not what one is allowed to do, tagged fields.
    let mut body = vec![0, 2, group.len() as u8 + 1];
    body.extend(group.as_bytes());
    body.extend([0, 0]);
    let mut answer = wire::exchange(port, 69, 0, &body, ANSWER)?;
    answer.tags()?;
    answer.i32()?; // throttle time
    let groups = answer.compact_list(|found| {
        let error = found.i16()?;
        found.compact_string()?; // its message
        found.compact_string()?; // the group's id
        let state = found.compact_string()?;
        found.take(8)?; // epochs
        found.compact_string()?; // assignor
        let members = found.compact_list(|member| {
            for _ in 0..3 {
                member.compact_string()?; // id, instance, rack
            }
            member.i32()?; // epoch
            let client = member.compact_string()?;
            member.compact_string()?; // host
            member.compact_list(Answer::compact_string)?; // topics
            member.compact_string()?; // pattern
            let partitions = placed(member)?;
            placed(member)?; // what it will get
            member.tags()?;
            Ok((client, partitions))
        })?;
        found.i32()?;
        found.tags()?;
        Ok((error, Group { state, members: members.into_iter().collect(), claims: BTreeMap::new() }))
    })?;
    match groups.into_iter().next() {
        Some((0, found)) => Ok(found),
        other => Err(io::Error::other(format!("ConsumerGroupDescribe {group}: {other:?}"))),
    }
}

fn placed(answer: &mut Answer) -> io::Result<Vec<Partition>> {
    let topics = answer.compact_list(|topic| {
        topic.take(16)?; // id
        let name = topic.compact_string()?;
        let partitions = topic.compact_list(|partition| Ok((name.clone(), partition.i32()?)))?;
        topic.tags()?;
        Ok(partitions)
    })?;
    answer.tags()?;
    let mut partitions = topics.concat();
    partitions.sort();
    Ok(partitions)
}
