//! Answers of an embedded broker in which one byte is wrong, or which end too early, at every position in turn.
use super::{TIMEOUT, allocations, client, tampered};
use milena::broker::{Broker, BrokerBuilder, Release};
use milena::protocol::messages::{MetadataRequest, TopicName, metadata_request::MetadataRequestTopic};
use milena::{Client, Error, NewTopic, Offset, Record, Target};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a client, a producer or a consumer may take at small work.
const MEMORY: usize = 1 << 20;

/// What is done to an answer.
#[derive(Clone, Copy, Debug)]
enum Change {
    Byte(usize, u8),
    /// The frame ends here, as its length says.
    End(usize),
}

impl Change {
    fn apply(self, frame: &mut Vec<u8>) {
        match self {
            Self::Byte(at, byte) => {
                if let Some(there) = frame.get_mut(at) {
                    *there = byte;
                }
            }
            Self::End(at) => {
                frame.truncate(at.max(4));
                let length = frame.len() as u32 - 4;
                frame[..4].copy_from_slice(&length.to_be_bytes());
            }
        }
    }
}

/// Does something with a client while the n-th answer to an API is wrong, at each of its bytes in turn.
async fn every_wrong_answer<F: Future<Output = Result<(), Error>>>(
    (api_key, nth): (i16, usize),
    work: impl Fn(Client) -> F,
) {
    // Counts and lengths are varints in new versions, and integers in old ones.
    for cluster in [Broker::builder(), Broker::builder().versions(Release::V2_1)] {
        every_wrong_answer_of(cluster, (api_key, nth), &work).await;
    }
}

async fn every_wrong_answer_of<F: Future<Output = Result<(), Error>>>(
    cluster: BrokerBuilder,
    (api_key, nth): (i16, usize),
    work: impl Fn(Client) -> F,
) {
    let panics = panics();
    let broker = cluster.in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    write(client(&broker).await).await.unwrap();
    let longest = Arc::new(AtomicUsize::new(0));
    let (mut at, mut failed, mut most) = (0, 0, 0);
    while at <= longest.load(Ordering::Relaxed) {
        let bytes = [0x00, 0x01, 0x7f, 0x80, 0xff].map(|byte| Change::Byte(at, byte));
        for change in bytes.into_iter().chain([Change::End(at)]) {
            let length = longest.clone();
            let peak = allocations::peak_of(async {
                let tamper = move |frame: &mut Vec<u8>| {
                    length.fetch_max(frame.len(), Ordering::Relaxed);
                    change.apply(frame);
                };
                let work = async { work(tampered(&broker, (api_key, nth), tamper).await?).await };
                let outcome = tokio::time::timeout(10 * TIMEOUT, work).await;
                let outcome = outcome.unwrap_or_else(|_| panic!("it hangs with {change:?}"));
                failed += usize::from(outcome.is_err());
            })
            .await;
            most = most.max(peak);
            assert!(peak < MEMORY, "{peak} bytes with {change:?}");
            assert_eq!(panics.load(Ordering::Relaxed), 0, "{change:?}");
        }
        at += 1;
    }
    println!("API {api_key}: {at} positions, {failed} failed, at most {most} bytes");
    assert!(at > 10, "{at}");
}

/// Counts the panics of this thread, on which the client's tasks run too.
fn panics() -> &'static AtomicUsize {
    thread_local!(static COUNT: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0))));
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            COUNT.with(|count| count.fetch_add(1, Ordering::Relaxed));
            before(panic);
        }));
    });
    COUNT.with(|count| *count)
}

async fn describe(client: Client) -> Result<(), Error> {
    let name = TopicName::from(kafka_protocol::protocol::StrBytes::from_static_str("orders"));
    let topic = MetadataRequestTopic::default().with_name(Some(name));
    client
        .request::<MetadataRequest>(Target::Any, move |_| {
            MetadataRequest::default().with_topics(Some(vec![topic]))
        })
        .await
        .map(drop)
}

const VALUES: [&str; 3] = ["first", "second", "third"];

async fn write(client: Client) -> Result<(), Error> {
    let producer = client.producer().delivery_timeout(TIMEOUT).build().await?;
    let mut deliveries = Vec::new();
    for value in VALUES {
        deliveries.push(producer.send("orders", Record::value(value)).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close().await
}

/// Reads what was written, until nothing more comes at a position that is known. A wrong offset is as good as a right one, so
/// that reading may begin elsewhere; but what is handed out is what was written.
async fn read(client: Client) -> Result<(), Error> {
    let mut consumer = client.consumer().assign_at([(("orders", 0), Offset::Beginning)]).build().await?;
    let mut count = 0;
    while count < VALUES.len() {
        match tokio::time::timeout(2 * TIMEOUT, consumer.next()).await {
            Ok(batch) => {
                let Some(batch) = batch? else { break };
                let mut values = batch.iter().map(|record| record.value().unwrap_or_default());
                assert!(values.all(|value| VALUES.iter().any(|written| written.as_bytes() == value)));
                count += batch.len();
            }
            Err(_) => {
                consumer.position(("orders", 0)).await?;
                break;
            }
        }
    }
    consumer.close().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_init_producer_id() {
    every_wrong_answer((22, 0), write).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_produce() {
    every_wrong_answer((0, 0), write).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_list_offsets() {
    every_wrong_answer((2, 0), read).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_fetch() {
    every_wrong_answer((1, 0), read).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_create_topics() {
    every_wrong_answer((19, 0), |client| async move {
        let more = NewTopic::new("more", 1, 1);
        client.admin().create_topics(more).await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_api_versions() {
    every_wrong_answer((18, 0), describe).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_metadata() {
    every_wrong_answer((3, 0), describe).await;
    every_wrong_answer((3, 1), describe).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_a_producer_s_metadata() {
    every_wrong_answer((3, 1), write).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_answer_to_a_consumer_s_metadata() {
    every_wrong_answer((3, 1), read).await;
}
