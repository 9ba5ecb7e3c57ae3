//! A whole client in front of an embedded broker whose answers are changed on the way: what was decoded meets the machines that
//! believe it. The input is the seed of the changes; time is virtual. Backoffs and ids are the client's own chance, so that a finding
//! may take a few tries to come again.
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use milena::broker::{Broker, Release};
use milena::internals::decoders::Decoder;
use milena::{Client, Compression, Connector, Error, NewTopic, Offset, Record, Request};

use crate::corpus::batches;
use crate::mutate::mutate;
use crate::proxy;
use crate::random::Random;

pub const CLIENT: Decoder = Decoder { name: "client", decode: survives, check: |_| Ok(()) };

const TIMEOUT: Duration = Duration::from_millis(1_500);
/// Longer than all timeouts of all that is tried.
const ENDLESS: Duration = Duration::from_secs(600);

pub fn seeds() -> Vec<Vec<u8>> {
    vec![Vec::new()]
}

pub fn seed(random: &mut Random, _: &[Vec<u8>]) -> Vec<u8> {
    random.u64().to_be_bytes().to_vec()
}

/// Whether all went well in spite of what was changed.
fn survives(input: &Bytes) -> bool {
    let seed = input.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let ended = tokio::time::timeout(ENDLESS, live(Random::of(seed, "client", 0))).await;
        ended.expect("a client that never ends").is_ok()
    })
}

async fn live(mut random: Random) -> Result<(), Error> {
    let release = *random.pick(&[Release::V2_1, Release::V2_8, Release::V3_7, Release::V4_1]);
    let broker = Broker::builder().nodes(2).versions(release).in_memory().start().await.unwrap();
    for topic in ["orders", "replies"] {
        broker.create_topic(topic, 2).unwrap();
    }
    broker.append("orders", 0, &[Record::value("first").key("a"), Record::value("second")]).unwrap();
    let work = random.below(5);
    let client = client(&broker, random).await?;
    match work {
        0 => write(client).await,
        1 => read(client).await,
        2 => ask(client).await,
        3 => administrate(client).await,
        _ => {
            write(client.clone()).await?;
            read(client).await
        }
    }
}

/// Connects through pipes on which some answers of some APIs are changed.
async fn client(broker: &Broker, mut random: Random) -> Result<Client, Error> {
    let rare = *random.pick(&[1, 2, 2, 4, 8]);
    // The others must work for some to be asked at all.
    let only = if random.once_in(3) {
        None
    } else {
        Some(*random.pick(&[0, 1, 2, 3, 18, 19, 20, 21, 22, 23, 32, 37, 60]))
    };
    let random = Mutex::new(random);
    let tamper = move |key: i16, _: i16, frame: &mut Vec<u8>| {
        let mut random = random.lock().unwrap();
        if random.once_in(rare) && only.is_none_or(|only| only == key) {
            change(&mut random, frame);
        }
    };
    let (network, tamper) = (broker.network(), Arc::new(tamper));
    let connector =
        Connector::new(move |host, port| proxy::connect(network.clone(), host, port, tamper.clone()));
    let builder = Client::builder().bootstrap(&broker.address())?.connector(connector);
    builder.request_timeout(TIMEOUT).connect_timeout(TIMEOUT).build().await
}

fn change(random: &mut Random, frame: &mut Vec<u8>) {
    // Length and correlation id stay right, mostly: without them no more is read.
    let mut body = frame.split_off(if random.once_in(16) { 0 } else { frame.len().min(8) });
    mutate(random, &mut body, &[]);
    if !random.once_in(3) {
        batches::repair(&mut body);
    }
    frame.append(&mut body);
    if frame.len() >= 4 && !random.once_in(16) {
        let length = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
    }
}

async fn write(client: Client) -> Result<(), Error> {
    let producer =
        client.producer().delivery_timeout(2 * TIMEOUT).compression(Compression::Lz4).build().await?;
    for round in 0..3 {
        let mut deliveries = Vec::new();
        for key in ["a", "b", "c"] {
            deliveries.push(producer.send("orders", Record::value("apples and apples").key(key)).await?);
        }
        for delivery in deliveries {
            // What one round cannot do, the next may.
            if let Err(error) = delivery.await
                && round == 2
            {
                return Err(error);
            }
        }
    }
    producer.close().await
}

async fn read(client: Client) -> Result<(), Error> {
    let from = [(("orders", 0), Offset::Beginning), (("orders", 1), Offset::Beginning)];
    let mut consumer = client.consumer().assign_at(from).max_batch(1 << 20).build().await?;
    let mut last = Ok(());
    for _ in 0..6 {
        match tokio::time::timeout(2 * TIMEOUT, consumer.next()).await {
            Ok(Ok(Some(batch))) => {
                for record in &batch {
                    let _ = (record.key(), record.value(), record.headers().count());
                }
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                if let (Some(topic), Some(partition)) = (error.topic(), error.partition()) {
                    let _ = consumer.seek((topic, partition), Offset::Beginning);
                }
                last = Err(error);
            }
            Err(_) => break,
        }
    }
    let _ = tokio::time::timeout(4 * TIMEOUT, consumer.position(("orders", 0))).await;
    consumer.close().await;
    last
}

async fn ask(client: Client) -> Result<(), Error> {
    let twice = |request: Request| async move { [request.value(), request.value()].concat() };
    let responder = client.responder("twice").on_request("orders", twice).start().await?;
    let requester = client.requester().reply_topic("replies").build().await?;
    let mut last = Ok(());
    for value in ["one", "two"] {
        last = requester.request("orders", value).timeout(2 * TIMEOUT).await.map(drop);
    }
    bounded(requester.close()).await;
    bounded(responder.close()).await;
    last
}

async fn administrate(client: Client) -> Result<(), Error> {
    let admin = client.admin();
    let all = [
        admin.create_topics([NewTopic::new("more", 2, 1)]).await,
        admin.list_topics().await.map(drop),
        admin.create_partitions("more", 3).await,
        admin.describe_topics(["more"]).await.map(drop),
        admin.describe_cluster().await.map(drop),
        admin.describe_configs("more").await.map(drop),
        admin.delete_records("orders", 0, 1).await.map(drop),
        admin.delete_topics(["more"]).await,
    ];
    all.into_iter().collect()
}

async fn bounded(work: impl Future<Output = ()>) {
    tokio::time::timeout(ENDLESS / 4, work).await.expect("a close that never ends");
}
