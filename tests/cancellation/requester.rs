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
                "milena::Call",
                async |broker, client| {
                    let own = echoed(client, dialect).await;
                    add(broker, &faults);
                    own
                },
                |stage| {
                    Box::pin(
                        stage.own.requester.request("t", "dropped").partition(0).timeout(LONG).into_future(),
                    )
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
