use super::*;

const MILLI: Duration = Duration::from_millis(1);

fn settings() -> Settings {
    Settings { prefetch: 128 << 10, partition_max_bytes: 1 << 20, ..Settings::default() }
}

#[test]
fn the_next_fetch_leaves_before_anything_is_taken_and_asks_for_nothing_twice() {
    let mut world = World::new(1, 1, settings());
    world.nodes.append(0, 10);
    assert_eq!(world.asked(1, 0), Some(vec![(0, 0)]));
    world.answer(1, 0);
    assert_eq!(world.asked(1, 0), Some(vec![(0, 10)]));
    assert_eq!(world.offsets(), (0..10).collect::<Vec<_>>());
    // Parked again with nothing new: only differences are told.
    world.answer(1, 0);
    assert_eq!(world.asked(1, 0), Some(vec![]));
    assert_eq!(world.machine.metrics().fetched_bytes, world.machine.metrics().delivered_bytes);
}

#[test]
fn a_full_partition_is_forgotten_and_asked_for_again_when_there_is_room() {
    let mut world = World::new(1, 2, settings());
    for _ in 0..2000 {
        world.nodes.append(0, 1);
    }
    // Its share is half of 128 KiB, and it may have half of that when more is asked for.
    while world.asked(1, 0).is_some_and(|asked| asked.iter().any(|(partition, _)| *partition == 0)) {
        world.answer(1, 0);
    }
    let (_, plan) = world.fetch_of(1, 0).unwrap();
    assert_eq!(plan.forgotten.iter().map(|name| name.partition).collect::<Vec<_>>(), [0]);
    assert!(world.machine.metrics().buffered_bytes <= 64 << 10);
    assert!(world.fetch_of(1, 1).is_none());
    // The first is parked with the other partition: the second fetch brings this one's records.
    let mut next = 0;
    while world.fetch_of(1, 1).is_none() {
        let (partition, offsets, _) = world.next().unwrap().unwrap();
        assert_eq!((partition, offsets), (0, vec![next]));
        next += 1;
    }
    assert_eq!(world.asked(1, 1).unwrap()[0].0, 0);
    while next < 2000 {
        if world.fetch_of(1, 1).is_some() {
            world.answer(1, 1);
        }
        for offset in world.offsets() {
            assert_eq!(offset, next);
            next += 1;
        }
        world.pass(MILLI);
        if world.fetch_of(1, 1).is_none() && world.fetch_of(1, 0).is_some() {
            world.answer(1, 0);
        }
    }
    let metrics = world.machine.metrics();
    assert_eq!(metrics.fetched_bytes, metrics.delivered_bytes);
}

#[test]
fn a_slow_node_does_not_hold_up_another() {
    let mut world = World::new(2, 2, settings());
    for round in 0..50 {
        world.nodes.append(1, 1);
        world.answer(2, 0);
        assert_eq!(world.offsets(), [round]);
    }
    // The other node's one fetch is where it was.
    assert_eq!(world.asked(1, 0), Some(vec![(0, 0)]));
    let at = world.fetch_of(1, 0).unwrap().0;
    world.fail_at(at);
    assert!(world.fetch_of(1, 0).is_none() && world.fetch_of(2, 0).is_some());
    world.pass(130 * MILLI);
    assert_eq!(world.asked(1, 0), Some(vec![(0, 0)]));
    let failed = world.fetch_of(1, 0).unwrap().0;
    world.fail_at(failed);
    world.pass(130 * MILLI);
    assert!(world.fetch_of(1, 0).is_none(), "the second wait is longer");
    world.pass(130 * MILLI);
    assert!(world.fetch_of(1, 0).is_some());
}

#[test]
fn what_was_asked_before_a_seek_is_ignored() {
    let mut world = World::new(1, 1, settings());
    world.nodes.append(0, 10);
    world.nodes.append(0, 10);
    world.machine.seek(&tp(0), Offset::At(10));
    world.drain();
    // The parked one still asks for 0; the second goes for 10.
    assert_eq!(world.asked(1, 1), Some(vec![(0, 10)]));
    world.answer(1, 0);
    assert_eq!(world.offsets(), [0; 0]);
    assert!(world.machine.metrics().stale_bytes > 0);
    world.answer(1, 1);
    assert_eq!(world.offsets(), (10..20).collect::<Vec<_>>());
}

#[test]
fn a_partition_that_takes_the_place_of_a_removed_one_gets_none_of_its_records() {
    let mut world = World::unassigned(1, 2, settings());
    world.machine.add(world.now, tp(0), Some(Offset::At(0)));
    world.drain();
    world.nodes.append(0, 10);
    world.nodes.append(1, 3);
    world.machine.remove(&tp(0));
    world.machine.add(world.now, tp(1), Some(Offset::At(0)));
    world.drain();
    world.answer(1, 0);
    world.answer(1, 1);
    assert_eq!(world.next().unwrap().unwrap(), (1, vec![0, 1, 2], None));
    assert!(world.next().is_none());
}

