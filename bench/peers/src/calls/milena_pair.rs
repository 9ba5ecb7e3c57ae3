//! milena's requester and responder, untuned.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milena::{Client, Request, Requester};
use tokio::task::JoinSet;

use super::{Figures, Meter, Order, Sides, Took, answer, order, ready, request, runtime};

async fn client(address: &str) -> Client {
    Client::connect(address).await.expect("a node")
}

pub(super) fn responder(args: &Sides) {
    runtime().block_on(async {
        let responder = start_responder(&client(args.text("bootstrap")).await, args.text("topics")).await;
        ready();
        while tokio::task::spawn_blocking(order).await.expect("a line").is_some() {}
        responder.close().await;
    });
}

async fn start_responder(client: &Client, topic: &str) -> milena::Responder {
    let responder = client.responder("bench").on_request(topic, async |request: Request| {
        // The answer outlives the request.
        answer(request.value()).to_vec()
    });
    let responder = responder.concurrency(2000).start().await.expect("a responder");
    // Started says that the topics are known; requests are read when the group has given it partitions.
    while responder.metrics().assigned == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    responder
}

pub(super) fn caller(args: &Sides) {
    runtime().block_on(async {
        let client = client(args.text("bootstrap")).await;
        let requester = client.requester().reply_topic(args.text("replies"));
        let requester = requester.build().await.expect("a requester");
        ready();
        while let Some(order) = tokio::task::spawn_blocking(order).await.expect("a line") {
            call(&requester, args.text("topics"), order).await.tell();
        }
        requester.close().await;
    });
}

async fn call(requester: &Requester, topic: &str, order: Order) -> Took {
    let (next, took) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Took::start(order))));
    let mut callers = JoinSet::new();
    for _ in 0..order.concurrency {
        let (next, took) = (next.clone(), took.clone());
        let (requester, topic) = (requester.clone(), topic.to_owned());
        callers.spawn(async move {
            loop {
                let call = next.fetch_add(1, Relaxed);
                if call >= order.calls {
                    return;
                }
                let (start, value) = (Instant::now(), request(call));
                let reply = requester.request(&topic, &value).timeout(Duration::from_secs(30)).await;
                let mut took = took.lock().expect("no panic");
                took.call(start);
                match reply {
                    Ok(reply) => assert_eq!(reply.value(), answer(value.as_bytes())),
                    Err(error) if error.is_timeout() => took.lost += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    callers.join_all().await;
    Arc::into_inner(took).expect("all callers have ended").into_inner().expect("no panic")
}

pub(super) async fn together(address: &str, warm_up: Order, order: Order) -> Figures {
    let client = client(address).await;
    let _responder = start_responder(&client, "requests").await;
    let requester = client.requester().reply_topic("replies").build().await.expect("a requester");
    call(&requester, "requests", warm_up).await;
    let meter = Meter::start();
    let took = call(&requester, "requests", order).await;
    let figures = meter.stop(order.calls as u64);
    assert_eq!(took.lost, 0);
    figures
}
