//! What a call costs while it is pending, and that it comes back.
#![allow(unsafe_code)]

#[path = "support/allocations.rs"]
mod allocations;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use milena::Client;
use milena::broker::Broker;

const CALLS: usize = 100_000;
const LONG: Duration = Duration::from_secs(1_000);
/// Bytes of a pending call over its payload, which is long in the log.
const LIMIT: usize = 400;

/// A broker on a thread of its own, whose memory is not counted; it ends with the other end of the channel.
fn broker() -> (String, tokio::sync::oneshot::Sender<()>) {
    let (address, started) = std::sync::mpsc::sync_channel(1);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let broker = Broker::start().await.unwrap();
            broker.create_topic("t", 1).unwrap();
            broker.create_topic("replies", 1).unwrap();
            address.send(broker.address()).unwrap();
            let _ = ended.await;
        });
    });
    (started.recv().unwrap(), end)
}

/// All of the client is on one thread, whose allocations are counted.
#[tokio::test]
async fn a_hundred_thousand_pending_calls_are_cheap_and_leave_nothing() {
    // This one task polls all of them.
    tokio::task::unconstrained(pending_calls()).await;
}

async fn pending_calls() {
    let (address, _end) = broker();
    let client = Client::connect(&address).await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    let build = client.requester().reply_topic("replies").max_in_flight(CALLS);
    let requester = build.with_producer(producer.clone()).build().await.unwrap();
    // What stays for the next calls is there before.
    requester.request("t", "").timeout(Duration::from_millis(50)).await.unwrap_err();

    let before = allocations::held();
    let mut cx = Context::from_waker(Waker::noop());
    let mut calls = Vec::with_capacity(CALLS);
    while calls.len() < CALLS {
        for _ in 0..1_000 {
            let mut call = requester.request("t", "").timeout(LONG).into_future();
            assert!(Pin::new(&mut call).poll(&mut cx).is_pending());
            calls.push(call);
        }
        producer.flush().await.unwrap();
        // What each has still to hear of its request is heard.
        let sent = calls.len() - 1_000;
        assert!(calls.iter_mut().skip(sent).all(|call| Pin::new(call).poll(&mut cx).is_pending()));
    }
    let each = (allocations::held() - before) / CALLS;
    println!("{each} bytes a call");
    assert_eq!(requester.metrics().in_flight, CALLS as u64);
    assert!(each < LIMIT, "{each} bytes a call");

    tokio::time::pause();
    tokio::time::advance(LONG).await;
    while requester.metrics().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    for call in &mut calls {
        match Pin::new(call).poll(&mut cx) {
            Poll::Ready(outcome) => assert!(outcome.unwrap_err().is_timeout()),
            Poll::Pending => panic!("a call outlives its deadline"),
        }
    }
    drop(calls);
    let left = allocations::held().saturating_sub(before);
    println!("{left} bytes are left");
    assert!(left < CALLS * each / 10, "{left} bytes are left");
}
