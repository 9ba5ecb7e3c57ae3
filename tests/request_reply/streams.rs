//! Several replies to one call, from one responder.
use crate::scribe::{Scribe, status};
use crate::*;

async fn texts(stream: &mut ReplyStream) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(reply) = stream.next().await.unwrap() {
        texts.push(reply.text().into_owned());
    }
    texts
}

#[tokio::test]
async fn a_stream_of_a_responder_comes_whole_although_the_window_is_small() {
    let stage = Stage::new(1).await;
    let count = async |to: String| {
        let to: u32 = to.parse()?;
        Ok::<_, Refusal>(AnswerStream::written_by(async move |mut items| {
            for number in 0..to {
                items.send(number.to_string()).await;
            }
            Ok(())
        }))
    };
    let _counter = stage.client.responder("counters").on_request("sum", count).start().await.unwrap();
    let requester = stage.requester().await;
    for (window, items) in [(1, 10), (3, 100), (64, 1000), (8, 0)] {
        let mut stream =
            requester.stream("sum", &items.to_string()).credit(window).timeout(LONG).await.unwrap();
        let expected: Vec<_> = (0..items).map(|number: u32| number.to_string()).collect();
        assert_eq!(texts(&mut stream).await, expected, "{window}");
        assert!(stream.next().await.unwrap().is_none(), "it stays ended");
    }
    assert_eq!(requester.metrics().answered, 4);
    assert_eq!(requester.metrics().in_flight, 0);
}

#[tokio::test]
async fn a_single_answer_is_a_stream_of_one() {
    let stage = Stage::new(1).await;
    let _adder = stage.adder().await;
    let requester = stage.requester().await;
    assert_eq!(texts(&mut requester.stream("sum", "1,2").await.unwrap()).await, ["3"]);
    let error = requester.stream("sum", "x").await.unwrap().next().await.unwrap_err();
    assert_eq!(status(&error), Status::UNKNOWN);
}

#[tokio::test]
async fn a_last_item_that_is_null_was_taken_for_the_end() {
    let stage = Stage::new(1).await;
    let nulls = async |count: String| {
        let count: u32 = count.parse()?;
        Ok::<_, Refusal>(AnswerStream::written_by(async move |mut items| {
            for _ in 0..count {
                items.send(()).await;
            }
            Ok(())
        }))
    };
    let _nulls = stage.client.responder("nulls").on_request("sum", nulls).start().await.unwrap();
    let requester = stage.requester().await;
    for count in [0, 1, 3] {
        let mut stream = requester.stream("sum", &count.to_string()).timeout(LONG).await.unwrap();
        let mut items = 0;
        while let Some(reply) = stream.next().await.unwrap() {
            assert!(reply.is_null());
            items += 1;
        }
        assert_eq!(items, count);
    }
}

#[tokio::test]
async fn items_that_come_twice_are_given_once() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let mut stream = requester.stream("sum", "1").timeout(LONG).await.unwrap();
    let id = scribe.next().await.id();
    for (number, value) in [("0", "a"), ("1", "b"), ("0", "a"), ("1", "b"), ("2.", "c"), ("2.", "c")] {
        scribe.item(&id, "g/1", number, Some(value)).await;
    }
    assert_eq!(texts(&mut stream).await, ["a", "b", "c"]);
    until("the repeated end", || requester.metrics().duplicate == 1).await;
}

#[tokio::test]
async fn a_missing_item_ends_the_stream_with_an_error_behind_the_items_before() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let mut stream = requester.stream("sum", "1").timeout(LONG).await.unwrap();
    let asked = scribe.next().await;
    for number in ["0", "2", "3."] {
        scribe.item(&asked.id(), "g/1", number, Some(number)).await;
    }
    assert_eq!(stream.next().await.unwrap().unwrap().text(), "0");
    assert_eq!(status(&stream.next().await.unwrap_err()), Status::ABORTED);
    assert!(stream.next().await.unwrap().is_none());
    drop(stream);
    let cancel = scribe.next().await;
    assert_eq!((cancel.header("rpc-kind"), cancel.partition), (Some("cancel".into()), asked.partition));
}

#[tokio::test]
async fn a_second_execution_is_not_mixed_into_the_first() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let mut stream = requester.stream("sum", "1").timeout(LONG).await.unwrap();
    let id = scribe.next().await.id();
    scribe.item(&id, "g/1", "0", Some("a")).await;
    scribe.item(&id, "g/2", "0", Some("A")).await;
    scribe.item(&id, "g/2", "1.", Some("B")).await;
    assert_eq!(stream.next().await.unwrap().unwrap().text(), "a");
    assert_eq!(status(&stream.next().await.unwrap_err()), Status::ABORTED);
}

