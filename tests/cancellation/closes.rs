//! `close` of each object: idle, with work under way, while no node answers; once, twice, by two at a time, and when the client was
//! closed before. It ends within what the docs say, and then everything has ended.
use std::sync::Arc;
use std::time::Duration;

use milena::Reply;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::crew::{Crew, Held, STATES, State, Waiters, cluster, runtimes};
use crate::*;

/// Who closes, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Once,
    Twice,
    TwoAtATime,
    AfterTheClient,
}

const WAYS: [Way; 4] = [Way::Once, Way::Twice, Way::TwoAtATime, Way::AfterTheClient];

/// How long a handler takes.
const ANSWER: Duration = Duration::from_millis(50);
/// By default; so long a close may take while no node answers.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Nothing takes time but the nodes and the handlers, and what the machine takes where the clock is not paused.
fn slack() -> Duration {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::CurrentThread => Duration::from_millis(100),
        _ => Duration::from_secs(20),
    }
}

/// Every case on both runtimes; on that without a paused clock only those that need not wait for a time limit.
fn each_case(case: impl AsyncFn(Broker, Client, State, Way)) {
    for (runtime, states) in runtimes().into_iter().zip([&STATES[..], &STATES[..2]]) {
        runtime.block_on(async {
            for (state, way) in states.iter().flat_map(|state| WAYS.map(|way| (*state, way))) {
                let broker = cluster(Broker::builder().in_memory()).await;
                let client = within(builder(&broker).build()).await.unwrap();
                within(case(broker, client, state, way)).await;
                until("nothing is left", || alive() == 0).await;
            }
        });
    }
}

/// Returns how long it took.
async fn close(client: &Client, way: Way, close: impl Fn() -> Held) -> Duration {
    if way == Way::AfterTheClient {
        client.close().await;
    }
    let begun = Instant::now();
    let other = (way == Way::TwoAtATime).then(|| tokio::spawn(close()));
    close().await;
    if way == Way::Twice {
        close().await;
    }
    if let Some(other) = other {
        other.await.unwrap();
    }
    begun.elapsed()
}

fn hang_if(broker: &Broker, state: State) {
    if state == State::Hanging {
        broker.faults().add(Fault::on_any().hang());
    }
}

#[test]
fn a_producer() {
    each_case(async |broker, client, state, way| {
        let producer = client.producer().linger(Duration::from_secs(60)).build().await.unwrap();
        let mut waiters = Waiters::default();
        if state != State::Idle {
            // Of each partition one record is written, and the nodes are connected.
            waiters.send(&producer).await;
            producer.flush().await.unwrap();
            hang_if(&broker, state);
            waiters.send(&producer).await;
        }
        let took = close(&client, way, || {
            let producer = producer.clone();
            Box::pin(async move { producer.close().await.unwrap() })
        })
        .await;
        let limit = if state == State::Hanging && way != Way::AfterTheClient {
            DELIVERY_TIMEOUT
        } else {
            Duration::ZERO
        };
        assert!(took < limit + slack(), "{took:?}");
        assert_eq!(producer.metrics().buffered_bytes, 0);
        client.close().await;
        let acknowledged = waiters.end(&broker).await;
        match (state, way) {
            (State::Idle, _) => assert_eq!(acknowledged, 0),
            (State::Hanging, _) | (_, Way::AfterTheClient) => assert_eq!(acknowledged, 20),
            _ => assert_eq!(acknowledged, 40),
        }
    });
}

type Call = JoinHandle<Result<Reply>>;

/// A requester, a responder that takes its time, and a call between them unless they are idle.
async fn asked(
    broker: &Broker,
    client: &Client,
    state: State,
) -> (milena::Requester, Arc<milena::Responder>, Option<Call>) {
    let handler = |_: milena::Request| tokio::time::sleep(ANSWER);
    let responder = client.responder("r").on_request("asked", handler).start().await.unwrap();
    let requester = client.requester().build().await.unwrap();
    let mut call = None;
    if state != State::Idle {
        let asking = requester.clone();
        call = Some(tokio::spawn(async move { asking.request("asked", "x").await }));
        until("the handler has begun", || responder.metrics().requests == 1).await;
    }
    hang_if(broker, state);
    (requester, Arc::new(responder), call)
}

