//! Three nodes, of which one dies or halts while numbered records are written and read.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use milena::{Consumer, Delivery, ProducerTopic, Record};

use crate::on_failing_kafka;
use crate::support::kafka::{Faults, NEWEST, TopicSpec, wait_for};

const PARTITIONS: usize = 6;

/// Each node leads two of the partitions.
const SPREAD: [&[i32]; PARTITIONS] = [&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 3, 2], &[2, 1, 3], &[3, 2, 1]];

/// The partition whose leader is struck.
const STRUCK: usize = 1;

/// Kafka sees a dead node after 3 s and moves its partitions within 8; a machine with other jobs is slower.
const MOVED: Duration = Duration::from_secs(60);

/// The value of the last record of each partition.
const END: &str = "end";

#[test]
fn a_killed_node_costs_no_record_and_no_order() {
    numbered_records_survive("killed", |faults, node| faults.kill(node));
}

#[test]
fn a_paused_node_costs_no_record_and_no_order() {
    numbered_records_survive("paused", |faults, node| faults.pause(node));
}

fn numbered_records_survive(name: &'static str, strike: impl Fn(&Faults<'_>, i32)) {
    on_failing_kafka(NEWEST, 3, async |kafka, faults, client| {
        kafka.create_topic(&TopicSpec { name, assignment: &SPREAD, ..TopicSpec::default() });
        let producer = client.producer().build().await.unwrap();
        let consumer = client.consumer().topics([name]).build().await.unwrap();
        let progress = Arc::new(Progress::default());
        let writers: Vec<_> = (0..PARTITIONS)
            .map(|partition| tokio::spawn(write_numbers(producer.topic(name), partition, progress.clone())))
            .collect();
        let reader = tokio::spawn(read_numbers(consumer));

        let wait_for_records = |wanted: usize| {
            wait_for("acknowledged records", MOVED, || match progress.of(STRUCK) {
                count if count < wanted => Err(format!("{count} of {wanted}")),
                _ => Ok(()),
            });
        };
        wait_for_records(500);
        let node = kafka.leader(name, STRUCK as i32);
        strike(faults, node);
        let struck = Instant::now();
        wait_for("another leader", MOVED, || match kafka.leader(name, STRUCK as i32) {
            leader if leader == node => Err(format!("still {node}")),
            _ => Ok(()),
        });
        let moved = struck.elapsed();
        wait_for_records(progress.of(STRUCK) + 500);
        println!("{name}: another leader after {moved:?}, written on after {:?}", struck.elapsed());

        progress.enough.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for writer in writers {
            written.push(writer.await.unwrap());
        }
        println!("{name}: written after {:?}, {:?}", struck.elapsed(), producer.metrics());
        let read = reader.await.unwrap();
        println!("{name}: read after {:?}", struck.elapsed());
        for (partition, (written, read)) in written.iter().zip(&read).enumerate() {
            let difference = written.iter().zip(read).find(|(written, read)| written != read);
            assert_eq!(
                difference, None,
                "{name}: partition {partition}: first difference of written and read"
            );
            assert_eq!(written.len(), read.len(), "{name}: partition {partition}: records written and read");
        }
        // Nothing stands behind what was read: no record was written twice.
        let consumer = client.consumer().assign([(name, 0)]).build().await.unwrap();
        let partitions = (0..PARTITIONS as i32).map(|partition| (name, partition));
        let ends = consumer.end_offsets(partitions).await.unwrap();
        for (partition, end) in ends {
            assert_eq!(
                end,
                read[partition.partition() as usize].len() as i64,
                "{name}: {partition} holds more"
            );
        }
        producer.close().await.unwrap();
    });
}

/// Acknowledged records of each partition, and whether they are enough.
#[derive(Default)]
struct Progress {
    acknowledged: [AtomicUsize; PARTITIONS],
    enough: AtomicBool,
}

impl Progress {
    fn of(&self, partition: usize) -> usize {
        self.acknowledged[partition].load(Ordering::Relaxed)
    }
}

/// Writes a number every millisecond until it is enough, then the end. Each with the offset that was acknowledged.
async fn write_numbers(
    topic: ProducerTopic,
    partition: usize,
    progress: Arc<Progress>,
) -> Vec<(i64, String)> {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let (mut waiting, mut written) = (VecDeque::<(String, Delivery)>::new(), Vec::new());
    let (mut number, mut ended) = (0, false);
    loop {
        tokio::select! {
            delivered = async { (&mut waiting.front_mut().unwrap().1).await }, if !waiting.is_empty() => {
                let place = delivered.expect("a record was given up");
                let (value, _) = waiting.pop_front().unwrap();
                written.push((place.offset.unwrap(), value));
                progress.acknowledged[partition].fetch_add(1, Ordering::Relaxed);
            }
            _ = tick.tick(), if !ended => {
                ended = progress.enough.load(Ordering::Relaxed);
                let value = if ended { END.to_owned() } else { number.to_string() };
                let delivery = topic.send(Record::value(&value).partition(partition as i32)).await.unwrap();
                waiting.push_back((value, delivery));
                number += 1;
            }
            else => return written,
        }
    }
}

/// Reads all partitions to their ends.
async fn read_numbers(mut consumer: Consumer) -> Vec<Vec<(i64, String)>> {
    let mut read = vec![Vec::new(); PARTITIONS];
    let mut ends = 0;
    while ends < PARTITIONS {
        let batch = consumer.next().await.unwrap().expect("the client is open");
        for record in &batch {
            let value = String::from_utf8_lossy(record.value().unwrap()).into_owned();
            ends += usize::from(value == END);
            read[batch.partition() as usize].push((record.offset(), value));
        }
    }
    read
}
