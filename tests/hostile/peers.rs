//! Peers that are no Kafka nodes, or do not behave like one from the first answer on.
use super::{MEMORY, TIMEOUT, allocations, names};
use milena::{Client, Error, ErrorKind};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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
