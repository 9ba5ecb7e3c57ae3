//! Offsets, fetches, sessions and epochs.
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::script::{Play, TOPIC, name};
use super::wire::{base, batches};

impl Play {
    pub(super) fn list_offsets(&mut self) {
        for version in 1..=10 {
            for (partition, epoch, timestamp) in [
                (0, -1, -1),
                (0, -1, -2),
                (0, -1, -3),
                (0, -1, -4),
                (0, -1, -5),
                (0, -1, 0),
                (0, -1, base()),
                (0, -1, base() + 1),
                (0, -1, base() + 2),
                (0, 0, -1),
                (0, 1, -1),
                (1, -1, -1),
                (2, -1, -1),
                (2, -1, -2),
                (2, -1, -3),
                (2, -1, 5),
                (9, -1, -1),
            ] {
                if timestamp == -3 && version < 7
                    || timestamp == -4 && version < 8
                    || timestamp == -5 && version < 9
                {
                    continue;
                }
                let partition_asked = list_offsets_request::ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(if version >= 4 { epoch } else { -1 })
                    .with_timestamp(timestamp);
                let topic = list_offsets_request::ListOffsetsTopic::default()
                    .with_name(name(TOPIC))
                    .with_partitions(vec![partition_asked]);
                let request =
                    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
                let answer = self.connection.call(version, &request).topics.remove(0).partitions.remove(0);
                let since = |timestamp: i64| if timestamp > 10 { timestamp - base() } else { timestamp };
                let timestamp = since(timestamp);
                let found = (answer.error_code, answer.offset, since(answer.timestamp), answer.leader_epoch);
                self.say(format!("list v{version} {partition} epoch {epoch} at {timestamp}: {found:?}"));
            }
        }
    }

    pub(super) fn fetch_request(&self, version: i16, partition: i32, offset: i64) -> FetchRequest {
        let partition = fetch_request::FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
        let topic = if version >= 13 { topic.with_topic_id(self.id) } else { topic.with_topic(name(TOPIC)) };
        FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic])
    }

    pub(super) fn fetched(&mut self, label: &str, version: i16, request: &FetchRequest) -> i32 {
        let response = self.connection.call(version, request);
        let mut said =
            format!("fetch v{version} {label}: {} session {}", response.error_code, response.session_id != 0);
        for topic in &response.responses {
            for data in &topic.partitions {
                let marks =
                    (data.error_code, data.high_watermark, data.last_stable_offset, data.log_start_offset);
                let diverging = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
                let aborted = data.aborted_transactions.as_ref().map(Vec::len);
                let leader = (data.current_leader.leader_id.0, data.current_leader.leader_epoch);
                said += &format!(
                    " | {} {marks:?} {diverging:?} {aborted:?} {leader:?} {} {}",
                    data.partition_index,
                    data.preferred_read_replica.0,
                    batches(data.records.as_ref())
                );
            }
        }
        self.say(said);
        response.session_id
    }

    pub(super) fn fetch(&mut self) {
        for version in 4..=18 {
            for (partition, offset) in
                [(0, 0), (0, 3), (0, 22), (0, 24), (0, 25), (0, 1000), (0, -1), (2, 0), (2, 1), (9, 0)]
            {
                let request = self.fetch_request(version, partition, offset);
                self.fetched(&format!("{partition} at {offset}"), version, &request);
            }
            let committed = self.fetch_request(version, 0, 0).with_isolation_level(1);
            self.fetched("committed", version, &committed);
            if version >= 9 {
                for epoch in [0, 1] {
                    let mut request = self.fetch_request(version, 0, 20);
                    request.topics[0].partitions[0].current_leader_epoch = epoch;
                    self.fetched(&format!("epoch {epoch}"), version, &request);
                }
            }
            if version >= 12 {
                for epoch in [0, 1] {
                    let mut request = self.fetch_request(version, 0, 20);
                    request.topics[0].partitions[0].last_fetched_epoch = epoch;
                    self.fetched(&format!("last fetched epoch {epoch}"), version, &request);
                }
            }
            let mut request = self.fetch_request(version, 0, 0);
            request.topics[0].partitions[0].partition_max_bytes = 1;
            self.fetched("one byte", version, &request);
            let mut request = self.fetch_request(version, 0, 0).with_max_bytes(1);
            let second = self.fetch_request(version, 1, 0).topics.remove(0).partitions.remove(0);
            request.topics[0].partitions.push(second);
            self.fetched("one byte of two", version, &request);
            if version >= 13 {
                let mut request = self.fetch_request(version, 0, 0);
                request.topics[0].topic_id = Uuid::from_u128(1 << 70);
                self.fetched("unknown id", version, &request);
            } else {
                let mut request = self.fetch_request(version, 0, 0);
                request.topics[0].topic = name("embedded-nope");
                self.fetched("unknown topic", version, &request);
            }
        }
    }

    pub(super) fn sessions(&mut self) {
        for version in [7, 12, 13, 18] {
            let session =
                |request: FetchRequest, id, epoch| request.with_session_id(id).with_session_epoch(epoch);
            let at_end = self.fetch_request(version, 2, 0);
            let nothing = at_end.clone().with_topics(Vec::new());
            let id = self.fetched("opening", version, &session(at_end.clone(), 0, 0));
            self.fetched("nothing new", version, &session(nothing.clone(), id, 1));
            let full = self.fetch_request(version, 0, 20);
            self.fetched("one more", version, &session(full, id, 2));
            self.fetched("again", version, &session(nothing.clone(), id, 3));
            let out = self.fetch_request(version, 0, 9999);
            self.fetched("out of range", version, &session(out, id, 4));
            self.fetched("still out of range", version, &session(nothing.clone(), id, 5));
            let back = self.fetch_request(version, 0, 24);
            self.fetched("back", version, &session(back, id, 6));
            self.fetched("after an error", version, &session(nothing.clone(), id, 7));
            let mut forget = nothing.clone();
            let forgotten = fetch_request::ForgottenTopic::default().with_partitions(vec![0]);
            let forgotten = if version >= 13 {
                forgotten.with_topic_id(self.id)
            } else {
                forgotten.with_topic(name(TOPIC))
            };
            forget.forgotten_topics_data = vec![forgotten];
            self.fetched("forget", version, &session(forget, id, 8));
            self.fetched("wrong epoch", version, &session(nothing.clone(), id, 8));
            self.fetched("wrong id", version, &session(nothing.clone(), id ^ 1, 9));
            if version >= 13 {
                self.fetched("by name", 12, &session(nothing.clone(), id, 9));
            }
            self.fetched("epoch 0 with id", version, &session(at_end.clone(), id, 0));
            self.fetched("gone", version, &session(nothing.clone(), id, 9));
        }
    }

    pub(super) fn epochs(&mut self) {
        for version in 2..=4 {
            for (partition, current, epoch) in
                [(0, -1, 0), (0, 0, 0), (0, 1, 0), (0, -1, 1), (0, -1, -1), (2, -1, 0), (9, -1, 0)]
            {
                let asked = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
                    .with_partition(partition)
                    .with_current_leader_epoch(current)
                    .with_leader_epoch(epoch);
                let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                    .with_topic(name(TOPIC))
                    .with_partitions(vec![asked]);
                let request = OffsetForLeaderEpochRequest::default()
                    .with_replica_id((-1).into())
                    .with_topics(vec![topic]);
                let answer = self.connection.call(version, &request).topics.remove(0).partitions.remove(0);
                let said = (answer.error_code, answer.leader_epoch, answer.end_offset);
                self.say(format!("epoch v{version} {partition} {current} {epoch}: {said:?}"));
            }
        }
    }
}