#[tokio::test]
async fn streams_of_nest_end_with_a_null_that_is_no_item_unless_it_is_alone() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    for (records, items) in [
        (&[(Some("1"), false), (Some("2"), true)][..], &["1", "2"][..]),
        (&[(Some("1"), false), (Some("1"), false), (None, true)], &["1", "1"]),
        (&[(None, false), (Some("2"), true)], &["", "2"]),
        (&[(None, true)], &[""]),
    ] {
        let mut stream = requester.stream("sum", "1").timeout(LONG).await.unwrap();
        let id = scribe.next().await.id();
        for (value, disposed) in records {
            scribe.nest(&id, *value, *disposed).await;
        }
        assert_eq!(texts(&mut stream).await, items);
    }
    let mut stream = requester.stream("sum", "1").timeout(LONG).await.unwrap();
    let id = scribe.next().await.id();
    scribe.nest(&id, Some("1"), false).await;
    scribe.reply(&[("kafka_correlationId", &id), ("kafka_nest-err", "{}")], None).await;
    assert_eq!(stream.next().await.unwrap().unwrap().text(), "1");
    assert_eq!(status(&stream.next().await.unwrap_err()), Status::UNKNOWN);
}

#[tokio::test]
async fn credit_is_granted_as_items_are_taken_and_only_to_who_waits_for_it() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let mut stream = requester.stream("sum", "1").credit(4).timeout(LONG).await.unwrap();
    let asked = scribe.next().await;
    assert_eq!(
        (asked.header("rpc-kind"), asked.header("rpc-credit")),
        (Some("stream".into()), Some("4".into()))
    );
    for number in ["0", "1", "2", "3"] {
        scribe.item(&asked.id(), "g/1", number, Some(number)).await;
    }
    stream.next().await.unwrap().unwrap();
    assert!(scribe.is_left_alone().await, "half of the window is not taken");
    stream.next().await.unwrap().unwrap();
    let grant = scribe.next().await;
    assert_eq!((grant.id(), grant.partition), (asked.id(), asked.partition));
    assert_eq!(
        (grant.header("rpc-kind"), grant.header("rpc-credit")),
        (Some("credit".into()), Some("2".into()))
    );

    let mut stream = requester.stream("sum", "1").credit(1).timeout(LONG).await.unwrap();
    let id = scribe.next().await.id();
    for _ in 0..4 {
        scribe.nest(&id, Some("1"), false).await;
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    assert!(scribe.is_left_alone().await, "NestJS would take it for an event");
}

#[tokio::test]
async fn who_sends_without_credit_does_not_fill_the_memory() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let stream = requester.stream("sum", "1").credit(2).max_buffered(3000).timeout(LONG);
    let mut stream = stream.await.unwrap();
    let id = scribe.next().await.id();
    let kilobyte = "x".repeat(1000);
    for _ in 0..5 {
        scribe.nest(&id, Some(&kilobyte), false).await;
    }
    for _ in 0..2 {
        assert_eq!(stream.next().await.unwrap().unwrap().value().len(), 1000);
    }
    let error = stream.next().await.unwrap_err();
    assert_eq!(status(&error), Status::RESOURCE_EXHAUSTED);
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1").timeout(LONG).await.unwrap().text(), "1", "others go on");
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline_and_an_item_is_not_waited_for_longer_than_said() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let short = Duration::from_millis(100);
    for idle in [false, true] {
        let call = requester.stream("sum", "1");
        let call = if idle { call.timeout(LONG).idle_timeout(short) } else { call.timeout(short) };
        let mut stream = call.await.unwrap();
        let id = scribe.next().await.id();
        scribe.item(&id, "g/1", "0", Some("a")).await;
        assert_eq!(stream.next().await.unwrap().unwrap().text(), "a");
        let error = stream.next().await.unwrap_err();
        assert!(error.is_timeout() && error.maybe_written(), "{error}");
        assert!(stream.next().await.unwrap().is_none());
        // Who is told that a call is over by its deadline need not be told by a record.
        assert_eq!(scribe.is_left_alone().await, !idle);
    }
    assert_eq!((requester.metrics().timed_out, requester.metrics().cancelled), (1, 1));
}

