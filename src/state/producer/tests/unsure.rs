//! Batches of unknown fate: their numbers are given to nobody else, and what of them is still on its way harms nobody.
use super::*;

#[test]
fn a_record_of_unknown_fate_never_gives_its_number_to_another() {
    // The scenario in which franz-go loses a record with a success.
    let (mut world, mut log) = established();
    world.append(0, "a");
    let sent = world.request();
    log.append(&sent.parts[0].1); // stored, but the answer is lost
    world.disconnect(&sent, true);
    world.pass(Duration::from_secs(2));
    let again = world.request();
    assert_eq!(stamp(&again), stamp(&sent));
    world.answer(&again, NOT_LEADER, -1);
    world.pass(Duration::from_secs(118));
    assert!(world.error("a").is_timeout() && world.error("a").maybe_written());

    world.append(0, "b");
    let sent = world.request();
    assert_eq!(stamp(&sent), (1, 0), "under a new epoch");
    let (code, offset) = log.append(&sent.parts[0].1);
    world.answer(&sent, code, offset);
    assert_eq!(log.values, ["start", "a", "b"]);
    assert_eq!(world.offset("b"), Some(2));
    assert_eq!(world.identities, 1, "nobody was asked");
}

#[test]
fn a_record_that_was_never_stored_is_reported_so_and_its_number_is_free() {
    let (mut world, mut log) = established();
    world.append(0, "a");
    let sent = world.request();
    world.disconnect(&sent, false);
    world.pass(Duration::from_secs(2));
    let sent = world.request();
    world.answer(&sent, ErrorCode::NOT_ENOUGH_REPLICAS, -1);
    world.pass(Duration::from_secs(118));
    assert!(world.error("a").is_timeout() && !world.error("a").maybe_written());
    assert!(world.error("a").to_string().contains("NOT_ENOUGH_REPLICAS"), "{}", world.error("a"));
    world.append(0, "b");
    let sent = world.request();
    assert_eq!(stamp(&sent), (0, 1));
    log.append(&sent.parts[0].1);
    assert_eq!(log.values, ["start", "b"]);
}

