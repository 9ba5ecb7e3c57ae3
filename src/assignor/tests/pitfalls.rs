//! What assignors of other clients have got wrong, each by its number in our facts (groups-and-assignors, 2.5) and what it did.
use super::certificate::{improvement, owners};
use super::*;

fn cooperative() -> CooperativeStickyAssignor {
    CooperativeStickyAssignor::default()
}

/// All orders of `0..count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![vec![]] };
    let shorter = orders(last).into_iter();
    shorter
        .flat_map(|order| (0..count).map(move |at| [&order[..at], &[last], &order[at..]].concat()))
        .collect()
}

/// The group with its members in a given order.
fn in_order(case: &Case, order: &[usize]) -> Group {
    let mut lists = 0;
    case.group(|list| {
        lists += 1;
        // First come the topics, then the members, then what each says.
        if lists == 2 {
            *list = order.to_vec();
        }
    })
}

#[test]
fn p1_claims_of_two_in_one_generation_made_the_assignor_fail() {
    let case = Case::read("t:4 | a t @3 t-0 t-1 t-2 t-3 | b t @3 t-0 t-1 t-2 t-3 | c t @3 t-0");
    let plan = case.plan();
    assert!(owners(&case, &plan).is_ok());
    assert_eq!(plan.iter().map(Partitions::len).collect::<Vec<_>>(), [2, 1, 1]);
    // Nobody knows who reads them, so each goes to one of those who claim it, or waits.
    let round = cooperative().assign(&case.group(|_| {}));
    for member in 0..3 {
        assert!(
            places(round.partitions(member)).iter().all(|place| case.members[member].owned.contains(place))
        );
    }
}

#[test]
fn p2_a_stale_claim_let_a_partition_go_from_one_to_another_in_one_round() {
    // b was given t-1 in generation 5; a comes back from generation 3 and still claims it.
    let case = Case::read("t:4 | a t @3 t-0 t-1 | b t @5 t-1 t-2 t-3 | c t");
    let round = cooperative().assign(&case.group(|_| {})).partitions;
    for (member, partitions) in round.iter().enumerate() {
        for place in places(partitions) {
            let newer = case.members.iter().enumerate().any(|(other, of)| {
                other != member
                    && of.generation > case.members[member].generation
                    && of.owned.contains(&place)
            });
            assert!(!newer, "{}", case.show(&round));
        }
    }
}

#[test]
fn p3_with_racks_partitions_that_change_hands_were_handed_out_at_once() {
    let case = Case::read("t:4 | a t #x @1 t-0 t-1 t-2 t-3 | b t #y").on_racks(1, &["x", "y"]);
    let group = case.group(|_| {});
    let plan = cooperative().plan(&group).partitions;
    assert_eq!(case.show(&plan), "a t-0 t-2 | b t-1 t-3");
    assert_eq!(case.show(&cooperative().assign(&group).partitions), "a t-0 t-2 | b");
}

#[test]
fn p4_a_group_was_rebalanced_again_and_again() {
    let mut case = Case::read(
        "t0:3 t1:2 t2:7 | a t0,t1 @1 t0-0 t0-1 t0-2 | b t1,t2 @1 t2-0 t2-1 | c t2 @1 t2-2 | d t0,t2 | e t1",
    );
    let mut before = case.plan();
    for generation in 2..20 {
        case = case.after(&before, generation);
        let round = cooperative().assign(&case.group(|_| {})).partitions;
        assert_eq!(case.show(&round), case.show(&before));
        before = round;
    }
}

#[test]
fn p5_whole_topics_moved_together_when_a_member_joined() {
    let mut case = Case::read("t0:8 t1:8 t2:8 t3:8 | a t0,t1,t2,t3 | b t0,t1,t2,t3 | c t0,t1,t2,t3");
    case = case.after(&case.plan(), 1);
    case.members.push(Member { topics: vec![0, 1, 2, 3], generation: -1, ..Member::default() });
    case.ids.push("d".to_owned());
    let plan = case.plan();
    let joined: Vec<usize> = plan[3].iter().map(|(_, numbers)| numbers.len()).collect();
    assert_eq!(joined, [2, 2, 2, 2], "{}", case.show(&plan));
}

