//! `reply-sticky`: the plan of one round. Whole lives of groups are in `state/reply/home_claims`.
use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::prelude::*;

use crate::assignor::reply::wire::{
    Claim, Given, Hold, TopicClaims, TopicId, decode_claims, decode_given, encode_claims, encode_given,
};
use crate::assignor::reply::{Spread, plan};
use crate::assignor::{Group, GroupAssignment, GroupBuilder};

/// A member, with its claims to topic `t`.
#[derive(Clone, Debug)]
struct Member {
    id: String,
    instance: Option<String>,
    topics: Vec<&'static str>,
    claims: Vec<Claim>,
}

fn member(id: &str, claims: &[(i32, i32, Hold)]) -> Member {
    let claims =
        claims.iter().map(|&(partition, generation, hold)| Claim { partition, generation, hold }).collect();
    Member { id: id.into(), instance: None, topics: vec!["t"], claims }
}

fn add(builder: &mut GroupBuilder, member: &Member, id: TopicId) {
    let mut entry = builder.member(&*member.id);
    for topic in &member.topics {
        entry = entry.subscribe(topic);
    }
    if let Some(instance) = &member.instance {
        entry = entry.instance_id(&**instance);
    }
    let claims = TopicClaims { topic: "t", id, claims: member.claims.clone() };
    entry.user_data(encode_claims(&[claims]));
}

fn group(partitions: i32, members: &[Member]) -> Group {
    let mut builder = Group::builder();
    builder.topic("t", partitions);
    members.iter().for_each(|member| add(&mut builder, member, TopicId::default()));
    builder.build().unwrap()
}

/// For each member what it was told, and its partitions.
type Planned = BTreeMap<String, (Option<i32>, bool, Vec<i32>, Vec<i32>)>;

fn read(group: &Group, assignment: &GroupAssignment) -> Planned {
    let members = group.members().iter().enumerate().map(|(at, member)| {
        let told = decode_given(assignment.user_data(at).unwrap()).unwrap();
        let numbers = assignment.partitions(at).iter().flat_map(|(_, numbers)| numbers.to_vec()).collect();
        let told = told.into_iter().next();
        let told = told.map_or((None, false, vec![]), |given| (given.home, given.starved, given.lost));
        (member.member_id.clone(), (told.0, told.1, told.2, numbers))
    });
    members.collect()
}

fn planned(partitions: i32, members: &[Member], spread: Spread) -> Planned {
    let group = group(partitions, members);
    read(&group, &plan(&group, |_| TopicId::default(), spread))
}

#[test]
fn the_newest_claim_wins_then_a_pinned_one_then_a_static_members() {
    let lost = |a: (i32, Hold), b: (i32, Hold), instance: Option<&str>| {
        let mut b = member("b", &[(0, b.0, b.1)]);
        b.instance = instance.map(str::to_owned);
        let planned = planned(4, &[member("a", &[(0, a.0, a.1)]), b], Spread::None);
        let owner =
            planned.iter().find(|(_, member)| member.3.contains(&0)).map(|(id, _)| id.clone()).unwrap();
        let losers = planned.iter().filter(|(_, member)| member.2 == [0]).map(|(id, _)| id.clone());
        assert!(planned.values().all(|member| member.0.is_some()), "who lost gets another home: {planned:?}");
        (owner, losers.collect::<Vec<_>>().concat())
    };
    let answer = |owner: &str, loser: &str| (owner.to_owned(), loser.to_owned());
    assert_eq!(lost((5, Hold::Home), (7, Hold::Home), None), answer("b", "a"));
    assert_eq!(lost((7, Hold::Pinned), (5, Hold::Home), None), answer("a", "b"));
    assert_eq!(lost((5, Hold::Spare), (5, Hold::Home), None), answer("b", ""), "a spare is nothing to lose");
    assert_eq!(lost((5, Hold::Home), (5, Hold::Home), Some("i")), answer("b", "a"));
    assert_eq!(lost((5, Hold::Home), (5, Hold::Home), None), answer("a", "b"));
}

