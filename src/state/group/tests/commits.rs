//! Offsets: every answer to OffsetCommit and OffsetFetch.
use super::*;

#[test]
fn commits_go_out_one_after_the_other() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.commit(1, 0, 5);
    trace.commit(2, 0, 6);
    assert_eq!(trace.waiting(), ["commit"]);
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["commit 1: 1"]);
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["commit 2: 1"]);
}

#[test]
fn passing_codes_are_waited_out() {
    for (code, moved) in [
        (ErrorCode::NOT_COORDINATOR, true),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, true),
        (ErrorCode::REQUEST_TIMED_OUT, true),
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, false),
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, false),
    ] {
        let mut trace = Trace::stable(eager(), &[0]);
        trace.commit(1, 0, 5);
        trace.committed(code);
        assert!(trace.told().is_empty() && trace.waiting().is_empty(), "{code}");
        trace.pass(SECOND);
        if moved {
            trace.find();
        }
        trace.committed(ErrorCode::NONE);
        assert_eq!(trace.told(), ["commit 1: 1"], "{code}");
    }
    // Not for ever.
    let mut trace = Trace::stable(eager(), &[0]);
    trace.commit(1, 0, 5);
    for _ in 0..40 {
        if trace.waiting().contains(&"commit") {
            trace.committed(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        trace.pass(SECOND);
    }
    let told = trace.told();
    assert!(told[0].starts_with("commit 1: 0"), "{told:?}");
}

#[test]
fn what_is_wrong_with_the_commit_is_told_and_not_tried_again() {
    for code in [
        ErrorCode::OFFSET_METADATA_TOO_LARGE,
        ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::GROUP_ID_NOT_FOUND,
    ] {
        let mut trace = Trace::stable(eager(), &[0]);
        trace.commit(1, 0, 5);
        trace.committed(code);
        assert_eq!(trace.told(), [format!("commit 1: 0 {}", code.name())]);
        trace.pass(2 * SECOND);
        assert!(trace.waiting().is_empty() && trace.group.is_stable());
    }
}

#[test]
fn a_commit_that_finds_the_member_unknown_joins_at_once() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.commit(1, 0, 5);
    trace.committed(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(trace.told(), ["commit 1: 0 UNKNOWN_MEMBER_ID", "lost 0"]);
    assert_eq!(trace.subscription().3, Identity::none(), "no heartbeat is waited for");
    let mut trace = Trace::stable(eager(), &[0]);
    trace.commit(1, 0, 5);
    trace.committed(ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(trace.told(), ["commit 1: 0 ILLEGAL_GENERATION", "lost 0"]);
    assert_eq!(trace.subscription().3, Identity { generation: -1, member: "me".into() });
}

#[test]
fn a_commit_that_a_round_overtook_loses_nothing_and_may_be_repeated() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION] {
        let mut trace = Trace::stable(eager(), &[0]);
        trace.commit(1, 0, 5);
        trace.pass(3 * SECOND);
        trace.beats(ErrorCode::ILLEGAL_GENERATION);
        assert_eq!(trace.told(), ["lost 0"]);
        trace.committed(code);
        assert_eq!(trace.told(), ["commit 1: 0 REBALANCE_IN_PROGRESS retriable"]);
        assert_eq!(
            trace.subscription().3,
            Identity { generation: -1, member: "me".into() },
            "the id is kept"
        );
    }
}

#[test]
fn rebalance_in_progress_at_a_commit_joins_and_keeps_the_generation() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.commit(1, 0, 5);
    trace.committed(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(trace.told(), ["commit 1: 0 REBALANCE_IN_PROGRESS retriable"]);
    assert_eq!(trace.subscription().3.generation, 1);
}

#[test]
fn a_fenced_commit_is_fatal() {
    for code in [ErrorCode::FENCED_INSTANCE_ID, ErrorCode::GROUP_AUTHORIZATION_FAILED] {
        let mut trace = Trace::stable(Settings { instance: Some("i".into()), ..eager() }, &[0]);
        trace.commit(1, 0, 5);
        trace.committed(code);
        let name = code.name();
        assert_eq!(trace.told(), [format!("commit 1: 0 {name}"), "lost 0".into(), format!("failed {name}")]);
    }
}

#[test]
fn a_commit_that_gets_no_answer_is_sent_again() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.commit(1, 0, 5);
    trace.break_off("commit");
    trace.pass(SECOND);
    trace.find();
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["commit 1: 1"]);
}

#[test]
fn offsets_are_asked_for_until_they_are_known() {
    let mut trace = Trace::stable(eager(), &[0, 1, 2]);
    trace.group.fetch(names(&[0, 1, 2]));
    trace.fetched(
        ErrorCode::NONE,
        &[(0, 7, ErrorCode::NONE), (1, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT), (2, -1, ErrorCode::NONE)],
    );
    assert_eq!(
        trace.told(),
        ["0 at Some(7)", "2 at None"],
        "one open transaction does not hold up the others"
    );
    assert!(trace.waiting().is_empty());
    trace.pass(SECOND);
    trace.fetched(ErrorCode::NONE, &[(1, 9, ErrorCode::NONE)]);
    assert_eq!(trace.told(), ["1 at Some(9)"]);
}

