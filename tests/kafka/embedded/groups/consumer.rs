//! The consumer protocol (KIP-848).
use std::collections::BTreeMap;

use super::*;

type Commit<'a> = (&'a str, i32, i16, i32);

pub(super) fn beat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(id(group))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_instance_id(None)
        .with_rack_id(None)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_subscribed_topic_regex(None)
        .with_server_assignor(None)
        .with_topic_partitions(None)
}

pub(super) fn joins(group: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    beat(group, member, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

impl Play {
    fn beaten(
        &mut self,
        label: &str,
        version: i16,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let answer = self.connection.call(version, request);
        let assigned = answer.assignment.as_ref().map(|assigned| {
            let mut places: Vec<_> = assigned
                .topic_partitions
                .iter()
                .map(|topic| {
                    let mut partitions = topic.partitions.clone();
                    partitions.sort();
                    (topic.topic_id == self.id, partitions)
                })
                .collect();
            places.sort();
            places
        });
        let member = match answer.member_id.as_deref() {
            Some(member) if *member == *request.member_id => "same",
            Some("") => "empty",
            Some(_) => "made",
            None => "none",
        };
        self.say(format!(
            "beat v{version} {label}: {} {} member {member} epoch {} every {} {assigned:?}",
            answer.error_code,
            answer.error_message.is_some(),
            answer.member_epoch,
            answer.heartbeat_interval_ms
        ));
        answer
    }

    /// A heartbeat that owns these partitions of the topic.
    fn owning(&mut self, label: &str, group: &str, member: &str, epoch: i32, owned: &[i32]) {
        let owned = consumer_group_heartbeat_request::TopicPartitions::default()
            .with_topic_id(self.id)
            .with_partitions(owned.to_vec());
        self.beaten(label, 1, &beat(group, member, epoch).with_topic_partitions(Some(vec![owned])));
    }

    pub(super) fn consumer_protocol(&mut self) {
        self.wrong_beats();
        self.members_that_reconcile();
        self.members_with_instances();
        self.members_with_patterns();
        self.mixed_protocols();
    }

    fn wrong_beats(&mut self) {
        let fair = || joins("embedded-848-wrong", "a", &[TOPIC]);
        for (label, version, request) in [
            ("no member", 1, fair().with_member_id(text(""))),
            ("no topics", 1, fair().with_subscribed_topic_names(Some(vec![]))),
            ("null topics", 1, fair().with_subscribed_topic_names(None)),
            (
                "empty pattern",
                1,
                fair().with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text(""))),
            ),
            ("no rebalance timeout", 1, fair().with_rebalance_timeout_ms(-1)),
            ("null partitions", 1, fair().with_topic_partitions(None)),
            ("some partitions", 1, fair().with_topic_partitions(Some(vec![Default::default()]))),
            ("no group", 1, fair().with_group_id(id(""))),
            ("empty instance", 1, fair().with_instance_id(Some(text("")))),
            ("empty rack", 1, fair().with_rack_id(Some(text("")))),
            ("unknown assignor", 1, fair().with_server_assignor(Some(text("mine")))),
            ("bad pattern", 1, fair().with_subscribed_topic_regex(Some(text("(")))),
            ("epoch -3", 1, beat("embedded-848-wrong", "a", -3)),
            ("epoch -2 of nobody", 1, beat("embedded-848-wrong", "a", -2)),
            ("epoch -1 of nobody", 1, beat("embedded-848-wrong", "a", -1)),
            ("epoch 1 of nobody", 1, beat("embedded-848-wrong", "a", 1)),
            ("epoch 1 without member", 1, beat("embedded-848-wrong", "", 1)),
            ("epoch 1 without member in v0", 0, beat("embedded-848-wrong", "", 1)),
            ("no member in v0", 0, fair().with_group_id(id("embedded-848-old")).with_member_id(text(""))),
            ("unknown topic", 1, joins("embedded-848-nope", "a", &["embedded-nope"])),
        ] {
            self.beaten(&format!("wrong, {label}"), version, &request);
        }
    }

    fn members_that_reconcile(&mut self) {
        let group = "embedded-848";
        self.beaten("a joins", 1, &joins(group, "a", &[TOPIC]));
        self.beaten("a", 1, &beat(group, "a", 2));
        self.described_consumers(group);
        self.beaten("b joins", 1, &joins(group, "b", &[TOPIC]));
        self.described_consumers(group);
        let answer = self.beaten("a has to revoke", 1, &beat(group, "a", 2));
        let topics = answer.assignment.into_iter().flat_map(|assigned| assigned.topic_partitions);
        let kept: Vec<i32> = topics.flat_map(|topic| topic.partitions).collect();
        self.described_consumers(group);
        self.beaten("a has not revoked", 1, &beat(group, "a", 2));
        self.beaten("b waits", 1, &beat(group, "b", 3));
        self.owning("a still owns all", group, "a", 2, &[0, 1, 2]);
        for epoch in [0, 1, 2, 3, 4] {
            self.committed_848(&[(group, epoch, 9, 0), (group, epoch, 9, 2)], "a");
        }
        self.owning("a revoked", group, "a", 2, &kept);
        self.owning("a did not hear", group, "a", 2, &kept);
        self.owning("a owns too much", group, "a", 2, &[0, 1, 2]);
        self.beaten("a says nothing of epoch 1", 1, &beat(group, "a", 2));
        self.beaten("b gets", 1, &beat(group, "b", 3));
        self.described_consumers(group);
        for epoch in [-1, 0, 1, 2, 3, 4] {
            self.committed_848(&[(group, epoch, 9, 0), (group, epoch, 9, 2), (group, epoch, 8, 0)], "a");
            self.committed_848(&[(group, epoch, 9, 0), (group, epoch, 9, 2)], "b");
            self.committed_848(&[(group, epoch, 9, 0)], "stranger");
            self.committed_848(&[(group, epoch, 9, 0)], "");
            for member in [Some("a"), Some("stranger"), Some(""), None] {
                self.fetched_848(group, member, epoch);
            }
        }
        // What it has still, and what it has no more, in one commit of an epoch that is over.
        for (label, partitions) in
            [("kept first", [kept[0], 2]), ("kept last", [2, kept[0]]), ("kept", [kept[0], kept[1]])]
        {
            let partition = |index: i32| {
                let gone = if kept.contains(&index) {
                    index
                } else {
                    (0..3).find(|at| !kept.contains(at)).unwrap_or(2)
                };
                offset_commit_request::OffsetCommitRequestPartition::default()
                    .with_partition_index(gone)
                    .with_committed_offset(77)
                    .with_committed_leader_epoch(-1)
            };
            let topic = offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(name(TOPIC))
                .with_partitions(partitions.map(partition).to_vec());
            let request = OffsetCommitRequest::default()
                .with_group_id(id(group))
                .with_member_id(text("a"))
                .with_generation_id_or_member_epoch(2)
                .with_group_instance_id(None)
                .with_topics(vec![topic]);
            let answer = self.connection.call(9, &request).topics.remove(0);
            let codes: Vec<_> = answer.partitions.iter().map(|partition| partition.error_code).collect();
            self.say(format!("commit of two, {label}: {codes:?}"));
            self.fetched_offsets(9, group, Some(&kept), true);
        }
        self.beaten("a at once with everything", 1, &joins(group, "a", &[TOPIC]).with_member_epoch(3));
        self.beaten("a from an epoch to come", 1, &beat(group, "a", 4));
        self.beaten("a with another timeout", 1, &beat(group, "a", 3).with_rebalance_timeout_ms(50_000));
        let others = Some(vec![name(TOPIC), name("embedded-here")]);
        self.beaten("a with another topic", 1, &beat(group, "a", 3).with_subscribed_topic_names(others));
        self.beaten("b hears of it", 1, &beat(group, "b", 3));
        self.described_consumers(group);
        self.beaten("a rejoins", 1, &joins(group, "a", &[TOPIC]));
        self.beaten("b leaves", 1, &beat(group, "b", -1));
        self.beaten("b again", 1, &beat(group, "b", 4));
        self.described_consumers(group);
        self.beaten("a gets all", 1, &joins(group, "a", &[TOPIC]));
        self.beaten("a leaves", 1, &beat(group, "a", -1));
        self.beaten("a leaves again", 1, &beat(group, "a", -1));
        self.described_consumers(group);
        self.beaten("c comes later", 1, &joins(group, "c", &[TOPIC]));
        self.beaten("c leaves", 1, &beat(group, "c", -1));
    }

    fn committed_848(&mut self, commits: &[Commit<'_>], member: &str) {
        for (group, epoch, version, partition) in commits {
            let asked = offset_commit_request::OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_leader_epoch(-1);
            let topic = offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(name(TOPIC))
                .with_partitions(vec![asked]);
            let request = OffsetCommitRequest::default()
                .with_group_id(id(group))
                .with_member_id(text(member))
                .with_generation_id_or_member_epoch(*epoch)
                .with_group_instance_id(None)
                .with_topics(vec![topic]);
            let code = self.connection.call(*version, &request).topics[0].partitions[0].error_code;
            self.say(format!("commit v{version} by {member} in epoch {epoch} of {partition}: {code}"));
        }
    }

    fn fetched_848(&mut self, group: &str, member: Option<&str>, epoch: i32) {
        let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(id(group))
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
        let found = self.connection.call(9, &request).groups.remove(0);
        self.say(format!("offsets for {member:?} in epoch {epoch}: {}", found.error_code));
    }

    fn described_consumers(&mut self, group: &str) {
        let request = ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![id(group)])
            .with_include_authorized_operations(true);
        for version in 0..=1 {
            let found = self.connection.call(version, &request).groups.remove(0);
            let count = |assigned: &consumer_group_describe_response::Assignment| {
                let topics = assigned.topic_partitions.iter();
                // In the order of names: that of ids is another in each run.
                topics
                    .map(|topic| (topic.topic_name.to_string(), topic.partitions.len()))
                    .collect::<BTreeMap<_, _>>()
            };
            let mut members: Vec<_> = found
                .members
                .iter()
                .map(|member| {
                    let named = (member.member_id.len() < 3).then_some(&member.member_id);
                    let mut topics: Vec<_> =
                        member.subscribed_topic_names.iter().map(|name| name.to_string()).collect();
                    topics.sort();
                    format!(
                        "{named:?} {:?} {:?} epoch {} {} {} {topics:?} {:?} {:?} {:?} type {}",
                        member.instance_id,
                        member.rack_id,
                        member.member_epoch,
                        member.client_id,
                        member.client_host,
                        member.subscribed_topic_regex,
                        count(&member.assignment),
                        count(&member.target_assignment),
                        member.member_type
                    )
                })
                .collect();
            members.sort();
            self.say(format!(
                "described v{version} {group}: {} {} {:?} {} {} {:?} {} {members:?}",
                found.error_code,
                found.error_message.is_some(),
                found.group_state,
                found.group_epoch,
                found.assignment_epoch,
                found.assignor_name,
                found.authorized_operations
            ));
        }
    }

    fn members_with_instances(&mut self) {
        let group = "embedded-848-static";
        let fixed = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("i")));
        self.beaten("static a joins", 1, &fixed(joins(group, "a", &[TOPIC])));
        self.beaten("static a joins twice", 1, &fixed(joins(group, "a", &[TOPIC])));
        self.beaten("static b takes its place", 1, &fixed(joins(group, "b", &[TOPIC])));
        self.beaten("static b beats", 1, &fixed(beat(group, "b", 2)));
        self.beaten("static a without instance", 1, &beat(group, "a", 2));
        self.beaten("another instance", 1, &beat(group, "a", 2).with_instance_id(Some(text("j"))));
        self.beaten("static b leaves for a while", 1, &fixed(beat(group, "b", -2)));
        self.beaten("static a leaves for a while", 1, &fixed(beat(group, "a", -2)));
        self.described_consumers(group);
        self.beaten("static a beats while away", 1, &fixed(beat(group, "a", 2)));
        self.beaten("static b takes its place", 1, &fixed(joins(group, "b", &[TOPIC])));
        self.described_consumers(group);
        self.beaten("static a is late", 1, &fixed(beat(group, "a", 2)));
        self.beaten("static a leaves late", 1, &fixed(beat(group, "a", -1)));
        self.beaten("static b leaves", 1, &fixed(beat(group, "b", -1)));
        self.beaten("static c joins", 1, &fixed(joins(group, "c", &[TOPIC])));
        self.left(5, group, &[("c", None), ("", Some("j")), ("", Some("i"))]);
        self.beaten("static c was removed", 1, &fixed(beat(group, "c", 4)));
    }

    /// Kafka resolves patterns beside the heartbeat: one hears of it later.
    fn members_with_patterns(&mut self) {
        let group = "embedded-848-pattern";
        let pattern = |pattern: &str| {
            joins(group, "a", &[])
                .with_subscribed_topic_names(None)
                .with_subscribed_topic_regex(Some(text(pattern)))
        };
        for asked in [
            "embedded",
            "embedded-her.|nothing",
            "(em|x)bed+ed",
            "[a-e]mbedded.{0,2}$",
            "embedde",
            "^embedded-h\\w+$",
            "no.*such",
        ] {
            let mut request = pattern(asked);
            self.connection.call(1, &request);
            request.member_epoch = 0;
            let found = crate::support::kafka::wait_for("a resolved pattern", SOON, || {
                let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![id(group)]);
                let epoch = self.connection.call(1, &request).groups[0]
                    .members
                    .first()
                    .map_or(0, |member| member.member_epoch);
                let full = pattern(asked).with_member_epoch(epoch);
                self.connection.call(1, &full);
                let group = self.connection.call(1, &request).groups.remove(0);
                let member = &group.members[0];
                let mut topics: Vec<_> = member
                    .assignment
                    .topic_partitions
                    .iter()
                    .map(|topic| topic.topic_name.to_string())
                    .collect();
                topics.sort();
                match (&*group.group_state, topics.is_empty()) {
                    ("Stable", empty) if empty == matches!(asked, "embedde" | "no.*such") => Ok(topics),
                    _ => Err(format!("{asked}: {group:?}")),
                }
            });
            self.say(format!("pattern {asked}: {found:?}"));
            self.connection.call(1, &beat(group, "a", -1));
        }
    }

    fn mixed_protocols(&mut self) {
        let group = "embedded-848-mixed";
        self.beaten("mixed, a joins", 1, &joins(group, "a", &[TOPIC]));
        for version in [3, 4, 5] {
            let answer = self.connection.call(version, &ListGroupsRequest::default());
            let found: Vec<_> = answer.groups.iter().filter(|found| &**found.group_id == group).collect();
            self.say(format!("mixed, listed v{version}: {found:?}"));
        }
        let code = self.connection.call(4, &heartbeat(group, "a", 1)).error_code;
        self.say(format!("mixed, heartbeat: {code}"));
        let answer = self.connection.call(5, &sync(group, "a", 1, &[]));
        self.synced("mixed, sync", &answer);
        self.left(5, group, &[("a", None)]);
        let request = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
        let answer = self.connection.call(6, &request).groups.remove(0);
        self.say(format!("mixed, described: {} {}", answer.error_code, answer.group_state));
        self.beaten("mixed, a leaves", 1, &beat(group, "a", -1));
        let mut ids = Ids::default();
        let answer = self.connection.call(9, &join(group, "stranger", None, &[("range", TOPIC)]));
        self.say(format!("mixed, stranger joins: {}", ids.joined(&answer)));
        let answer = self.connection.call(9, &join(group, "", Some("i"), &[("range", TOPIC)]));
        self.say(format!("mixed, a classic member joins: {}", ids.joined(&answer)));
        self.left(5, group, &[("", Some("i"))]);
        self.beaten("mixed, b joins", 1, &joins(group, "b", &[TOPIC]));
        let code =
            self.connection.call(2, &DeleteGroupsRequest::default().with_groups_names(vec![id(group)]));
        self.say(format!("mixed, deleted: {}", code.results[0].error_code));
        self.beaten("mixed, b leaves", 1, &beat(group, "b", -1));
        let code =
            self.connection.call(2, &DeleteGroupsRequest::default().with_groups_names(vec![id(group)]));
        self.say(format!("mixed, deleted: {}", code.results[0].error_code));
    }
}
