//! Scenarios, step by step.
use super::*;

#[test]
fn records_gather_while_the_node_has_no_room_and_go_in_one_request() {
    let mut world = World::new(Settings { max_in_flight: 1, ..settings() }, 2);
    world.append(0, "a");
    let first = world.request();
    for (key, value) in [(0, "b"), (1, "c"), (0, "d")] {
        world.append(key, value);
    }
    assert!(world.requests().is_empty());
    world.answer(&first, NONE, 0);
    let second = world.request();
    let mut parts: Vec<_> = second.parts.iter().map(|part| (part.0, header(&part.1).count)).collect();
    parts.sort_unstable();
    assert_eq!(parts, [(0, 2), (1, 1)]);
    world.answer_parts(second.ticket, &[(0, NONE, 1), (1, NONE, 9)]);
    assert_eq!((world.offset("b"), world.offset("d"), world.offset("c")), (Some(1), Some(2), Some(9)));
    assert!(world.sender.is_idle());
}

#[test]
fn an_open_batch_lingers_a_full_one_does_not() {
    let linger = Duration::from_millis(5);
    let mut world = World::with_batches(Settings { linger, ..settings() }, 1, 600);
    world.append(0, "a");
    assert!(world.requests().is_empty());
    world.pass(Duration::from_millis(4));
    assert!(world.requests().is_empty());
    world.pass(Duration::from_millis(1));
    let sent = world.request();
    world.answer(&sent, NONE, 0);
    world.append(0, &"x".repeat(300));
    world.append(0, &"y".repeat(300));
    assert_eq!(header(&world.request().parts[0].1).count, 1, "the full one only");
}

#[test]
fn a_waiting_send_ends_lingering() {
    let mut world = World::new(Settings { linger: Duration::from_secs(9), ..settings() }, 1);
    world.append(0, "a");
    assert!(world.requests().is_empty());
    world.sender.press(world.now, true);
    world.request();
}