#[test]
fn a_requester() {
    each_case(async |broker, client, state, way| {
        let (requester, _responder, call) = asked(&broker, &client, state).await;
        let took = close(&client, way, || {
            let requester = requester.clone();
            Box::pin(async move { requester.close().await })
        })
        .await;
        let limit = match (state, way) {
            (_, Way::AfterTheClient) | (State::Idle, _) => Duration::ZERO,
            (State::AtWork, _) => ANSWER,
            (State::Hanging, _) => CALL_TIMEOUT,
        };
        assert!(took < limit + slack(), "{took:?}");
        assert_eq!(requester.metrics().in_flight, 0);
        assert!(requester.request("asked", "x").await.unwrap_err().is_closed());
        if let Some(call) = call {
            assert_eq!(call.await.unwrap().is_ok(), state == State::AtWork && way != Way::AfterTheClient);
        }
    });
}

#[test]
fn a_responder() {
    each_case(async |broker, client, state, way| {
        let (_requester, responder, call) = asked(&broker, &client, state).await;
        let waiting = responder.clone();
        let waiting = tokio::spawn(async move { waiting.wait().await });
        let took = close(&client, way, || {
            let responder = responder.clone();
            Box::pin(async move { responder.close().await })
        })
        .await;
        let limit = match (state, way) {
            (State::Idle, _) => Duration::ZERO,
            (State::Hanging, way) if way != Way::AfterTheClient => ANSWER + DELIVERY_TIMEOUT,
            _ => ANSWER,
        };
        assert!(took < limit + slack(), "{took:?}");
        assert_eq!(responder.metrics().running, 0);
        assert_eq!(waiting.await.unwrap().is_ok(), way != Way::AfterTheClient);
        if let Some(call) = call {
            assert_eq!(call.await.unwrap().is_ok(), state == State::AtWork && way != Way::AfterTheClient);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_requester_whose_request_cannot_be_sent() {
    let broker = cluster(Broker::builder().in_memory()).await;
    let client = builder(&broker).build().await.unwrap();
    let requester = client.requester().build().await.unwrap();
    broker.faults().add(Fault::on_any().hang());
    let call = requester.request("asked", "x").into_future();
    let begun = Instant::now();
    let ((), call) = tokio::join!(requester.close(), call);
    // It is refused, or was begun before and ends by its time; the record is given up later than the call.
    assert!(call.is_err_and(|error| error.is_closed() || error.is_timeout()));
    assert!(begun.elapsed() < DELIVERY_TIMEOUT + slack(), "{:?}", begun.elapsed());
}

#[test]
fn a_consumer() {
    each_case(async |broker, client, state, way| {
        let mut consumer = client.consumer().assign([("t", 0), ("nowhere", 0)]).build().await.unwrap();
        let handle = consumer.handle();
        let waiting = tokio::spawn(async move { handle.position(("nowhere", 0)).await });
        if state != State::Idle {
            broker.append("t", 0, &[Record::value("a")]).unwrap();
            consumer.next().await.unwrap().unwrap();
            hang_if(&broker, state);
            parked(&mut consumer).await;
        }
        if way == Way::AfterTheClient {
            client.close().await;
        }
        let begun = Instant::now();
        consumer.close().await;
        assert!(begun.elapsed() < slack(), "{:?}", begun.elapsed());
        assert!(waiting.await.unwrap().unwrap_err().is_closed());
    });
}

/// A fetch is parked when this returns.
async fn parked(consumer: &mut milena::Consumer) {
    tokio::select! {
        biased;
        next = consumer.next() => panic!("{next:?}"),
        () = crew::turns(50) => {}
    }
}

#[test]
fn a_client() {
    each_case(async |broker, client, state, way| {
        let crew = Crew::new(client.clone(), ANSWER).await;
        let (held, waiters) = crew.hold(&broker, state).await;
        let mut busy = JoinSet::new();
        if state != State::Idle {
            held.into_iter().for_each(|held| drop(busy.spawn(held)));
        }
        let took = close(&client, way, || {
            let client = client.clone();
            Box::pin(async move { client.close().await })
        })
        .await;
        assert!(took < slack(), "{took:?}");
        assert_eq!(client.metrics().connections_open, 0);
        // Whatever was under way has failed.
        while let Some(ended) = busy.join_next().await {
            ended.unwrap();
        }
        waiters.end(&broker).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_client_waited_for_a_request_to_a_node_that_had_left_the_cluster() {
    let broker = cluster(Broker::builder().in_memory()).await;
    let client = connecting::without_node_2(&broker).await;
    let asking = client.clone();
    let asked = tokio::spawn(async move {
        asking
            .request(milena::Target::Node(2), |_| milena::protocol::messages::MetadataRequest::default())
            .await
    });
    crew::turns(50).await;
    // The next metadata tells that it is gone; its connection, which never comes about, is not wanted any more.
    broker.stop_node(2).await.unwrap();
    client.admin().create_partitions("asked", 2).await.unwrap();
    crew::turns(50).await;
    let begun = Instant::now();
    client.close().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(asked.await.unwrap().is_err());
}
