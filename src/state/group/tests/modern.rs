//! The protocol of KIP-848: what a member says in its heartbeats, and what it does about the answers.
use kafka_protocol::messages::ConsumerGroupHeartbeatResponse;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment as Target, TopicPartitions};

use super::super::requests::BeatPlan;
use super::*;

fn modern() -> Settings {
    Settings { protocol: GroupProtocol::Consumer, remote_assignor: Some("uniform".into()), ..eager() }
}

fn target(topics: &[(&str, &[i32])]) -> Option<Target> {
    let topic = |(topic, partitions): &(&str, &[i32])| {
        TopicPartitions::default().with_topic_id(id_of(topic)).with_partitions(partitions.to_vec())
    };
    Some(Target::default().with_topic_partitions(topics.iter().map(topic).collect()))
}

impl Trace {
    /// The heartbeat that waits to be answered.
    fn beat(&mut self) -> (Request, BeatPlan) {
        let request = self.take("beat");
        let What::Beat(plan) = &request.what else { unreachable!() };
        let plan = plan.clone();
        (request, plan)
    }

    fn beat_is(&mut self, code: ErrorCode, epoch: i32, assignment: Option<Target>) -> BeatPlan {
        let (request, plan) = self.beat();
        let answer = ConsumerGroupHeartbeatResponse::default()
            .with_error_code(code.code())
            .with_member_id(Some(text(&plan.sender.identity.member)))
            .with_member_epoch(epoch)
            .with_heartbeat_interval_ms(5000)
            .with_assignment(assignment);
        self.answer(&request, Answer::Beat(answer));
        plan
    }

    fn beats_well(&mut self, epoch: i32, assignment: Option<Target>) -> BeatPlan {
        self.beat_is(ErrorCode::NONE, epoch, assignment)
    }

    fn beat_fails(&mut self, code: ErrorCode) -> BeatPlan {
        self.beat_is(code, 0, None)
    }

    /// A member in epoch 1 that owns these, and has said so.
    fn member(settings: Settings, partitions: &[i32]) -> Self {
        let mut trace = Self::new(settings);
        trace.find();
        trace.beats_well(1, target(&[("t", partitions)]));
        trace.told();
        if !partitions.is_empty() {
            trace.beats_well(1, None);
        }
        assert!(trace.waiting().is_empty() && trace.group.is_stable());
        trace
    }
}

/// What a heartbeat says is owned, of topic `t`.
fn owned(plan: &BeatPlan) -> Option<Vec<i32>> {
    let owned = plan.owned.as_ref()?;
    assert!(owned.iter().all(|(id, _)| *id == id_of("t")));
    Some(owned.iter().flat_map(|(_, partitions)| partitions.clone()).collect())
}

#[test]
fn a_sign_of_life_is_awaited_for_half_a_session_and_what_waits_in_line_for_longer() {
    let mut trace = Trace::new(modern());
    trace.find();
    assert_eq!(trace.beat().0.timeout, 30 * SECOND, "it joins");
    for (session, timeout) in [(20, 10 * SECOND), (6, 5 * SECOND)] {
        let mut trace = Trace::member(Settings { session_timeout: session * SECOND, ..modern() }, &[0]);
        trace.pass(5 * SECOND);
        assert_eq!(trace.beat().0.timeout, timeout);
    }
}

