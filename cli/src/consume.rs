//! `milena consume`: a line on standard output for each record.
use crate::json::{self, Place};
use crate::options::{Connection, Format};
use crate::outcome::{Failure, Interrupt, Outcome};
use indicatif::ProgressBar;
use milena::{Batch, Client, Consumer, Offset, OffsetReset, RecordView, TopicPartition};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Stdout, Write};
use std::time::{Duration, Instant};

/// Standard output is written in blocks of this size, and whenever no record is waiting.
pub(crate) const BLOCK: usize = 64 << 10;
/// A node may hold a fetch back for so long, and not longer than half of `--timeout`.
pub(crate) const FETCH_WAIT: Duration = Duration::from_millis(500);
/// How often a quiet consumer looks whether it is at the end.
const LOOK: Duration = Duration::from_millis(100);

/// Options of `milena consume`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// A topic; may be repeated
    #[arg(short, long = "topic", value_name = "TOPIC", required = true)]
    pub(crate) topics: Vec<String>,
    /// Reads as a member of this group, from where it stands, and commits what is printed. Where it stands nowhere, it begins with
    /// what is written from now on, or --from-beginning
    #[arg(short, long, value_name = "GROUP", conflicts_with_all = ["partitions", "offset", "exit_at_end"])]
    group: Option<String>,
    /// How the group's partitions are divided: range, roundrobin, sticky or cooperative-sticky; may be repeated, the first that
    /// all members know counts [default: range, cooperative-sticky]
    #[arg(long = "assignor", value_name = "NAME", requires = "group")]
    pub(crate) assignors: Vec<String>,
    /// How it is a member: classic, where members divide the partitions, or consumer (KIP-848), where the coordinator does
    #[arg(long, value_name = "NAME", requires = "group", value_parser = ["classic", "consumer"])]
    pub(crate) protocol: Option<String>,
    /// Comes back under this id: the group waits for it while it is away
    #[arg(long, value_name = "ID", requires = "group")]
    pub(crate) instance_id: Option<String>,
    /// A partition [default: all there are when the command starts]; may be repeated
    #[arg(short, long = "partition", value_name = "NUMBER", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Where to begin: an offset, beginning, end, or @TIMESTAMP in milliseconds since 1970
    #[arg(short, long, default_value = "end", value_parser = start)]
    offset: Offset,
    /// Begins with the oldest record: --offset beginning
    #[arg(long, conflicts_with = "offset")]
    pub(crate) from_beginning: bool,
    /// Ends after so many records
    #[arg(short, long, value_name = "RECORDS")]
    pub(crate) count: Option<u64>,
    /// Ends where the partitions ended when the command started
    #[arg(short, long)]
    exit_at_end: bool,
    /// Prints the key and this text in front of the value
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with = "format")]
    key_separator: Option<String>,
    /// What is printed: the value as it is, or a JSON object
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Which records of transactions: read_committed or read_uncommitted
    #[arg(long, value_name = "LEVEL")]
    pub(crate) isolation: Option<String>,
}

pub(crate) fn start(text: &str) -> Result<Offset, &'static str> {
    const WANTED: &str = "an offset, beginning, end or @TIMESTAMP expected";
    let number = |text: &str| text.parse().ok().filter(|number: &i64| *number >= 0).ok_or(WANTED);
    match text {
        "beginning" => Ok(Offset::Beginning),
        "end" => Ok(Offset::End),
        _ => match text.strip_prefix('@') {
            Some(timestamp) => number(timestamp).map(Offset::Timestamp),
            None => number(text).map(Offset::At),
        },
    }
}

pub(crate) async fn run(args: Args, mut interrupt: Interrupt) -> Outcome {
    if let Some(group) = &args.group {
        return crate::member::run(&args, group, interrupt).await;
    }
    let (finite, mut read) = (args.count.is_some() || args.exit_at_end, 0);
    let outcome = tokio::select! {
        outcome = consume(&args, &mut read) => outcome,
        () = interrupt.wait() => match finite {
            true => Err(Failure::Interrupted(format!("{read} records read"))),
            false => Ok(()),
        },
    };
    if outcome.is_ok() {
        args.connection.tell(|| format!("{read} records read"));
    }
    outcome
}

/// Dropping this future between batches prints whole lines only: they are written in one step.
async fn consume(args: &Args, read: &mut u64) -> Outcome {
    if args.count == Some(0) {
        return Ok(());
    }
    let client = args.connection.client().await?;
    let mut session = Session::open(args, &client).await?;
    let outcome = session.run(args, read).await;
    // What was read before an error is printed all the same.
    let flushed = session.out.flush();
    outcome?;
    flushed?;
    session.consumer.close().await;
    client.close().await;
    Ok(())
}

struct Session {
    consumer: Consumer,
    out: BufWriter<Stdout>,
    progress: ProgressBar,
    /// With `--exit-at-end`, the partitions that are not read to their end yet, and where that is.
    ends: BTreeMap<TopicPartition, i64>,
}

