//! Random groups, each plan certified: valid, balanced, the fewest moves, always the same.
use rand::prelude::*;

use super::certificate::{Cost, brute_force, can_be_evener, cost, improvement, owners, valid_owners};
use super::families::{FAMILIES, on_racks};
use super::*;

/// Weights for moves before racks and the reverse.
const MOVES_FIRST: (i64, i64) = (1000, 1);
const RACKS_FIRST: (i64, i64) = (1, 1000);

#[derive(Debug, Default, PartialEq)]
struct Tally {
    invalid: usize,
    not_best: usize,
    permuted: usize,
    unstable: usize,
    uneven: usize,
    moves: i64,
}

fn certify(family: usize, seeds: std::ops::Range<u64>, racks: bool) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let rng = &mut StdRng::seed_from_u64(seed * 10 + family as u64);
        let mut case = FAMILIES[family].1(rng);
        if racks {
            case = on_racks(rng, case);
        }
        for (assignor, weights) in [
            (CooperativeStickyAssignor::default(), MOVES_FIRST),
            (CooperativeStickyAssignor::default().racks_before_moves(), RACKS_FIRST),
        ] {
            if !racks && weights == RACKS_FIRST {
                continue;
            }
            let plan = assignor.plan(&case.group(|_| {})).partitions;
            let found = match owners(&case, &plan) {
                Ok(found) => found,
                Err(error) => {
                    tally.invalid += 1;
                    println!("seed {seed}: {error}: {case:?}");
                    continue;
                }
            };
            tally.moves += cost(&case, &found).moves;
            if let Some(error) = improvement(&case, &found, weights) {
                tally.not_best += 1;
                println!("seed {seed}: {error}: {case:?} {plan:?}");
            }
            tally.uneven += usize::from(!racks && can_be_evener(&case, &found));
            let again = assignor.plan(&case.group(|list| list.shuffle(rng))).partitions;
            tally.permuted += usize::from(again != plan);
            let fixed = assignor.plan(&case.after(&plan, 9).group(|_| {})).partitions;
            tally.unstable += usize::from(fixed != plan);
        }
    }
    tally
}

fn all_families(seeds: u64) {
    for (family, (name, _)) in FAMILIES.iter().enumerate() {
        for racks in [false, true] {
            let tally = certify(family, 0..seeds, racks);
            println!("{name}{}: {tally:?}", if racks { " on racks" } else { "" });
            assert_eq!(tally, Tally { moves: tally.moves, ..Tally::default() }, "{name}");
        }
    }
}

#[test]
fn every_plan_is_the_best_there_is() {
    all_families(300);
}

/// `cargo test --release --lib assignor -- --ignored --nocapture`
#[test]
#[ignore = "minutes in a debug build"]
fn every_plan_of_20000_groups_is_the_best_there_is() {
    all_families(20_000);
}

#[test]
fn no_plan_at_all_is_better_than_the_one_made() {
    let mut tried = 0;
    for seed in 0..4000 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut case = FAMILIES[seed as usize % FAMILIES.len()].1(rng);
        case.members.truncate(4);
        case.topics.iter_mut().for_each(|count| *count = (*count).min(3));
        let ways = (case.members.len() as f64).powi(case.topics.iter().sum::<i32>());
        if ways > 3e4 {
            continue;
        }
        tried += 1;
        let case = on_racks(rng, case);
        let assignor = CooperativeStickyAssignor::default();
        let plan = assignor.plan(&case.group(|_| {})).partitions;
        let Cost { squares, moves, across } = cost(&case, &owners(&case, &plan).unwrap());
        assert_eq!((squares, moves, across), brute_force(&case, false), "seed {seed}: {case:?}");
        let plan = assignor.racks_before_moves().plan(&case.group(|_| {})).partitions;
        let Cost { squares, moves, across } = cost(&case, &owners(&case, &plan).unwrap());
        assert_eq!((squares, across, moves), brute_force(&case, true), "seed {seed}: {case:?}");
    }
    assert!(tried > 500, "{tried}");
}

/// What another member may still be reading, by the words of the rule.
fn unsafe_to_hand_out(case: &Case, place: (usize, i32), member: usize) -> bool {
    let claims = |at: &usize| case.members[*at].owned.contains(&place);
    let others = (0..case.members.len()).filter(|at| *at != member).filter(claims);
    let newest = others.map(|at| case.members[at].generation).max();
    let own = claims(&member).then_some(case.members[member].generation);
    newest.is_some_and(|newest| own.is_none_or(|own| newest > own))
}