#[test]
fn the_first_heartbeat_says_everything_and_a_later_one_nothing() {
    let mut trace = Trace::new(modern());
    trace.find();
    let plan = trace.beats_well(3, target(&[("t", &[0, 2])]));
    assert_eq!((plan.sender.identity.generation, owned(&plan)), (0, Some(vec![])));
    assert_eq!(plan.topics, Some(vec!["t".into()]));
    assert_eq!((plan.rebalance_timeout, plan.assignor.as_deref()), (Some(300 * SECOND), Some("uniform")));
    assert_eq!(trace.told(), ["assigned 0 2"]);
    // At once: that the assignment has arrived.
    let plan = trace.beats_well(3, None);
    assert_eq!((plan.sender.identity.generation, owned(&plan)), (3, Some(vec![0, 2])));
    trace.pass(Duration::from_millis(4999));
    assert!(trace.waiting().is_empty(), "the coordinator wants a heartbeat every 5 s");
    trace.pass(Duration::from_millis(1));
    let plan = trace.beats_well(3, None);
    assert!(plan.owned.is_none() && plan.topics.is_none() && plan.rebalance_timeout.is_none());
    assert!(plan.assignor.is_none());
}

#[test]
fn what_is_given_up_is_shown_only_when_it_is() {
    let mut trace = Trace::member(modern(), &[0, 1, 2]);
    trace.pass(5 * SECOND);
    trace.beats_well(1, target(&[("t", &[0])]));
    assert_eq!(trace.told(), ["revoke 1 2"]);
    // While the application finishes its work the coordinator hears of the member, and not that anything is free.
    trace.pass(5 * SECOND);
    assert_eq!(trace.beats_well(1, None).owned, None);
    trace.revoked();
    let plan = trace.beats_well(2, None);
    assert_eq!((owned(&plan), plan.sender.identity.generation), (Some(vec![0]), 1));
    assert_eq!(trace.group.identity().generation, 2);
    assert!(trace.told().is_empty() && trace.group.is_stable());
}

#[test]
fn a_newer_assignment_replaces_one_that_is_being_taken_over() {
    let mut trace = Trace::member(modern(), &[0, 1]);
    trace.pass(5 * SECOND);
    trace.beats_well(1, target(&[("t", &[0])]));
    assert_eq!(trace.told(), ["revoke 1"]);
    trace.pass(5 * SECOND);
    trace.beats_well(1, target(&[("t", &[2, 3])]));
    assert!(trace.told().is_empty(), "one after the other");
    trace.revoked();
    assert_eq!(trace.told(), ["revoke 0"]);
    trace.revoked();
    assert_eq!(trace.told(), ["assigned 2 3"]);
    assert_eq!(owned(&trace.beats_well(2, None)), Some(vec![2, 3]));
}

#[test]
fn a_heartbeat_that_got_no_answer_is_said_again_in_full() {
    let mut trace = Trace::member(modern(), &[0, 1]);
    trace.pass(5 * SECOND);
    trace.break_off("beat");
    trace.pass(2 * SECOND);
    trace.find();
    let plan = trace.beats_well(1, target(&[("t", &[0, 1])]));
    assert_eq!((owned(&plan), plan.topics.is_some()), (Some(vec![0, 1]), true));
    assert!(trace.told().is_empty(), "what it owns is still owned");
}

#[test]
fn who_owns_nothing_says_so_in_every_heartbeat() {
    let mut trace = Trace::member(modern(), &[]);
    trace.pass(5 * SECOND);
    // An assignment that was lost on the way comes again that way.
    assert_eq!(owned(&trace.beats_well(1, target(&[("t", &[3])]))), Some(vec![]));
    assert_eq!(trace.told(), ["assigned 3"]);
}

#[test]
fn fenced_or_unknown_all_is_lost_and_joined_anew_under_the_same_id() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID] {
        let mut trace = Trace::member(modern(), &[0, 1]);
        let member = trace.group.identity().member.clone();
        trace.pass(5 * SECOND);
        trace.beat_fails(code);
        assert_eq!(trace.told(), ["lost 0 1"]);
        let plan = trace.beats_well(9, target(&[("t", &[1])]));
        assert_eq!((plan.sender.identity.generation, plan.sender.identity.member.clone()), (0, member));
        assert_eq!((owned(&plan), plan.topics.is_some()), (Some(vec![]), true));
        assert_eq!(trace.told(), ["assigned 1"]);
    }
}

