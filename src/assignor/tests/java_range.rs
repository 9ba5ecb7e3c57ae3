//! The scenarios of Java's tests for range and round-robin, by the names they have in our facts.
use super::*;

fn shown(assignor: &dyn Assignor, case: &Case) -> String {
    case.show(&assignor.assign(&case.group(|_| {})).partitions)
}

#[test]
fn range_and_roundrobin_are_javas() {
    for (id, given, range, round_robin) in [
        ("R01 nothing", "t:3 | c -", "c", "c"),
        ("R01 empty", "t:0 | c t", "c", "c"),
        ("R01 unknown", "t:1 | c t,x", "c t-0", "c t-0"),
        ("R01 one", "t:3 u:2 | c t", "c t-0 t-1 t-2", "c t-0 t-1 t-2"),
        ("R01 more members", "t:1 | c1 t | c2 t", "c1 t-0 | c2", "c1 t-0 | c2"),
        (
            "R02",
            "t1:3 t2:2 | c1 t1 | c2 t1,t2 | c3 t1",
            "c1 t1-0 | c2 t1-1 t2-0 t2-1 | c3 t1-2",
            "c1 t1-0 | c2 t1-1 t2-0 t2-1 | c3 t1-2",
        ),
        (
            "R03",
            "t1:3 t2:3 | c1 t1,t2 | c2 t1,t2",
            "c1 t1-0 t1-1 t2-0 t2-1 | c2 t1-2 t2-2",
            "c1 t1-0 t1-2 t2-1 | c2 t1-1 t2-0 t2-2",
        ),
        (
            "R04",
            "t1:3 t2:3 | consumer-a t1,t2 !instance2 | consumer-b t1,t2 !instance1",
            "consumer-a t1-2 t2-2 | consumer-b t1-0 t1-1 t2-0 t2-1",
            "consumer-a t1-1 t2-0 t2-2 | consumer-b t1-0 t1-2 t2-1",
        ),
        (
            "R05",
            "t1:3 t2:3 | consumer-a t1,t2 | consumer-b t1,t2 !instance1",
            "consumer-a t1-2 t2-2 | consumer-b t1-0 t1-1 t2-0 t2-1",
            "consumer-a t1-1 t2-0 t2-2 | consumer-b t1-0 t1-2 t2-1",
        ),
        (
            "R06 range",
            "t1:5 t2:4 | c1 t1,t2 !i1 | c2 t1,t2 !i2 | c3 t1,t2 !i3 | c4 t1,t2",
            "c1 t1-0 t1-1 t2-0 | c2 t1-2 t2-1 | c3 t1-3 t2-2 | c4 t1-4 t2-3",
            "c1 t1-0 t1-4 t2-3 | c2 t1-1 t2-0 | c3 t1-2 t2-1 | c4 t1-3 t2-2",
        ),
        (
            "R06 round-robin",
            "t1:3 t2:3 | a4 t1,t2 | c1 t1,t2 !i1 | c2 t1,t2 !i2 | c3 t1,t2 !i3",
            "a4 | c1 t1-0 t2-0 | c2 t1-1 t2-1 | c3 t1-2 t2-2",
            "a4 t2-0 | c1 t1-0 t2-1 | c2 t1-1 t2-2 | c3 t1-2",
        ),
        (
            "R07",
            "t1:5 t2:5 | x t1,t2 !i3 | y t1,t2 !i1 | z t1,t2 !i2",
            "x t1-4 t2-4 | y t1-0 t1-1 t2-0 t2-1 | z t1-2 t1-3 t2-2 t2-3",
            "x t1-2 t2-0 t2-3 | y t1-0 t1-3 t2-1 t2-4 | z t1-1 t1-4 t2-2",
        ),
        (
            "V-45 2c",
            "t0:3 t1:3 | C0 t0,t1 | C1 t0,t1",
            "C0 t0-0 t0-1 t1-0 t1-1 | C1 t0-2 t1-2",
            "C0 t0-0 t0-2 t1-1 | C1 t0-1 t1-0 t1-2",
        ),
        (
            "V-45 3c uneven",
            "t0:1 t1:2 t2:3 | C0 t0 | C1 t0,t1 | C2 t0,t1,t2",
            "C0 t0-0 | C1 t1-0 | C2 t1-1 t2-0 t2-1 t2-2",
            "C0 t0-0 | C1 t1-0 | C2 t1-1 t2-0 t2-1 t2-2",
        ),
        (
            "V-45 3c t:7",
            "t:7 | C0 t | C1 t | C2 t",
            "C0 t-0 t-1 t-2 | C1 t-3 t-4 | C2 t-5 t-6",
            "C0 t-0 t-3 t-6 | C1 t-1 t-4 | C2 t-2 t-5",
        ),
    ] {
        let case = Case::read(given);
        assert_eq!(shown(&RangeAssignor, &case), range, "{id}, range");
        assert_eq!(shown(&RoundRobinAssignor, &case), round_robin, "{id}, round-robin");
    }
}

