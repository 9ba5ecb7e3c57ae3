//! `milena produce`: a record for each line of standard input.
use crate::json;
use crate::lines::{self, Lines};
use crate::options::{Connection, Format};
use crate::outcome::{Failure, Interrupt, Outcome};
use indicatif::ProgressBar;
use milena::{Delivery, Producer, ProducerTopic, Record, Written};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// Deliveries that may be outstanding: a bound for lines so short that the producer's own memory would hold millions.
const OUTSTANDING: usize = 100_000;

/// Options of `milena produce`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topic; with `--format json` a line may name its own instead
    #[arg(short, long)]
    topic: Option<String>,
    /// The partition [default: by the key, as Kafka's own clients choose it]
    #[arg(short, long)]
    partition: Option<i32>,
    /// Separates key and value; a line without it has no key
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with = "format")]
    key_separator: Option<String>,
    /// What a line is: the value as text, or a JSON object as `milena consume` prints it
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// Compresses with none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC")]
    codec: Option<String>,
    /// Waits until all in-sync replicas (all), the leader (1) or nobody (0) has the record
    #[arg(long)]
    acks: Option<String>,
}

pub(crate) async fn run(args: Args, mut interrupt: Interrupt) -> Outcome {
    let session = tokio::select! {
        session = Session::open(args) => session?,
        () = interrupt.wait() => return Err(Failure::Interrupted("nothing was written".to_owned())),
    };
    session.run(interrupt).await
}

struct Session {
    args: Args,
    producer: Producer,
    topics: Topics,
    outstanding: VecDeque<(u64, Delivery)>,
    /// Lines handed to the producer, and records known to be written.
    lines: u64,
    written: u64,
    /// The first line that failed, and why.
    failed: Option<(u64, String)>,
    progress: ProgressBar,
}

impl Session {
    async fn open(args: Args) -> Outcome<Self> {
        if args.topic.is_none() && matches!(args.format, Format::Text) {
            return Err("--topic is missing".into());
        }
        let client = args.connection.client().await?;
        let timeout = args.connection.timeout;
        let mut builder = client.producer().delivery_timeout(timeout).max_block(timeout);
        let (codec, acks) = (args.codec.as_deref(), args.acks.as_deref());
        let named =
            codec.map(|codec| ("compression.type", codec)).into_iter().chain(acks.map(|acks| ("acks", acks)));
        for (key, value) in named.chain(args.connection.others()) {
            builder = builder.set(key, value)?;
        }
        let producer = builder.build().await?;
        let progress = args.connection.progress("written");
        Ok(Self {
            args,
            producer,
            topics: Topics::default(),
            outstanding: VecDeque::new(),
            lines: 0,
            written: 0,
            failed: None,
            progress,
        })
    }

    async fn run(mut self, mut interrupt: Interrupt) -> Outcome {
        let started = Instant::now();
        let mut input = Lines::read(std::io::stdin())?;
        let mut ended = false;
        while !ended && self.failed.is_none() && !interrupt.came() {
            tokio::select! {
                biased;
                () = interrupt.wait() => {}
                settled = first(&mut self.outstanding), if !self.outstanding.is_empty() => self.settle(settled),
                block = input.next(), if self.outstanding.len() < OUTSTANDING => match block? {
                    Some(block) => self.send(&block).await,
                    None => ended = true,
                },
            }
        }
        // What was read before an interrupt is written all the same.
        while !ended && self.failed.is_none() {
            match input.try_next()? {
                Some(block) => self.send(&block).await,
                None => break,
            }
        }
        self.finish().await;
        self.report(started, ended)
    }
}

impl Session {
    /// Hands the lines of a block to the producer.
    async fn send(&mut self, block: &[u8]) {
        for line in lines::split(block) {
            self.lines += 1;
            match self.send_line(line).await {
                Ok(delivery) => self.outstanding.push_back((self.lines, delivery)),
                Err(reason) => return self.fail(self.lines, reason),
            }
        }
    }

    async fn send_line(&mut self, line: &[u8]) -> Result<Delivery, String> {
        if let Format::Json = self.args.format {
            let line = json::parse(line)?;
            let topic = match (&self.args.topic, &line.topic) {
                (Some(topic), _) | (None, Some(topic)) => self.topics.get(&self.producer, topic),
                (None, None) => return Err("no topic: neither --topic nor a field topic".to_owned()),
            };
            let headers = line.headers.iter().map(|(key, value)| (&key[..], value.as_deref()));
            let mut record = Record::tombstone().headers(headers);
            (record.key, record.value, record.timestamp) =
                (line.key.as_deref(), line.value.as_deref(), line.timestamp);
            record.partition = self.args.partition.or(line.partition);
            return send(&topic, record).await;
        }
        let (key, value) = match &self.args.key_separator {
            Some(separator) => split_key(line, separator.as_bytes()),
            None => (None, line),
        };
        let mut record = Record::value(value);
        (record.key, record.partition) = (key, self.args.partition);
        let topic = self.topics.get(&self.producer, self.args.topic.as_deref().unwrap_or_default());
        send(&topic, record).await
    }

    fn settle(&mut self, (line, delivered): (u64, milena::Result<Written>)) {
        match delivered {
            Ok(_) => {
                self.written += 1;
                self.progress.set_position(self.written);
            }
            Err(error) => self.fail(line, error.to_string()),
        }
    }

    /// Deliveries come out in the order of the lines, so that the first failure is the one told.
    fn fail(&mut self, line: u64, reason: String) {
        if self.failed.as_ref().is_none_or(|(first, _)| line < *first) {
            self.failed = Some((line, reason));
        }
    }

    /// Waits for all that is outstanding.
    async fn finish(&mut self) {
        let flushed = self.producer.flush().await;
        while !self.outstanding.is_empty() {
            let settled = first(&mut self.outstanding).await;
            self.settle(settled);
        }
        let closed = self.producer.close().await;
        if let (None, Err(error)) = (&self.failed, flushed.and(closed)) {
            self.failed = Some((self.lines, error.to_string()));
        }
    }

    fn report(self, started: Instant, ended: bool) -> Outcome {
        self.progress.finish_and_clear();
        let written = format!("{} of {} records written", self.written, self.lines);
        match self.failed {
            Some((line, reason)) => Err(Failure::Failed(format!("line {line}: {reason} ({written})"))),
            None if !ended => Err(Failure::Interrupted(written)),
            None => {
                self.args
                    .connection
                    .tell(|| format!("{} records written in {:.1?}", self.written, started.elapsed()));
                Ok(())
            }
        }
    }
}

/// Resolved topics, by name.
#[derive(Default)]
struct Topics(HashMap<String, ProducerTopic>);

impl Topics {
    fn get(&mut self, producer: &Producer, name: &str) -> ProducerTopic {
        if let Some(topic) = self.0.get(name) {
            return topic.clone();
        }
        self.0.entry(name.to_owned()).or_insert_with(|| producer.topic(name)).clone()
    }
}

async fn send(topic: &ProducerTopic, record: Record<'_>) -> Result<Delivery, String> {
    topic.send(record).await.map_err(|error| error.to_string())
}

/// The oldest delivery, when it is settled. Cancel safe.
async fn first(outstanding: &mut VecDeque<(u64, Delivery)>) -> (u64, milena::Result<Written>) {
    let Some((line, delivery)) = outstanding.front_mut() else { return std::future::pending().await };
    let settled = (*line, delivery.await);
    outstanding.pop_front();
    settled
}

fn split_key<'a>(line: &'a [u8], separator: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    match line.windows(separator.len().max(1)).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}