#[test]
fn a_coordinator_that_fences_every_join_is_asked_at_the_pace_of_the_backoff() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.pass(5 * SECOND);
    trace.beat_fails(ErrorCode::FENCED_MEMBER_EPOCH);
    trace.beat_fails(ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(trace.waiting().is_empty());
    trace.pass(SECOND);
    assert_eq!(trace.waiting(), ["beat"]);
}

#[test]
fn another_coordinator_is_found_and_told_everything() {
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        let mut trace = Trace::member(modern(), &[0]);
        trace.pass(5 * SECOND);
        trace.beat_fails(code);
        trace.pass(SECOND);
        trace.find();
        assert_eq!(owned(&trace.beats_well(1, None)), Some(vec![0]));
        assert!(trace.told().is_empty());
    }
}

#[test]
fn a_coordinator_that_is_loading_is_asked_again_in_full_after_a_wait() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.pass(5 * SECOND);
    trace.beat_fails(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert!(trace.waiting().is_empty());
    trace.pass(SECOND);
    assert_eq!(owned(&trace.beats_well(1, None)), Some(vec![0]));
}

#[test]
fn errors_that_no_attempt_changes_end_it() {
    for code in [
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::UNSUPPORTED_ASSIGNOR,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::INVALID_REQUEST,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::INVALID_REGULAR_EXPRESSION,
        ErrorCode::GROUP_ID_NOT_FOUND,
        ErrorCode::UNSUPPORTED_VERSION,
    ] {
        let mut trace = Trace::member(modern(), &[0]);
        trace.pass(5 * SECOND);
        trace.beat_fails(code);
        assert_eq!(trace.told(), ["lost 0".to_owned(), format!("failed {}", code.name())]);
        trace.pass(60 * SECOND);
        trace.open.retain(|request| !matches!(request.what, What::Beat(_)));
        assert!(trace.waiting().is_empty(), "{code}");
    }
}

#[test]
fn an_instance_that_is_not_free_yet_is_asked_for_three_times() {
    let mut trace = Trace::new(Settings { instance: Some("i".into()), ..modern() });
    trace.find();
    for _ in 0..3 {
        trace.beat_fails(ErrorCode::UNRELEASED_INSTANCE_ID);
        assert!(trace.told().is_empty());
        trace.pass(2 * SECOND);
    }
    trace.beat_fails(ErrorCode::UNRELEASED_INSTANCE_ID);
    assert_eq!(trace.told(), ["failed UNRELEASED_INSTANCE_ID"]);
}

#[test]
fn topics_that_may_not_be_read_are_told_once_and_heartbeats_go_on() {
    let mut trace = Trace::member(modern(), &[0]);
    for told in [1, 0] {
        trace.pass(5 * SECOND);
        trace.beat_fails(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        assert_eq!(trace.told(), vec!["warned TOPIC_AUTHORIZATION_FAILED"; told]);
    }
    trace.pass(5 * SECOND);
    trace.beats_well(1, None);
}

#[test]
fn a_commit_of_a_past_epoch_is_tried_again_in_the_present_one() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.commit(1, 0, 10);
    trace.committed(ErrorCode::STALE_MEMBER_EPOCH);
    // The epoch is asked for at once.
    trace.beats_well(2, None);
    trace.pass(SECOND);
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["commit 1: 1"]);
}

#[test]
fn leaving_says_so_and_a_static_member_that_it_comes_back() {
    for (instance, epoch) in [(None, -1), (Some("i".into()), -2)] {
        let mut trace = Trace::member(Settings { instance, ..modern() }, &[0]);
        trace.group.close(trace.now, 5, BTreeMap::from([(names(&[0]).remove(0), place(7))]));
        assert_eq!(trace.waiting(), ["commit", "beat"]);
        assert_eq!(trace.take("commit").node, Some(1));
        let (request, plan) = trace.beat();
        assert_eq!(plan.sender.identity.generation, epoch);
        assert!(!trace.group.is_gone() || trace.open.is_empty());
        trace.answer(&request, Answer::Beat(ConsumerGroupHeartbeatResponse::default()));
    }
}

