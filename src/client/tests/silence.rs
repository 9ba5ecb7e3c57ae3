//! Nodes that keep a connection open and say nothing.
use super::*;
use crate::protocol::header::respond;
use peer::metadata;
use tokio::io::AsyncReadExt;

#[tokio::test(start_paused = true)]
async fn a_node_that_accepts_and_never_answers_fails_within_the_connect_timeout() {
    let start = tokio::time::Instant::now();
    let error = client(in_memory(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    }))
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("node:9092") && error.to_string().contains("silent for 10s"),
        "{error}"
    );
    assert!(start.elapsed() < 11 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_tells_its_versions_and_nothing_else_fails_within_the_request_timeout() {
    let start = tokio::time::Instant::now();
    let error = client(in_memory(|stream, port| async move {
        let silent = |request: Request| (request.key == 18).then(|| honest(&request)).or(Some(Bytes::new()));
        peer::serve(stream, port, Arc::new(silent)).await;
    }))
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(start.elapsed() <= 31 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_times_out_and_takes_the_connection_with_it() {
    let client = client(falls_silent(2)).await.unwrap();
    assert!(ask(&client, 1, 5 * SECOND).await.is_ok());
    let start = tokio::time::Instant::now();
    let (first, second) = tokio::join!(ask(&client, 1, 5 * SECOND), ask(&client, 1, 60 * SECOND));
    let Failure { error, sent } = first.unwrap_err();
    // The request may have arrived, but Metadata changes nothing.
    assert!(sent && error.is_timeout() && !error.maybe_written(), "{error}");
    assert!(
        error.to_string().contains("node:9092") || error.to_string().contains("127.0.0.1:9092"),
        "{error}"
    );
    assert_eq!(error.api(), Some("Metadata"));
    let Failure { error, sent } = second.unwrap_err();
    assert!(sent && error.kind() == ErrorKind::Connect && error.is_retriable(), "{error}");
    assert!(start.elapsed() < 6 * SECOND);
    // The next connection serves again.
    assert!(ask(&client, 1, 5 * SECOND).await.is_ok());
    let metrics = client.metrics();
    assert_eq!((metrics.timeouts, metrics.connections_lost), (1, 1), "{metrics:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_given_up_before_the_deadline_if_that_was_asked_for() {
    let client = client(falls_silent(2)).await.unwrap();
    assert!(ask(&client, 1, 5 * SECOND).await.is_ok());
    let start = tokio::time::Instant::now();
    let Failure { error, sent } = ask_within(&client, 1, 60 * SECOND, Some(3 * SECOND)).await.unwrap_err();
    assert!(sent && error.kind() == ErrorKind::Connect && error.is_retriable(), "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 3);
    assert!(ask_within(&client, 1, 60 * SECOND, Some(3 * SECOND)).await.is_ok(), "on another connection");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_byte_by_byte_is_not_taken_for_silence() {
    let slow = in_memory(|mut stream, port| async move {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (mut from, mut to) = tokio::io::split(ours);
        let (mut asks, mut answers) = tokio::io::split(&mut stream);
        let slowly = async {
            while let Ok(byte) = from.read_u8().await {
                tokio::time::sleep(SECOND / 20).await;
                answers.write_u8(byte).await.unwrap();
            }
        };
        let honest = Arc::new(|request: Request| Some(honest(&request)));
        let quickly = tokio::io::copy(&mut asks, &mut to);
        let (.., copied) = tokio::join!(peer::serve(theirs, port, honest), slowly, quickly);
        copied.unwrap();
    });
    let client = Client::builder().bootstrap("node:9092").unwrap().connector(slow);
    let client = client.connect_timeout(60 * SECOND).build().await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(ask_within(&client, 1, 300 * SECOND, Some(SECOND)).await.is_ok());
    assert!(start.elapsed() > 3 * SECOND, "{:?}", start.elapsed());
    let Failure { error, .. } = ask_within(&client, 1, SECOND, Some(SECOND)).await.unwrap_err();
    assert!(error.is_timeout(), "the deadline holds all the same: {error}");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_owed_that_had_hung_and_left_the_cluster_was_awaited_until_the_request_timeout() {
    let left = Arc::new(AtomicUsize::new(0));
    let told = left.clone();
    let cluster = in_memory(move |stream, port| {
        let told = told.clone();
        async move {
            let answer = move |request: Request| match (request.key, port, told.load(Ordering::Relaxed)) {
                // Node 2, at port 2, hangs; node 1 says that it is there until it is told otherwise.
                (3, 2, _) => Some(Bytes::new()),
                (3, _, 0) => {
                    Some(respond(request.correlation, request.version, &metadata(&[(1, 1), (2, 2)], vec![])))
                }
                (3, ..) => Some(respond(request.correlation, request.version, &metadata(&[(1, 1)], vec![]))),
                _ => Some(honest(&request)),
            };
            peer::serve(stream, port, Arc::new(answer)).await;
        }
    });
    let client = client(cluster).await.unwrap();
    let start = tokio::time::Instant::now();
    let leaves = async {
        tokio::time::sleep(4 * SECOND).await;
        left.store(1, Ordering::Relaxed);
    };
    let (outcome, ()) = tokio::join!(ask(&client, 2, 60 * SECOND), leaves);
    let Failure { error, sent } = outcome.unwrap_err();
    assert!(sent && error.kind() == ErrorKind::Connect && error.is_retriable(), "{error}");
    assert!((10..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}
