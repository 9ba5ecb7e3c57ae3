//! A caller that writes and reads the records itself, so that every header is seen.
use std::collections::VecDeque;

use milena::{Consumer, ConsumerRecord};

use crate::*;

pub(crate) struct Wire {
    producer: milena::Producer,
    replies: Consumer,
    read: VecDeque<ConsumerRecord>,
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) value: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rfind(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.header(name).map_or("", |value| std::str::from_utf8(value).unwrap())
    }

    /// Value, place in the stream and whether it is the end, as native headers tell.
    pub(crate) fn native(&self) -> (Option<&str>, &str, bool) {
        (self.value.as_deref(), self.text("rpc-seq"), self.header("rpc-end").is_some())
    }

    /// Value and whether it is the end, as NestJS sees it.
    pub(crate) fn nest(&self) -> (Option<&str>, bool) {
        (self.value.as_deref(), self.header("kafka_nest-is-disposed").is_some())
    }
}

impl Wire {
    /// Reads what comes to this topic from now on.
    pub(crate) async fn on(stage: &Stage, topic: &str) -> Self {
        let partitions = (0..3).map(|partition| (topic, partition));
        let consumer =
            stage.client.consumer().assign_at(partitions.map(|partition| (partition, Offset::Beginning)));
        Self {
            producer: stage.client.producer().build().await.unwrap(),
            replies: consumer.build().await.unwrap(),
            read: VecDeque::new(),
        }
    }

    pub(crate) async fn send(&self, value: &str, headers: &[(&str, &str)]) {
        let mut record = Record::value(value).partition(0);
        record.headers =
            headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
        self.producer.send("sum", record).await.unwrap().await.unwrap();
    }

    /// Asks as milena does.
    pub(crate) async fn ask(&self, id: &str, value: &str, more: &[(&str, &str)]) {
        let own = [("rpc-id", id), ("rpc-reply-topic", REPLIES), ("rpc-reply-partition", "0")];
        self.send(value, &[&own, more].concat()).await;
    }

    /// Asks as NestJS does.
    pub(crate) async fn ask_as_nest(&self, id: &str, value: &str) {
        let own = [("kafka_correlationId", id), ("kafka_replyTopic", REPLIES), ("kafka_replyPartition", "0")];
        self.send(value, &own).await;
    }

    pub(crate) async fn next(&mut self) -> Seen {
        while self.read.is_empty() {
            let batch = tokio::time::timeout(LONG, self.replies.next()).await.expect("a record");
            self.read.extend(batch.unwrap().unwrap().records());
        }
        let record = self.read.pop_front().unwrap();
        let headers = record.headers().map(|(name, value)| {
            (String::from_utf8(name.to_vec()).unwrap(), value.unwrap_or_default().to_vec())
        });
        let value = record.value().map(|value| String::from_utf8(value.to_vec()).unwrap());
        Seen { value, headers: headers.collect() }
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        let quiet = Duration::from_millis(150);
        self.read.is_empty() && tokio::time::timeout(quiet, self.replies.next()).await.is_err()
    }
}