#[tokio::test]
async fn waiting_for_an_item_may_be_given_up_and_begun_again() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let call = requester.stream("sum", "1").timeout(LONG).idle_timeout(Duration::from_millis(200));
    let mut stream = call.await.unwrap();
    let id = scribe.next().await.id();
    let started = Instant::now();
    let error = loop {
        match tokio::time::timeout(Duration::from_millis(20), stream.next()).await {
            Ok(ended) => break ended.unwrap_err(),
            Err(_) => assert!(started.elapsed() < LONG, "the time waited so far does not count"),
        }
    };
    assert!(error.is_timeout());
    scribe.item(&id, "g/1", "0.", Some("a")).await;
    until("the late item", || requester.metrics().late == 1).await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_gives_its_place_back_and_tells_its_responder() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.client.requester().reply_topic(REPLIES).reply_partition(0).max_in_flight(1);
    let requester = requester.build().await.unwrap();
    let mut stream = requester.stream("sum", "1").timeout(LONG).await.unwrap();
    let asked = scribe.next().await;
    scribe.item(&asked.id(), "g/1", "0", Some("a")).await;
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!((requester.metrics().cancelled, requester.metrics().in_flight), (1, 0));
    let cancel = scribe.next().await;
    assert_eq!((cancel.id(), cancel.partition), (asked.id(), asked.partition));
    assert_eq!(cancel.header("rpc-kind"), Some("cancel".into()));
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,1").timeout(LONG).await.unwrap().text(), "2");
}

#[tokio::test]
async fn a_call_that_is_dropped_tells_a_responder_that_understands_it() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    for (answer_natively, told) in [(false, false), (true, true)] {
        let first = requester.request("sum", "1").timeout(LONG).send().await.unwrap();
        let id = scribe.next().await.id();
        match answer_natively {
            true => scribe.item(&id, "g/1", "0.", Some("a")).await,
            false => scribe.nest(&id, Some("a"), true).await,
        }
        first.await.unwrap();
        let mut dropped = requester.request("sum", "1").timeout(LONG).into_future();
        let asked = tokio::select! {
            biased;
            outcome = &mut dropped => panic!("{outcome:?}"),
            asked = scribe.next() => asked,
        };
        // Until it has heard where its request is, it cannot tell anybody.
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut dropped).await.is_err());
        drop(dropped);
        match told {
            true => assert_eq!(scribe.next().await.id(), asked.id()),
            false => assert!(scribe.is_left_alone().await),
        }
    }
}

#[tokio::test]
async fn the_handler_of_a_stream_that_is_dropped_stops() {
    let stage = Stage::new(1).await;
    let stopped = Arc::new(Notify::new());
    struct Tell(Arc<Notify>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let endless = {
        let stopped = stopped.clone();
        move |_: Request| {
            let tell = Tell(stopped.clone());
            async move {
                AnswerStream::written_by(async move |mut items| {
                    let _tell = tell;
                    loop {
                        items.send("more").await;
                    }
                })
            }
        }
    };
    let _responder = stage.client.responder("endless").on_request("sum", endless).start().await.unwrap();
    let requester = stage.requester().await;
    let mut stream = requester.stream("sum", "1").credit(8).timeout(LONG * 10).await.unwrap();
    for _ in 0..100 {
        assert_eq!(stream.next().await.unwrap().unwrap().text(), "more");
    }
    drop(stream);
    tokio::time::timeout(LONG, stopped.notified()).await.expect("the handler goes on");
}

#[tokio::test]
async fn requests_on_the_reply_partition_are_no_replies() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let call = requester.request("sum", "1").timeout(LONG).send().await.unwrap();
    let id = scribe.next().await.id();
    // Somebody sends the request on, into the topic that it wants its reply on.
    scribe.reply(&[("rpc-id", &id), ("rpc-reply-topic", REPLIES)], Some("1")).await;
    scribe.reply(&[("REPLY_CORRELATION_ID", &id), ("REPLY_TOPIC", REPLIES)], Some("1")).await;
    until("the requests", || requester.metrics().foreign == 2).await;
    scribe.item(&id, "g/1", "0.", Some("a")).await;
    assert_eq!(call.await.unwrap().text(), "a");
}

#[tokio::test]
async fn closing_waits_for_a_stream_and_the_end_of_the_client_ends_it() {
    let stage = Stage::new(1).await;
    let mut scribe = Scribe::new(&stage).await;
    let requester = stage.requester().await;
    let mut stream = requester.stream("sum", "1").timeout(LONG).await.unwrap();
    let id = scribe.next().await.id();
    let mut close = std::pin::pin!(requester.close());
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut close).await.is_err());
    scribe.item(&id, "g/1", "0.", Some("a")).await;
    close.await;
    assert_eq!(texts(&mut stream).await, ["a"]);

    let client = Client::connect(&stage.broker.address()).await.unwrap();
    let requester = client.requester().reply_topic(REPLIES).build().await.unwrap();
    let mut stream = requester.stream("sum", "1").timeout(LONG * 10).await.unwrap();
    client.close().await;
    let ended = tokio::time::timeout(LONG, stream.next()).await.expect("the stream hangs");
    assert!(ended.unwrap_err().is_closed());
}