#[test]
fn one_batch_is_in_flight_until_the_first_is_stored_then_five() {
    let mut world = World::new(settings(), 1);
    for at in 0..9 {
        world.append_alone(0, &format!("{at}"));
    }
    let first = world.request();
    assert!(world.requests().is_empty());
    world.answer(&first, NONE, 0);
    let rest = world.requests();
    assert_eq!(rest.iter().map(stamp).collect::<Vec<_>>(), [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
}

#[test]
fn batches_that_fail_together_go_again_in_order_with_their_numbers() {
    let (mut world, mut log) = established();
    for value in ["a", "b", "c"] {
        world.append_alone(0, value);
    }
    let sent = world.requests();
    let before: Vec<_> = sent.iter().map(stamp).collect();
    world.answer(&sent[0], NOT_LEADER, -1);
    assert!(world.requests().is_empty(), "later ones are not answered yet");
    world.disconnect(&sent[1], true);
    world.answer(&sent[2], NOT_LEADER, -1);
    assert!(world.refreshes > 0);
    world.lead(&[Some(2)], 1);
    // A new leader: one at a time until it has stored one; no backoff.
    let mut after = Vec::new();
    while let [sent] = world.requests().as_slice() {
        assert_eq!(sent.node, 2);
        after.push(stamp(sent));
        let (code, offset) = log.append(&sent.parts[0].1);
        world.answer(sent, code, offset);
        if after.len() == 1 {
            break;
        }
    }
    for sent in world.requests() {
        after.push(stamp(&sent));
        let (code, offset) = log.append(&sent.parts[0].1);
        world.answer(&sent, code, offset);
    }
    assert_eq!(before, after);
    assert_eq!(log.values, ["start", "a", "b", "c"]);
    assert_eq!(world.sender.counters().retries, 3);
}

#[test]
fn a_retry_waits_for_backoff_unless_the_leader_changes() {
    let (mut world, _) = established();
    world.append(0, "a");
    let sent = world.request();
    world.answer(&sent, ErrorCode::NOT_ENOUGH_REPLICAS, -1);
    assert!(world.requests().is_empty());
    world.pass(Duration::from_millis(79));
    assert!(world.requests().is_empty());
    world.pass(Duration::from_millis(42));
    world.request();
}

#[test]
fn a_batch_that_is_too_large_is_divided_until_it_fits_and_keeps_its_order() {
    let (mut world, mut log) = established();
    for at in 0..8 {
        world.append(0, &format!("{at}{}", "x".repeat(100)));
    }
    world.sender.buffers().0[0].close_open();
    world.sender.handle_appended(world.now, 0);
    world.append_alone(0, "last");
    let mut requests = world.requests();
    let mut rounds = 0;
    while !requests.is_empty() {
        rounds += 1;
        assert!(rounds < 50);
        for sent in std::mem::take(&mut requests) {
            let bytes = &sent.parts[0].1;
            let (code, offset) =
                if bytes.len() > 300 { (ErrorCode::MESSAGE_TOO_LARGE, -1) } else { log.append(bytes) };
            world.answer(&sent, code, offset);
        }
        requests = world.requests();
    }
    let order: Vec<_> = log.values.iter().map(|value| &value[..1]).collect();
    assert_eq!(order, ["s", "0", "1", "2", "3", "4", "5", "6", "7", "l"]);
    for (value, end) in &world.ended {
        let offset = end.as_ref().unwrap().unwrap();
        assert_eq!(&log.values[offset as usize], value);
    }
    assert_eq!(world.identities, 1, "numbers are kept");
    assert!(world.sender.counters().splits >= 3);
}

#[test]
fn a_record_that_is_too_large_alone_fails_alone() {
    let (mut world, _) = established();
    world.append_alone(0, "a");
    let sent = world.request();
    world.answer(&sent, ErrorCode::MESSAGE_TOO_LARGE, -1);
    assert_eq!(world.error("a").code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert!(!world.error("a").maybe_written());
    world.append_alone(0, "b");
    assert_eq!(stamp(&world.request()), (0, 1));
}

#[test]
fn the_record_that_spoils_a_batch_gets_its_own_message() {
    let (mut world, _) = established();
    world.append(0, "a");
    world.append(0, "b");
    let sent = world.request();
    let bad = BatchIndexAndErrorMessage::default()
        .with_batch_index(1)
        .with_batch_index_error_message(Some(StrBytes::from_static_str("no key")));
    let part = PartitionProduceResponse::default()
        .with_error_code(ErrorCode::INVALID_RECORD.code())
        .with_base_offset(-1)
        .with_record_errors(vec![bad]);
    world.answer_with(sent.ticket, vec![part]);
    assert!(world.error("b").to_string().starts_with("no key"), "{}", world.error("b"));
    assert!(world.error("a").to_string().starts_with("another record"), "{}", world.error("a"));
}

#[test]
fn a_silent_former_leader_is_left_after_a_moment() {
    let (mut world, mut log) = established();
    world.append_alone(0, "a");
    world.append_alone(0, "b");
    let stuck = world.requests();
    assert_eq!(stuck.len(), 2);
    world.lead(&[Some(2)], 1);
    assert!(world.requests().is_empty(), "it may still answer");
    world.pass(LEADER_MOVE_GRACE);
    let again = world.request();
    assert_eq!((again.node, stamp(&again)), (2, stamp(&stuck[0])));
    let (code, offset) = log.append(&again.parts[0].1);
    world.answer(&again, code, offset);
    let again = world.request();
    let (code, offset) = log.append(&again.parts[0].1);
    world.answer(&again, code, offset);
    // What the old leader says now is of no interest.
    world.answer(&stuck[0], NONE, 77);
    world.disconnect(&stuck[1], true);
    assert_eq!((world.offset("a"), world.offset("b")), (Some(1), Some(2)));
}

#[test]
fn a_silent_node_has_metadata_asked_for_every_second() {
    let (mut world, _) = established();
    world.append(0, "a");
    world.request();
    let before = world.refreshes;
    for _ in 0..3 {
        world.pass(Duration::from_millis(999));
        world.pass(Duration::from_millis(1));
    }
    assert_eq!(world.refreshes - before, 3);
}

#[test]
fn without_idempotence_one_batch_is_in_flight() {
    let mut world = World::new(Settings { acks: 1, idempotent: false, ..settings() }, 1);
    world.append_alone(0, "a");
    world.append_alone(0, "b");
    let sent = world.request();
    assert_eq!(stamp(&sent), (-1, -1));
    world.answer(&sent, NONE, 0);
    world.request();
    assert_eq!(world.identities, 0);
}

#[test]
fn an_answer_that_leaves_a_partition_out_settles_nothing() {
    let mut world = World::new(settings(), 2);
    world.append(0, "a");
    world.append(1, "b");
    let sent = world.request();
    world.answer_parts(sent.ticket, &[(1, NONE, 3)]);
    assert_eq!(world.offset("b"), Some(3));
    world.pass(Duration::from_secs(1));
    let again = world.request();
    assert_eq!(again.parts[0].0, 0);
}

#[test]
fn without_a_leader_metadata_is_asked_for_and_time_runs_out() {
    let mut world = World::new(settings(), 1);
    world.lead(&[None], 1);
    world.append(0, "a");
    assert!(world.requests().is_empty());
    let end = world.now + Duration::from_secs(120);
    let mut steps = 0;
    while !world.ended.contains_key("a") && world.pass_to_deadline() {
        world.requests();
        steps += 1;
    }
    assert_eq!(world.now, end);
    assert!(world.refreshes > 100 && steps < 1000, "{} refreshes in {steps} steps", world.refreshes);
    assert!(world.error("a").is_timeout() && !world.error("a").maybe_written());
    assert!(world.error("a").to_string().contains("no leader"), "{}", world.error("a"));
}

#[test]
fn no_right_to_a_producer_id_is_told_at_once() {
    let mut world = World::new(settings(), 1);
    world.append(0, "a");
    let Some(Request::InitProducerId { ticket }) = world.sender.poll_request(world.now) else { panic!() };
    let refusal = Error::broker(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, "no");
    world.sender.handle_identity(world.now, ticket, Err(refusal));
    world.settle();
    assert_eq!(world.error("a").code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
}

#[test]
fn sequence_numbers_wrap_to_zero() {
    use crate::record::batch::sequence_after;
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
}

#[test]
fn compressed_batches_are_sealed_ahead_and_keep_their_order() {
    let settings = Settings { compression: Compression::Lz4, linger: Duration::from_secs(1), ..settings() };
    let mut world = World::with_batches(settings, 1, 4096);
    let mut log = Log::default();
    for at in 0..200 {
        world.append(0, &format!("{at:03}{}", "x".repeat(97)));
    }
    world.settle();
    world.pass(Duration::from_secs(2));
    loop {
        let requests = world.requests();
        if requests.is_empty() {
            break;
        }
        for sent in requests {
            assert!(sent.parts[0].1.len() < 2048, "compressed");
            let (code, offset) = log.append(&sent.parts[0].1);
            world.answer(&sent, code, offset);
        }
    }
    assert_eq!(log.values.len(), 200);
    assert!(log.values.is_sorted());
    assert!(world.sender.is_idle());
}

#[test]
fn a_batch_that_cannot_be_sent_behind_one_in_flight_is_not_tried_again_and_again_without_a_pause() {
    let (mut world, _) = established();
    world.append_alone(0, "in flight");
    world.append_alone(0, "behind");
    let sent = world.requests();
    // Its node has left the cluster, which shows at once; the connection to it still stands.
    world.disconnect(&sent[1], false);
    assert!(world.requests().is_empty(), "it waits");
    world.pass(Duration::from_millis(130));
    assert_eq!(stamp(&world.request()), (0, 2));
    world.answer(&sent[0], NONE, 1);
}
