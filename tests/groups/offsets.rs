//! What is committed, when, and what not.
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_is_finished_is_committed_by_itself_and_a_crash_repeats_only_the_rest() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 10);
    let mut consumer = build(eager(&client)).await;
    for number in 0..4 {
        assert_eq!(next(&mut consumer).await, (0, number));
    }
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(committed(&client, 0).await, Some(3));
    drop(consumer);
    let mut consumer = build(eager(&client)).await;
    assert_eq!(next(&mut consumer).await, (0, 3));
}

#[tokio::test(start_paused = true)]
async fn without_auto_commit_only_the_application_commits() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 10);
    let mut consumer = build(eager(&client).enable_auto_commit(false)).await;
    for number in 0..4 {
        assert_eq!(next(&mut consumer).await, (0, number));
    }
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(committed(&client, 0).await, None);
    within(consumer.handle().commit()).await.unwrap();
    assert_eq!(committed(&client, 0).await, Some(3), "another task cannot know that the fourth is done");
    within(consumer.commit()).await.unwrap();
    assert_eq!(committed(&client, 0).await, Some(4), "who reads can");
    assert_eq!(next(&mut consumer).await, (0, 4));
    within(consumer.close()).await;
    assert_eq!(committed(&client, 0).await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn an_application_says_itself_what_is_finished() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 10);
    let mut consumer = build(eager(&client).enable_auto_offset_store(false)).await;
    for number in 0..6 {
        assert_eq!(next(&mut consumer).await, (0, number));
    }
    within(consumer.commit()).await.unwrap();
    assert_eq!(committed(&client, 0).await, Some(0), "where it began");
    consumer.finish(("t", 0), CommittedOffset::from(2).metadata("half")).unwrap();
    within(consumer.commit()).await.unwrap();
    let offsets = within(consumer.committed([("t", 0), ("t", 1)])).await.unwrap();
    let found = offsets[&("t", 0).into()].as_ref().unwrap();
    assert_eq!((found.offset, &*found.metadata, found.leader_epoch), (2, "half", None));
    assert_eq!(offsets[&("t", 1).into()], None);
    // Never back, and never beyond what was handed out.
    consumer.finish(("t", 0), 1).unwrap();
    within(consumer.commit()).await.unwrap();
    assert_eq!(committed(&client, 0).await, Some(2));
    assert_eq!(consumer.finish(("t", 0), 7).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(consumer.finish(("t", 9), 0).unwrap_err().kind(), ErrorKind::Config);
    consumer.finish(("t", 0), 6).unwrap();
    within(consumer.close()).await;
    assert_eq!(committed(&client, 0).await, Some(6));
}

#[tokio::test(start_paused = true)]
async fn the_epoch_of_the_last_record_goes_with_the_offset() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 1);
    let mut consumer = build(eager(&client)).await;
    let batch = within(consumer.next()).await.unwrap().unwrap();
    within(consumer.commit()).await.unwrap();
    let offsets = within(consumer.committed([("t", 0)])).await.unwrap();
    let found = offsets.into_values().next().unwrap().unwrap();
    assert_eq!((found.offset, found.leader_epoch), (1, Some(batch.leader_epoch())));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_committed_before() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 2, 0, 3);
    let mut first = build(cooperative(&client).auto_commit_interval(3600 * SECOND)).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(next(&mut first).await);
    }
    let mut second = build(cooperative(&client)).await;
    let both = async { tokio::join!(first.next(), second.next()) };
    tokio::time::timeout(60 * SECOND, both).await.unwrap_err();
    assert_eq!((first.assignment().len(), second.assignment().len()), (1, 1));
    let moved = second.assignment()[0].partition();
    assert_eq!(committed(&client, moved).await, Some(3));
    assert_eq!(committed(&client, 1 - moved).await, None, "what stays is committed in its time");
}

#[tokio::test(start_paused = true)]
async fn a_seek_back_does_not_commit_back() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 5);
    let mut consumer = build(eager(&client)).await;
    for number in 0..4 {
        assert_eq!(next(&mut consumer).await, (0, number));
    }
    within(consumer.commit()).await.unwrap();
    consumer.seek(("t", 0), 0).unwrap();
    assert_eq!(next(&mut consumer).await, (0, 0));
    assert_eq!(next(&mut consumer).await, (0, 1));
    within(consumer.commit()).await.unwrap();
    assert_eq!(committed(&client, 0).await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_was_committed_the_reset_policy_says_where_to_begin() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 5);
    let mut strict = build(eager(&client).auto_offset_reset(OffsetReset::None)).await;
    let error = within(strict.next()).await.unwrap_err();
    assert_eq!((error.kind(), error.partition()), (ErrorKind::Position, Some(0)));
    within(strict.close()).await;
    let latest = build(eager(&client).auto_offset_reset(OffsetReset::Latest)).await;
    while latest.assignment().is_empty() {
        tokio::time::sleep(SECOND / 10).await;
    }
    assert_eq!(within(latest.position(("t", 0))).await.unwrap(), 5);
    within(latest.close()).await;
    // Nothing was read, yet whoever comes next begins there, too: what came in between would else be skipped.
    assert_eq!(committed(&client, 0).await, Some(5));
    fill(&broker, "t", 1, 5, 1);
    let mut latest = build(eager(&client).auto_offset_reset(OffsetReset::Latest)).await;
    assert_eq!(next(&mut latest).await, (0, 5));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_not_waited_for_goes_on() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 2);
    let mut consumer = build(eager(&client).enable_auto_commit(false)).await;
    assert_eq!(next(&mut consumer).await, (0, 0));
    drop(consumer.commit());
    tokio::time::sleep(SECOND).await;
    assert_eq!(committed(&client, 0).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_timed_commit_rests_while_the_group_rebalances() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 2, 0, 3);
    let mut first = build(cooperative(&client).auto_commit_interval(SECOND)).await;
    for _ in 0..6 {
        next(&mut first).await;
    }
    broker.faults().add(Fault::on(Api::SYNC_GROUP).times(2).delay(20 * SECOND));
    let mut second = build(cooperative(&client)).await;
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < 60 * SECOND {
        let _ = tokio::time::timeout(SECOND, first.next()).await;
        let _ = tokio::time::timeout(SECOND, second.next()).await;
    }
    assert_eq!((first.assignment().len(), second.assignment().len()), (1, 1));
    assert_eq!([committed(&client, 0).await, committed(&client, 1).await], [Some(3), Some(3)]);
}
