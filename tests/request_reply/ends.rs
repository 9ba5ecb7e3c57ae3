//! How calls end without a reply.
use crate::*;

#[tokio::test(start_paused = true)]
async fn a_short_request_timeout_forbade_to_ask() {
    // The wait of a fetch was longer, and nobody who asks can set it.
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("sum", 1).unwrap();
    let network = broker.network();
    let connector = Connector::new(move |host: String, port| {
        let connected = network.connect(&host, port);
        async { connected }
    });
    let builder = Client::builder().bootstrap(&broker.address()).unwrap().connector(connector);
    let client = builder.request_timeout(Duration::from_millis(300)).build().await.unwrap();
    let _responder = client.responder("adders").on_request("sum", add).start().await.unwrap();
    let requester = client.requester().build().await.unwrap();
    assert_eq!(requester.request("sum", "1,2").await.unwrap().value(), b"3");
}

#[tokio::test]
async fn without_a_responder_a_call_ends_at_its_deadline() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let started = Instant::now();
    let timeout = Duration::from_millis(50);
    let error = requester.request("sum", "1").timeout(timeout).await.unwrap_err();
    assert!(error.is_timeout() && error.maybe_written(), "{error}");
    assert_eq!(error.topic(), Some("sum"));
    assert!(started.elapsed() >= timeout);
    let metrics = requester.metrics();
    assert_eq!((metrics.timed_out, metrics.in_flight), (1, 0));
}

#[tokio::test]
async fn an_earlier_deadline_of_a_later_call_is_kept() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let patient = requester.request("sum", "1").timeout(LONG * 10).into_future();
    let mut patient = std::pin::pin!(patient);
    tokio::select! {
        biased;
        outcome = &mut patient => panic!("{outcome:?}"),
        outcome = requester.request("sum", "2").timeout(Duration::from_millis(20)) => {
            assert!(outcome.unwrap_err().is_timeout());
        }
    }
    assert_eq!(requester.metrics().in_flight, 1);
}

#[tokio::test]
async fn a_reply_after_the_deadline_is_counted_and_nothing_else() {
    let stage = Stage::new(1).await;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = gate.clone();
        move |_: Request| {
            let gate = gate.clone();
            async move { drop(gate.acquire().await) }
        }
    };
    let _responder = stage.client.responder("slow").on_request("sum", handler).start().await.unwrap();
    let requester = stage.requester().await;
    let late = requester.request("sum", "1").timeout(Duration::from_millis(50)).await;
    assert!(late.unwrap_err().is_timeout());
    gate.add_permits(1);
    until("the late reply", || requester.metrics().late == 1).await;
}

#[tokio::test]
async fn dropping_a_call_frees_its_place() {
    let stage = Stage::new(1).await;
    let requester = stage.client.requester().reply_topic(REPLIES).max_in_flight(1).build().await.unwrap();
    for _ in 0..20 {
        let mut call = requester.request("sum", "1").into_future();
        tokio::select! {
            biased;
            outcome = &mut call => panic!("{outcome:?}"),
            () = until("the call in flight", || requester.metrics().in_flight == 1) => {}
        }
        drop(call);
        assert_eq!(requester.metrics().in_flight, 0);
    }
    assert_eq!(requester.metrics().cancelled, 20);
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,1").await.unwrap().text(), "2");
}

#[tokio::test]
async fn calls_above_the_limit_wait_within_their_own_time() {
    let stage = Stage::new(1).await;
    let requester = stage.client.requester().reply_topic(REPLIES).max_in_flight(1).build().await.unwrap();
    let first = requester.request("sum", "1").timeout(LONG).into_future();
    let mut first = std::pin::pin!(first);
    tokio::select! {
        biased;
        outcome = &mut first => panic!("{outcome:?}"),
        outcome = requester.request("sum", "2").timeout(Duration::from_millis(30)) => {
            let error = outcome.unwrap_err();
            assert!(error.is_timeout() && !error.maybe_written(), "{error}");
        }
    }
    let _adder = stage.adder().await;
}

#[tokio::test]
async fn a_requester_that_is_closed_waits_for_its_calls_and_refuses_new_ones() {
    let stage = Stage::new(1).await;
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let mut calls = calls(&requester, 1);
    beginnings.recv().await.unwrap();
    let mut close = std::pin::pin!(requester.close());
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut close).await.is_err());
    assert!(requester.request("sum", "9").await.unwrap_err().is_closed());
    gate.add_permits(1);
    close.await;
    assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap().text(), "0");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_although_no_node_is_there() {
    let stage = Stage::new(1).await;
    let _adder = stage.adder().await;
    let requester = stage.requester().await;
    requester.request("sum", "1").await.unwrap();
    stage.broker.stop_node(1).await.unwrap();
    let error = requester.request("sum", "1").timeout(Duration::from_millis(100)).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    stage.broker.start_node(1).await.unwrap();
    assert_eq!(requester.request("sum", "1,1").timeout(LONG).await.unwrap().text(), "2");
}

#[tokio::test]
async fn closing_the_client_ends_pending_calls() {
    let stage = Stage::new(1).await;
    let client = Client::connect(&stage.broker.address()).await.unwrap();
    let requester = client.requester().reply_topic(REPLIES).build().await.unwrap();
    let call = requester.request("sum", "1").timeout(LONG * 10).into_future();
    let mut call = std::pin::pin!(call);
    tokio::select! {
        biased;
        outcome = &mut call => panic!("{outcome:?}"),
        () = until("the call in flight", || requester.metrics().in_flight == 1) => {}
    }
    client.close().await;
    assert!(tokio::time::timeout(LONG, call).await.expect("the call hangs").is_err());
    assert!(requester.request("sum", "1").await.is_err());
}
