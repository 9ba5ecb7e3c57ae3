//! What other clients may send, and what no cluster has.
use proptest::prelude::*;

use super::certificate::owners;
use super::*;

fn assignors() -> [Box<dyn Assignor>; 4] {
    [
        Box::new(RangeAssignor),
        Box::new(RoundRobinAssignor),
        Box::new(StickyAssignor::default()),
        Box::new(CooperativeStickyAssignor::default()),
    ]
}

proptest! {
    #[test]
    fn arbitrary_user_data_is_no_claim_or_some(
        mut first in proptest::collection::vec(any::<u8>(), 0..64),
        second in proptest::collection::vec(any::<u8>(), 0..64),
        likely in any::<bool>(),
    ) {
        if likely && first.len() > 8 {
            // An array of one topic called t.
            first[..7].copy_from_slice(&[0, 0, 0, 1, 0, 1, b't']);
        }
        let case = Case::read("t:3 u:2 | c1 t,u t-0 | c2 t,u | c3 u");
        let mut told = case.clone();
        told.members[0].user_data = Some(first.into());
        told.members[1].user_data = Some(second.into());
        let group = told.group(|_| {});
        for assignor in assignors() {
            let plan = assignor.assign(&group).partitions;
            prop_assert!(owners(&case, &plan).is_ok() || assignor.name() == "cooperative-sticky");
        }
        prop_assert!(owners(&case, &told.plan()).is_ok());
    }

    #[test]
    fn damaged_user_data_is_no_claim_or_some(at in 0..64usize, byte in any::<u8>(), cut in 0..64usize) {
        let owned: [(&str, &[i32]); 2] = [("t", &[0, 2]), ("u", &[1])];
        let mut bytes = StickyAssignor::default().user_data(&[], &owned, Some(3)).unwrap().to_vec();
        let len = bytes.len();
        bytes[at % len] = byte;
        bytes.truncate(cut);
        let case = Case::read("t:3 u:2 | c1 t,u | c2 t,u");
        let mut told = case.clone();
        told.members[0].user_data = Some(bytes.into());
        let plan = StickyAssignor::default().assign(&told.group(|_| {})).partitions;
        prop_assert!(owners(&case, &plan).is_ok());
    }
}

#[test]
fn counts_that_no_cluster_has_are_refused() {
    for (counts, wanted) in [
        (vec![-1], "topic t0 has -1 partitions"),
        (vec![i32::MIN], "topic t0 has -2147483648 partitions"),
        (vec![i32::MAX, i32::MAX, 1], "4294967295 partitions in a group; 16777216 are the most"),
    ] {
        let mut group = Group::builder();
        for (topic, count) in counts.iter().enumerate() {
            group.topic(&format!("t{topic}"), *count);
        }
        let error = group.build().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn as_many_partitions_as_a_group_may_have() {
    let mut group = Group::builder();
    group.topic("t", 1 << 24);
    group.member("a").subscribe("t").own("t", [0, i32::MAX, -1]);
    group.member("b").subscribe("t");
    let group = group.build().unwrap();
    let plan = CooperativeStickyAssignor::default().plan(&group);
    assert_eq!((plan.partitions(0).len(), plan.partitions(1).len()), (1 << 23, 1 << 23));
    assert_eq!(plan.partitions(0).iter().next().unwrap().1[0], 0);
}

#[test]
fn of_two_members_with_one_id_one_counts_whichever_comes_first() {
    let build = |ids: [(&str, i32); 3]| {
        let mut group = Group::builder();
        group.topic("t", 3);
        for (id, owned) in ids {
            group.member(id).subscribe("t").own("t", [owned]).generation(owned);
        }
        group.build().unwrap()
    };
    let group = build([("a", 1), ("a", 2), ("b", 0)]);
    assert_eq!(group.members().len(), 2);
    assert_eq!(group, build([("b", 0), ("a", 2), ("a", 1)]));
    for assignor in assignors() {
        let plan = assignor.assign(&group).partitions;
        assert_eq!(plan.iter().map(Partitions::len).sum::<usize>(), 3, "{}", assignor.name());
    }
}

#[test]
fn groups_without_topics_members_or_partitions() {
    for given in ["", "t:3", "t:0 | a t", " | a -", "t:1 | a -", " | a x x-0"] {
        for assignor in assignors() {
            let case = Case::read(given);
            let plan = assignor.assign(&case.group(|_| {}));
            assert_eq!(plan.len(), case.members.len());
            assert!(plan.partitions.iter().all(Partitions::is_empty), "{given}");
        }
    }
}

#[test]
fn many_members_of_few_partitions() {
    let mut group = Group::builder();
    group.topic("t", 5);
    for member in 0..20_000 {
        group.member(format!("m{member:05}")).subscribe("t").own("t", [member % 7]);
    }
    let group = group.build().unwrap();
    for assignor in assignors() {
        let plan = assignor.assign(&group).partitions;
        assert!(plan.iter().all(|partitions| partitions.len() <= 1), "{}", assignor.name());
    }
    assert_eq!(
        CooperativeStickyAssignor::default()
            .plan(&group)
            .partitions
            .iter()
            .map(Partitions::len)
            .sum::<usize>(),
        5
    );
}
