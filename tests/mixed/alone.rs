//! milena among itself, on each release.
use crate::in_turn;
use crate::partner::Partner::Milena;
use crate::scene::Manner;
use crate::support::kafka::NEWEST;

fn alone(version: &'static str) {
    for assignor in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        in_turn(version, Manner::classic(assignor), &[Milena; 4]);
    }
}

#[test]
fn groups_form_on_kafka_4_3() {
    alone(NEWEST);
}

#[test]
fn groups_form_on_kafka_3_9() {
    alone("3.9.2");
}

#[test]
fn groups_form_on_kafka_2_8() {
    alone("2.8.2");
}