#[test]
fn an_application_that_is_late_leaves_and_joins_again_when_it_is_back() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.group.asked(trace.now, false);
    for _ in 0..60 {
        trace.pass(5 * SECOND);
        if !trace.waiting().is_empty() && trace.group.identity().generation > 0 {
            trace.beats_well(1, None);
        }
    }
    assert_eq!(trace.told(), ["lost 0"]);
    let (_, plan) = trace.beat();
    assert_eq!(plan.sender.identity.generation, -1);
    trace.pass(60 * SECOND);
    assert!(trace.waiting().is_empty());
    trace.group.asked(trace.now, true);
    assert_eq!(trace.beats_well(4, None).sender.identity.generation, 0);
}

#[test]
fn an_answer_that_comes_after_leaving_is_not_taken_for_that_to_the_next_join() {
    let mut trace = Trace::new(modern());
    trace.find();
    let (late, _) = trace.beat();
    trace.group.subscribe(trace.now, BTreeSet::new(), None);
    trace.group.subscribe(trace.now, topics(&["t"]), None);
    assert_eq!(trace.waiting(), ["beat", "beat"]);
    trace.answer(&late, Answer::Beat(ConsumerGroupHeartbeatResponse::default().with_member_epoch(1)));
    assert_eq!(trace.group.identity().generation, -1);
}

#[test]
fn a_subscription_that_changes_is_told_at_once() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    let plan = trace.beats_well(1, None);
    assert_eq!((plan.topics, plan.owned), (Some(vec!["t".into(), "u".into()]), None));
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    assert!(trace.waiting().is_empty());
    // To nothing: all is given up, then it leaves.
    trace.group.subscribe(trace.now, BTreeSet::new(), None);
    assert_eq!(trace.told(), ["revoke 0"]);
    assert!(trace.waiting().is_empty());
    trace.revoked();
    assert_eq!(trace.beat().1.sender.identity.generation, -1);
}

#[test]
fn a_topic_that_metadata_does_not_know_yet_is_waited_for() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.pass(5 * SECOND);
    trace.beats_well(2, target(&[("t", &[0, 1]), ("u", &[0])]));
    assert_eq!(trace.told(), ["assigned 1", "refresh"]);
    assert_eq!(owned(&trace.beats_well(2, None)), Some(vec![0, 1]), "what is known is acknowledged");
    trace.pass(SECOND);
    assert_eq!(trace.told(), ["refresh"]);
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 4), ("u", 1)]));
    assert_eq!(trace.told(), ["assigned 0"]);
    assert_eq!(trace.beats_well(2, None).owned.unwrap().len(), 2);
    trace.pass(3 * SECOND);
    assert!(trace.told().is_empty());
}

#[test]
fn nonsense_from_the_coordinator_is_an_error_or_is_left_out() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.pass(5 * SECOND);
    trace.beats_well(2, target(&[("t", &[0, -4, 0])]));
    assert!(trace.told().is_empty());
    trace.pass(5 * SECOND);
    trace.beats_well(-7, None);
    assert_eq!(trace.told(), ["lost 0", "failed "]);
}

#[test]
fn a_member_that_had_stood_still_waited_for_another_interval_before_it_gave_a_sign_of_life() {
    let mut trace = Trace::member(modern(), &[0]);
    trace.pass(5 * SECOND);
    let (request, _) = trace.beat();
    // The process stands still, and finds the answer when it goes on.
    trace.now += 40 * SECOND;
    let answer = ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some("me".into()))
        .with_member_epoch(1)
        .with_heartbeat_interval_ms(5000);
    trace.answer(&request, Answer::Beat(answer));
    assert_eq!(trace.waiting(), ["beat"]);
}
