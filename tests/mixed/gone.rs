//! Members that are killed, and members that stand still for longer than their session.
use std::time::Duration;

use crate::on_kafka;
use crate::partner::Partner::{self, Java, Librdkafka, Milena};
use crate::scene::{Manner, Scene};
use crate::support::kafka::NEWEST;

/// The leader is killed; another stands still until the rest has its partitions, then goes on.
fn two_go_missing(mut scene: Scene<'_>, partners: [Partner; 4]) {
    for partner in partners {
        if scene.join(partner, Duration::ZERO) {
            scene.settle(&format!("{partner:?} joined"));
        }
    }
    scene.kill(0);
    let killed = scene.settle("the leader was killed");
    let halted = scene.halt(0);
    let stood = scene.settle("a member stands still");
    scene.go_on(halted);
    let went = scene.settle("it goes on");
    println!(
        "{:?}: settled {killed:?} after the kill, {stood:?} after the halt, {went:?} after its end",
        scene.manner()
    );
    let outcome = scene.end();
    outcome.print();
    outcome.assert_good(0);
}

fn in_each_manner(partners: [Partner; 4]) {
    for assignor in ["range", "cooperative-sticky"] {
        on_kafka(NEWEST, Manner::classic(assignor), |scene| two_go_missing(scene, partners));
    }
}

#[test]
fn the_partitions_of_the_missing_are_read_by_others() {
    in_each_manner([Milena; 4]);
}

#[test]
fn the_partitions_of_the_missing_are_read_by_others_in_a_mixed_group() {
    in_each_manner([Java, Milena, Librdkafka, Milena]);
}