const ABC: [&str; 3] = ["a", "b", "c"];

fn mismatches(case: &Case, plan: &[Partitions]) -> usize {
    let across = |(member, places): (usize, Vec<(usize, i32)>)| {
        places.into_iter().filter(|place| super::certificate::across(case, *place, member)).count()
    };
    plan.iter().map(places).enumerate().map(across).sum()
}

/// A case on racks, Java's list where it is told, and its partitions across racks.
#[track_caller]
fn on_racks(id: &str, case: Case, list: Option<&str>, wanted: usize) {
    let plan = RangeAssignor.assign(&case.group(|_| {})).partitions;
    if let Some(list) = list {
        assert_eq!(case.show(&plan), list, "{id}");
    }
    assert_eq!(mismatches(&case, &plan), wanted, "{id}: {}", case.show(&plan));
    for topic in 0..case.topics.len() {
        let subscribers = || (0..plan.len()).filter(|member| case.members[*member].topics.contains(&topic));
        let of_topic = |member| places(&plan[member]).into_iter().filter(|place| place.0 == topic).count();
        let (least, most) = (subscribers().map(of_topic).min(), subscribers().map(of_topic).max());
        assert!(most <= least.map(|least| least + 1), "{id}: {}", case.show(&plan));
    }
}

#[test]
fn range_matches_racks_as_java_does() {
    let r08 = "t1:5 t2:5 | c0 t1,t2 #a !i1 | c1 t1,t2 #b !i2 | c2 t1,t2 #c !i3";
    let mut alike = Case::read(r08).on_racks(2, &ABC);
    alike.racks[1] = alike.racks[0].clone();
    let rows = "c0 t1-0 t1-2 t2-0 t2-2 | c1 t1-1 t1-3 t2-1 t2-3 | c2 t1-4 t2-4";
    on_racks("R08", alike, Some(rows), 0);

    let r09 = "t1:6 t2:7 t3:2 | c0 t1,t2,t3 #a | c1 t1,t2,t3 #b | c2 t1,t2,t3 #c";
    let plain = "c0 t1-0 t1-1 t2-0 t2-1 t2-2 t3-0 | c1 t1-2 t1-3 t2-3 t2-4 t3-1 | c2 t1-4 t1-5 t2-5 t2-6";
    on_racks("R09 RF 1", Case::read(r09).on_racks(1, &ABC), None, 0);
    let aligned = "c0 t1-0 t1-2 t2-0 t2-2 t2-3 t3-1 | c1 t1-1 t1-3 t2-1 t2-4 t3-0 | c2 t1-4 t1-5 t2-5 t2-6";
    on_racks("R09 RF 2", Case::read(r09).on_racks(2, &ABC), Some(aligned), 1);
    on_racks("R09 two racks", Case::read(r09).on_racks(2, &["a", "b"]), Some(plain), 4);
    on_racks("R16 everywhere", Case::read(r09).on_racks(3, &ABC), Some(plain), 0);
    on_racks("R16 none for brokers", Case::read(r09), Some(plain), 15);

    let r10 = "t1:6 t2:7 t3:2 | c0 t1,t2,t3 #a | c1 t1,t2,t3 #b | c2 t1,t3 #c";
    on_racks("R10 RF 1", Case::read(r10).on_racks(1, &ABC), None, 2);
    on_racks("R10 RF 2", Case::read(r10).on_racks(2, &ABC), None, 0);

    let r11 = "t1:5 t2:5 t3:5 | c0 t1,t2,t3 #a | c1 t1,t2,t3 #b | c2 t1,t2,t3 #c";
    let plain = "c0 t1-0 t1-1 t2-0 t2-1 t3-0 t3-1 | c1 t1-2 t1-3 t2-2 t2-3 t3-2 t3-3 | c2 t1-4 t2-4 t3-4";
    on_racks("R11 RF 1", Case::read(r11).on_racks(1, &ABC), Some(plain), 10);
    on_racks("R11 RF 2", Case::read(r11).on_racks(2, &ABC), Some(plain), 5);

    let r12 = "t1:5 t2:5 t3:5 | c0 t1,t2,t3 #a | c1 t1,t2,t3 #b | c2 t1,t3 #c";
    on_racks("R12 RF 2", Case::read(r12).on_racks(2, &ABC), None, 0);

    on_racks("R10 two racks", Case::read(r10).on_racks(2, &["a", "b"]), None, 2);
    on_racks("R11 two racks", Case::read(r11).on_racks(2, &["a", "b"]), Some(plain), 3);
    on_racks("R12 two racks", Case::read(r12).on_racks(2, &["a", "b"]), None, 2);
    on_racks("R12 RF 1", Case::read(r12).on_racks(1, &ABC), None, 9);

    let r13 = "t1:6 t2:6 t3:2 t4:2 | c0 t1,t2 #a | c1 t1,t2 #b | c2 t3,t4 #b | c3 t3,t4 #a";
    let plain =
        "c0 t1-0 t1-1 t1-2 t2-0 t2-1 t2-2 | c1 t1-3 t1-4 t1-5 t2-3 t2-4 t2-5 | c2 t3-0 t4-0 | c3 t3-1 t4-1";
    on_racks("R13 RF 2", Case::read(r13).on_racks(2, &["a", "b"]), Some(plain), 0);
    let rows =
        "c0 t1-0 t1-2 t1-4 t2-0 t2-2 t2-4 | c1 t1-1 t1-3 t1-5 t2-1 t2-3 t2-5 | c2 t3-1 t4-1 | c3 t3-0 t4-0";
    on_racks("R13 RF 1", Case::read(r13).on_racks(1, &["a", "b"]), Some(rows), 0);

    let r14 = "t1:6 t2:6 t3:2 t4:2 t5:4 t6:4 | c0 t1,t2,t3,t4,t5,t6 #a | c1 t1,t2,t3,t4,t5,t6 #b | c2 t1,t2,t3,t4,t5,t6 #c";
    let rows = "c0 t1-0 t1-2 t2-0 t2-2 t3-0 t4-0 t5-1 t6-1 | c1 t1-1 t1-3 t2-1 t2-3 t3-1 t4-1 t5-2 t6-2 | c2 t1-4 t1-5 t2-4 t2-5 t5-0 t5-3 t6-0 t6-3";
    on_racks("R14 RF 2", Case::read(r14).on_racks(2, &ABC), Some(rows), 0);
}

#[test]
fn r15_static_members_come_first_whatever_the_order() {
    use rand::prelude::*;
    let case = Case::read("t:3 | a t | b t !i2 | c t !i1");
    for seed in 0..100 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let group = case.group(|list| list.shuffle(rng));
        assert_eq!(case.show(&RangeAssignor.assign(&group).partitions), "a t-2 | b t-1 | c t-0");
        assert_eq!(case.show(&RoundRobinAssignor.assign(&group).partitions), "a t-2 | b t-1 | c t-0");
    }
}
