//! Assigning large groups, in ms: the least of several calls on a group in memory.
//!
//! *leaves* is for members that claim what they had before the last of them left, *bytes* the same from the bytes of their subscriptions to
//! those of their assignments, *joins* for one that comes, *sticky* for claims in user data.
//!
//! `cargo bench --bench assignor`
use std::hint::black_box;
use std::time::{Duration, Instant};

use milena::assignor::{Assignor, CooperativeStickyAssignor, Group, GroupAssignment, StickyAssignor};
use milena::internals::{lead, subscription};

const ROUNDS: usize = 15;

/// Topics with their partitions, and the topics of each member.
struct Shape {
    name: &'static str,
    topics: Vec<i32>,
    members: Vec<Vec<usize>>,
}

fn main() {
    println!(
        "{:<60} {:>8} {:>8} {:>6} {:>8} {:>8} {:>8}",
        "ms", "nothing", "leaves", "moves", "bytes", "joins", "sticky"
    );
    for shape in shapes() {
        let assignor = CooperativeStickyAssignor::default();
        let all = shape.members.len();
        let (nothing, whole) = time(&assignor, &shape.group(0..all, None));
        let rest = shape.group(0..all - 1, Some(&whole));
        let (leaves, plan) = time(&assignor, &rest);
        let (_, fewer) = time_once(&assignor, &shape.group(0..all - 1, None));
        let (joins, _) = time(&assignor, &shape.group(0..all, Some(&fewer)));
        let (sticky, _) = time(&StickyAssignor::default(), &shape.as_user_data(0..all - 1, &whole));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{:<60} {:>8.2} {:>8.2} {:>6} {:>8.2} {:>8.2} {:>8.2}",
            shape.name,
            ms(nothing),
            ms(leaves),
            moved(&rest, &plan),
            ms(from_bytes(&assignor, &rest)),
            ms(joins),
            ms(sticky)
        );
    }
}

fn shapes() -> Vec<Shape> {
    let all = |topics: usize, members: usize| vec![(0..topics).collect::<Vec<_>>(); members];
    let mut odd = all(500, 2000);
    odd.insert(0, vec![0]);
    let halves = (0..500).map(|member| if member % 4 == 0 { (0..50).collect() } else { (50..100).collect() });
    let mut seed = 7u64;
    let mut half = |topics: usize, members: usize| {
        let mut coin = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 63 == 0
        };
        (0..members).map(|_| (0..topics).filter(|_| coin()).collect()).collect::<Vec<Vec<usize>>>()
    };
    vec![
        Shape {
            name: "1,000,000 partitions, 500 topics, 2,000 equal members",
            topics: vec![2000; 500],
            members: all(500, 2000),
        },
        Shape { name: "the same, and one member on one topic only", topics: vec![2000; 500], members: odd },
        Shape {
            name: "20,000 partitions, 100 topics, 500 members, two halves",
            topics: vec![200; 100],
            members: halves.collect(),
        },
        Shape {
            name: "20,000 partitions, 500 topics, 500 members, each its own",
            topics: vec![40; 500],
            members: (0..500).map(|member| vec![member]).collect(),
        },
        Shape {
            name: "100,000 partitions, 100 topics, 1,000 members, random half",
            topics: vec![1000; 100],
            members: half(100, 1000),
        },
        Shape {
            name: "100,000 partitions, 1,000 topics, 1,000 members, random half",
            topics: vec![100; 1000],
            members: half(1000, 1000),
        },
    ]
}

impl Shape {
    fn group(&self, members: std::ops::Range<usize>, claims: Option<&GroupAssignment>) -> Group {
        let names: Vec<String> = (0..self.topics.len()).map(|topic| format!("topic-{topic:04}")).collect();
        let mut group = Group::builder();
        for (name, partitions) in names.iter().zip(&self.topics) {
            group.topic(name, *partitions);
        }
        for member in members {
            let mut entry = group.member(format!("member-{member:05}")).generation(3);
            for topic in &self.members[member] {
                entry = entry.subscribe(&names[*topic]);
            }
            let given = claims.filter(|claims| member < claims.len()).map(|claims| claims.partitions(member));
            for (topic, numbers) in given.into_iter().flat_map(|given| given.iter()) {
                entry = entry.own(&names[topic], numbers.iter().copied());
            }
        }
        group.build().expect("the group is one that can be")
    }

    /// The same claims as `sticky` sends them.
    fn as_user_data(&self, members: std::ops::Range<usize>, claims: &GroupAssignment) -> Group {
        let names: Vec<String> = (0..self.topics.len()).map(|topic| format!("topic-{topic:04}")).collect();
        let mut group = Group::builder();
        for (name, partitions) in names.iter().zip(&self.topics) {
            group.topic(name, *partitions);
        }
        for member in members {
            let owned: Vec<(&str, &[i32])> =
                claims.partitions(member).iter().map(|(topic, numbers)| (&*names[topic], numbers)).collect();
            let user_data = StickyAssignor::default().user_data(&[], &owned, Some(3)).unwrap_or_default();
            let mut entry = group.member(format!("member-{member:05}")).user_data(user_data);
            for topic in &self.members[member] {
                entry = entry.subscribe(&names[*topic]);
            }
        }
        group.build().expect("the group is one that can be")
    }
}

/// The time from the members' subscriptions to their assignments.
fn from_bytes(assignor: &dyn Assignor, group: &Group) -> Duration {
    let name = |topic: usize| &*group.topics()[topic].name;
    let members = group.members().iter().map(|member| {
        let topics: Vec<&str> = member.topics.iter().map(|topic| name(*topic as usize)).collect();
        let owned: Vec<(&str, &[i32])> =
            member.owned.iter().map(|(topic, numbers)| (name(topic), numbers)).collect();
        (member.member_id.clone(), subscription(&topics, &owned, 3))
    });
    let members: Vec<_> = members.collect();
    let topics: Vec<_> =
        group.topics().iter().map(|topic| (topic.name.to_string(), topic.partitions)).collect();
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        black_box(lead(assignor, black_box(&topics), black_box(&members))).expect("all can be read");
        start.elapsed()
    });
    times.min().unwrap_or_default()
}

fn time(assignor: &dyn Assignor, group: &Group) -> (Duration, GroupAssignment) {
    let calls = (0..ROUNDS).map(|_| time_once(assignor, group));
    calls.min_by_key(|(time, _)| *time).expect("there are rounds")
}

fn time_once(assignor: &dyn Assignor, group: &Group) -> (Duration, GroupAssignment) {
    let start = Instant::now();
    let assignment = black_box(assignor.assign(black_box(group)));
    (start.elapsed(), assignment)
}

/// How many partitions members claim and do not get.
fn moved(group: &Group, plan: &GroupAssignment) -> usize {
    let members = group.members().iter().enumerate();
    members
        .map(|(at, member)| {
            let given: std::collections::HashSet<(usize, i32)> = pairs(plan.partitions(at)).collect();
            pairs(&member.owned).filter(|place| !given.contains(place)).count()
        })
        .sum()
}

fn pairs(partitions: &milena::assignor::Partitions) -> impl Iterator<Item = (usize, i32)> {
    partitions.iter().flat_map(|(topic, numbers)| numbers.iter().map(move |number| (topic, *number)))
}
