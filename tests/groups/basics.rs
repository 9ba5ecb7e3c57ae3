//! One member: what it gets, and where it goes on.
use crate::*;

#[tokio::test(start_paused = true)]
async fn a_member_reads_commits_and_the_next_goes_on_there() {
    for kind in [eager, modern] {
        let (broker, client) = start(Broker::builder()).await;
        broker.create_topic("t", 2).unwrap();
        fill(&broker, "t", 2, 0, 5);
        let mut seen = Vec::new();
        let mut consumer = build(kind(&client)).await;
        for _ in 0..6 {
            seen.push(next(&mut consumer).await);
        }
        within(consumer.commit()).await.unwrap();
        within(consumer.close()).await;
        let mut consumer = build(kind(&client)).await;
        for _ in 0..4 {
            seen.push(next(&mut consumer).await);
        }
        seen.sort_unstable();
        assert_eq!(seen, all(2, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_commits_what_is_finished_and_not_what_was_only_handed_out() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 5);
    let mut consumer = build(eager(&client)).await;
    for number in 0..3 {
        assert_eq!(next(&mut consumer).await, (0, number));
    }
    within(consumer.close()).await;
    assert_eq!(committed(&client, 0).await, Some(2), "the third record may be half done");
    let mut consumer = build(eager(&client)).await;
    assert_eq!(next(&mut consumer).await, (0, 2));
}

#[tokio::test(start_paused = true)]
async fn close_gives_the_partitions_to_others_at_once() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let begin = tokio::time::Instant::now();
    let first = build(eager(&client)).await;
    let mut second = build(eager(&client)).await;
    tokio::time::timeout(Duration::from_secs(30), second.next()).await.unwrap_err();
    within(first.close()).await;
    fill(&broker, "t", 1, 0, 1);
    assert_eq!(next(&mut second).await, (0, 0));
    assert!(begin.elapsed() < Duration::from_secs(45), "before the session of the first would have ended");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_dropped_is_missed_when_its_session_ends() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 2);
    let mut first = build(eager(&client)).await;
    assert_eq!(next(&mut first).await, (0, 0));
    drop(first);
    let begin = tokio::time::Instant::now();
    let mut second = build(eager(&client)).await;
    assert_eq!(next(&mut second).await, (0, 0), "it was not finished");
    let waited = begin.elapsed().as_secs();
    assert!((30..=60).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_comes_back_disturbs_nobody() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    let mut first = build(eager(&client).group_instance_id("one")).await;
    let mut second = build(eager(&client).group_instance_id("two")).await;
    let both = async {
        tokio::join!(
            tokio::time::timeout(Duration::from_secs(30), first.next()),
            tokio::time::timeout(Duration::from_secs(30), second.next())
        )
    };
    let (one, two) = both.await;
    assert!(one.is_err() && two.is_err(), "there is nothing to read");
    assert_eq!((first.assignment().len(), second.assignment().len()), (1, 1));
    let kept = second.assignment();
    within(second.close()).await;
    let second = build(eager(&client).group_instance_id("two")).await;
    assert_eq!(event(&mut first).await, "assigned 0", "what it had when it began to listen");
    silent(&mut first, Duration::from_secs(60)).await;
    assert_eq!(second.assignment(), kept);
}

#[tokio::test(start_paused = true)]
async fn a_second_member_under_the_same_instance_id_shuts_out_the_first() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let mut first = build(eager(&client).group_instance_id("one")).await;
    assert_eq!(event(&mut first).await, "assigned 0");
    let mut second = build(eager(&client).group_instance_id("one")).await;
    assert_eq!(event(&mut second).await, "assigned 0");
    assert_eq!(event(&mut first).await, "lost 0");
    for _ in 0..2 {
        let error = within(first.next()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::FENCED_INSTANCE_ID));
    }
}

