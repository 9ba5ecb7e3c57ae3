//! Request-reply side by side: milena, a lean pair on librdkafka, NestJS and Spring Kafka, each as one caller and one responder, on one real
//! node with the settings that Kafka comes with, in rounds that take turns:
//!
//! ```text
//! cargo bench -p milena-peers --bench calls                          # all, 3 rounds; about eight minutes
//! cargo bench -p milena-peers --bench calls -- --rounds 1 --peers milena,rdkafka
//! cargo bench -p milena-peers --bench calls -- --layer               # what the layer costs over the raw exchange
//! ```
//!
//! A pair is started once a round and called one, 64 and 1,000 at a time, each after a warm-up. Latencies are the caller's own; CPU is what
//! the kernel says of caller, responder and node.
mod layer;
#[path = "../../../../tests/interop/partner.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod partner;
mod peer;
#[path = "../../../../tests/interop/side.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod side;
#[path = "../../../../tests/support/mod.rs"]
mod support;
mod table;
#[path = "../../../../tests/interop/verbs.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod verbs;

use peer::Peer;
use support::kafka::{Cluster, NEWEST, available};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let rounds = after("--rounds").map_or(3, |rounds| rounds.parse().expect("--rounds takes a number"));
    if args.iter().any(|arg| arg == "--layer") {
        return layer::measure(rounds);
    }
    if !available() {
        return;
    }
    let wanted = after("--peers").map(String::as_str).unwrap_or("milena,rdkafka,nest11,spring");
    let peers: Vec<_> = wanted.split(',').map(Peer::named).collect();
    let kafka = Cluster::start_as_shipped(NEWEST).expect("a node");
    // The node's compiler gets warm at somebody's cost: nobody's.
    Peer::Rdkafka.measure(&kafka, &mut table::Rows::default());
    let mut rows = table::Rows::default();
    for round in 0..rounds {
        // Who comes first finds a node that is colder.
        for turn in 0..peers.len() {
            let peer = peers[(round + turn) % peers.len()];
            peer.measure(&kafka, &mut rows);
        }
    }
    rows.print();
}
