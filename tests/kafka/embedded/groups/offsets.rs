//! Offsets: committed, read, deleted.
use super::*;

type Commit<'a> = (&'a str, &'a str, i32, Option<&'a str>);

impl Play {
    fn commit(
        &mut self,
        version: i16,
        (group, member, generation, instance): Commit<'_>,
        partitions: &[(&str, i32, i64)],
    ) {
        let mut topics: Vec<offset_commit_request::OffsetCommitRequestTopic> = Vec::new();
        for (topic, partition, offset) in partitions {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(if version >= 6 { 4 } else { -1 })
                .with_committed_metadata(if *offset == 5 { None } else { Some(text("note")) });
            match topics.iter_mut().find(|known| known.name == name(topic)) {
                Some(known) => known.partitions.push(partition),
                None => topics.push(
                    offset_commit_request::OffsetCommitRequestTopic::default()
                        .with_name(name(topic))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(id(group))
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(generation)
            .with_group_instance_id(instance.map(text))
            .with_topics(topics);
        let mut answer = self.connection.call(version, &request);
        answer.topics.sort_by_key(|topic| topic.name.clone());
        let codes: Vec<_> = answer
            .topics
            .iter()
            .map(|topic| {
                let codes = topic
                    .partitions
                    .iter()
                    .map(|partition| (partition.partition_index, partition.error_code));
                (topic.name.as_str(), codes.collect::<Vec<_>>())
            })
            .collect();
        let who = if member.len() > 8 { "member" } else { member };
        self.say(format!("commit v{version} {group} {who} {generation} {instance:?}: {codes:?}"));
    }

    pub(super) fn fetched_offsets(
        &mut self,
        version: i16,
        group: &str,
        partitions: Option<&[i32]>,
        stable: bool,
    ) {
        let mut request = OffsetFetchRequest::default().with_require_stable(stable && version >= 7);
        if version < 8 {
            request.group_id = id(group);
            request.topics = partitions.map(|indexes| {
                let topic = offset_fetch_request::OffsetFetchRequestTopic::default().with_name(name(TOPIC));
                vec![topic.with_partition_indexes(indexes.to_vec())]
            });
        } else {
            let topics = partitions.map(|indexes| {
                let topic = offset_fetch_request::OffsetFetchRequestTopics::default().with_name(name(TOPIC));
                vec![topic.with_partition_indexes(indexes.to_vec())]
            });
            let of = |group: &str| {
                offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(id(group))
                    .with_member_id(None)
                    .with_member_epoch(-1)
                    .with_topics(topics.clone())
            };
            request.groups = vec![of(group), of("embedded-nobody")];
        }
        let answer = self.connection.call(version, &request);
        let mut said = format!("offsets v{version} {group} {partitions:?}: {}", answer.error_code);
        for topic in &answer.topics {
            for found in &topic.partitions {
                let place = (found.partition_index, found.committed_offset, found.committed_leader_epoch);
                said += &format!(" | {place:?} {:?} {}", found.metadata, found.error_code);
            }
        }
        for group in &answer.groups {
            said += &format!(" | {} {}", group.group_id.as_str(), group.error_code);
            for found in group.topics.iter().flat_map(|topic| &topic.partitions) {
                let place = (found.partition_index, found.committed_offset, found.committed_leader_epoch);
                said += &format!(" {place:?} {:?} {}", found.metadata, found.error_code);
            }
        }
        self.say(said);
    }

    pub(super) fn commits(&mut self) {
        let group = "embedded-commits";
        for version in 2..=9 {
            let fresh = format!("embedded-commits-v{version}");
            self.commit(
                version,
                (&fresh, "", -1, None),
                &[(TOPIC, 0, 7), (TOPIC, 1, 8), (TOPIC, 9, 9), ("embedded-nope", 0, 1)],
            );
            self.commit(version, (&fresh, "m", 3, None), &[(TOPIC, 0, 7)]);
            self.commit(version, (&fresh, "m", -1, None), &[(TOPIC, 2, 5)]);
            self.commit(version, ("embedded-commits-missing", "m", 3, None), &[(TOPIC, 0, 7)]);
            self.fetched_offsets(version, &fresh, Some(&[0, 1, 2, 9]), true);
        }
        self.commit(9, ("", "", -1, None), &[(TOPIC, 0, 7)]);
        self.commit(9, (group, "", -1, None), &[]);
        self.commit(9, (group, "", -1, None), &[("embedded-nope", 0, 1)]);
        let answer = self.connection.call(9, &join(group, "", Some("a"), &[("range", TOPIC)]));
        let member = answer.member_id.to_string();
        let every: [Commit<'_>; 8] = [
            (group, &member, 1, None),
            (group, &member, 1, Some("a")),
            (group, &member, 1, Some("b")),
            (group, "stranger", 1, Some("a")),
            (group, "stranger", 1, None),
            (group, &member, 0, None),
            (group, &member, -1, None),
            (group, "", -1, None),
        ];
        for version in [6, 7, 8, 9] {
            for who in every.into_iter().filter(|who| version >= 7 || who.3.is_none()) {
                self.commit(version, who, &[(TOPIC, 0, 21)]);
            }
        }
        let answer = self.connection.call(5, &sync(group, &member, 1, &[(&member, "A")]));
        self.synced("commits, sync", &answer);
        for who in every {
            self.commit(9, who, &[(TOPIC, 0, 22)]);
        }
        let mut second = self.open();
        second.send(9, &join(group, "", Some("b"), &[("range", TOPIC)]));
        self.until(group, "PreparingRebalance");
        for who in every {
            self.commit(9, who, &[(TOPIC, 0, 23)]);
        }
        self.fetched_offsets(9, group, None, true);
        self.left(5, group, &[("", Some("a")), ("", Some("b"))]);
        let _ = second.receive::<JoinGroupRequest>(9);
        self.until(group, "Empty");
        for who in every {
            self.commit(9, who, &[(TOPIC, 0, 24)]);
        }
    }

    pub(super) fn fetches(&mut self) {
        for version in 1..=9 {
            for stable in [false, true] {
                self.fetched_offsets(version, "embedded-commits", Some(&[0, 1, 9]), stable);
                self.fetched_offsets(version, "embedded-nobody", Some(&[0]), stable);
                if version >= 2 {
                    self.fetched_offsets(version, "embedded-commits", None, stable);
                    self.fetched_offsets(version, "embedded-nobody", None, stable);
                }
            }
        }
    }

    pub(super) fn deleted_offsets(&mut self, group: &str, partitions: &[(&str, i32)]) {
        let topics = partitions.iter().map(|(topic, partition)| {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default()
                .with_partition_index(*partition);
            offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(name(topic))
                .with_partitions(vec![partition])
        });
        let request = OffsetDeleteRequest::default().with_group_id(id(group)).with_topics(topics.collect());
        let mut answer = self.connection.call(0, &request);
        answer.topics.sort_by_key(|topic| topic.name.clone());
        let mut codes: Vec<_> = answer
            .topics
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|partition| (topic.name.as_str(), partition.error_code))
            })
            .collect();
        codes.sort();
        self.say(format!("delete offsets of {group}: {} {codes:?}", answer.error_code));
    }
}
