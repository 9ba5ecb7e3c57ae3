//! Several replies to one call.
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use milena::{AnswerSink, AnswerStream, ReplyStream, Request, Requester, Responder};
use tokio::sync::mpsc;

use crate::*;

const LONG: Duration = Duration::from_secs(100);
const ITEMS: u32 = 5;

struct Own {
    requester: Requester,
    _responder: Responder,
}

/// Answers on `t` with a few items.
async fn counted(client: &Client) -> Own {
    let count = async |_: Request| {
        AnswerStream::written_by(async |mut items| {
            for item in 0..ITEMS {
                tokio::time::sleep(Duration::from_millis(10)).await;
                items.send(item.to_string()).await;
            }
            Ok(())
        })
    };
    let responder = client.responder("counters").on_request("t", count).start().await.unwrap();
    let requester = client.requester().max_in_flight(1).build().await.unwrap();
    Own { requester, _responder: responder }
}

async fn rest(stream: &mut ReplyStream) -> Vec<String> {
    let mut items = Vec::new();
    while let Some(reply) = stream.next().await.unwrap() {
        items.push(reply.text().into_owned());
    }
    items
}

/// Its place is free: the next one is answered whole.
async fn free(requester: &Requester) {
    assert_eq!(requester.metrics().in_flight, 0);
    let mut next = requester.stream("t", "next").timeout(LONG).await.unwrap();
    assert_eq!(rest(&mut next).await.len(), ITEMS as usize);
}

#[tokio::test(start_paused = true)]
async fn beginning_a_stream_and_gathering() {
    for faults in faults(Api::PRODUCE) {
        let make = async |broker: &Broker, client: &Client| {
            let own = counted(client).await;
            add(broker, &faults);
            own
        };
        let points = drop_at_each_await(
            "milena::StreamCall",
            make,
            |stage| Box::pin(stage.own.requester.stream("t", "dropped").timeout(LONG).into_future()),
            async |stage, stream| {
                drop(stream);
                free(&stage.own.requester).await;
            },
        );
        points.await;
        let points = drop_at_each_await(
            "milena::GatherCall",
            make,
            |stage| Box::pin(stage.own.requester.gather("t", "dropped").count(1).timeout(LONG).into_future()),
            async |stage, gathered| {
                drop(gathered);
                free(&stage.own.requester).await;
            },
        );
        assert!(points.await > 1);
    }
}

/// Whatever was dropped, all items come once and in order.
#[tokio::test(start_paused = true)]
async fn waiting_for_an_item() {
    type Begun = (Own, ReplyStream);
    let make = async |broker: &Broker, client: &Client| {
        let own = counted(client).await;
        add(broker, &[Fault::on(Api::FETCH).times(2).cut()]);
        let stream = own.requester.stream("t", "dropped").credit(2).timeout(LONG).await.unwrap();
        (own, stream)
    };
    let check = async |stage: &mut Stage<Begun>, item: Option<Option<String>>| {
        let mut items: Vec<String> = item.flatten().into_iter().collect();
        items.extend(rest(&mut stage.own.1).await);
        let expected: Vec<_> = (0..ITEMS).map(|item| item.to_string()).collect();
        assert_eq!(items, expected);
        assert_eq!(stage.own.0.requester.metrics().in_flight, 0);
    };
    let points = drop_at_each_await(
        "milena::ReplyStream::next",
        make,
        |stage| {
            let next = stage.own.1.next();
            Box::pin(async { next.await.unwrap().map(|reply| reply.text().into_owned()) })
        },
        check,
    );
    assert!(points.await > 0);
    let points = drop_at_each_await(
        "milena::ReplyStream",
        make,
        |stage| {
            let stream = &mut stage.own.1;
            Box::pin(async {
                let next = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await;
                next.map(|reply| reply.unwrap().text().into_owned())
            })
        },
        check,
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn sending_an_item() {
    let points = drop_at_each_await(
        "milena::AnswerSink::send",
        async |_, client| {
            let (lent, mut sinks) = mpsc::channel::<AnswerSink>(1);
            let lend = move |_: Request| {
                let lent = lent.clone();
                async move {
                    AnswerStream::written_by(async move |sink| {
                        // It ends when the test drops the sink.
                        let _ = lent.send(sink).await;
                        Ok(())
                    })
                }
            };
            let responder = client.responder("lenders").on_request("t", lend).start().await.unwrap();
            let requester = client.requester().build().await.unwrap();
            let stream = requester.stream("t", "lend").credit(1).timeout(LONG).await.unwrap();
            let mut sink = sinks.recv().await.unwrap();
            // The caller has room for one, and one more waits: the next has to.
            sink.send("first").await;
            sink.send("second").await;
            (Own { requester, _responder: responder }, stream, Some(sink))
        },
        |stage| {
            let sink = stage.own.2.as_mut().unwrap();
            Box::pin(sink.send("perhaps"))
        },
        async |stage, sent| {
            let (_, stream, sink) = &mut stage.own;
            let mut sink = sink.take().unwrap();
            let last = tokio::spawn(async move { sink.send("last").await });
            let expected: &[&str] = if sent.is_some() {
                &["first", "second", "perhaps", "last"]
            } else {
                &["first", "second", "last"]
            };
            assert_eq!(rest(stream).await, expected);
            last.await.unwrap();
        },
    );
    points.await;
}
