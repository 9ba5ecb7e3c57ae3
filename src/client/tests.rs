//! The client against peers written here, most of them hostile.
mod peer;
mod silence;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::MetadataRequest;
use tokio::io::AsyncWriteExt;

use super::{Client, Target};
use crate::error::{Error, ErrorKind};
use crate::network::call::{Completion, Failure, Outcome, Patience, Purpose};
use crate::network::connector::Connector;
use crate::protocol::header;
use peer::{Peer, Request, honest, soon};

const SECOND: Duration = Duration::from_secs(1);

/// What a client says of a node whose answers come from `answer`.
async fn refusal(answer: impl Fn(Request) -> Option<Bytes> + Send + Sync + 'static) -> Error {
    let peer = Peer::with(answer).await;
    let error = peer.connect().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{}", peer.port())), "no address in: {text}");
    assert!(text.contains("ApiVersions") || text.contains("Metadata"), "no API in: {text}");
    error
}

/// Bytes as they are, instead of an answer.
fn raw(bytes: &[u8]) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(bytes))
}

/// A frame of these bytes, whatever is in them.
fn frame(body: &[u8]) -> Option<Bytes> {
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.put_slice(body);
    Some(frame.freeze())
}

/// A metadata request outside all handles.
async fn ask(client: &Client, node: i32, timeout: Duration) -> Outcome {
    ask_within(client, node, timeout, None).await
}

async fn ask_within(client: &Client, node: i32, timeout: Duration, silence: Option<Duration>) -> Outcome {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let deadline = tokio::time::Instant::now().into_std() + timeout;
    client.core().submit(
        node,
        Purpose::Fetch(7),
        Patience { deadline, silence },
        |versions| {
            let version = versions.choose::<MetadataRequest>()?;
            header::encode(&MetadataRequest::default().with_topics(Some(vec![])), version, "test")
        },
        Completion::new(|outcome| drop(sender.send(outcome))),
    );
    receiver.await.expect("a completion is called")
}