fn cooperative_rounds(seeds: u64) {
    let (mut unsafe_, mut withheld, mut wrongly) = (0, 0, 0);
    for seed in 0..seeds {
        let rng = &mut StdRng::seed_from_u64(seed * 2 + 1);
        let case = FAMILIES[3 + seed as usize % 2].1(rng);
        let assignor = CooperativeStickyAssignor::default();
        let group = case.group(|_| {});
        let (plan, round) = (assignor.plan(&group), assignor.assign(&group));
        for member in 0..case.members.len() {
            let handed = places(round.partitions(member));
            for place in places(plan.partitions(member)) {
                let risky = unsafe_to_hand_out(&case, place, member);
                let out = handed.contains(&place);
                unsafe_ += usize::from(risky && out);
                withheld += usize::from(risky && !out);
                wrongly += usize::from(!risky && !out);
            }
            assert!(handed.iter().all(|place| places(plan.partitions(member)).contains(place)));
        }
    }
    println!(
        "{seeds} cooperative rounds: {unsafe_} unsafe hand-outs, {withheld} withheld, {wrongly} needlessly"
    );
    assert_eq!((unsafe_, wrongly), (0, 0));
    assert!(withheld > 0);
}

#[test]
fn no_round_hands_out_what_another_member_may_still_read() {
    cooperative_rounds(1000);
}

/// `cargo test --release --lib assignor -- --ignored --nocapture`
#[test]
#[ignore = "with the other 20,000"]
fn no_round_of_20000_hands_out_what_another_member_may_still_read() {
    cooperative_rounds(20_000);
}

#[test]
fn two_rounds_settle_and_move_no_more_than_one_eager_plan() {
    for seed in 0..1500 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let case = FAMILIES[seed as usize % 3].1(rng);
        let assignor = CooperativeStickyAssignor::default();
        let eager = assignor.plan(&case.group(|_| {})).partitions;
        let first = assignor.assign(&case.group(|_| {})).partitions;
        let second = assignor.assign(&case.after(&first, 5).group(|_| {})).partitions;
        let third = assignor.assign(&case.after(&second, 6).group(|_| {})).partitions;
        assert_eq!(second, third, "seed {seed}: a third round changes something");
        let moves = |plan: &[Partitions]| cost(&case, &owners(&case, plan).unwrap());
        assert!(moves(&second).moves <= moves(&eager).moves, "seed {seed}");
        assert_eq!(moves(&second).squares, moves(&eager).squares, "seed {seed}");
        // Nobody gives up in the second round.
        for (before, after) in first.iter().zip(&second) {
            let after = places(after);
            assert!(places(before).iter().all(|place| after.contains(place)), "seed {seed}");
        }
        assert!(!valid_owners(&case).is_empty() || moves(&second).moves == 0);
    }
}

#[test]
fn the_certificate_refuses_what_is_worse() {
    for (given, plans) in [
        // What Java makes of it: unbalanced, though no single hand-over helps.
        (
            "t0:1 t1:2 | A t0,t1 @1 t1-0 t1-1 | B t0,t1 @1 t0-0 | C t0",
            [
                vec![vec![(1, 0), (1, 1)], vec![(0, 0)], vec![]],
                vec![vec![(1, 0)], vec![(1, 1)], vec![(0, 0)]],
            ],
        ),
        // Two moves, and one.
        (
            "t0:3 t1:2 | A t0,t1 @1 t0-0 t0-2 t1-1 | B t0,t1 @1 t0-1 t1-0 | C t1",
            [
                vec![vec![(0, 0), (0, 2)], vec![(0, 1), (1, 1)], vec![(1, 0)]],
                vec![vec![(0, 0), (0, 2)], vec![(0, 1), (1, 0)], vec![(1, 1)]],
            ],
        ),
    ] {
        let case = Case::read(given);
        let [worse, best] = plans.map(|plan| {
            let plan: Vec<Partitions> = plan
                .into_iter()
                .map(|places: Vec<(usize, i32)>| {
                    let mut partitions = Partitions::default();
                    places.into_iter().for_each(|(topic, number)| partitions.push(topic, number));
                    partitions
                })
                .collect();
            improvement(&case, &owners(&case, &plan).unwrap(), MOVES_FIRST)
        });
        assert!(worse.is_some() && best.is_none(), "{given}: {worse:?} {best:?}");
    }
    let case = Case::read("t0:2 t1:2 | A t0,t1 | B t0,t1");
    let owners = [((0, 0), 0), ((0, 1), 0), ((1, 0), 1), ((1, 1), 1)].into();
    assert!(can_be_evener(&case, &owners));
}
