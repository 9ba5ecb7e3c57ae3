//! How much may be in flight, and how a requester ends.
use crate::*;

/// A call of so many bytes, once it is in flight.
async fn fill(requester: &Requester, bytes: usize) -> milena::PendingCall {
    requester.request("sum", &vec![b'1'; bytes]).timeout(LONG * 10).send().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_bounded_and_come_back() {
    let stage = Stage::in_memory(1).await;
    let build = stage.client.requester().reply_topic(REPLIES).max_in_flight_bytes(100);
    let requester = build.build().await.unwrap();
    let first = fill(&requester, 80).await;
    let error = requester.request("sum", &[b'1'; 30]).timeout(LONG).await.unwrap_err();
    assert!(error.is_timeout() && !error.maybe_written(), "{error}");
    // Keys and headers count as well.
    let call = requester.request("sum", "1").key("0123456789").header("name", "0123456789");
    assert!(!call.timeout(LONG).await.unwrap_err().maybe_written());
    let second = fill(&requester, 20).await;
    assert_eq!(requester.metrics().in_flight, 2);
    drop((first, second));
    // More than there ever is room for: alone.
    let large = fill(&requester, 1_000).await;
    assert!(!requester.request("sum", "1").timeout(LONG).await.unwrap_err().maybe_written());
    drop(large);
    fill(&requester, 100).await.await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn without_room_a_call_fails_at_once_if_it_is_not_to_wait() {
    let stage = Stage::in_memory(1).await;
    for (calls, bytes) in [(1, 1_000), (10, 10)] {
        let build = stage.client.requester().reply_topic(REPLIES).wait_for_room(false);
        let requester = build.max_in_flight(calls).max_in_flight_bytes(bytes).build().await.unwrap();
        let first = fill(&requester, 10).await;
        let started = tokio::time::Instant::now();
        let error = requester.request("sum", "1").await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed()), (ErrorKind::Full, Duration::ZERO));
        assert!(error.is_retriable() && !error.maybe_written(), "{error}");
        drop(first);
        assert!(requester.request("sum", "1").timeout(LONG).await.unwrap_err().is_timeout());
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_calls_up_to_its_limit_and_ends_the_rest() {
    let stage = Stage::in_memory(1).await;
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let calls = [fill(&requester, 1).await, fill(&requester, 2).await];
    for _ in 0..2 {
        beginnings.recv().await.unwrap();
    }
    gate.add_permits(1);
    let started = tokio::time::Instant::now();
    requester.drain(LONG).await;
    assert!((LONG..LONG * 2).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert!(requester.request("sum", "1").await.unwrap_err().is_closed());
    let mut answered = 0;
    for call in calls {
        match call.await {
            Ok(_) => answered += 1,
            Err(error) => assert!(error.is_closed(), "{error}"),
        }
    }
    assert_eq!((answered, requester.metrics().in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_with_nothing_in_flight_takes_no_time() {
    let stage = Stage::in_memory(1).await;
    let requester = stage.requester().await;
    let started = tokio::time::Instant::now();
    requester.drain(LONG).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}