#[test]
fn p6_some_orders_of_members_never_came_to_an_end() {
    let case = Case::read(
        "t1:1 t2:1 t3:1 t4:1 t5:1 t6:1 | a t1,t2 @1 t1-0 | b t1,t2,t3,t4 @1 t2-0 t3-0 | c t2,t3,t4,t5,t6 @1 t4-0 t5-0 t6-0 | d t6 | e t1,t6",
    );
    let plan = case.plan();
    for order in orders(5) {
        assert_eq!(cooperative().plan(&in_order(&case, &order)).partitions, plan, "{order:?}");
    }
}

#[test]
fn p7_the_lowest_generation_won() {
    let keeps = |given| {
        let case = Case::read(given);
        case.show(&case.plan())
    };
    assert_eq!(keeps("t:2 | a t @1 t-0 | b t @2 t-0"), "a t-1 | b t-0");
    assert_eq!(keeps("t:2 | a t @2 t-0 | b t @1 t-0"), "a t-0 | b t-1");
    assert_eq!(keeps("t:2 | a t t-0 | b t @0 t-0"), "a t-1 | b t-0");
}

#[test]
fn p15_a_stale_claim_put_one_partition_on_two_members_and_another_on_none() {
    for given in [
        "t0:2 t1:2 | a t0,t1 @2 t0-0 t1-0 | b t0,t1 @1 t0-0 t1-1 | c t0 @1 t0-1 t0-0",
        "t0:3 t1:1 | a t0 @3 t0-0 t0-1 | b t0,t1 @2 t0-1 t0-2 | c t1 @1 t1-0 t0-2",
        "t0:1 t1:3 | a t1 @1 t1-0 t1-1 t1-2 | b t1 @2 t1-0 | c t0,t1 @2 t1-1 t0-0",
    ] {
        let case = Case::read(given);
        let plan = case.plan();
        let found = owners(&case, &plan).unwrap();
        assert_eq!(improvement(&case, &found, (1000, 1)), None, "{given}");
        for order in orders(3) {
            assert_eq!(cooperative().plan(&in_order(&case, &order)).partitions, plan, "{given} {order:?}");
        }
    }
}

#[test]
fn p16_a_stale_claimant_was_taken_for_the_owner_and_no_round_waited_for_the_real_one() {
    // The plan gives t-0 to a, whose claim is old; b reads it now.
    let case = Case::read("t:2 u:2 | a t @1 t-0 t-1 | b t,u @2 t-0 t-1 u-0 u-1");
    let group = case.group(|_| {});
    assert_eq!(case.show(&cooperative().plan(&group).partitions), "a t-0 t-1 | b u-0 u-1");
    let round = cooperative().assign(&group).partitions;
    assert_eq!(case.show(&round), "a | b u-0 u-1");
    let next = case.after(&round, 3);
    assert_eq!(next.show(&cooperative().assign(&next.group(|_| {})).partitions), "a t-0 t-1 | b u-0 u-1");
}

#[test]
fn kip_54_what_sticky_is_for() {
    let mut case = Case::read("t0:2 t1:2 t2:2 t3:2 | C0 t0,t1,t2,t3 | C1 t0,t1,t2,t3 | C2 t0,t1,t2,t3");
    case = case.after(&case.plan(), 1);
    case.members.remove(1);
    case.ids.remove(1);
    let plan = case.plan();
    for (member, before) in case.members.iter().enumerate() {
        assert_eq!(plan[member].len(), 4);
        assert!(before.owned.iter().all(|place| places(&plan[member]).contains(place)));
    }

    let mut case = Case::read("t0:1 t1:2 t2:3 | C0 t0 | C1 t0,t1 | C2 t0,t1,t2");
    let plan = case.plan();
    assert_eq!(case.show(&plan), "C0 t0-0 | C1 t1-0 t1-1 | C2 t2-0 t2-1 t2-2");
    case = case.after(&plan, 1);
    case.members.remove(0);
    case.ids.remove(0);
    assert_eq!(case.show(&case.plan()), "C1 t0-0 t1-0 t1-1 | C2 t2-0 t2-1 t2-2");
}
