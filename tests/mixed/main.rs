//! Groups on real Kafka: members are processes of milena and of other people's clients, which read while records are
//! written. In the end all that they have told is compared with the promises, and with what the coordinator says meanwhile.
//!
//! A client whose runtime is not here is left out, which is said. Each assignor with everybody, led by each in turn, is a test; every
//! pair in both orders, and many more orders, are a command:
//!
//! ```text
//! cargo test --test mixed every_pair -- --ignored --nocapture
//! ```
//!
//! A minute of chaos on three nodes is a test; ten, or as many as wanted, are a command:
//!
//! ```text
//! MILENA_CHAOS_MINUTES=10 cargo test --test mixed chaos_for_as_long -- --ignored --nocapture
//! ```
#![allow(unreachable_pub, reason = "nothing here is public")]
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod chaos;
mod event;
mod gone;
mod history;
mod kept;
mod log;
mod member;
mod milena;
mod orders;
mod partner;
mod scene;
mod turns;
mod verdict;
mod writer;

use partner::Partner;
use scene::{Manner, Scene};
use support::kafka;

/// Shows a scene on the one node of this release that all tests share.
fn on_kafka(version: &'static str, manner: Manner, show: impl FnOnce(Scene<'_>)) {
    let Some(kafka) = kafka::shared(version, 1) else { return };
    let _calm = kafka.calm();
    show(Scene::new(kafka, manner));
}

/// Members that join one after the other and leave one after the other.
fn in_turn(version: &'static str, manner: Manner, order: &[Partner]) {
    let order: Vec<_> = order.iter().copied().filter(|partner| partner.knows(manner)).collect();
    on_kafka(version, manner, |scene| turns::take_turns(scene, &order));
}
