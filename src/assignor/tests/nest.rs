//! `NestReplyPartitionAssigner`: NestJS's own cases, and those in which its assigner is at fault.
use crate::assignor::nest::{assign, encode_claims};
use crate::assignor::{Group, GroupAssignment};

/// Topics with their partitions; members with their topics and what they send, `None`: nothing.
fn group(topics: &[(&str, i32)], members: &[(&str, &[&str], Option<&str>)]) -> Group {
    let mut group = Group::builder();
    for (topic, partitions) in topics {
        group.topic(topic, *partitions);
    }
    for (id, topics, data) in members {
        let mut entry = group.member(*id);
        for topic in *topics {
            entry = entry.subscribe(topic);
        }
        if let Some(data) = data {
            entry.user_data(data.as_bytes().to_vec());
        }
    }
    group.build().unwrap()
}

fn claim(homes: &[(&str, i32)]) -> String {
    encode_claims(homes.iter().copied())
}

/// `m1 A[0,4] B[0] | m2 ..`, in the order in which partitions were given.
fn show(group: &Group, assignment: &GroupAssignment) -> String {
    let members = group.members().iter().enumerate().map(|(at, member)| {
        let topics = assignment.partitions(at).iter();
        let topics = topics
            .map(|(topic, numbers)| format!(" {}{numbers:?}", group.topics()[topic].name).replace(", ", ","));
        format!("{}{}", member.member_id, topics.collect::<String>())
    });
    members.collect::<Vec<_>>().join(" | ")
}

fn assigned(topics: &[(&str, i32)], members: &[(&str, &[&str], Option<&str>)]) -> String {
    let group = group(topics, members);
    show(&group, &assign(&group))
}

const A: &[&str] = &["A"];
const AB: &[&str] = &["A", "B"];

#[test]
fn members_without_history_get_what_nestjs_gives_them() {
    let none = claim(&[]);
    let members = ["m1", "m2", "m3", "m4"].map(|id| (id, AB, Some(&*none)));
    assert_eq!(
        assigned(&[("A", 14), ("B", 5)], &members),
        "m1 A[0,4,8,12] B[0] | m2 A[1,5,9,13] B[1] | m3 A[2,6,10] B[2,4] | m4 A[3,7,11] B[3]"
    );
}

#[test]
fn members_with_history_get_what_nestjs_gives_them() {
    let (m1, m3, m4) = (claim(&[("A", 1), ("B", 1)]), claim(&[("A", 0), ("B", 0)]), claim(&[("A", 2)]));
    let none = claim(&[]);
    let members = [("m1", AB, &m1), ("m2", AB, &none), ("m3", AB, &m3), ("m4", AB, &m4)];
    let members = members.map(|(id, topics, data)| (id, topics, Some(&**data)));
    assert_eq!(
        assigned(&[("A", 11), ("B", 7)], &members),
        "m1 A[1,4,8] B[1,5] | m2 A[3,5,9] B[2,6] | m3 A[0,6,10] B[0] | m4 A[2,7] B[3,4]"
    );
}

#[test]
fn a_home_does_not_drift_when_a_lower_partition_becomes_free() {
    let b = claim(&[("A", 1)]);
    assert_eq!(assigned(&[("A", 3)], &[("b", A, Some(&b))]), "b A[1,2]", "nestjs gives [1,0,2]");
    let none = claim(&[]);
    let members = [("b", A, Some(&*b)), ("c", A, Some(&*none))];
    assert_eq!(assigned(&[("A", 3)], &members), "b A[1,2] | c A[0]", "it is kept for who comes next");
}

#[test]
fn a_partition_claimed_twice_goes_to_one() {
    let zero = claim(&[("A", 0)]);
    let members = [("a", A, Some(&*zero)), ("b", A, Some(&*zero))];
    assert_eq!(assigned(&[("A", 3)], &members), "a A[0,2] | b A[1]", "nestjs gives 0 to both");
}

#[test]
fn a_partition_that_does_not_exist_is_not_given() {
    let (five, below) = (claim(&[("A", 5)]), claim(&[("A", -1)]));
    assert_eq!(assigned(&[("A", 2)], &[("a", A, Some(&five)), ("b", A, Some(&below))]), "a A[0] | b A[1]");
}

