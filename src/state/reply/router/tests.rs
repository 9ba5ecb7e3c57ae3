use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::state::reply::dialect::ReplyAddress;
use crate::topic_partition::TopicPartition;

fn router() -> (Router<u32>, Instant) {
    let mut router = Router::new(ReplyCorrelation::new(1, 2));
    settle(&mut router, 0);
    (router, Instant::now())
}

/// New calls point at this partition.
fn settle(router: &mut Router<u32>, partition: i32) {
    let address = Arc::new(ReplyAddress::new("replies", partition));
    router.homes_mut().settle(address, [partition].into(), Uuid::nil());
}

impl Router<u32> {
    /// A call that points at the present home.
    fn register(&mut self, deadline: Instant, sent: i64, waiter: u32) -> Result<(Ticket, ReplyId), u32> {
        let (home, _) = self.homes.home("replies").unwrap();
        self.register_at(home, deadline, sent, waiter)
    }
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
fn the_oldest_call_of_a_partition_tells_where_to_read_from() {
    let (mut router, now) = router();
    assert_eq!(router.oldest("replies", 0), None);
    let (_, first) = router.register(now + SECOND, 100, 1).unwrap();
    settle(&mut router, 1);
    router.register(now + SECOND, 200, 2).unwrap();
    // A clock that was set back must not hide a call.
    router.register(now + SECOND, 150, 3).unwrap();
    assert_eq!((router.oldest("replies", 0), router.oldest("replies", 1)), (Some(100), Some(150)));
    router.handle_reply(&first);
    assert_eq!((router.oldest("replies", 0), router.oldest("other", 1)), (None, None));
}

#[test]
fn a_partition_is_read_until_the_last_call_that_points_at_it_has_ended() {
    let (mut router, now) = router();
    let (_, first) = router.register(now + SECOND, 0, 1).unwrap();
    let (second, _) = router.register(now + SECOND, 0, 2).unwrap();
    settle(&mut router, 1);
    router.register(now + SECOND * 9, 0, 3).unwrap();
    assert_eq!(router.homes().draining(), 1);
    router.handle_reply(&first);
    assert_eq!(router.homes_mut().poll_release(), None);
    router.cancel(second);
    assert_eq!(router.homes_mut().poll_release(), Some(TopicPartition::new("replies", 0)));
    assert_eq!((router.homes_mut().poll_release(), router.homes().draining()), (None, 0));
}

#[test]
fn calls_end_with_the_topic_that_their_replies_were_to_come_on() {
    let (mut router, now) = router();
    let (_, old) = router.register(now + SECOND, 0, 1).unwrap();
    let homes: Vec<_> = router.homes().of("replies", 0).collect();
    settle(&mut router, 1);
    router.register(now + SECOND, 0, 2).unwrap();
    assert_eq!(router.abandon(&homes), [1]);
    assert_eq!((router.handle_reply(&old), router.in_flight()), (Addressee::Late, 1));
    assert_eq!(router.counts().gone, 1);
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
    Move(i32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..50).prop_map(Step::Register),
        (0usize..40).prop_map(Step::Reply),
        (0usize..40).prop_map(Step::Cancel),
        (0usize..40).prop_map(Step::Fail),
        (0u64..20).prop_map(Step::Advance),
        (0..4).prop_map(Step::Move),
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
                Step::Move(partition) => settle(&mut router, partition),
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
            prop_assert!(router.homes().draining() <= router.in_flight());
        }
        ended.extend(router.close());
        prop_assert_eq!(router.homes().draining(), 0);
        ended.sort_unstable();
        prop_assert_eq!(ended, (0..calls.len() as u32).collect::<Vec<_>>());
        let counts = router.counts();
        prop_assert_eq!(
            counts.registered,
            counts.answered + counts.timed_out + counts.failed + counts.cancelled + counts.closed
        );
    }
}

#[test]
fn a_call_of_several_replies_stays_until_the_last_one() {
    let (mut router, now) = router();
    let (_, id) = router.register(now + SECOND, 0, 1).unwrap();
    for _ in 0..2 {
        assert_eq!(router.handle_record(&id, |_| false), Addressee::Taken);
    }
    assert_eq!((router.in_flight(), router.counts().answered), (1, 0));
    assert_eq!(router.handle_record(&id, |_| true), Addressee::Waiter(1));
    assert_eq!(router.handle_record(&id, |_| panic!("it has ended")), Addressee::Duplicate);
    assert_eq!((router.in_flight(), router.next_deadline(), router.counts().answered), (0, None, 1));
}

#[test]
fn a_caller_that_has_enough_is_answered_and_not_cancelled() {
    let (mut router, now) = router();
    let (ticket, id) = router.register(now + SECOND, 0, 1).unwrap();
    assert_eq!(router.id(ticket), id);
    assert_eq!((router.finish(ticket), router.finish(ticket), router.cancel(ticket)), (Some(1), None, None));
    assert_eq!(router.handle_reply(&id), Addressee::Duplicate);
    assert_eq!((router.counts().answered, router.counts().cancelled), (1, 0));
}
