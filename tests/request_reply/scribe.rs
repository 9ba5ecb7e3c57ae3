//! A responder written by hand: it reads requests in the log, and writes the records that it is told to.
use crate::*;

pub(crate) struct Scribe<'a> {
    stage: &'a Stage,
    producer: Producer,
    seen: [usize; 4],
}

/// A record on the topic of requests.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) partition: i32,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    pub(crate) fn id(&self) -> String {
        self.header("rpc-id").or_else(|| self.header("kafka_correlationId")).unwrap()
    }
}

impl<'a> Scribe<'a> {
    pub(crate) async fn new(stage: &'a Stage) -> Self {
        let producer = stage.client.producer().linger(Duration::ZERO).build().await.unwrap();
        Self { stage, producer, seen: [0; 4] }
    }

    fn new_record(&mut self) -> Option<Asked> {
        (0..4).find_map(|partition| {
            let records = self.stage.broker.log("sum", partition).unwrap().records().unwrap();
            let record = records.get(self.seen[partition as usize])?;
            self.seen[partition as usize] += 1;
            let headers = record.headers().map(|(key, value)| {
                (String::from_utf8(key.to_vec()).unwrap(), value.unwrap_or_default().to_vec())
            });
            Some(Asked { headers: headers.collect(), partition })
        })
    }

    /// The next record that is written to the topic of requests.
    pub(crate) async fn next(&mut self) -> Asked {
        let mut asked = None;
        until("a request", || {
            asked = self.new_record();
            asked.is_some()
        })
        .await;
        asked.unwrap()
    }

    /// Whether nothing more is written within a moment.
    pub(crate) async fn is_left_alone(&mut self) -> bool {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.new_record().is_none()
    }

    /// Writes a record to the reply partition.
    pub(crate) async fn reply(&self, headers: &[(&str, &str)], value: Option<&str>) {
        let mut record = Record::tombstone().partition(0);
        record.value = value.map(str::as_bytes);
        for (name, value) in headers {
            record = record.header(name, value);
        }
        self.producer.send(REPLIES, record).await.unwrap().await.unwrap();
    }

    /// Writes one of milena's replies: with a sequence number, and the end after a `.`.
    pub(crate) async fn item(&self, id: &str, from: &str, number: &str, value: Option<&str>) {
        let (number, end) = number.strip_suffix('.').map_or((number, false), |number| (number, true));
        let mut headers =
            vec![("rpc-id", id), ("rpc-status", "0"), ("rpc-seq", number), ("rpc-responder", from)];
        headers.push(("rpc-caps", "cancel,credit"));
        headers.extend(end.then_some(("rpc-end", "")));
        self.reply(&headers, value).await;
    }

    /// Writes one of NestJS's replies.
    pub(crate) async fn nest(&self, id: &str, value: Option<&str>, disposed: bool) {
        let mut headers = vec![("kafka_correlationId", id)];
        headers.extend(disposed.then_some(("kafka_nest-is-disposed", "\0")));
        self.reply(&headers, value).await;
    }
}

/// The status of an error reply.
pub(crate) fn status(error: &milena::Error) -> Status {
    assert_eq!(error.kind(), ErrorKind::Reply, "{error}");
    error.source().unwrap().downcast_ref::<ErrorReply>().unwrap().status()
}
