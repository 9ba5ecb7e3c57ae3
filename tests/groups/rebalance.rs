//! Two members: what is taken from whom, when, and what the application is told.
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_eager_member_is_told_and_finishes_before_it_gives_up() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 2, 0, 3);
    let mut first = build(eager(&client)).await;
    assert_eq!(event(&mut first).await, "assigned 0 1");
    let mut seen = vec![event(&mut first).await];
    let mut second = build(eager(&client)).await;
    loop {
        match event(&mut first).await {
            told if told == "revoked 0 1" => break,
            record => seen.push(record),
        }
        tokio::time::sleep(SECOND).await;
    }
    // The second waits: nobody reads these partitions while the first works.
    tokio::time::timeout(20 * SECOND, second.next_event()).await.unwrap_err();
    within(first.commit()).await.unwrap();
    for _ in seen.len()..6 + 2 {
        let told = within(async {
            tokio::select! { told = event(&mut first) => told, told = event(&mut second) => told }
        });
        seen.push(told.await);
    }
    seen.sort_unstable();
    assert_eq!(
        seen,
        ["0@0", "0@1", "0@2", "1@0", "1@1", "1@2", "assigned 0", "assigned 1"],
        "nothing came twice"
    );
}

#[tokio::test(start_paused = true)]
async fn kept_partitions_flow_through_a_cooperative_round() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    let mut first = build(cooperative(&client)).await;
    assert_eq!(event(&mut first).await, "assigned 0 1");
    let mut second = build(cooperative(&client)).await;
    let (mut number, mut told, mut flowing) = (0, Vec::new(), 0);
    // JoinGroup of the first hangs for as long as it may.
    broker.faults().add(Fault::on(Api::SYNC_GROUP).delay(10 * SECOND));
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < 60 * SECOND {
        fill(&broker, "t", 2, number, 1);
        number += 1;
        while let Ok(event) = tokio::time::timeout(SECOND / 2, first.next_event()).await {
            match tell(event.unwrap().unwrap()) {
                record if record.contains('@') => flowing += usize::from(record.starts_with("0@")),
                event => told.push(event),
            }
        }
    }
    assert_eq!(told, ["revoked 1"]);
    assert_eq!(flowing, number as usize, "each record of the kept partition came in its time");
    assert_eq!(event(&mut second).await, "assigned 1");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_listen_keeps_a_partition_until_its_batch_is_finished() {
    for builder in [eager, cooperative] {
        let (broker, client) = start(Broker::builder()).await;
        broker.create_topic("t", 1).unwrap();
        fill(&broker, "t", 1, 0, 2);
        let mut first = build(builder(&client).group_instance_id("b")).await;
        assert_eq!(next(&mut first).await, (0, 0));
        // A member that comes first in the order of range; under the sticky one the first keeps it.
        let mut second = build(builder(&client).group_instance_id("a")).await;
        tokio::time::timeout(30 * SECOND, second.next()).await.unwrap_err();
        assert_eq!(first.assignment().len(), 1, "the batch is worked on");
        let record = within(async {
            tokio::select! { record = next(&mut first) => record, record = next(&mut second) => record }
        });
        assert_eq!(record.await, (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_while_nothing_changes() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let mut first = build(cooperative(&client)).await;
    assert_eq!(event(&mut first).await, "assigned 0");
    let second = build(cooperative(&client)).await;
    silent(&mut first, 30 * SECOND).await;
    assert!(second.assignment().is_empty());
    within(second.close()).await;
    silent(&mut first, 30 * SECOND).await;
    assert_eq!(first.assignment().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_away_for_too_long_loses_its_partitions_and_gets_them_back() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 2);
    let mut first = build(eager(&client).max_poll_interval(60 * SECOND)).await;
    assert_eq!(event(&mut first).await, "assigned 0");
    assert_eq!(event(&mut first).await, "0@0");
    tokio::time::sleep(61 * SECOND).await;
    let mut second = build(eager(&client)).await;
    assert_eq!(event(&mut second).await, "assigned 0");
    assert_eq!(event(&mut second).await, "0@0", "the first was not done with it");
    within(second.close()).await;
    assert_eq!(event(&mut first).await, "lost 0");
    assert_eq!(event(&mut first).await, "assigned 0");
    assert_eq!(event(&mut first).await, "0@0");
}

#[tokio::test(start_paused = true)]
async fn a_busy_application_misses_no_heartbeat() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 2);
    let mut first = build(eager(&client)).await;
    assert_eq!(event(&mut first).await, "assigned 0");
    assert_eq!(event(&mut first).await, "0@0");
    tokio::time::sleep(299 * SECOND).await;
    assert!(broker.requests(Api::HEARTBEAT) >= 95, "{}", broker.requests(Api::HEARTBEAT));
    assert_eq!(event(&mut first).await, "0@1");
    // A call that waits is no absence, and neither is one that was dropped just now.
    silent(&mut first, 299 * SECOND).await;
    tokio::time::sleep(200 * SECOND).await;
    fill(&broker, "t", 1, 2, 1);
    assert_eq!(event(&mut first).await, "0@2");
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_a_round() {
    for builder in [eager, cooperative] {
        let (broker, client) = start(Broker::builder()).await;
        broker.create_topic("t", 2).unwrap();
        let mut first = build(builder(&client).group_instance_id("a")).await;
        assert_eq!(event(&mut first).await, "assigned 0 1");
        first.pause(("t", 0)).unwrap();
        let mut second = build(builder(&client).group_instance_id("b")).await;
        let begin = tokio::time::Instant::now();
        while begin.elapsed() < 30 * SECOND {
            let _ = tokio::time::timeout(SECOND, first.next_event()).await;
            let _ = tokio::time::timeout(SECOND, second.next_event()).await;
        }
        assert_eq!(first.assignment(), [("t", 0).into()]);
        fill(&broker, "t", 2, 0, 1);
        assert_eq!(next(&mut second).await, (1, 0));
        silent(&mut first, 10 * SECOND).await;
        first.resume(("t", 0)).unwrap();
        assert_eq!(next(&mut first).await, (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_seek_while_the_offset_is_looked_up_wins() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 5);
    broker.faults().add(Fault::on(Api::OFFSET_FETCH).delay(5 * SECOND));
    let mut consumer = build(eager(&client)).await;
    assert_eq!(event(&mut consumer).await, "assigned 0");
    consumer.seek(("t", 0), 3).unwrap();
    assert_eq!(event(&mut consumer).await, "0@3");
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(event(&mut consumer).await, "0@4");
}

#[tokio::test(start_paused = true)]
async fn a_stream_hands_out_nothing_of_a_batch_whose_partition_was_lost() {
    use futures_core::Stream;
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let records = ["a", "b", "c"].map(Record::value);
    broker.append("t", 0, &records).unwrap();
    let mut consumer = build(eager(&client).max_poll_interval(60 * SECOND)).await;
    let mut stream = std::pin::pin!(consumer.stream());
    let mut next =
        async || std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await.unwrap().unwrap().offset();
    assert_eq!([within(next()).await, within(next()).await], [0, 1]);
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(within(next()).await, 0, "from where the group stands");
}

#[tokio::test(start_paused = true)]
async fn who_stops_to_listen_holds_up_nobody() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    let mut first = build(cooperative(&client)).await;
    assert_eq!(event(&mut first).await, "assigned 0 1");
    let mut second = build(cooperative(&client)).await;
    tokio::time::timeout(30 * SECOND, first.next()).await.unwrap_err();
    assert_eq!(event(&mut second).await, "assigned 1");
    assert_eq!(event(&mut first).await, "assigned 0", "who begins again is told what it has");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_leaves_after_an_error_is_missed() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let strict = eager(&client).auto_offset_reset(OffsetReset::None).max_poll_interval(60 * SECOND);
    let mut first = build(strict).await;
    within(first.next()).await.unwrap_err();
    assert_eq!(first.assignment().len(), 1);
    tokio::time::sleep(61 * SECOND).await;
    assert!(first.assignment().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_resume_without_a_pause_in_a_round_rewinds_nothing() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    broker.create_topic("u", 1).unwrap();
    fill(&broker, "t", 1, 0, 4);
    let mut first = build(cooperative(&client)).await;
    assert_eq!(event(&mut first).await, "assigned 0");
    assert_eq!([event(&mut first).await, event(&mut first).await], ["0@0", "0@1"]);
    first.subscribe(["t", "u"]).unwrap();
    first.resume(("t", 0)).unwrap();
    assert_eq!(event(&mut first).await, "0@2");
}
