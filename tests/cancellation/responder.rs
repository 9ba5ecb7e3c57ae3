//! The answering side.
use std::sync::Arc;
use std::time::Duration;

use milena::{Request, Requester, Responder, ResponderBuilder, TopicPartition};
use tokio::task::JoinHandle;

use crate::*;

/// Answers after ten seconds.
async fn slow(request: Request) -> Vec<u8> {
    tokio::time::sleep(Duration::from_secs(10)).await;
    request.value().to_vec()
}

fn slow_responder(client: &Client) -> ResponderBuilder {
    client.responder("slow").on_request("t", slow)
}

/// A call to partition 0 of `t` in a task of its own.
fn ask(requester: &Requester) -> JoinHandle<Result<milena::Reply>> {
    let requester = requester.clone();
    tokio::spawn(async move { requester.request("t", "asked").partition(0).await })
}

async fn asking(_: &Broker, client: &Client) -> Requester {
    client.requester().build().await.unwrap()
}

/// Another responder works; without the group, as a member that is dropped keeps its partitions until its session ends.
async fn another_answers(stage: &mut Stage<Requester>) {
    let _other = again(async || slow_responder(&stage.client).without_group().start().await).await;
    assert_eq!(ask(&stage.own).await.unwrap().unwrap().text(), "asked");
}

#[tokio::test(start_paused = true)]
async fn starting_a_responder() {
    for faults in faults(Api::METADATA).into_iter().chain(faults(Api::LIST_OFFSETS)) {
        let points = drop_at_each_await(
            "milena::ResponderBuilder::start",
            async |broker, client| {
                let requester = asking(broker, client).await;
                add(broker, &faults);
                requester
            },
            // In a group the positions are looked up later.
            |stage| Box::pin(slow_responder(&stage.client).without_group().start()),
            async |stage, responder| {
                let right =
                    |responder: Result<_>| responder.map_or_else(|error| error.is_timeout(), |_| true);
                assert!(responder.is_none_or(right));
                another_answers(stage).await;
            },
        );
        assert!(points.await > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn running_a_responder() {
    let points = drop_at_each_await(
        "milena::ResponderBuilder::run",
        asking,
        |stage| Box::pin(slow_responder(&stage.client).run()),
        async |stage, ended| {
            assert!(ended.is_none());
            another_answers(stage).await;
        },
    );
    assert!(points.await > 1);
}

#[tokio::test(start_paused = true)]
async fn running_a_responder_until_a_signal() {
    let signal = || tokio::time::sleep(Duration::from_secs(5));
    let points = drop_at_each_await(
        "milena::ResponderBuilder::run_until",
        async |broker, client| {
            let requester = asking(broker, client).await;
            let late = requester.clone();
            let call = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                late.request("t", "asked").partition(0).await
            });
            (requester, call)
        },
        |stage| Box::pin(slow_responder(&stage.client).run_until(signal())),
        async |stage, ended| {
            let call = (&mut stage.own.1).await.unwrap();
            // What was taken before the signal is answered.
            assert!(ended.is_none_or(|ended| ended.is_ok() && call.is_ok()));
        },
    );
    assert!(points.await > 2);
}

/// A responder with one request in hand.
struct Busy {
    responder: Arc<Responder>,
    call: JoinHandle<Result<milena::Reply>>,
    /// Has closed the responder.
    closing: Option<JoinHandle<()>>,
}

async fn busy(broker: &Broker, client: &Client) -> Busy {
    let requester = asking(broker, client).await;
    let responder = Arc::new(slow_responder(client).start().await.unwrap());
    let call = ask(&requester);
    until("a handler runs", || responder.metrics().running == 1).await;
    Busy { responder, call, closing: None }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_responder() {
    let points = drop_at_each_await(
        "milena::Responder::wait",
        async |broker, client| {
            let mut busy = busy(broker, client).await;
            let responder = busy.responder.clone();
            busy.closing = Some(tokio::spawn(async move { responder.close().await }));
            busy
        },
        |stage| Box::pin(stage.own.responder.wait()),
        async |stage, _| {
            stage.own.responder.wait().await.unwrap();
            assert_eq!((&mut stage.own.call).await.unwrap().unwrap().text(), "asked");
            stage.own.closing.take().unwrap().await.unwrap();
        },
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_close_of_a_responder_ended_its_handlers() {
    let points = drop_at_each_await(
        "milena::Responder::close",
        busy,
        |stage| Box::pin(stage.own.responder.close()),
        async |stage, _| {
            // What it had taken is answered.
            assert_eq!((&mut stage.own.call).await.unwrap().unwrap().text(), "asked");
            stage.own.responder.close().await;
            stage.own.responder.wait().await.unwrap();
            assert_eq!(stage.own.responder.finished(&TopicPartition::new("t", 0)), Some(1));
        },
    );
    assert!(points.await > 0);
}