#[tokio::test]
async fn a_client_finds_its_cluster_over_tcp() {
    let peer = Peer::start().await;
    let client = peer.connect().await.unwrap();
    let cluster = client.core().cluster();
    assert_eq!(cluster.nodes[&1].port, peer.port());
    let topic = client.core().topic("orders", soon()).await.unwrap();
    assert_eq!((topic.partitions.len(), topic.partitions[0].leader), (3, Some(1)));
    let answer = client.request(Target::Any, |_| MetadataRequest::default().with_topics(None)).await.unwrap();
    assert_eq!(answer.brokers.len(), 1);
    let metrics = client.metrics();
    assert_eq!(metrics.connections_open, 1, "the bootstrap connection went on as the node's");
    client.close().await;
    assert_eq!(client.metrics().connections_open, 0);
    assert!(client.request(Target::Any, |_| MetadataRequest::default()).await.unwrap_err().is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_on_several_threads_and_for_many_at_once() {
    let peer = Peer::start().await;
    let client = peer.connect().await.unwrap();
    let calls: Vec<_> = (0..500).map(|_| ask(&client, 1, 10 * SECOND)).collect();
    for call in calls {
        assert!(call.await.is_ok());
    }
    client.close().await;
}

#[tokio::test]
async fn nobody_listening_fails_with_address_and_cause() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(&free.to_string()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let error = Client::connect("nowhere.invalid:9092").await.unwrap_err();
    assert!(error.to_string().contains("nowhere.invalid does not resolve"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn one_bootstrap_server_of_three_is_enough() {
    let peer = Peer::start().await;
    let list = format!("nowhere.invalid:1,127.0.0.1:1,127.0.0.1:{}", peer.port());
    Client::connect(&list).await.unwrap();
    let error = Client::connect("nowhere.invalid:1,127.0.0.1:1").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("nowhere.invalid:1") && text.contains("127.0.0.1:1"), "{text}");
}

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_at_each() {
    // `localhost` is ::1 and 127.0.0.1 where there is IPv6; the peer listens at the latter alone.
    let peer = Peer::start().await;
    Client::connect(&format!("localhost:{}", peer.port())).await.unwrap();
}

#[tokio::test]
async fn a_node_that_moved_gets_a_new_connection() {
    let (old, new) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let served = new.clone();
    let home = Peer::with(move |request| {
        served.fetch_add(usize::from(request.key == 3), Ordering::Relaxed);
        Some(honest(&request))
    })
    .await;
    let (port, moved) = (home.port(), old.clone());
    let before = Peer::with(move |mut request| {
        // From its third answer on it says that node 1 lives elsewhere.
        let count = moved.fetch_add(1, Ordering::Relaxed);
        request.port = if count < 2 { request.port } else { port };
        Some(honest(&request))
    })
    .await;
    let client = before.connect().await.unwrap();
    let mut clusters = client.core().watch_cluster();
    assert_eq!(clusters.borrow_and_update().nodes[&1].port, before.port());
    client.core().refresh();
    clusters.wait_for(|cluster| cluster.nodes[&1].port == port).await.unwrap();
    assert!(ask(&client, 1, 10 * SECOND).await.is_ok());
    assert_eq!((old.load(Ordering::Relaxed), new.load(Ordering::Relaxed)), (3, 1));
}

#[tokio::test]
async fn an_http_server_is_recognised() {
    let error = refusal(|_| raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    assert!(error.to_string().contains("HTTP server"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_tls_listener_is_recognised() {
    let error = refusal(|_| raw(&[0x15, 3, 3, 0, 2, 2, 0x46])).await;
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_no_kafka_node() {
    let error = refusal(|_| None).await;
    assert!(error.to_string().contains("closed the connection when asked for its versions"), "{error}");
}

#[tokio::test]
async fn lengths_that_cannot_be_are_refused() {
    for (bytes, what) in [
        (&[0xff, 0xff, 0xff, 0xfe][..], "negative frame length -2"),
        (&[0, 0, 0, 3, 1, 2, 3][..], "too short"),
        (&[0x7f, 0xff, 0xff, 0xff][..], "above the limit"),
    ] {
        let error = refusal(move |_| raw(bytes)).await;
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test]
async fn a_node_that_dies_in_mid_frame_says_how_far_it_came() {
    // The answer to the metadata request is cut, after that to the versions came whole.
    let error = refusal(|request| {
        let whole = honest(&request);
        (request.key == 18).then_some(whole)
    })
    .await;
    assert!(error.to_string().contains("closed the connection before it answered"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn an_answer_that_matches_no_request_ends_the_connection() {
    let error = refusal(|mut request| {
        request.correlation += i32::from(request.key == 3) * 17;
        Some(honest(&request))
    })
    .await;
    assert!(error.to_string().contains("matches no request"), "{error}");
    assert!(error.to_string().contains("id 17 where 0 was due"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn garbage_at_any_place_of_an_answer_never_panics() {
    // Every byte of both answers in turn: whatever comes of it, it is an answer or an error.
    let peer = Peer::start().await;
    let port = peer.port();
    let lengths = [18, 3].map(|key| {
        let version = if key == 18 { 4 } else { 12 };
        let body = Bytes::from_static(if key == 18 { b"" } else { &[1, 0, 0, 0, 0] });
        honest(&Request { key, version, correlation: 0, body, port }).len()
    });
    for (key, length) in [18, 3].into_iter().zip(lengths) {
        for at in 4..length {
            let garbled = Peer::with(move |request| {
                let mut answer = BytesMut::from(honest(&request));
                if request.key == key && at < answer.len() {
                    answer[at] ^= 0x5a;
                }
                Some(answer.freeze())
            })
            .await;
            let list = format!("127.0.0.1:{}", garbled.port());
            let client = Client::builder().bootstrap(&list).unwrap().request_timeout(SECOND);
            let _ = client.connect_timeout(SECOND).build().await;
        }
    }
}

#[tokio::test]
async fn a_claimed_count_of_nodes_does_not_take_memory() {
    let error = refusal(|request| match request.key {
        18 => Some(honest(&request)),
        // Header, throttle time, and an array that claims two thousand million nodes.
        _ => frame(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 7]),
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("malformed answer to Metadata version 12"), "{error}");
}

#[tokio::test]
async fn versions_are_asked_for_again_when_the_node_does_not_know_the_question() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let peer = Peer::with(move |mut request| {
        if request.key != 18 {
            return Some(honest(&request));
        }
        seen.lock().unwrap().push(request.version);
        if request.version > 2 {
            let mut body = BytesMut::new();
            body.put_i32(request.correlation);
            body.put_slice(&[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2]);
            return frame(&body);
        }
        request.version = 2;
        Some(honest(&request))
    })
    .await;
    peer.connect().await.unwrap();
    assert_eq!(asked.lock().unwrap()[..2], [4, 2]);
}

/// Connections within this process, to a function that serves them.
fn in_memory<F, T>(serve: F) -> Connector
where
    F: Fn(tokio::io::DuplexStream, u16) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let tasks = crate::network::task::TaskSet::current();
    Connector::new(move |_, port| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tasks.spawn(serve(theirs, port));
        async move { Ok(ours) }
    })
}

async fn client(connector: Connector) -> Result<Client, Error> {
    Client::builder().bootstrap("node:9092")?.connector(connector).build().await
}

/// A node that answers its first `answers` requests on each connection, and is silent from then on.
fn falls_silent(answers: usize) -> Connector {
    in_memory(move |stream, port| async move {
        let count = AtomicUsize::new(0);
        let answer = move |request: Request| match count.fetch_add(1, Ordering::Relaxed) < answers {
            true => Some(honest(&request)),
            false => Some(Bytes::new()),
        };
        peer::serve(stream, port, Arc::new(answer)).await;
    })
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_opened_again_when_needed() {
    let client = client(falls_silent(100)).await.unwrap();
    assert!(ask(&client, 1, SECOND).await.is_ok());
    // The one to the bootstrap server, which is none of the nodes by its name, has gone already.
    assert_eq!(client.metrics().connections_open, 1);
    tokio::time::sleep(20 * 60 * SECOND).await;
    let metrics = client.metrics();
    assert!(metrics.connections_idle_closed >= 1, "{metrics:?}");
    assert_eq!((metrics.connections_lost, metrics.timeouts), (0, 0), "{metrics:?}");
    assert!(ask(&client, 1, SECOND).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_muted_connection_waits_and_then_sends() {
    let client = client(falls_silent(100)).await.unwrap();
    assert!(ask(&client, 1, SECOND).await.is_ok());
    let start = tokio::time::Instant::now();
    client.core().throttle(1, Purpose::Fetch(7), (start + 3 * SECOND).into_std());
    let Failure { error, sent } = ask(&client, 1, SECOND).await.unwrap_err();
    assert!(!sent && error.is_timeout(), "{error}");
    assert!(ask(&client, 1, 10 * SECOND).await.is_ok());
    assert!(start.elapsed() >= 3 * SECOND && start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_muted_connection_to_a_node_that_is_gone_waits_without_spinning() {
    // Found by tests/fuzz: with something in its queue it was neither done nor allowed to send, and looked without end.
    let client = client(falls_silent(100)).await.unwrap();
    assert!(ask(&client, 1, SECOND).await.is_ok());
    let start = tokio::time::Instant::now();
    client.core().throttle(1, Purpose::Fetch(7), (start + 3 * SECOND).into_std());
    let gone = async {
        tokio::task::yield_now().await;
        client.core().pool.update(Default::default());
    };
    let (outcome, ()) = tokio::join!(ask(&client, 1, SECOND), gone);
    assert!(outcome.unwrap_err().error.is_timeout());
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_reached_fails_all_that_wait_and_is_tried_again_after_a_backoff() {
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (is_up, tasks) = (up.clone(), crate::network::task::TaskSet::current());
    let connector = Connector::new(move |_, port| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let up = is_up.load(Ordering::Relaxed);
        if up {
            tasks.spawn(peer::serve(theirs, port, Arc::new(|request: Request| Some(honest(&request)))));
        }
        async move { if up { Ok(ours) } else { Err(std::io::ErrorKind::ConnectionRefused.into()) } }
    });
    let client = client(connector).await.unwrap();
    up.store(false, Ordering::Relaxed);
    let start = tokio::time::Instant::now();
    let (a, b) = tokio::join!(ask(&client, 1, 60 * SECOND), ask(&client, 1, 60 * SECOND));
    for outcome in [a, b] {
        let Failure { error, sent } = outcome.unwrap_err();
        assert!(!sent && error.kind() == ErrorKind::Connect && error.is_retriable(), "{error}");
    }
    assert!(start.elapsed() < SECOND, "it failed fast");
    // During the backoff a request waits for the next attempt, or for its own deadline.
    let failure = ask(&client, 1, Duration::from_millis(10)).await.unwrap_err();
    assert!(failure.error.is_timeout() && !failure.sent, "{}", failure.error);
    up.store(true, Ordering::Relaxed);
    assert!(ask(&client, 1, 10 * SECOND).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_every_connection() {
    let (sender, mut ended) = tokio::sync::mpsc::channel::<()>(8);
    let connector = in_memory(move |stream, port| {
        let sender = sender.clone();
        async move {
            peer::serve(stream, port, Arc::new(|request: Request| Some(honest(&request)))).await;
            let _ = sender.send(()).await;
        }
    });
    let client = client(connector.clone()).await.unwrap();
    assert!(ask(&client, 1, SECOND).await.is_ok());
    let clone = client.clone();
    drop(client);
    assert!(ask(&clone, 1, SECOND).await.is_ok());
    drop(clone);
    ended.recv().await.unwrap();
    ended.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_fails_at_the_deadline_with_its_name() {
    let client = client(in_memory(|stream, port| async move {
        let answer = |request: Request| match request.key {
            18 => Some(honest(&request)),
            _ => Some(peer::without_topics(&request)),
        };
        peer::serve(stream, port, Arc::new(answer)).await;
    }))
    .await
    .unwrap();
    let start = tokio::time::Instant::now();
    let error = client.core().topic("nope", (start + 5 * SECOND).into_std()).await.unwrap_err();
    assert!(
        error.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION") && error.topic() == Some("nope"),
        "{error}"
    );
    assert_eq!(start.elapsed(), 5 * SECOND);
    let asked = client.metrics().requests;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(client.metrics().requests, asked, "nobody wants it any more");
}

#[tokio::test]
async fn bytes_after_a_dead_node_are_not_believed() {
    // A peer that sends an answer nobody asked for.
    let (ours, mut theirs) = tokio::io::duplex(1024);
    theirs.write_all(&[0, 0, 0, 4, 0, 0, 0, 9]).await.unwrap();
    let ours = Mutex::new(Some(ours));
    let connector = Connector::new(move |_, _| {
        let stream = ours.lock().unwrap().take();
        async move { stream.ok_or(std::io::ErrorKind::ConnectionRefused.into()) }
    });
    let error = client(connector).await.unwrap_err();
    assert!(error.to_string().contains("not a Kafka node"), "{error}");
}