#[test]
fn what_cannot_be_read_claims_nothing() {
    for data in [
        None,
        Some(""),
        Some("{}"),
        Some("null"),
        Some(r#"{"previousAssignment":null}"#),
        Some(r#"{"previousAssignment":{"A":null}}"#),
        Some(r#"{"previousAssignment":{"A":1.5}}"#),
        Some(r#"{"previousAssignment":{"A":"1"}}"#),
        Some(r#"{"previousAssignment":{"A":99999999999}}"#),
        Some(r#"{"previousAssignment":{"A""#),
        Some("\u{0}\u{1}\u{2}"),
    ] {
        assert_eq!(assigned(&[("A", 2)], &[("a", A, data)]), "a A[0,1]", "{data:?}");
    }
    let spaced = " { \"previousAssignment\" : { \"A\" : 1 , \"B\":0 } } ";
    assert_eq!(assigned(&[("A", 2)], &[("a", A, Some(spaced))]), "a A[1]", "as other writers put it");
}

#[test]
fn only_who_subscribes_to_a_topic_gets_it() {
    let members = [("a", A, None), ("b", AB, None)];
    let topics = [("A", 4), ("B", 3)];
    assert_eq!(assigned(&topics, &members), "a A[0,2] | b A[1,3] B[0,1,2]", "nestjs gives b's topic to a");
    // Whoever leads: a knows of B by the others' subscriptions only.
    let other = claim(&[("B", 2)]);
    let members = [("a", A, Some(&*other)), ("b", AB, None)];
    assert_eq!(assigned(&topics, &members), "a A[0,2] | b A[1,3] B[0,1,2]", "nor what it only claims");
}

#[test]
fn with_more_members_than_partitions_the_last_get_nothing_and_nobody_shares() {
    let members = ["a", "b", "c"].map(|id| (id, A, None));
    assert_eq!(assigned(&[("A", 2)], &members), "a A[0] | b A[1] | c");
}

#[test]
fn no_home_moves_whatever_the_others_do() {
    use rand::prelude::*;
    for seed in 0..300 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let partitions = rng.random_range(1..8);
        let mut homes: std::collections::BTreeMap<String, i32> = Default::default();
        for step in 0..30 {
            if rng.random_bool(0.5) {
                homes.insert(format!("m{:03}", rng.random_range(0..1000)), -1);
            } else if let Some(id) = homes.keys().choose(rng).cloned() {
                homes.remove(&id);
            }
            let claims: Vec<(String, String)> = homes
                .iter()
                .map(|(id, home)| {
                    let known = (*home >= 0).then_some(("A", *home));
                    (id.clone(), encode_claims(known.into_iter()))
                })
                .collect();
            let members: Vec<(&str, &[&str], Option<&str>)> =
                claims.iter().map(|(id, data)| (&**id, A, Some(&**data))).collect();
            let group = group(&[("A", partitions)], &members);
            let assignment = assign(&group);
            let mut taken = std::collections::BTreeSet::new();
            for (at, member) in group.members().iter().enumerate() {
                let numbers: Vec<i32> =
                    assignment.partitions(at).iter().flat_map(|(_, numbers)| numbers.to_vec()).collect();
                assert!(numbers.iter().all(|number| taken.insert(*number)), "seed {seed} step {step}");
                let home = homes.get_mut(&member.member_id).unwrap();
                let lowest = numbers.iter().min().copied().unwrap_or(-1);
                assert!(*home < 0 || *home == lowest, "seed {seed} step {step}: {home} moved to {lowest}");
                *home = lowest;
            }
            let served = homes.values().filter(|home| **home >= 0).count();
            assert_eq!(served, homes.len().min(partitions as usize), "seed {seed} step {step}");
        }
    }
}

mod wire {
    use super::*;
    use crate::protocol::consumer_protocol::{Assignment, Subscription};
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Bytes of kafkajs 2.2.4.
    #[test]
    fn members_of_nestjs_are_read_as_they_write() {
        let with = hex("0001 00000001 0007 612e7265706c79 00000024 \
             7b2270726576696f757341737369676e6d656e74223a7b22612e7265706c79223a327d7d");
        let without = hex(
            "0001 00000001 0007 612e7265706c79 00000019 7b2270726576696f757341737369676e6d656e74223a7b7d7d",
        );
        for (bytes, homes, partitions) in
            [(with, &[("a.reply", 2)][..], "m a.reply[2]"), (without, &[], "m a.reply[0,1,2]")]
        {
            let read = Subscription::decode(&bytes).unwrap();
            assert_eq!(read.topics, ["a.reply"]);
            assert_eq!(read.user_data.unwrap(), claim(homes).as_bytes(), "and are written so");
            let data = std::str::from_utf8(read.user_data.unwrap()).unwrap();
            assert_eq!(assigned(&[("a.reply", 3)], &[("m", &["a.reply"], Some(data))]), partitions);
        }
    }

    #[test]
    fn an_assignment_of_nestjs_is_read() {
        let bytes = hex(
            "0001 00000002 0007 612e7265706c79 00000002 00000002 00000000 0007 622e7265706c79 00000000 00000000",
        );
        let read = Assignment::decode(&bytes).unwrap();
        let partitions: Vec<_> = read
            .partitions
            .iter()
            .map(|(topic, numbers)| (*topic, numbers.iter().collect::<Vec<_>>()))
            .collect();
        assert_eq!(partitions, [("a.reply", vec![2, 0]), ("b.reply", vec![])]);
        assert_eq!(read.user_data, Some(&[][..]));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut in 0..60usize) {
            let mut text = r#"{"previousAssignment":{"A":0,"B":1}}"#.as_bytes().to_vec();
            text.truncate(cut);
            text.extend_from_slice(&bytes);
            for data in [bytes, text] {
                let mut group = Group::builder();
                group.topic("A", 2);
                group.member("m").subscribe("A").user_data(data);
                assign(&group.build().unwrap());
            }
        }
    }
}
