//! What a responder does with what it reads.
use crate::*;

#[tokio::test]
async fn no_more_handlers_run_than_allowed() {
    let stage = Stage::new(1).await;
    let (responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let calls = calls(&requester, 12);
    for _ in 0..4 {
        beginnings.recv().await.unwrap();
    }
    for _ in 4..12 {
        assert_eq!(responder.metrics().running, 4);
        assert!(beginnings.try_recv().is_err(), "a fifth handler runs");
        gate.add_permits(1);
        beginnings.recv().await.unwrap();
    }
    gate.add_permits(4);
    for reply in calls.join_all().await {
        reply.unwrap();
    }
}

#[tokio::test]
async fn a_responder_that_is_closed_answers_what_it_has_taken() {
    let stage = Stage::new(1).await;
    let (responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let calls = calls(&requester, 3);
    for _ in 0..3 {
        beginnings.recv().await.unwrap();
    }
    let mut close = std::pin::pin!(responder.close());
    let still_open = tokio::time::timeout(Duration::from_millis(20), &mut close).await;
    assert!(still_open.is_err(), "closed although handlers run");
    gate.add_permits(3);
    close.await;
    for reply in calls.join_all().await {
        reply.unwrap();
    }
    assert_eq!(responder.metrics().answered, 3);
    assert_eq!(responder.metrics().running, 0);
}

#[tokio::test]
async fn requests_without_reply_address_are_events() {
    let stage = Stage::new(1).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let (count, told) = (seen.clone(), Arc::new(Notify::new()));
    let tell = told.clone();
    let responder = stage
        .client
        .responder("both")
        .on_request("sum", add)
        .on_event("sum", move |event: Event| {
            assert_eq!(event.value(), b"happened");
            count.fetch_add(1, SeqCst);
            tell.notify_one();
            async {}
        })
        .start()
        .await
        .unwrap();
    let producer = stage.client.producer().build().await.unwrap();
    producer.send("sum", Record::value("happened")).await.unwrap().await.unwrap();
    told.notified().await;
    assert_eq!(stage.requester().await.request("sum", "2,2").await.unwrap().text(), "4");
    assert_eq!((seen.load(SeqCst), responder.metrics().events, responder.metrics().requests), (1, 1, 1));
}

#[tokio::test]
async fn a_request_whose_caller_has_given_up_is_skipped() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let error = requester.request("sum", "1").timeout(Duration::from_millis(10)).await.unwrap_err();
    assert!(error.is_timeout());
    let responder = stage.client.responder("late").on_request("sum", add);
    let responder =
        responder.start_at(milena::Offset::Beginning).clock_skew(Duration::ZERO).start().await.unwrap();
    until("the skipped request", || responder.metrics().expired == 1).await;
    assert_eq!(responder.metrics().requests, 0);
}

#[tokio::test]
async fn only_allowed_reply_topics_are_answered() {
    let stage = Stage::new(1).await;
    let responder = stage.client.responder("careful").reply_topics(["elsewhere"]).on_request("sum", add);
    let responder = responder.start().await.unwrap();
    let requester = stage.requester().await;
    let call = requester.request("sum", "1").timeout(Duration::from_millis(50)).await;
    assert!(call.unwrap_err().is_timeout());
    until("the refused request", || responder.metrics().unanswerable == 1).await;
}

#[tokio::test]
async fn a_responder_tells_how_far_it_has_finished_so_that_the_next_goes_on_there() {
    let stage = Stage::new(1).await;
    let partition = TopicPartition::new("sum", 0);
    let first = stage.adder().await;
    let requester = stage.requester().await;
    assert_eq!(first.finished(&partition), None);
    requester.request("sum", "1").partition(0).await.unwrap();
    first.close().await;
    assert_eq!(first.finished(&partition), Some(1));

    let begin = Offset::At(first.finished(&partition).unwrap());
    let next = stage.client.responder("adders").share(0, 4).start_at(begin).on_request("sum", add);
    let call = requester.request("sum", "2,2").partition(0).into_future();
    let mut call = std::pin::pin!(call);
    tokio::select! {
        biased;
        outcome = &mut call => panic!("{outcome:?}"),
        () = until("the request in the log", || stage.broker.log("sum", 0).unwrap().end_offset() == 2) => {}
    }
    let next = next.start().await.unwrap();
    assert_eq!(call.await.unwrap().text(), "4");
    assert_eq!(next.metrics().requests, 1);
}

#[tokio::test]
async fn a_responder_ends_with_its_client() {
    let stage = Stage::new(1).await;
    let client = Client::connect(&stage.broker.address()).await.unwrap();
    let responder = client.responder("adders").on_request("sum", add).start().await.unwrap();
    client.close().await;
    assert!(responder.wait().await.unwrap_err().is_closed());
}

#[tokio::test]
async fn run_until_ends_in_an_orderly_way() {
    let stage = Stage::new(1).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let responder = stage.client.responder("adders").on_request("sum", add);
    let running = tokio::spawn(responder.run_until(stopped));
    let requester = stage.requester().await;
    // It begins at the end, so a call may come too early.
    while requester.request("sum", "1").timeout(Duration::from_millis(100)).await.is_err() {}
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_of_a_caller_whose_clock_is_minutes_behind_was_not_answered() {
    let stage = Stage::new(1).await;
    let responder = stage.adder().await;
    let requester = stage.requester().await;
    // From here on it has seen the end of each partition.
    for _ in 0..8 {
        requester.request("sum", "1,1").await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let behind = now - 600_000;
    let deadline = (behind + 30_000).to_string();
    let producer = stage.client.producer().build().await.unwrap();
    let asked = |id: &'static str| Record::value("2,2").partition(0).timestamp(behind).header("id", id);
    let native = asked("1").header("rpc-id", "1").header("rpc-reply-topic", REPLIES);
    let native = native.header("rpc-deadline", &*deadline).header("rpc-timeout", "30000");
    let spring = asked("2").header("kafka_correlationId", "1").header("kafka_replyTopic", REPLIES);
    for request in [native, spring] {
        producer.send("sum", request).await.unwrap().await.unwrap();
    }
    until("both are answered", || responder.metrics().answered == 10).await;
    assert_eq!(responder.metrics().expired, 0);
}