#[test]
fn both_fetches_of_a_node_become_one_again() {
    let mut world = World::new(1, 2, settings());
    world.machine.seek(&tp(0), Offset::At(0));
    world.drain();
    assert!(world.fetch_of(1, 1).is_some());
    // Both are parked for as long as they may be, the second time and again.
    let (mut first, mut second) = (500, 40);
    for _ in 0..100 {
        world.pass(MILLI);
        (first, second) = (first - 1, second - 1);
        if second == 0 && world.fetch_of(1, 1).is_some() {
            world.answer(1, 1);
            second = world.fetch_of(1, 1).map_or(0, |(_, plan)| plan.max_wait.as_millis() as i64);
        }
        if first == 0 {
            world.answer(1, 0);
            first = world.fetch_of(1, 0).unwrap().1.max_wait.as_millis() as i64;
        }
    }
    for _ in 0..600 {
        world.pass(MILLI);
        (first, second) = (first - 1, second - 1);
        if second == 0 && world.fetch_of(1, 1).is_some() {
            world.answer(1, 1);
            second = world.fetch_of(1, 1).map_or(0, |(_, plan)| plan.max_wait.as_millis() as i64);
        }
        if first == 0 {
            world.answer(1, 0);
            first = world.fetch_of(1, 0).unwrap().1.max_wait.as_millis() as i64;
        }
    }
    assert!(world.fetch_of(1, 1).is_none() && world.fetch_of(1, 0).is_some());
}

#[test]
fn only_what_was_fetched_ahead_is_dropped_if_the_position_is_still_in_the_log() {
    let mut world = World::new(1, 1, settings());
    world.nodes.append(0, 10);
    world.nodes.append(0, 10);
    world.answer(1, 0);
    assert_eq!(world.next().unwrap().unwrap().1, (0..10).collect::<Vec<_>>());
    // The log is cut at 10, below what was fetched but not below what was handed out.
    world.nodes.logs[0].batches.pop();
    world.nodes.logs[0].end = 10;
    world.answer_with(1, 0, PartitionData { diverging: Some((0, 10)), ..data(0) });
    assert!(world.next().is_none());
    assert_eq!(world.asked(1, 0), Some(vec![(0, 10)]));
    world.nodes.append(0, 5);
    world.answer(1, 0);
    assert_eq!(world.next().unwrap().unwrap(), (0, (10..15).collect(), None));
}

#[test]
fn a_leader_and_a_replica_that_disagree_are_asked_at_the_pace_of_the_backoff() {
    let mut world = World::new(2, 1, Settings { rack: "r".into(), ..settings() });
    let redirect = || PartitionData { preferred_replica: Some(2), ..data(0) };
    world.answer_with(1, 0, redirect());
    assert_eq!(world.asked(2, 0), Some(vec![(0, 0)]));
    world.answer_with(2, 0, PartitionData { error: ErrorCode::OFFSET_OUT_OF_RANGE, ..data(0) });
    assert!(world.requests.is_empty(), "a wait comes first");
    world.pass(250 * MILLI);
    // The leader is asked without a rack, so that it answers itself.
    let (_, plan) = world.fetch_of(1, 0).unwrap();
    assert_eq!(&*plan.rack, "");
    world.answer_with(1, 0, redirect());
    assert!(world.requests.is_empty(), "a leader that insists is obeyed, but after a wait");
}

#[test]
fn a_replica_that_lags_behind_told_of_a_truncation_and_was_believed() {
    let mut world = World::new(2, 1, Settings { rack: "r".into(), ..settings() });
    world.nodes.append(0, 10);
    world.answer(1, 0);
    assert_eq!(world.next().unwrap().unwrap().1, (0..10).collect::<Vec<_>>());
    world.answer_with(1, 0, PartitionData { preferred_replica: Some(2), ..data(0) });
    // It was cut off from the others when its log ended at 4.
    world.answer_with(2, 0, PartitionData { diverging: Some((0, 4)), ..data(0) });
    world.pass(250 * MILLI);
    assert!(world.asked(1, 0).is_some(), "the leader decides whether the log was truncated");
    world.nodes.append(0, 5);
    world.answer(1, 0);
    assert_eq!(world.next().unwrap().unwrap(), (0, (10..15).collect(), None));
}

