use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn router() -> (Router<u32>, Instant) {
    (Router::new(ReplyCorrelation::new(1, 2)), Instant::now())
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_reply_ends_its_call_and_no_other() {
    let (mut router, now) = router();
    let (_, first) = router.register(now + SECOND, 0, 10).unwrap();
    let (_, second) = router.register(now + SECOND, 0, 20).unwrap();
    assert_eq!(router.handle_reply(&second), Addressee::Waiter(20));
    assert_eq!(router.handle_reply(&second), Addressee::Duplicate);
    assert_eq!(router.in_flight(), 1);
    assert_eq!(router.handle_reply(&first), Addressee::Waiter(10));
    assert_eq!(router.next_deadline(), None);
}

#[test]
fn deadlines_pass_earliest_first_and_not_before_their_time() {
    let (mut router, now) = router();
    for (seconds, waiter) in [(3, 30), (1, 10), (2, 20), (2, 21)] {
        router.register(now + SECOND * seconds, 0, waiter).unwrap();
    }
    assert_eq!(router.next_deadline(), Some(now + SECOND));
    assert_eq!(router.expire(now + SECOND - Duration::from_nanos(1)), None);
    assert_eq!(router.expire(now + SECOND), Some(10));
    let at = now + SECOND * 2;
    assert_eq!([router.expire(at), router.expire(at), router.expire(at)], [Some(20), Some(21), None]);
    assert_eq!(router.next_deadline(), Some(now + SECOND * 3));
}

#[test]
fn a_reply_after_the_deadline_is_late_and_one_after_a_reply_is_a_duplicate() {
    let (mut router, now) = router();
    let (_, id) = router.register(now, 0, 1).unwrap();
    assert_eq!(router.expire(now), Some(1));
    assert_eq!(router.handle_reply(&id), Addressee::Late);
    assert_eq!(router.handle_reply(&id), Addressee::Duplicate);
}

#[test]
fn a_cancelled_call_leaves_nothing_behind() {
    let (mut router, now) = router();
    let (ticket, id) = router.register(now + SECOND, 0, 1).unwrap();
    assert_eq!(router.cancel(ticket), Some(1));
    assert_eq!((router.cancel(ticket), router.fail(ticket)), (None, None));
    assert_eq!((router.in_flight(), router.next_deadline()), (0, None));
    assert_eq!(router.handle_reply(&id), Addressee::Late);
}

#[test]
fn ids_that_were_never_given_out_are_strangers() {
    let (mut router, now) = router();
    router.register(now + SECOND, 0, 1).unwrap();
    let forged = ReplyCorrelation::new(1, 2).id(1);
    let foreign = ReplyCorrelation::new(3, 2).id(0);
    for id in [&forged[..], &foreign[..], b"", b"9d25be57-1c1c-4a4e-9c5a-6f1a3c1f0b7e"] {
        assert_eq!(router.handle_reply(id), Addressee::Stranger);
    }
    assert_eq!(router.counts().stranger, 4);
}

#[test]
fn the_oldest_call_tells_where_to_read_from() {
    let (mut router, now) = router();
    assert_eq!(router.oldest(), None);
    let (_, first) = router.register(now + SECOND, 100, 1).unwrap();
    router.register(now + SECOND, 200, 2).unwrap();
    assert_eq!(router.oldest(), Some(100));
    router.handle_reply(&first);
    assert_eq!(router.oldest(), Some(200));
}

#[test]
fn close_ends_every_call_once_and_refuses_new_ones() {
    let (mut router, now) = router();
    let (ticket, _) = router.register(now + SECOND, 0, 1).unwrap();
    router.register(now + SECOND, 0, 2).unwrap();
    assert_eq!(router.close(), [1, 2]);
    assert_eq!((router.close(), router.cancel(ticket)), (vec![], None));
    assert_eq!(router.register(now, 0, 3), Err(3));
    assert_eq!((router.in_flight(), router.next_deadline()), (0, None));
}

#[test]
fn calls_that_end_without_reply_do_not_pile_up() {
    let (mut router, now) = router();
    for waiter in 0..3 * REMEMBERED as u32 {
        let (ticket, _) = router.register(now + SECOND, 0, waiter).unwrap();
        router.cancel(ticket);
    }
    assert_eq!(router.unanswered.len(), REMEMBERED);
}

#[derive(Debug, Clone)]
enum Step {
    Register(u64),
    Reply(usize),
    Cancel(usize),
    Fail(usize),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..50).prop_map(Step::Register),
        (0usize..40).prop_map(Step::Reply),
        (0usize..40).prop_map(Step::Cancel),
        (0usize..40).prop_map(Step::Fail),
        (0u64..20).prop_map(Step::Advance),
    ]
}

proptest! {
    #[test]
    fn every_call_ends_exactly_once_and_never_after_its_deadline(steps in prop::collection::vec(step(), 1..200)) {
        let (mut router, start) = router();
        let mut now = start;
        let mut calls = Vec::new();
        let mut ended = Vec::new();
        for step in steps {
            match step {
                Step::Register(millis) => {
                    let deadline = now + Duration::from_millis(millis);
                    let waiter = calls.len() as u32;
                    let (ticket, id) = router.register(deadline, 0, waiter).unwrap();
                    calls.push((ticket, id, deadline));
                }
                Step::Reply(n) => {
                    if let Some((_, id, _)) = calls.get(n)
                        && let Addressee::Waiter(waiter) = router.handle_reply(id)
                    {
                        ended.push(waiter);
                    }
                }
                Step::Cancel(n) => ended.extend(calls.get(n).and_then(|call| router.cancel(call.0))),
                Step::Fail(n) => ended.extend(calls.get(n).and_then(|call| router.fail(call.0))),
                Step::Advance(millis) => {
                    now += Duration::from_millis(millis);
                    while let Some(waiter) = router.expire(now) {
                        prop_assert!(calls[waiter as usize].2 <= now);
                        ended.push(waiter);
                    }
                    prop_assert!(router.next_deadline().is_none_or(|deadline| deadline > now));
                }
            }
            prop_assert_eq!(router.in_flight(), calls.len() - ended.len());
            prop_assert_eq!(router.deadlines.len(), router.pending.len());
        }
        ended.extend(router.close());
        ended.sort_unstable();
        prop_assert_eq!(ended, (0..calls.len() as u32).collect::<Vec<_>>());
        let counts = router.counts();
        prop_assert_eq!(
            counts.registered,
            counts.answered + counts.timed_out + counts.failed + counts.cancelled + counts.closed
        );
    }
}
