//! Heartbeats, the session, and an application that is away.
use super::*;

#[test]
fn heartbeats_go_on_whatever_happens_but_while_the_group_is_joined() {
    let mut trace = Trace::stable(eager(), &[0]);
    for _ in 0..5 {
        trace.pass(3 * SECOND);
        trace.beats(ErrorCode::NONE);
    }
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    // The application takes its time to give up.
    for _ in 0..5 {
        trace.pass(3 * SECOND);
        trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    }
    trace.revoked();
    trace.pass(100 * SECOND);
    assert_eq!(trace.waiting(), ["join"], "the coordinator waits for others, and not for a heartbeat");
    trace.joined(2);
    trace.pass(3 * SECOND);
    assert_eq!(trace.waiting(), ["sync", "heartbeat"]);
}

#[test]
fn one_heartbeat_is_under_way_at_a_time() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(20 * SECOND);
    assert_eq!(trace.waiting(), ["heartbeat"]);
}

#[test]
fn a_heartbeat_that_fails_comes_again_soon() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(3 * SECOND);
    trace.break_off("heartbeat");
    trace.pass(SECOND / 2);
    trace.find();
    trace.pass(SECOND / 2);
    assert_eq!(trace.waiting(), ["heartbeat"]);
}

#[test]
fn a_silent_coordinator_is_looked_for_again_and_nothing_is_lost_by_that() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(3 * SECOND);
    trace.pass(45 * SECOND);
    assert_eq!(trace.waiting(), ["heartbeat", "find"]);
    assert!(trace.told().is_empty());
    assert_eq!(trace.group.identity().generation, 1);
}

#[test]
fn a_heartbeat_at_a_coordinator_that_hung_was_awaited_until_the_session_was_over() {
    for (interval, timeout) in [(SECOND, 3 * SECOND), (4 * SECOND, 4 * SECOND)] {
        let settings = Settings { session_timeout: 6 * SECOND, heartbeat_interval: interval, ..eager() };
        let mut trace = Trace::stable(settings, &[0]);
        trace.pass(interval);
        assert_eq!(trace.take("heartbeat").timeout, timeout);
    }
}

#[test]
fn a_fenced_member_learns_of_it_by_its_heartbeat() {
    for (code, told) in [
        (ErrorCode::FENCED_INSTANCE_ID, vec!["lost 0", "failed FENCED_INSTANCE_ID"]),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, vec!["lost 0", "failed GROUP_AUTHORIZATION_FAILED"]),
    ] {
        let mut trace = Trace::stable(Settings { instance: Some("i".into()), ..eager() }, &[0]);
        trace.pass(3 * SECOND);
        trace.beats(code);
        assert_eq!(trace.told(), told);
        assert!(trace.waiting().is_empty(), "a static member does not leave");
    }
}

#[test]
fn unknown_member_id_at_a_heartbeat_loses_all_and_the_id() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(trace.told(), ["lost 0"]);
    assert_eq!(trace.subscription().3, Identity::none());
}

#[test]
fn illegal_generation_at_a_heartbeat_keeps_the_id() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(trace.told(), ["lost 0"]);
    assert_eq!(trace.subscription().3, Identity { generation: -1, member: "me".into() });
}

#[test]
fn an_application_that_is_away_for_too_long_loses_all_and_comes_back() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.group.asked(trace.now, false);
    for _ in 0..99 {
        trace.pass(3 * SECOND);
        trace.beats(ErrorCode::NONE);
    }
    assert!(trace.told().is_empty());
    trace.pass(3 * SECOND);
    assert_eq!(trace.told(), ["lost 0"]);
    assert!(trace.waiting().contains(&"leave"));
    trace.open.clear();
    trace.pass(1000 * SECOND);
    assert!(trace.waiting().is_empty(), "it does not join before the application is back");
    trace.group.asked(trace.now, true);
    assert_eq!(trace.subscription().3, Identity::none());
}

#[test]
fn a_static_member_whose_application_is_away_does_not_leave() {
    let mut trace = Trace::stable(Settings { instance: Some("i".into()), ..eager() }, &[0]);
    trace.group.asked(trace.now, false);
    trace.pass(301 * SECOND);
    assert_eq!(trace.told(), ["lost 0"]);
    assert!(!trace.waiting().contains(&"leave"));
}

#[test]
fn the_time_in_which_the_application_waits_does_not_count() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.group.asked(trace.now, true);
    trace.pass(3000 * SECOND);
    assert!(trace.told().is_empty());
}

#[test]
fn a_member_that_is_not_asked_for_records_at_first_does_not_join_for_ever() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(300 * SECOND);
    assert_eq!(trace.told(), ["lost 0"]);
}

#[test]
fn a_member_that_had_left_without_a_coordinator_woke_its_shell_without_end() {
    let mut trace = Trace::stable(
        Settings { instance: Some("i".into()), max_poll_interval: 4 * SECOND, ..eager() },
        &[0],
    );
    trace.group.asked(trace.now, false);
    trace.pass(4 * SECOND - Duration::from_millis(50));
    trace.break_off("heartbeat");
    trace.pass(100 * SECOND);
    assert_eq!(trace.told(), ["lost 0"]);
    assert_eq!(trace.group.next_deadline(), None);
}
