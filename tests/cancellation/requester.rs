//! The asking side.
use std::time::Duration;

use milena::{Dialect, Reply, Requester, Responder};

use crate::*;

/// Long enough for a request to be sent again.
const LONG: Duration = Duration::from_secs(100);

/// Requests go to `t`.
struct Own {
    requester: Requester,
    _responder: Responder,
}

/// One call at a time, answered with what it asks.
async fn echoed(client: &Client, dialect: Dialect) -> Own {
    let echo = async |request: milena::Request| request.value().to_vec();
    let responder = client.responder("echo").on_request("t", echo).start().await.unwrap();
    let requester = client.requester().dialect(dialect).max_in_flight(1).build().await.unwrap();
    Own { requester, _responder: responder }
}

#[tokio::test(start_paused = true)]
async fn building_a_requester() {
    let ways = [Api::CREATE_TOPICS, Api::LIST_OFFSETS].map(faults);
    for (at, faults) in ways.iter().flatten().enumerate() {
        let dialect = if at % 2 == 0 { Dialect::Auto } else { Dialect::Nest };
        let points = drop_at_each_await(
            "milena::RequesterBuilder::build",
            async |broker, _| add(broker, faults),
            |stage| Box::pin(stage.client.requester().dialect(dialect).request_topics(["t"]).build()),
            async |stage, _| {
                stage.broker.faults().clear();
                again(async || stage.client.requester().dialect(dialect).build().await).await;
            },
        );
        assert!(points.await > 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call() {
    for dialect in [Dialect::Auto, Dialect::Nest] {
        for faults in faults(Api::PRODUCE) {
            let points = drop_at_each_await(
                if dialect == Dialect::Nest { "milena::CallFuture" } else { "milena::Call" },
                async |broker, client| {
                    let own = echoed(client, dialect).await;
                    add(broker, &faults);
                    own
                },
                |stage| {
                    let call = stage.own.requester.request("t", "dropped").partition(0).timeout(LONG);
                    Box::pin(call.into_future())
                },
                answered_or_not,
            );
            assert!(points.await > 1);
        }
    }
}

/// Its place is free, its reply is counted and is nobody else's.
async fn answered_or_not(stage: &mut Stage<Own>, reply: Option<Result<Reply>>) {
    let requester = &stage.own.requester;
    assert_eq!(requester.metrics().in_flight, 0);
    assert!(reply.is_none_or(|reply| reply.unwrap().text() == "dropped"));
    let next = requester.request("t", "next").partition(0).timeout(LONG).await.unwrap();
    assert_eq!(next.text(), "next");
    let asked = stage.broker.log("t", 0).unwrap().end_offset() as u64;
    let replies = || requester.metrics().answered + requester.metrics().late;
    until("the late reply", || replies() == asked).await;
    let metrics = requester.metrics();
    assert_eq!((metrics.answered + metrics.cancelled, metrics.duplicate), (metrics.sent, 0));
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_requester() {
    let points = drop_at_each_await(
        "milena::Requester::close",
        async |broker, client| {
            let own = echoed(client, Dialect::Auto).await;
            broker.faults().add(Fault::on(Api::PRODUCE).times(1).delay(Duration::from_secs(1)));
            let requester = own.requester.clone();
            let call = tokio::spawn(async move { requester.request("t", "under way").await });
            until("a call is under way", || own.requester.metrics().in_flight == 1).await;
            (own, call)
        },
        |stage| Box::pin(stage.own.0.requester.close()),
        async |stage, _| {
            let (own, call) = &mut stage.own;
            own.requester.close().await;
            // The call under way has ended well.
            assert_eq!(call.await.unwrap().unwrap().text(), "under way");
            assert!(own.requester.request("t", "late").await.unwrap_err().is_closed());
        },
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn sending_a_call_and_waiting_for_it() {
    for faults in faults(Api::PRODUCE) {
        let make = async |broker: &Broker, client: &Client| {
            let own = echoed(client, Dialect::Auto).await;
            add(broker, &faults);
            own
        };
        let points = drop_at_each_await(
            "milena::Call",
            make,
            |stage| Box::pin(stage.own.requester.request("t", "dropped").partition(0).timeout(LONG).send()),
            async |stage, pending| {
                drop(pending);
                answered_or_not(stage, None).await;
            },
        );
        points.await;
    }
    let points = drop_at_each_await(
        "milena::PendingCall",
        async |broker, client| {
            let own = echoed(client, Dialect::Auto).await;
            add(broker, &[Fault::on(Api::FETCH).times(1).cut()]);
            own
        },
        |stage| {
            let call = stage.own.requester.request("t", "dropped").partition(0).timeout(LONG);
            Box::pin(async move { call.send().await?.await })
        },
        answered_or_not,
    );
    assert!(points.await > 1);
}

#[tokio::test(start_paused = true)]
async fn resuming_a_call() {
    let points = drop_at_each_await(
        "milena::Requester::resume",
        async |broker, client| {
            let own = echoed(client, Dialect::Auto).await;
            let other = client.requester().build().await.unwrap();
            let call = other.request("t", "left behind").partition(0).timeout(LONG).send().await.unwrap();
            until("it is sent", || broker.log("t", 0).unwrap().end_offset() == 1).await;
            (own, call.token().clone())
        },
        |stage| Box::pin(stage.own.0.requester.resume(&stage.own.1)),
        async |stage, pending| {
            let (own, token) = &stage.own;
            drop(pending);
            assert_eq!((own.requester.metrics().in_flight, own.requester.metrics().draining), (0, 0));
            assert_eq!(own.requester.resume(token).await.unwrap().await.unwrap().text(), "left behind");
        },
    );
    points.await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_a_requester() {
    let points = drop_at_each_await(
        "milena::Requester::drain",
        async |broker, client| {
            let own = echoed(client, Dialect::Auto).await;
            broker.faults().add(Fault::on(Api::PRODUCE).times(1).delay(Duration::from_secs(1)));
            let requester = own.requester.clone();
            let call = tokio::spawn(async move { requester.request("t", "under way").await });
            until("a call is under way", || own.requester.metrics().in_flight == 1).await;
            (own, call)
        },
        |stage| Box::pin(stage.own.0.requester.drain(LONG)),
        async |stage, _| {
            let (own, call) = &mut stage.own;
            own.requester.drain(LONG).await;
            assert_eq!(call.await.unwrap().unwrap().text(), "under way");
            assert!(own.requester.request("t", "late").await.unwrap_err().is_closed());
        },
    );
    assert!(points.await > 0);
}
