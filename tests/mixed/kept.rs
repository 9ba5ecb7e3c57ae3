//! In a cooperative group, whoever keeps partitions goes on reading them while somebody else takes long to give his up.
use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::Event;
use crate::on_kafka;
use crate::partner::Partner::{self, FranzGo, Java, Librdkafka, Milena};
use crate::scene::{Manner, Scene};
use crate::support::kafka::{NEWEST, Partition};

const SLOW: Duration = Duration::from_secs(2);

/// Records of each partition are written every 20 ms, so that 100 come while the first takes its time.
const AT_LEAST: usize = 50;

fn kept_partitions_flow(mut scene: Scene<'_>, slow: Partner, others: [Partner; 2], last: Partner) {
    if ![slow, others[0], others[1], last].into_iter().all(|partner| scene.has(partner)) {
        return;
    }
    scene.join(slow, SLOW);
    scene.settle("the slow one joined");
    for partner in others {
        scene.join(partner, Duration::ZERO);
        scene.settle(&format!("{partner:?} joined"));
    }
    let before = scene.owners();
    scene.join(last, Duration::ZERO);
    scene.settle("the last one joined");
    let after = scene.owners();
    let outcome = scene.end();
    outcome.print();

    let given_up = outcome.lines.iter().filter(|line| line.member == 0);
    let given_up: Vec<_> = given_up.filter(|line| matches!(line.event, Event::Revoked(_))).collect();
    // The last of its revocations is that of its own leaving.
    let [.., of_the_last_one, _] = given_up.as_slice() else { panic!("it gave up nothing: {given_up:?}") };
    let slow_time = of_the_last_one.at - SLOW.as_micros() as u64..of_the_last_one.at;
    let mut read: BTreeMap<&Partition, usize> = BTreeMap::new();
    for line in outcome.lines.iter().filter(|line| slow_time.contains(&line.at)) {
        if let Event::Records(partition, offsets) = &line.event {
            *read.entry(partition).or_default() += offsets.len();
        }
    }
    let ours = |owner: usize| owner != 0 && outcome.is_ours(owner);
    let kept =
        before.iter().filter(|(partition, owner)| after.get(partition) == Some(owner) && ours(**owner));
    let counts: Vec<_> =
        kept.map(|(partition, _)| (partition, read.get(partition).copied().unwrap_or(0))).collect();
    println!("  read of milena's kept partitions while {slow:?} took its time: {counts:?}");
    assert!(!counts.is_empty() && counts.iter().all(|(_, count)| *count >= AT_LEAST), "{counts:?}");
    outcome.assert_good(0);
}

#[test]
fn kept_partitions_flow_while_another_is_slow_to_give_up() {
    for (slow, others, last) in [
        (Milena, [Milena, Java], Milena),
        (Java, [Milena, Librdkafka], Milena),
        (Milena, [FranzGo, Milena], Java),
    ] {
        let manner = Manner::classic("cooperative-sticky");
        on_kafka(NEWEST, manner, |scene| kept_partitions_flow(scene, slow, others, last));
    }
}