#[test]
fn giving_up_waits_for_what_is_on_the_wire_before_the_epoch_ends() {
    let (mut world, _) = established();
    world.append_alone(0, "a");
    world.pass(Duration::from_secs(60));
    world.append_alone(0, "b");
    let mut sent = world.requests();
    assert_eq!(sent.len(), 2);
    sent.truncate(2);
    world.append_alone(0, "c");
    world.pass(Duration::from_secs(60));
    assert!(world.error("a").maybe_written());
    assert!(world.requests().is_empty(), "b is on the wire");
    world.answer(&sent[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    assert!(world.requests().is_empty(), "the answer to a is missing");
    world.disconnect(&sent[0], true);
    let next = world.request();
    assert_eq!(stamp(&next), (1, 0));
    assert!(!world.ended.contains_key("b"));
}

#[test]
fn an_unsure_batch_behind_a_given_up_one_is_settled_under_the_old_epoch() {
    let (mut world, mut log) = established();
    world.append_alone(0, "a");
    world.pass(Duration::from_secs(60));
    world.append_alone(0, "b");
    let sent = world.requests();
    for sent in &sent {
        log.append(&sent.parts[0].1);
    }
    world.pass(Duration::from_secs(59));
    for sent in &sent {
        world.disconnect(sent, true);
    }
    world.pass(Duration::from_secs(1));
    assert!(world.error("a").maybe_written());
    world.pass(Duration::from_secs(1));
    let again = world.request();
    assert_eq!(stamp(&again), (0, 2), "the same bytes");
    let (code, offset) = log.append(&again.parts[0].1);
    world.answer(&again, code, offset);
    assert_eq!(world.offset("b"), Some(2), "recognised, not written twice");
    world.append(0, "c");
    let sent = world.request();
    assert_eq!(stamp(&sent), (1, 0));
    log.append(&sent.parts[0].1);
    assert_eq!(log.values, ["start", "a", "b", "c"]);
}

#[test]
fn a_gap_that_the_node_sees_ends_the_epoch_and_the_batch_goes_again() {
    let (mut world, _) = established();
    world.append(0, "a");
    let sent = world.request();
    world.answer(&sent, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    let again = world.request();
    assert_eq!(stamp(&again), (1, 0));
    world.answer(&again, NONE, 5);
    assert_eq!(world.offset("a"), Some(5));
}

#[test]
fn a_forgotten_producer_begins_an_epoch_and_a_refused_one_gets_another_id() {
    for (code, next) in [
        (ErrorCode::UNKNOWN_PRODUCER_ID, (70, 1)),
        (ErrorCode::INVALID_PRODUCER_EPOCH, (71, 0)),
        (ErrorCode::INVALID_PRODUCER_ID_MAPPING, (71, 0)),
    ] {
        let (mut world, _) = established();
        world.append(0, "a");
        let sent = world.request();
        world.answer(&sent, code, -1);
        world.pass(Duration::from_secs(1));
        let again = header(&world.request().parts[0].1);
        assert_eq!((again.producer_id, again.producer_epoch, again.base_sequence), (next.0, next.1, 0));
    }
}

#[test]
fn a_request_that_arrives_long_after_it_was_given_up_does_not_get_in_behind_newer_records() {
    let (mut world, mut log) = established();
    world.append(0, "late");
    let floating = world.request();
    world.disconnect(&floating, true); // its bytes are on their way all the same
    world.pass(Duration::from_secs(120));
    assert!(world.error("late").maybe_written());
    world.append(0, "newer");
    let sent = world.request();
    let (code, offset) = log.append(&sent.parts[0].1);
    world.answer(&sent, code, offset);
    assert_eq!(log.append(&floating.parts[0].1).0, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(log.values, ["start", "newer"]);
}

#[test]
fn a_batch_whose_first_attempt_is_still_on_its_way_is_not_written_again_under_a_new_epoch() {
    let (mut world, mut log) = established();
    world.append_alone(0, "a");
    world.pass(Duration::from_secs(60));
    world.append_alone(0, "b");
    let floating = world.requests();
    for sent in &floating {
        world.disconnect(sent, true);
    }
    world.pass(Duration::from_secs(60));
    assert!(world.error("a").maybe_written());
    let again = world.request();
    let (code, _) = log.append(&again.parts[0].1);
    assert_eq!((stamp(&again), code), ((0, 2), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    world.answer(&again, code, -1);
    assert!(world.error("b").maybe_written(), "nobody knows where its first attempt is");
    for sent in &floating {
        log.append(&sent.parts[0].1);
    }
    world.append(0, "c");
    let sent = world.request();
    assert_eq!(stamp(&sent), (1, 0));
    log.append(&sent.parts[0].1);
    assert_eq!(log.values, ["start", "a", "b", "c"], "each once, in order");
}

#[test]
fn the_epoch_after_the_last_is_the_first_of_another_id() {
    let mut world = World::new(settings(), 1);
    world.append(0, "a");
    let Some(Request::InitProducerId { ticket }) = world.sender.poll_request(world.now) else { panic!() };
    let last = ProducerIdentity { id: 69, epoch: i16::MAX };
    world.sender.handle_identity(world.now, ticket, Ok(last));
    let sent = world.request();
    assert_eq!(header(&sent.parts[0].1).producer_epoch, i16::MAX);
    world.answer(&sent, ErrorCode::UNKNOWN_PRODUCER_ID, -1);
    world.pass(Duration::from_secs(1));
    assert_eq!((stamp(&world.request()), world.identities), ((0, 0), 1));
}

#[test]
fn a_duplicate_is_a_success_without_a_place() {
    let (mut world, _) = established();
    world.append(0, "a");
    let sent = world.request();
    world.answer(&sent, ErrorCode::DUPLICATE_SEQUENCE_NUMBER, -1);
    assert_eq!(world.offset("a"), None);
}

#[test]
fn what_is_left_at_the_end_is_settled_and_marked() {
    let (mut world, _) = established();
    world.append_alone(0, "sent");
    world.requests();
    world.append(0, "open");
    world.sender.abandon(&Error::closed("the producer"));
    world.settle();
    assert!(world.error("sent").is_closed() && world.error("sent").maybe_written());
    assert!(world.error("open").is_closed() && !world.error("open").maybe_written());
}