impl Session {
    async fn open(args: &Args, client: &Client) -> Outcome<Self> {
        let partitions = partitions(args, client).await?;
        let from = if args.from_beginning { Offset::Beginning } else { args.offset };
        // A place that is not in the log is told, not replaced by another.
        let wait = FETCH_WAIT.min(args.connection.timeout / 2);
        let mut builder = client.consumer().fetch_max_wait(wait).auto_offset_reset(OffsetReset::None);
        if let Some(level) = &args.isolation {
            builder = builder.set("isolation.level", level)?;
        }
        for (key, value) in args.connection.others() {
            builder = builder.set(key, value)?;
        }
        let consumer =
            builder.assign_at(partitions.iter().map(|partition| (partition.clone(), from))).build().await?;
        let mut ends = BTreeMap::new();
        if args.exit_at_end || matches!(from, Offset::At(_)) {
            ends = consumer.end_offsets(partitions.clone()).await?;
        }
        if let Offset::At(offset) = from {
            // Behind the end, a reader that ends there would have nothing to complain of.
            for (partition, first) in consumer.beginning_offsets(partitions).await? {
                let end = ends.get(&partition).copied().unwrap_or(first);
                if !(first..=end).contains(&offset) {
                    return Err(
                        format!("{partition} has offsets from {first} to {end}, but no {offset}").into()
                    );
                }
            }
        }
        if !args.exit_at_end {
            ends.clear();
        }
        let out = BufWriter::with_capacity(BLOCK, io::stdout());
        Ok(Self { consumer, out, progress: args.connection.progress("read"), ends })
    }

    async fn run(&mut self, args: &Args, read: &mut u64) -> Outcome {
        let mut progress = Instant::now();
        self.pass_ends().await?;
        while !(args.exit_at_end && self.ends.is_empty()) {
            let waiting = tokio::select! {
                biased;
                batch = self.consumer.next() => Some(batch),
                () = std::future::ready(()) => None,
            };
            let batch = match waiting {
                Some(batch) => batch?,
                None => {
                    self.out.flush()?;
                    match tokio::time::timeout(LOOK, self.consumer.next()).await {
                        Ok(batch) => batch?,
                        Err(_) => {
                            self.pass_ends().await?;
                            if progress.elapsed() > args.connection.timeout {
                                self.explain(args.connection.timeout).await?;
                                progress = Instant::now();
                            }
                            continue;
                        }
                    }
                }
            };
            let batch = batch.ok_or("the client was closed")?;
            progress = Instant::now();
            if self.print(args, &batch, read)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Prints the records of a batch; true if that was the last one wanted.
    fn print(&mut self, args: &Args, batch: &Batch, read: &mut u64) -> Outcome<bool> {
        if let Some(reset) = batch.reset() {
            eprintln!(
                "milena: {}: went on at another place than {}: {:?}",
                batch.topic_partition(),
                reset.expected,
                reset.reason
            );
        }
        let end = self.ends.get(batch.topic_partition()).copied();
        if args.exit_at_end && end.is_none() {
            return Ok(false); // written after the command had started
        }
        for record in batch {
            if end.is_some_and(|end| record.offset() >= end) {
                break;
            }
            print_record(&mut self.out, args, batch, &record)?;
            *read += 1;
            if Some(*read) == args.count {
                return Ok(true);
            }
        }
        self.progress.set_position(*read);
        if end.is_some_and(|end| batch.next_offset() >= end) {
            self.ends.remove(batch.topic_partition());
        }
        Ok(false)
    }

    /// Takes note of partitions whose end was passed without a record: what stands there may not be for the application.
    async fn pass_ends(&mut self) -> Outcome {
        let mut passed = Vec::new();
        for (partition, end) in &self.ends {
            if *end == 0 || self.consumer.position(partition.clone()).await? >= *end {
                passed.push(partition.clone());
            }
        }
        self.ends.retain(|partition, _| !passed.contains(partition));
        Ok(())
    }

    /// Nothing has come for a while: fails unless that is because there is nothing.
    async fn explain(&self, silence: Duration) -> Outcome {
        let ends = self.consumer.end_offsets(self.consumer.assignment()).await?;
        for (partition, end) in ends {
            let position = self.consumer.position(partition.clone()).await?;
            if position < end {
                return Err(format!(
                    "{partition}: nothing could be read for {silence:?} at offset {position} of {end}"
                )
                .into());
            }
        }
        Ok(())
    }
}

/// One record, in the form that was asked for.
pub(crate) fn print_record(
    out: &mut impl Write,
    args: &Args,
    batch: &Batch,
    record: &RecordView<'_>,
) -> io::Result<()> {
    if let Format::Json = args.format {
        let place = Place {
            topic: batch.topic(),
            partition: batch.partition(),
            offset: record.offset(),
            timestamp: record.timestamp(),
        };
        return json::write(out, place, record.key(), record.value(), record.headers());
    }
    if let Some(separator) = &args.key_separator {
        out.write_all(record.key().unwrap_or_default())?;
        out.write_all(separator.as_bytes())?;
    }
    out.write_all(record.value().unwrap_or_default())?;
    out.write_all(b"\n")
}

/// The partitions to read, all of which exist.
async fn partitions(args: &Args, client: &Client) -> Outcome<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for topic in client.admin().describe_topics(&args.topics).await? {
        let known = topic.partitions.iter().map(|partition| partition.partition);
        if let Some(missing) =
            args.partitions.iter().find(|wanted| !known.clone().any(|there| there == **wanted))
        {
            return Err(format!(
                "topic {} has {} partitions, but no {missing}",
                topic.name,
                topic.partitions.len()
            )
            .into());
        }
        let wanted = known.filter(|there| args.partitions.is_empty() || args.partitions.contains(there));
        partitions.extend(wanted.map(|partition| TopicPartition::new(topic.name.clone(), partition)));
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_users_write_them() {
        assert_eq!(start("beginning"), Ok(Offset::Beginning));
        assert_eq!(start("end"), Ok(Offset::End));
        assert_eq!(start("7"), Ok(Offset::At(7)));
        assert_eq!(start("@1700000000000"), Ok(Offset::Timestamp(1_700_000_000_000)));
        for wrong in ["", "@", "-1", "@-1", "latest", "7x", "9223372036854775808"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