#[test]
fn of_pinned_partitions_the_one_that_was_the_home_stays_it() {
    let a = member("a", &[(1, 9, Hold::Pinned), (3, 4, Hold::Home), (5, 9, Hold::Pinned)]);
    assert_eq!(planned(6, &[a], Spread::None)["a"], (Some(3), false, vec![], vec![1, 3, 5]));
    let a = member("a", &[(1, 8, Hold::Pinned), (5, 9, Hold::Pinned)]);
    assert_eq!(planned(6, &[a], Spread::None)["a"].0, Some(5), "the newest, if it was lost");
}

#[test]
fn claims_of_a_topic_that_was_made_again_are_none() {
    let (old, new) = ([1; 16], [2; 16]);
    let home = |claimed: TopicId, known: TopicId, partition: i32| {
        let mut builder = Group::builder();
        builder.topic("t", 50);
        add(&mut builder, &member("a", &[(partition, 3, Hold::Home)]), claimed);
        let group = builder.build().unwrap();
        read(&group, &plan(&group, |_| known, Spread::None))["a"].0.unwrap()
    };
    let chosen = home(old, new, 7);
    assert_eq!(chosen, home(old, new, 8), "as if nothing was claimed");
    for (claimed, known) in [(old, old), (old, [0; 16]), ([0; 16], new)] {
        assert_eq!((home(claimed, known, 7), home(claimed, known, 8)), (7, 8));
    }
}

#[test]
fn a_static_member_without_memory_finds_the_home_it_had() {
    for seed in 0..50 {
        let mut ours = Member { instance: Some(format!("pod-{seed}")), ..member("x", &[]) };
        let first = planned(12, &[ours.clone(), member("a", &[(5, 1, Hold::Home)])], Spread::None);
        ours.id = format!("another-{seed}");
        let again = planned(12, &[ours.clone(), member("a", &[(5, 1, Hold::Home)])], Spread::None);
        assert_eq!(first["x"].0, again[&ours.id].0);
    }
}

#[test]
fn too_few_partitions_serve_static_members_first_and_the_others_are_told() {
    let mut members = ["a", "b", "c"].map(|id| member(id, &[]));
    members[2].instance = Some("i".into());
    let planned = planned(2, &members, Spread::All);
    let starved = planned.iter().filter(|(_, member)| member.1).map(|(id, _)| &**id);
    assert_eq!(starved.collect::<Vec<_>>(), ["b"], "{planned:?}");
    assert_eq!(planned["b"], (None, true, vec![], vec![]));
}

#[test]
fn a_newcomer_is_told_a_spare_of_another_as_home_before_that_one_gives_it_up() {
    let a = member("a", &[(0, 4, Hold::Home), (1, 4, Hold::Spare), (2, 4, Hold::Spare)]);
    let first = planned(3, &[a, member("b", &[])], Spread::All);
    assert_eq!(first["a"], (Some(0), false, vec![], vec![0, 1]));
    assert_eq!(first["b"], (Some(2), false, vec![], vec![]), "nobody else's requests name it");
    let a = member("a", &[(0, 5, Hold::Home), (1, 5, Hold::Spare)]);
    let second = planned(3, &[a, member("b", &[(2, 5, Hold::Home)])], Spread::All);
    assert_eq!(second["b"], (Some(2), false, vec![], vec![2]));
}

#[test]
fn members_of_other_clients_hold_what_they_own_as_spare() {
    let mut builder = Group::builder();
    builder.topic("t", 3);
    builder.member("a").subscribe("t").own("t", [0, 1, 2]).generation(3).user_data(&b"\xff\xff"[..]);
    builder.member("b").subscribe("t");
    let group = builder.build().unwrap();
    let planned = read(&group, &plan(&group, |_| TopicId::default(), Spread::All));
    assert_eq!((planned["a"].3.len(), planned["b"].3.len()), (2, 0), "{planned:?}");
    assert!(planned["a"].0 != planned["b"].0);
}

