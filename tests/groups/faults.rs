//! Coordinators that move, hang, refuse.
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_again_and_again_costs_nothing() {
    let (broker, client) = start(Broker::builder().nodes(3)).await;
    broker.create_topic("t", 4).unwrap();
    let mut first = build(cooperative(&client)).await;
    let mut second = build(cooperative(&client)).await;
    let mut seen = Vec::new();
    for (round, api) in
        [Api::HEARTBEAT, Api::OFFSET_COMMIT, Api::HEARTBEAT, Api::OFFSET_COMMIT].into_iter().enumerate()
    {
        broker.faults().add(Fault::on(api).times(1).move_coordinator());
        fill(&broker, "t", 4, 10 * round as u32, 10);
        let begin = tokio::time::Instant::now();
        while begin.elapsed() < 30 * SECOND {
            tokio::select! {
                batch = first.next() => seen.push(read(&batch.unwrap().unwrap())),
                batch = second.next() => seen.push(read(&batch.unwrap().unwrap())),
                () = tokio::time::sleep(SECOND) => {}
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, all(4, 40), "no record was lost or repeated");
}

#[tokio::test(start_paused = true)]
async fn answers_that_get_lost_lose_no_membership() {
    for api in [
        Api::JOIN_GROUP,
        Api::SYNC_GROUP,
        Api::HEARTBEAT,
        Api::OFFSET_FETCH,
        Api::OFFSET_COMMIT,
        Api::FIND_COORDINATOR,
    ] {
        for lose in [Fault::drop_answer as fn(Fault) -> Fault, Fault::cut, Fault::cut_after, Fault::hang] {
            let (broker, client) = start(Broker::builder()).await;
            broker.create_topic("t", 2).unwrap();
            fill(&broker, "t", 2, 0, 3);
            broker.faults().add(lose(Fault::on(api).times(1)));
            let mut consumer = build(cooperative(&client)).await;
            let mut seen = Vec::new();
            for _ in 0..6 {
                seen.push(next(&mut consumer).await);
            }
            seen.sort_unstable();
            assert_eq!(seen, all(2, 3), "{api:?}");
            tokio::time::sleep(60 * SECOND).await;
            assert_eq!(consumer.assignment().len(), 2, "{api:?}");
            within(consumer.close()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_membership_that_was_lost_is_told_and_begins_again() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION] {
        let (broker, client) = start(Broker::builder()).await;
        broker.create_topic("t", 1).unwrap();
        let mut consumer = build(eager(&client)).await;
        assert_eq!(event(&mut consumer).await, "assigned 0");
        broker.faults().add(Fault::on(Api::HEARTBEAT).times(1).error(code));
        assert_eq!(event(&mut consumer).await, "lost 0");
        assert_eq!(event(&mut consumer).await, "assigned 0");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_what_was_lost_does_not_say_that_all_is_well() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 2);
    let mut consumer = build(eager(&client).enable_auto_commit(false)).await;
    assert_eq!(event(&mut consumer).await, "assigned 0");
    assert_eq!(event(&mut consumer).await, "0@0");
    broker.faults().add(Fault::on(Api::OFFSET_COMMIT).times(1).error(ErrorCode::UNKNOWN_MEMBER_ID));
    // The second has nothing to send, and still nothing of what was handed out is committed.
    for _ in 0..2 {
        let error = within(consumer.commit()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID));
    }
    assert_eq!(committed(&client, 0).await, None);
    assert_eq!(event(&mut consumer).await, "lost 0");
    within(consumer.commit()).await.unwrap();
    assert_eq!(event(&mut consumer).await, "assigned 0");
    assert_eq!(event(&mut consumer).await, "0@0");
    within(consumer.commit()).await.unwrap();
    assert_eq!(committed(&client, 0).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_may_not_be_used_is_an_error_until_it_is_tried_again() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    broker.faults().add(Fault::on(Api::JOIN_GROUP).times(1).error(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    let mut consumer = build(eager(&client)).await;
    for _ in 0..3 {
        let error = within(consumer.next()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    }
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(event(&mut consumer).await, "assigned 0");
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_ever_for_a_coordinator_that_hangs() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let mut consumer = build(eager(&client)).await;
    assert_eq!(event(&mut consumer).await, "assigned 0");
    broker.faults().add(Fault::on_any().hang());
    let begin = tokio::time::Instant::now();
    within(consumer.close()).await;
    assert!(begin.elapsed() <= 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_dropped_has_left_all_the_same() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 2);
    let mut consumer = build(eager(&client)).await;
    assert_eq!(next(&mut consumer).await, (0, 0));
    assert_eq!(next(&mut consumer).await, (0, 1));
    {
        let mut close = std::pin::pin!(consumer.close());
        std::future::poll_fn(|cx| {
            assert!(close.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    let begin = tokio::time::Instant::now();
    let mut second = build(eager(&client)).await;
    assert_eq!(next(&mut second).await, (0, 1));
    assert!(begin.elapsed() < 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_garbage_are_told_and_the_next_try_works() {
    for api in [Api::FIND_COORDINATOR, Api::JOIN_GROUP, Api::SYNC_GROUP, Api::HEARTBEAT, Api::OFFSET_FETCH] {
        for body in [&b""[..], &[0xff; 40], &[0; 200]] {
            let (broker, client) = start(Broker::builder()).await;
            broker.create_topic("t", 1).unwrap();
            fill(&broker, "t", 1, 0, 1);
            broker.faults().add(Fault::on(api).times(1).body(body.to_vec()));
            let mut consumer = build(eager(&client)).await;
            let error = loop {
                match within(consumer.next()).await {
                    Ok(batch) => drop(batch.unwrap()),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::Protocol, "{api:?}: {error}");
            assert_eq!(error.api(), Some(api.name()), "{error}");
            if api == Api::OFFSET_FETCH {
                consumer.seek(("t", 0), 0).unwrap();
            } else {
                consumer.subscribe(["t"]).unwrap();
            }
            assert_eq!(next(&mut consumer).await, (0, 0));
        }
    }
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 1);
    let mut consumer = build(eager(&client)).await;
    assert_eq!(next(&mut consumer).await, (0, 0));
    broker.faults().add(Fault::on(Api::OFFSET_COMMIT).times(1).body(vec![0xff; 40]));
    let error = within(consumer.commit()).await.unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::Protocol, Some("OffsetCommit")));
    within(consumer.commit()).await.unwrap();
}