#[test]
fn offsets_by_every_code_of_the_whole_answer() {
    for (code, moved) in [
        (ErrorCode::NOT_COORDINATOR, true),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, true),
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, false),
    ] {
        let mut trace = Trace::stable(eager(), &[0]);
        trace.group.fetch(names(&[0]));
        trace.fetched(code, &[]);
        assert!(trace.told().is_empty() && trace.waiting().is_empty(), "{code}");
        trace.pass(SECOND);
        if moved {
            trace.find();
        }
        trace.fetched(ErrorCode::NONE, &[(0, 7, ErrorCode::NONE)]);
        assert_eq!(trace.told(), ["0 at Some(7)"]);
    }
    let mut trace = Trace::stable(eager(), &[0]);
    trace.group.fetch(names(&[0]));
    trace.fetched(ErrorCode::GROUP_ID_NOT_FOUND, &[]);
    assert_eq!(trace.told(), ["0 at None"], "nobody has committed anything");
    trace.group.fetch(names(&[0]));
    trace.fetched(ErrorCode::GROUP_AUTHORIZATION_FAILED, &[]);
    assert_eq!(trace.told(), ["lost 0", "failed GROUP_AUTHORIZATION_FAILED"]);
}

#[test]
fn offsets_that_may_not_be_read_are_told_with_their_partition() {
    let mut trace = Trace::stable(eager(), &[0, 1]);
    trace.group.fetch(names(&[0, 1]));
    let refused = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    trace.fetched(ErrorCode::NONE, &[(0, -1, refused), (1, 3, ErrorCode::NONE)]);
    assert_eq!(trace.told(), ["0: TOPIC_AUTHORIZATION_FAILED", "1 at Some(3)"]);
    trace.group.fetch(names(&[0, 1]));
    trace.fetched(ErrorCode::NONE, &[(0, 3, ErrorCode::NONE)]);
    assert_eq!(trace.told(), ["0 at Some(3)", "1: "], "left out of the answer");
}

#[test]
fn no_answer_to_an_offset_fetch_means_to_ask_again() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.group.fetch(names(&[0]));
    trace.break_off("fetch");
    trace.pass(SECOND);
    trace.find();
    trace.fetched(ErrorCode::NONE, &[(0, 7, ErrorCode::NONE)]);
    assert_eq!(trace.told(), ["0 at Some(7)"]);
}

#[test]
fn a_member_that_had_left_joined_again_when_its_last_commit_was_refused() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.group.close(trace.now, 5, BTreeMap::from([(names(&[0]).remove(0), place(7))]));
    assert_eq!(trace.waiting(), ["commit", "leave"]);
    trace.committed(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(trace.waiting(), ["leave"]);
    trace.pass(60 * SECOND);
    assert_eq!(trace.waiting(), ["leave"]);
}

#[test]
fn a_commit_that_waits_ends_when_all_of_it_is_lost() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.commit(1, 0, 5);
    assert_eq!(trace.waiting(), ["sync"]);
    trace.sync_as(ErrorCode::UNKNOWN_MEMBER_ID, bytes::Bytes::new());
    assert_eq!(trace.told(), ["lost 0"]);
    assert_eq!(trace.told(), ["commit 1: 0 REBALANCE_IN_PROGRESS"]);
}

#[test]
fn a_commit_does_not_wait_for_a_round_that_waits_for_others() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    assert_eq!(trace.waiting(), ["join"]);
    trace.commit(1, 0, 5);
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["commit 1: 1"]);
    // Between the two answers it would be refused.
    trace.joined(2);
    trace.commit(2, 0, 6);
    assert_eq!(trace.waiting(), ["sync"]);
    trace.synced(&[0]);
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["commit 2: 1"]);
}

#[test]
fn a_commit_of_a_lost_partition_was_sent_again_under_the_next_identity() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.commit(1, 0, 10);
    let commit = trace.take("commit");
    trace.pass(4 * SECOND);
    trace.beats(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(trace.told(), ["lost 0"]);
    // Whoever had it meanwhile has committed more.
    let error = Error::new(ErrorKind::Connect, "the connection was lost");
    trace.group.handle_response(trace.now, commit.ticket, Err(error));
    assert_eq!(trace.told(), ["commit 1: 0 REBALANCE_IN_PROGRESS"]);
    trace.pass(2 * SECOND);
    trace.find();
    trace.joined(5);
    trace.synced(&[0]);
    trace.pass(2 * SECOND);
    assert!(!trace.waiting().contains(&"commit"));
}
