//! `milena consume --group`: a member of a group, and a line for each record and each change of what it reads.
use crate::consume::{Args, BLOCK, FETCH_WAIT, print_record};
use crate::json;
use crate::options::Format;
use crate::outcome::{Failure, Interrupt, Outcome};
use milena::{Batch, Consumer, ConsumerEvent, OffsetReset, TopicPartition};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Stdout, Write};

/// Reads until the wanted number of records is printed, or the user wants it to end: then what is printed is committed, and the group
/// left.
pub(crate) async fn run(args: &Args, group: &str, mut interrupt: Interrupt) -> Outcome {
    if args.count == Some(0) {
        return Ok(());
    }
    let mut session = Session::open(args, group).await?;
    let outcome = session.run(args, &mut interrupt).await;
    let printed = session.printed();
    session.consumer.close().await;
    outcome.and(printed)?;
    let read = session.read;
    if interrupt.came() && args.count.is_some_and(|count| read < count) {
        return Err(Failure::Interrupted(format!("{read} records read")));
    }
    args.connection.tell(|| format!("{read} records read"));
    Ok(())
}

struct Session {
    consumer: Consumer,
    out: BufWriter<Stdout>,
    /// Where each partition goes on after what is in `out`: that is finished when it has been written.
    behind: BTreeMap<TopicPartition, i64>,
    read: u64,
}

impl Session {
    async fn open(args: &Args, group: &str) -> Outcome<Self> {
        let client = args.connection.client().await?;
        let reset = if args.from_beginning { OffsetReset::Earliest } else { OffsetReset::Latest };
        let wait = FETCH_WAIT.min(args.connection.timeout / 2);
        let mut builder = client.consumer().fetch_max_wait(wait).auto_offset_reset(reset);
        builder = builder
            .group(group)
            .topics(args.topics.iter().map(String::as_str))
            .enable_auto_offset_store(false);
        if let Some(id) = &args.instance_id {
            builder = builder.group_instance_id(id.as_str());
        }
        if let Some(protocol) = &args.protocol {
            builder = builder.set("group.protocol", protocol)?;
        }
        if !args.assignors.is_empty() {
            builder = builder.set("partition.assignment.strategy", &args.assignors.join(","))?;
        }
        if let Some(level) = &args.isolation {
            builder = builder.set("isolation.level", level)?;
        }
        for (key, value) in args.connection.others() {
            builder = builder.set(key, value)?;
        }
        let out = BufWriter::with_capacity(BLOCK, io::stdout());
        Ok(Self { consumer: builder.build().await?, out, behind: BTreeMap::new(), read: 0 })
    }

    async fn run(&mut self, args: &Args, interrupt: &mut Interrupt) -> Outcome {
        let mut done = false;
        while !done && !interrupt.came() {
            let ready = tokio::select! {
                biased;
                event = self.consumer.next_event() => Some(event),
                () = std::future::ready(()) => None,
            };
            let event = match ready {
                Some(event) => event?,
                None => {
                    self.printed()?;
                    tokio::select! {
                        event = self.consumer.next_event() => event?,
                        () = interrupt.wait() => return Ok(()),
                    }
                }
            };
            match event.ok_or("the client was closed")? {
                ConsumerEvent::Batch(batch) => done = self.print(args, &batch)?,
                ConsumerEvent::Assigned(partitions) => self.tell(args, "assigned", &partitions)?,
                ConsumerEvent::Revoked(partitions) => self.tell(args, "revoked", &partitions)?,
                ConsumerEvent::Lost(partitions) => {
                    self.behind.retain(|partition, _| !partitions.contains(partition));
                    self.tell(args, "lost", &partitions)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Prints the records of a batch; true if that was the last one wanted.
    fn print(&mut self, args: &Args, batch: &Batch) -> Outcome<bool> {
        for record in batch {
            print_record(&mut self.out, args, batch, &record)?;
            self.read += 1;
            if Some(self.read) == args.count {
                self.behind.insert(batch.topic_partition().clone(), record.offset() + 1);
                return Ok(true);
            }
        }
        self.behind.insert(batch.topic_partition().clone(), batch.next_offset());
        Ok(false)
    }

    fn tell(&mut self, args: &Args, event: &str, partitions: &[TopicPartition]) -> Outcome {
        match args.format {
            Format::Json => json::write_event(&mut self.out, event, partitions)?,
            Format::Text => args.connection.tell(|| {
                let names: Vec<_> = partitions.iter().map(TopicPartition::to_string).collect();
                format!("{event}: {}", names.join(" "))
            }),
        }
        // What was read of partitions that are given up is written before they are.
        self.printed()
    }

    /// All that was read is written, and so it is finished.
    fn printed(&mut self) -> Outcome {
        self.out.flush()?;
        for (partition, before) in std::mem::take(&mut self.behind) {
            self.consumer.finish(partition, before)?;
        }
        Ok(())
    }
}