#[test]
fn an_answer_that_was_not_asked_for_or_comes_twice_changes_nothing() {
    let mut world = World::new(1, 1, settings());
    world.nodes.append(0, 3);
    let records = world.nodes.logs[0].batches[0].1.clone();
    let (at, plan) = world.fetch_of(1, 0).unwrap();
    let plan = plan.clone();
    let Request { ticket, .. } = world.requests.remove(at);
    let session_id = world.nodes.remember(&plan).unwrap();
    let partitions = vec![
        PartitionData { records: records.clone(), ..data(0) },
        PartitionData { records: records.clone(), ..data(0) },
        PartitionData { records: records.clone(), ..data(77) },
    ];
    let topics = vec![
        TopicData { name: Bytes::new(), id: Uuid::from_u128(7), partitions: partitions.clone() },
        TopicData { name: Bytes::new(), id: Uuid::from_u128(8), partitions: partitions.clone() },
        TopicData { name: Bytes::from_static(&[0xff]), id: Uuid::nil(), partitions },
    ];
    let response = FetchResponse { session_id, topics, ..FetchResponse::default() };
    world.machine.handle_fetch(world.now, ticket, Ok(response));
    world.drain();
    assert_eq!(world.offsets(), [0, 1, 2]);
}

#[test]
fn bytes_that_bring_no_batch_are_not_asked_for_in_a_loop() {
    let mut world = World::new(1, 1, settings());
    world.nodes.append(0, 1);
    let cut = world.nodes.logs[0].batches[0].1.slice(..30);
    let mut told = None;
    for _ in 0..5 {
        world.answer_with(1, 0, PartitionData { records: cut.clone(), ..data(0) });
        assert!(world.requests.is_empty());
        told = told.or(world.next());
        world.pass(1300 * MILLI);
    }
    assert_eq!(told.unwrap().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn throttling_is_obeyed() {
    let mut world = World::new(1, 1, settings());
    let (at, plan) = world.fetch_of(1, 0).unwrap();
    let plan = plan.clone();
    let Request { ticket, .. } = world.requests.remove(at);
    let response = FetchResponse { throttle_ms: 300, ..world.nodes.answer(1, &plan) };
    world.machine.handle_fetch(world.now, ticket, Ok(response));
    world.drain();
    assert!(world.requests.is_empty());
    assert!(matches!(world.machine.poll_event(), Some(Event::Throttle { node: 1, .. })));
    world.pass(301 * MILLI);
    assert!(world.fetch_of(1, 0).is_some());
}

#[test]
fn a_timestamp_that_matches_nothing_goes_to_the_end_as_it_was_before_the_question() {
    let mut world = World::unassigned(1, 1, settings());
    world.nodes.append(0, 10);
    world.machine.add(world.now, tp(0), Some(Offset::Timestamp(99)));
    world.drain();
    world.answer_at(0);
    // Written between the two questions: it must not be skipped.
    world.nodes.append(0, 1);
    let Request { ticket, what: What::Offsets(plan), .. } = world.requests.remove(0) else {
        panic!("not a lookup")
    };
    assert_eq!(plan.partitions[0].2, 99);
    let mut response = world.nodes.offsets(&plan);
    response.topics[0].partitions[0].offset = -1;
    world.machine.handle_offsets(world.now, ticket, Ok(response));
    world.drain();
    assert_eq!(world.asked(1, 0), Some(vec![(0, 10)]));
}

#[test]
fn a_leader_that_moved_is_asked_whether_the_position_is_in_its_log() {
    let mut world = World::new(2, 1, settings());
    world.nodes.append(0, 10);
    world.answer(1, 0);
    assert_eq!(world.offsets().len(), 10);
    world.nodes.lead(0, 2);
    world.metadata();
    let at = world.requests.iter().position(|request| request.node == 2).unwrap();
    assert!(matches!(&world.requests[at].what, What::Epochs(plan) if plan.partitions[0].2 == 0));
    world.answer_at(at);
    assert_eq!(world.asked(2, 0), Some(vec![(0, 10)]));
    // The old leader's parked answer says that it leads no more; nothing comes of it.
    world.answer(1, 0);
    assert!(world.machine.poll_event().is_none());
}

#[test]
fn a_position_that_was_looked_up_in_an_epoch_without_records_is_not_taken_for_truncated() {
    let mut world = World::unassigned(2, 1, Settings::default());
    world.nodes.append(0, 3);
    world.nodes.lead(0, 2);
    world.metadata();
    world.machine.add(world.now, tp(0), Some(Offset::End));
    world.drain();
    world.answer_at(0); // offset 3, by the leader of epoch 1
    // Nothing was written in epoch 1, so the next leader does not know it: before offset 3 stands epoch 0.
    world.nodes.lead(0, 1);
    world.metadata();
    let at = world.requests.iter().position(|request| matches!(request.what, What::Epochs(_)));
    let Request { ticket, .. } = world.requests.remove(at.expect("the position is checked"));
    let found = EpochEndOffset::default().with_partition(0).with_leader_epoch(0).with_end_offset(3);
    let topic = OffsetForLeaderTopicResult::default()
        .with_topic(TopicName::from(text(TOPIC)))
        .with_partitions(vec![found]);
    let response = OffsetForLeaderEpochResponse::default().with_topics(vec![topic]);
    world.machine.handle_epochs(world.now, ticket, Ok(response));
    world.drain();
    world.nodes.append(0, 1);
    world.answer(1, 0);
    let (_, offsets, reset) = world.next().unwrap().unwrap();
    assert_eq!((offsets, reset), (vec![3], None));
}

#[test]
fn a_position_that_is_refused_again_right_after_a_reset_is_not_looked_up_in_a_loop() {
    let mut world = World::new(1, 1, settings());
    world.nodes.append(0, 3);
    let refused = || PartitionData { error: ErrorCode::OFFSET_OUT_OF_RANGE, ..data(0) };
    world.answer_with(1, 0, refused());
    world.answer_at(0); // the beginning, at once
    world.answer_with(1, 0, refused());
    assert!(world.requests.is_empty(), "{:?}", world.requests);
    world.pass(130 * MILLI);
    world.answer_at(0);
    world.answer(1, 0);
    assert!(world.next().unwrap().unwrap().2.is_some());
}

#[test]
fn a_former_leader_was_asked_for_a_position_of_a_newer_one_and_all_was_read_again() {
    for makes_it_known in [true, false] {
        let mut world = World::unassigned(2, 1, Settings::default());
        world.nodes.append(0, 3);
        world.machine.add_waiting(world.now, tp(0));
        // A member that knew the leader of epoch 1 has committed; here only that of epoch 0 is known, which lacks what came after.
        world.machine.placed(world.now, &tp(0), Ok(Some((10, 1))));
        world.drain();
        assert!(world.requests.is_empty(), "{:?}", world.requests);
        assert!(matches!(world.machine.poll_event(), Some(Event::Refresh)));
        world.metadata();
        assert!(world.requests.is_empty(), "{:?}", world.requests);
        if makes_it_known {
            world.nodes.append(0, 7);
            world.nodes.lead(0, 2);
            world.metadata();
            let at =
                world.requests.iter().position(|request| request.node == 2).expect("the leader is asked");
            world.answer_at(at);
            assert_eq!(world.asked(2, 0), Some(vec![(0, 10)]));
        } else {
            // Epochs may have begun anew: it is not waited for ever.
            world.pass(Settings::default().grace);
            assert_eq!(world.asked(1, 0), Some(vec![(0, 10)]));
        }
    }
}

#[test]
fn what_comes_when_the_end_was_seen_was_written_after_that_whatever_clocks_say() {
    let mut world = World::new(1, 1, settings());
    let begin = world.now;
    let after = |world: &mut World| {
        let Some(Handover::Batch(taken)) = world.machine.take(world.now) else { panic!("no batch") };
        world.offsets();
        taken.after.map(|after| after - begin)
    };
    world.nodes.append(0, 10);
    world.answer(1, 0);
    assert_eq!(after(&mut world), None, "nobody knows how long that has been there");
    // The node leaves out what has not changed.
    world.pass(500 * MILLI);
    world.answer(1, 0);
    world.nodes.append(0, 1);
    world.pass(300 * MILLI);
    world.answer(1, 0);
    assert_eq!(after(&mut world), Some(500 * MILLI));
    world.nodes.append(0, 1);
    world.pass(100 * MILLI);
    world.answer(1, 0);
    assert_eq!(after(&mut world), Some(800 * MILLI), "the last answer brought all that there was");
    world.machine.seek(&tp(0), Offset::At(5));
    world.drain();
    world.answer(1, 1);
    assert_eq!(after(&mut world), None, "it was there before");
}

#[test]
fn who_decides_where_to_go_on_is_told_from_where_on_a_truncated_log_differs() {
    let mut world = World::new(1, 1, Settings { reset: OffsetReset::None, ..settings() });
    world.nodes.append(0, 10);
    world.answer(1, 0);
    assert_eq!(world.next().unwrap().unwrap().1, (0..10).collect::<Vec<_>>());
    world.answer_with(1, 0, PartitionData { diverging: Some((0, 4)), ..data(0) });
    assert_eq!(world.next().unwrap().unwrap_err().kind(), ErrorKind::Position);
    assert_eq!(world.machine.behind(&tp(0)), Some(4));
    world.machine.seek(&tp(0), Offset::At(4));
    assert_eq!(world.machine.behind(&tp(0)), None);
}