#[tokio::test(start_paused = true)]
async fn topics_that_match_are_read_those_to_come_included() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("orders-1", 1).unwrap();
    broker.create_topic("other", 1).unwrap();
    fill(&broker, "orders-1", 1, 0, 1);
    fill(&broker, "other", 1, 0, 1);
    let builder = client.consumer().group("g").topics_matching(|name| name.starts_with("orders-"));
    let mut consumer = build(builder).await;
    let batch = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(batch.topic(), "orders-1");
    broker.create_topic("orders-2", 1).unwrap();
    fill(&broker, "orders-2", 1, 0, 1);
    let batch = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(batch.topic(), "orders-2");
    broker.delete_topic("orders-1").unwrap();
    loop {
        let _ = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await;
        let topics: Vec<_> = consumer.assignment().iter().map(|of| of.topic().to_owned()).collect();
        if topics == ["orders-2"] {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_are_read() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let mut consumer = build(cooperative(&client)).await;
    assert_eq!(event(&mut consumer).await, "assigned 0");
    broker.create_partitions("t", 3).unwrap();
    assert_eq!(event(&mut consumer).await, "assigned 1 2");
    silent(&mut consumer, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_exist_yet_is_waited_for() {
    let (broker, client) = start(Broker::builder()).await;
    let mut consumer = build(cooperative(&client)).await;
    silent(&mut consumer, Duration::from_secs(20)).await;
    broker.create_topic("t", 1).unwrap();
    assert_eq!(event(&mut consumer).await, "assigned 0");
}

#[tokio::test(start_paused = true)]
async fn the_subscription_can_change() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    broker.create_topic("u", 2).unwrap();
    let mut consumer = build(cooperative(&client)).await;
    assert_eq!(event(&mut consumer).await, "assigned 0");
    consumer.subscribe(["u"]).unwrap();
    assert_eq!(event(&mut consumer).await, "revoked 0");
    assert_eq!(event(&mut consumer).await, "assigned 0 1");
    consumer.subscribe([] as [&str; 0]).unwrap();
    assert_eq!(event(&mut consumer).await, "revoked 0 1");
    silent(&mut consumer, Duration::from_secs(60)).await;
    assert!(consumer.assignment().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_assigns_and_nobody_else() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let consumer = build(eager(&client)).await;
    let kind = |result: milena::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(consumer.assign([("t", 0)])), ErrorKind::Config);
    assert_eq!(kind(consumer.assign_topics(["t"])), ErrorKind::Config);
    assert_eq!(kind(consumer.add_partition(("t", 0), None).map(drop)), ErrorKind::Config);
    assert_eq!(kind(consumer.remove_partition(("t", 0)).map(drop)), ErrorKind::Config);
    let alone = build(client.consumer().topics(["t"])).await;
    assert_eq!(kind(alone.subscribe(["t"])), ErrorKind::Config);
    assert_eq!(kind(alone.finish(("t", 0), 0)), ErrorKind::Config);
    assert_eq!(kind(within(alone.handle().commit()).await), ErrorKind::Config);
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused() {
    let (_broker, client) = start(Broker::builder()).await;
    let group = || client.consumer().group("g").topics(["t"]);
    for (builder, part) in [
        (client.consumer().group("").topics(["t"]), "group id is empty"),
        (client.consumer().group("g"), "named topics"),
        (client.consumer().group("g").assign([("t", 0)]), "the group assigns"),
        (group().topics_matching(|_| true), "named topics"),
        (client.consumer().topics_matching(|_| true), "need a group"),
        (group().group_instance_id("a b"), "group_instance_id"),
        (group().group_instance_id("x".repeat(250)), "group_instance_id"),
        (group().heartbeat_interval(Duration::from_secs(45)), "heartbeat_interval"),
        (group().max_poll_interval(Duration::ZERO), "above zero"),
        (group().session_timeout(Duration::from_secs(1 << 32)), "24 days"),
        (group().assignors([]), "assignors"),
        (group().assignors([Arc::new(RangeAssignor) as _, Arc::new(RangeAssignor) as _]), "assignors"),
    ] {
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
    }
    let mut builder = client.consumer().topics(["t"]);
    for (key, text) in [
        ("group.id", "g"),
        ("group.instance.id", "i"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "1000"),
        ("max.poll.interval.ms", "60000"),
        ("rebalance.timeout.ms", "30000"),
        ("enable.auto.commit", "false"),
        ("auto.commit.interval.ms", "100"),
        ("enable.auto.offset.store", "false"),
        ("partition.assignment.strategy", "range,org.apache.kafka.clients.consumer.StickyAssignor"),
    ] {
        builder = builder.set(key, text).unwrap();
    }
    builder.build().await.unwrap();
    assert!(client.consumer().set("partition.assignment.strategy", "rang").is_err());
}