#[test]
fn a_topic_that_is_not_known_yet_takes_no_home_away() {
    assert_eq!(
        planned(0, &[member("a", &[(0, 1, Hold::Home)])], Spread::None)["a"],
        (None, false, vec![], vec![])
    );
}

/// Random claims, honest or not.
fn anything(rng: &mut StdRng) -> (i32, Vec<Member>) {
    let partitions = rng.random_range(1..10);
    let members = (0..rng.random_range(1..8)).map(|at| {
        let claims = (0..rng.random_range(0..5)).map(|_| Claim {
            partition: rng.random_range(-1..11),
            generation: rng.random_range(-2..6),
            hold: [Hold::Spare, Hold::Pinned, Hold::Home][rng.random_range(0..3)],
        });
        let claims = claims.collect();
        let topics = if rng.random_bool(0.9) { vec!["t"] } else { vec![] };
        let instance = rng.random_bool(0.3).then(|| format!("i{at}"));
        Member { id: format!("m{at}"), instance, topics, claims }
    });
    (partitions, members.collect())
}

#[test]
fn every_plan_keeps_the_invariants() {
    for seed in 0..4000 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (partitions, mut members) = anything(rng);
        let spread = [Spread::None, Spread::All, Spread::Reserve(2)][rng.random_range(0..3)];
        let told = planned(partitions, &members, spread);
        let context = || format!("seed {seed}: {partitions} partitions, {spread:?}, {members:?}: {told:?}");

        // Deterministic, whatever came first.
        let mut shuffled = members.clone();
        shuffled.shuffle(rng);
        shuffled.iter_mut().for_each(|member| member.claims.shuffle(rng));
        assert_eq!(planned(partitions, &shuffled, spread), told, "{}", context());

        // One owner, who subscribes; one home.
        let mut owned: Vec<i32> = told.values().flat_map(|member| member.3.clone()).collect();
        owned.sort_unstable();
        let mut homes: Vec<i32> = told.values().filter_map(|member| member.0).collect();
        homes.sort_unstable();
        for list in [&owned, &homes] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{}", context());
            assert!(list.iter().all(|number| (0..partitions).contains(number)), "{}", context());
        }
        let subscribers: Vec<&Member> = members.iter().filter(|member| !member.topics.is_empty()).collect();
        for member in members.iter().filter(|member| member.topics.is_empty()) {
            assert_eq!(told[&member.id], (None, false, vec![], vec![]), "{}", context());
        }

        // A pin that nobody has an as good claim to stays; who lost one is told.
        let pinned = |member: &Member, number: i32| {
            let of = member.claims.iter().filter(|claim| claim.partition == number);
            of.max_by_key(|claim| (claim.generation.max(-1), claim.hold)).copied()
        };
        let mut pins = 0;
        for member in &subscribers {
            for number in 0..partitions {
                let Some(claim) = pinned(member, number) else { continue };
                let rivals = subscribers.iter().filter(|other| other.id != member.id);
                let best = rivals
                    .filter_map(|other| pinned(other, number))
                    .map(|claim| (claim.generation.max(-1), claim.hold > Hold::Spare))
                    .max();
                let ours = (claim.generation.max(-1), claim.hold > Hold::Spare);
                let has = told[&member.id].3.contains(&number);
                if claim.hold > Hold::Spare {
                    pins += usize::from(has);
                    assert!(has || best >= Some(ours), "a pin moved: {}", context());
                    assert_eq!(told[&member.id].2.contains(&number), !has, "{}", context());
                }
            }
        }

        // As many have a home as can be.
        let with_pins = subscribers.iter().filter(|member| {
            let numbers = &told[&member.id].3;
            numbers.iter().any(|number| pinned(member, *number).is_some_and(|claim| claim.hold > Hold::Spare))
        });
        let can = (partitions as usize - pins + with_pins.count()).min(subscribers.len());
        assert_eq!(homes.len(), can, "{}", context());
        for member in &subscribers {
            assert_eq!(told[&member.id].1, told[&member.id].0.is_none(), "{}", context());
        }

        // Two rounds settle, evenly but for pins, and then nothing changes.
        let mut last = Planned::new();
        for generation in [6, 7] {
            let now = planned(partitions, &members, spread);
            last.clone_from(&now);
            for member in members.iter_mut().filter(|member| !member.topics.is_empty()) {
                let (home, _, _, numbers) = &now[&member.id];
                let before = |number: &i32| {
                    let of = member.claims.iter().filter(|claim| claim.partition == *number);
                    of.max_by_key(|claim| (claim.generation.max(-1), claim.hold)).map(|claim| claim.hold)
                };
                let hold = |number: &i32| match before(number) {
                    _ if *home == Some(*number) => Hold::Home,
                    Some(Hold::Pinned | Hold::Home) => Hold::Pinned,
                    _ => Hold::Spare,
                };
                let mut numbers = numbers.clone();
                numbers.extend(home.filter(|home| !numbers.contains(home)));
                let claims =
                    numbers.iter().map(|number| Claim { partition: *number, generation, hold: hold(number) });
                member.claims = claims.collect();
            }
        }
        let settled = planned(partitions, &members, spread);
        let members_of = |number: usize| settled.values().map(move |member| member.3.len()).nth(number);
        last.values_mut().for_each(|member| member.2.clear());
        assert_eq!(settled, last, "seed {seed}: {partitions} partitions, {spread:?}, {members:?}");
        let is_pinned = |id: &str, number: &i32| {
            let member = members.iter().find(|member| member.id == id).unwrap();
            let of = member.claims.iter().find(|claim| claim.partition == *number);
            of.is_some_and(|claim| claim.hold > Hold::Spare)
        };
        let fewest = members.iter().filter(|member| !member.topics.is_empty());
        let fewest = fewest.map(|member| settled[&member.id].3.len()).min().unwrap_or(0);
        for (id, member) in &settled {
            let spare = member.3.iter().any(|number| !is_pinned(id, number));
            assert!(!spare || member.3.len() <= fewest + 1, "uneven: seed {seed} {spread:?} {settled:?}");
        }
        let given: usize = (0..settled.len()).filter_map(members_of).sum();
        let pins: usize =
            settled.iter().map(|(id, of)| of.3.iter().filter(|number| is_pinned(id, number)).count()).sum();
        if fewest > 0 {
            let wanted = match spread {
                Spread::None => pins,
                Spread::All => partitions as usize,
                Spread::Reserve(keep) => pins.max((partitions as usize).saturating_sub(keep)),
            };
            assert_eq!(given, wanted, "seed {seed} {spread:?} {settled:?}");
        }
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), at in 0..60usize, byte in any::<u8>()) {
        let claims = TopicClaims { topic: "t", id: [7; 16], claims: member("a", &[(0, 1, Hold::Home), (1, 1, Hold::Spare)]).claims };
        let mut damaged = encode_claims(std::slice::from_ref(&claims)).to_vec();
        prop_assert_eq!(decode_claims(&damaged), Some(vec![claims]));
        if let Some(place) = damaged.get_mut(at) {
            *place = byte;
        }
        for data in [bytes.clone(), [&[1], &bytes[..]].concat(), damaged] {
            let _ = decode_given(&data);
            let mut builder = Group::builder();
            builder.topic("t", 3);
            builder.member("a").subscribe("t").user_data(data);
            builder.member("b").subscribe("t");
            let group = builder.build().unwrap();
            let planned = read(&group, &plan(&group, |_| [7; 16], Spread::None));
            prop_assert!(planned.values().all(|member| member.0.is_some()));
        }
    }

    #[test]
    fn what_members_are_told_comes_back(home in proptest::option::of(0..9i32), starved: bool, lost in proptest::collection::vec(0..9i32, 0..4)) {
        let told = [Given { topic: "t", home, starved, lost: lost.clone() }, Given { topic: "u.reply", home: None, starved, lost }];
        let bytes = encode_given(&told);
        prop_assert_eq!(decode_given(&bytes), Some(told.to_vec()));
    }
}
