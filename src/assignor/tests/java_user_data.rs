//! What members send for their sticky assignor, in every version there is, and what the leader makes of it.
use super::certificate::{improvement, owners};
use super::*;

fn sticky() -> StickyAssignor {
    StickyAssignor::default()
}

fn cooperative() -> CooperativeStickyAssignor {
    CooperativeStickyAssignor::default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of `sticky` before it had a generation.
fn version_0(owned: &[(&str, &[i32])]) -> Bytes {
    let bytes = sticky().user_data(&[], owned, None).unwrap();
    bytes.slice(..bytes.len() - 4)
}

#[test]
fn user_data_is_javas() {
    let owned: [(&str, &[i32]); 2] = [("t1", &[0, 1]), ("t2", &[5])];
    assert_eq!(
        hex(&sticky().user_data(&["t1", "t2"], &owned, Some(9)).unwrap()),
        "000000020002743100000002000000000000000100027432000000010000000500000009"
    );
    assert_eq!(hex(&cooperative().user_data(&["t1", "t2"], &owned, Some(9)).unwrap()), "00000009");
    assert_eq!(hex(&cooperative().user_data(&[], &[], None).unwrap()), "ffffffff", "C01");
    assert_eq!(hex(&sticky().user_data(&[], &[], None).unwrap()), "00000000ffffffff");
}

/// A group in which members claim by what they send, and what it is assigned.
fn told(case: &Case, user_data: &[Option<Bytes>]) -> String {
    let mut case = case.clone();
    for (member, bytes) in case.members.iter_mut().zip(user_data) {
        member.user_data = bytes.clone();
    }
    case.show(&sticky().assign(&case.group(|_| {})).partitions)
}

fn sent(owned: &[(&str, &[i32])], generation: i32) -> Option<Bytes> {
    sticky().user_data(&[], owned, Some(generation))
}

#[test]
fn e01_to_e09_user_data_of_any_version() {
    let three = Case::read("t:3 | c1 t | c2 t | c3 t");
    let (first, second) = (sent(&[("t", &[0, 1])], 5), sent(&[("t", &[0, 2])], 5));
    assert_eq!(told(&three, &[first.clone(), second.clone()]), "c1 t-1 | c2 t-2 | c3 t-0", "E01");
    let four = Case::read("t:4 | c1 t | c2 t | c3 t");
    assert_eq!(told(&four, &[first, second]), "c1 t-1 t-3 | c2 t-2 | c3 t-0", "E02");

    let newer = sent(&[("t", &[0, 2])], 1);
    let older = Some(version_0(&[("t", &[1])]));
    assert_eq!(told(&three, &[newer, older]), "c1 t-0 | c2 t-1 | c3 t-2", "E06");

    // What is in the subscription does not count, not even of a newer generation, and neither does the other way round.
    let fields = Case::read("t:2 | c1 t @9 t-0 | c2 t @9 t-1");
    let crossed = [sent(&[("t", &[1])], 3), sent(&[("t", &[0])], 3)];
    assert_eq!(told(&fields, &crossed), "c1 t-1 | c2 t-0", "E07, E08");
    assert_eq!(
        told(&Case::read("t:2 | c1 t @9 t-1 | c2 t @9 t-0"), &[None, None]),
        "c1 t-0 | c2 t-1",
        "no claims"
    );

    let mixed = Case::read("t1:3 | c1 t1 | c2 t1 | c3 t1");
    let all = [Some(version_0(&[("t1", &[0])])), sent(&[("t1", &[1])], 2)];
    assert_eq!(told(&mixed, &all), "c1 t1-0 | c2 t1-1 | c3 t1-2", "E09");
}

#[test]
fn e03_to_e05_members_come_back_with_old_claims() {
    let case = Case::read(
        "t:6 t2:6 | c2 t,t2 @2 t-0 t-1 t-2 t2-0 t2-1 t2-2 t-3 t-4 t-5 t2-3 t2-4 t2-5 | c3 t,t2 @1 t-3 t-4 t2-3 t2-4",
    );
    let plan = certified(&case);
    assert!(plan.iter().all(|partitions| partitions.len() == 6), "E03");

    let case = Case::read(
        "t:4 t2:4 t3:4 | c1 t,t2,t3 @1 t-0 t-1 t2-0 t3-0 | c2 t,t2,t3 @2 t-0 t-1 t-2 t-3 t2-0 t2-1 t2-2 t2-3 t3-0 t3-1 t3-2 t3-3 | c3 t,t2,t3 @1 t-2 t2-2 t3-2 t3-3",
    );
    let plan = certified(&case);
    assert!(plan.iter().all(|partitions| partitions.len() == 4), "E04");
    assert!(places(&plan[1]).iter().all(|place| case.members[1].owned.contains(place)), "E04");

    for stale in ["t-0 t-1 t-2 t2-2 t2-3 t3-0", "t-0 t-1 t-2 t-3"] {
        let text = format!(
            "t:4 t2:4 t3:4 | c1 t,t2,t3 @1 {stale} | c2 t,t2,t3 @2 t-0 t-1 t2-0 t2-1 t2-2 t2-3 | c3 t,t2,t3 @2 t-2 t-3 t3-0 t3-1 t3-2 t3-3"
        );
        let case = Case::read(Box::leak(text.into_boxed_str()));
        let plan = certified(&case);
        assert!(plan.iter().all(|partitions| partitions.len() == 4), "E05");
        for member in [1, 2] {
            assert!(
                places(&plan[member]).iter().all(|place| case.members[member].owned.contains(place)),
                "E05"
            );
        }
    }
}

/// The plan of `sticky` for members that send what they claim.
fn certified(case: &Case) -> Vec<Partitions> {
    let mut told = case.clone();
    for member in &mut told.members {
        let owned = member.owned.iter().map(|(topic, number)| (case.topic_name(*topic), *number));
        let owned: Vec<(String, i32)> = owned.collect();
        let owned: Vec<(&str, &[i32])> =
            owned.iter().map(|(topic, number)| (&**topic, std::slice::from_ref(number))).collect();
        member.user_data = sticky().user_data(&[], &owned, Some(member.generation));
        member.owned.clear();
    }
    let plan = sticky().assign(&told.group(|_| {})).partitions;
    assert_eq!(improvement(case, &owners(case, &plan).unwrap(), (1000, 1)), None);
    plan
}

#[test]
fn c05_to_c07_the_generation_of_the_subscription_counts_before_that_of_user_data() {
    // Both claim t-0; who is newer keeps it.
    for (given, sends, keeps) in [
        ("t:2 | c1 t t-0 | c2 t @0 t-0", Some(1), 0),
        ("t:2 | c1 t t-0 | c2 t @2 t-0", Some(1), 1),
        ("t:2 | c1 t @1 t-0 | c2 t @2 t-0", Some(9), 1),
        ("t:2 | c1 t @3 t-0 | c2 t @2 t-0", Some(1), 0),
        ("t:2 | c1 t t-0 | c2 t @0 t-0", None, 1),
    ] {
        let mut case = Case::read(given);
        case.members[0].user_data = sends.and_then(|sends| cooperative().user_data(&[], &[], Some(sends)));
        assert_eq!(places(&case.plan()[keeps])[0], (0, 0), "{given} {sends:?}");
    }
    // Some clients send what `sticky` does under the name of `cooperative-sticky`.
    let mut case = Case::read("t:2 | c1 t t-0 | c2 t @2 t-0");
    case.members[0].user_data = sent(&[("t", &[0])], 7);
    assert_eq!(places(&case.plan()[0]), [(0, 0)]);
}
