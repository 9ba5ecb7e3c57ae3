//! What peers that are no Kafka nodes, or broken ones, do to a client: it answers with an error that names where and why,
//! within its timeout, and neither panics nor hangs nor takes memory that the bytes received do not justify.
#![allow(unsafe_code)]

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/proxy.rs"]
mod proxy;

use milena::broker::Broker;
use milena::protocol::messages::{MetadataRequest, TopicName, metadata_request::MetadataRequestTopic};
use milena::{Client, Error, ErrorKind};
use milena::{Connector, NewTopic, Offset, Record, Target};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TIMEOUT: Duration = Duration::from_millis(1_500);
/// What a client may take besides the bytes it receives.
const MEMORY: usize = 8 << 20;

/// A node that does the same to every connection.
async fn node<F>(behaviour: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behaviour(stream));
        }
    });
    address
}

/// A node that answers every request with the same bytes, in which `CCCC` stands for the correlation id.
async fn answering(bytes: &'static [u8]) -> SocketAddr {
    node(move |mut stream| async move {
        while let Some(request) = request(&mut stream).await {
            let mut answer = bytes.to_vec();
            if let Some(at) = answer.windows(4).position(|window| window == b"CCCC") {
                answer[at..at + 4].copy_from_slice(&request[4..8]);
            }
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// A request without its length: API key, version, correlation id, ...
async fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = vec![0; stream.read_u32().await.ok()? as usize];
    stream.read_exact(&mut request).await.ok()?;
    Some(request)
}

/// Looks for a cluster, which must fail in time and in little memory.
async fn refused(bootstrap: &str) -> Error {
    let started = Instant::now();
    let mut outcome = None;
    let peak = allocations::peak_of(async {
        let builder = Client::builder().bootstrap(bootstrap).unwrap();
        let client = builder.request_timeout(TIMEOUT).connect_timeout(TIMEOUT / 2).build().await;
        outcome = Some(client.map(drop));
    })
    .await;
    assert!(started.elapsed() < 3 * TIMEOUT, "{:?} for {bootstrap}", started.elapsed());
    assert!(peak < MEMORY, "{peak} bytes for {bootstrap}");
    let error = outcome.unwrap().unwrap_err();
    println!("{error}");
    error
}

/// Every error names the address, and one of the words of the cause.
#[track_caller]
fn names(error: &Error, address: impl ToString, causes: &[&str]) {
    let text = error.to_string();
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(causes.iter().any(|cause| text.contains(cause)), "{text}");
}

#[tokio::test]
async fn nobody_listening() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    names(&refused(&address.to_string()).await, address, &["refused"]);
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    names(
        &refused("nowhere.invalid:9092").await,
        "nowhere.invalid:9092",
        &["does not resolve", "not resolved"],
    );
}

#[tokio::test]
async fn an_http_server() {
    let answer =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request";
    let address = answering(answer).await;
    names(&refused(&address.to_string()).await, address, &["HTTP"]);
}

#[tokio::test]
async fn a_tls_port() {
    // A fatal alert: unexpected message.
    let address = answering(b"\x15\x03\x03\x00\x02\x02\x0a").await;
    names(&refused(&address.to_string()).await, address, &["TLS"]);
}

#[tokio::test]
async fn a_node_that_accepts_and_never_answers() {
    let address = node(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let error = refused(&address.to_string()).await;
    names(&error, address, &["silent"]);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_node_that_hangs_up_at_once() {
    let address = node(|stream| async move { drop(stream) }).await;
    names(&refused(&address.to_string()).await, address, &["closed", "reset", "hung up"]);
}

#[tokio::test]
async fn a_node_that_dies_in_mid_frame() {
    for bytes in [&b"\0"[..], b"\0\0\0\x20", b"\0\0\0\x20CCCC", b"\0\0\0\x20CCCC\0\0\0"] {
        let address = node(move |mut stream| async move {
            let Some(request) = request(&mut stream).await else { return };
            let mut answer = bytes.to_vec();
            if let Some(at) = answer.windows(4).position(|window| window == b"CCCC") {
                answer[at..at + 4].copy_from_slice(&request[4..8]);
            }
            let _ = stream.write_all(&answer).await;
        })
        .await;
        names(&refused(&address.to_string()).await, address, &["closed", "reset", "hung up"]);
    }
}

#[tokio::test]
async fn frames_of_impossible_lengths() {
    for length in [i32::MIN, -2, -1, 0, 1, 3, i32::MAX, 200 << 20] {
        let address = node(move |mut stream| async move {
            while request(&mut stream).await.is_some() {
                let _ = stream.write_all(&length.to_be_bytes()).await;
                let _ = stream.write_all(&[0; 64]).await;
            }
        })
        .await;
        names(&refused(&address.to_string()).await, address, &["frame", "length"]);
    }
}

#[tokio::test]
async fn a_long_frame_is_not_paid_for_before_it_arrives() {
    // 960 KiB are within the limit of a first answer, but only a few bytes come.
    let address = answering(b"\0\x0f\0\0CCCC\0\0").await;
    names(&refused(&address.to_string()).await, address, &["silent"]);
}

#[tokio::test]
async fn an_answer_that_matches_no_request() {
    let address = answering(b"\0\0\0\x0a\x7f\xff\xff\xff\0\0\0\0\0\0").await;
    names(&refused(&address.to_string()).await, address, &["correlation id"]);
}

#[tokio::test]
async fn an_answer_that_is_garbage() {
    for garbage in [
        &b"\0\0\0\x04CCCC"[..],
        b"\0\0\0\x06CCCC\0\0",
        b"\0\0\0\x0aCCCC\0\0\x7f\xff\xff\xff",
        b"\0\0\0\x0bCCCC\0\0\xff\xff\xff\xff\x0f",
    ] {
        let address = answering(garbage).await;
        let error = refused(&address.to_string()).await;
        names(&error, address, &["malformed answer to ApiVersions"]);
    }
}

#[tokio::test]
async fn a_node_that_talks_before_it_is_asked() {
    let address = node(|mut stream| async move {
        while stream.write_all(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = refused(&address.to_string()).await;
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// Connects to an embedded broker through pipes on which the n-th answer to the given API is tampered with.
async fn tampered(
    broker: &Broker,
    (api_key, nth): (i16, usize),
    change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
) -> Result<Client, Error> {
    let (network, done) = (broker.network(), AtomicUsize::new(0));
    let tamper: Arc<proxy::Tamper> = Arc::new(move |key, _, frame| {
        if key == api_key && done.fetch_add(1, Ordering::Relaxed) == nth {
            change(frame);
        }
    });
    let connector =
        Connector::new(move |host, port| proxy::connect(network.clone(), host, port, tamper.clone()));
    let builder = Client::builder().bootstrap(&broker.address())?.connector(connector);
    builder.request_timeout(TIMEOUT).connect_timeout(TIMEOUT).build().await
}

/// Does something with a client while every byte of the n-th answer to an API is wrong, one after the other.
async fn every_wrong_byte<F: Future<Output = Result<(), Error>>>(
    which: (i16, usize),
    work: impl Fn(Client) -> F,
) {
    let panics = panics();
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    write(tampered(&broker, (-1, 0), |_| {}).await.unwrap()).await.unwrap();
    let longest = Arc::new(AtomicUsize::new(0));
    let (mut at, mut failed, mut most) = (0, 0, 0);
    loop {
        for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let length = longest.clone();
            let peak = allocations::peak_of(async {
                let change = move |frame: &mut Vec<u8>| {
                    length.fetch_max(frame.len(), Ordering::Relaxed);
                    if let Some(there) = frame.get_mut(at) {
                        *there = byte;
                    }
                };
                let work = async { work(tampered(&broker, which, change).await?).await };
                let outcome = tokio::time::timeout(10 * TIMEOUT, work).await;
                let outcome = outcome.unwrap_or_else(|_| panic!("it hangs with {byte:02x} at {at}"));
                failed += usize::from(outcome.is_err());
            })
            .await;
            most = most.max(peak);
            assert!(peak < MEMORY, "{peak} bytes with {byte:02x} at {at}");
            assert_eq!(panics.load(Ordering::Relaxed), 0, "with {byte:02x} at {at}");
        }
        at += 1;
        if at >= longest.load(Ordering::Relaxed) {
            break;
        }
    }
    println!("API and answer {which:?}: {at} positions, {failed} failed, at most {most} bytes");
    assert!(at > 20, "{at}");
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
async fn every_wrong_byte_of_init_producer_id() {
    every_wrong_byte((22, 0), write).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_byte_of_produce() {
    every_wrong_byte((0, 0), write).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_byte_of_list_offsets() {
    every_wrong_byte((2, 0), read).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_byte_of_fetch() {
    every_wrong_byte((1, 0), read).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_byte_of_create_topics() {
    every_wrong_byte((19, 0), |client| async move {
        client.admin().create_topics(NewTopic::new("more", 1, 1)).await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_byte_of_api_versions() {
    every_wrong_byte((18, 0), describe).await;
}

#[tokio::test(start_paused = true)]
async fn every_wrong_byte_of_metadata() {
    every_wrong_byte((3, 0), describe).await;
    every_wrong_byte((3, 1), describe).await;
}
