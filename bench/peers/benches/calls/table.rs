//! The figures of all rounds: medians, and the worst maximum.
use std::collections::BTreeMap;

use crate::peer::Peer;

#[derive(Clone, Debug, Default)]
pub struct Row {
    pub calls: f64,
    pub seconds: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    /// Microseconds a call, of caller, responder and node.
    pub cpu: [f64; 3],
    /// Milliseconds from the start of the caller's process to its first reply.
    pub first_reply: f64,
    pub lost: f64,
}

#[derive(Default)]
pub struct Rows(BTreeMap<(Peer, usize), Vec<Row>>);

impl Rows {
    pub fn add(&mut self, peer: Peer, concurrency: usize, row: Row) {
        self.0.entry((peer, concurrency)).or_default().push(row);
    }

    pub fn print(&self) {
        println!(
            "| system | concurrency | calls/s | p50 ms | p99 ms | max ms | CPU us/call caller + responder + node | caller + responder | \
             start to first reply ms | lost |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for ((peer, concurrency), rows) in &self.0 {
            let median = |of: &dyn Fn(&Row) -> f64| median(rows.iter().map(of).collect());
            let max = rows.iter().map(|row| row.max).fold(0.0, f64::max);
            let lost: f64 = rows.iter().map(|row| row.lost).sum();
            println!(
                "| {peer:?} | {concurrency} | {:.0} | {:.2} | {:.2} | {max:.1} | {:.1} + {:.1} + {:.1} | {:.1} | {:.0} | {lost} |",
                median(&|row| row.calls / row.seconds),
                median(&|row| row.p50),
                median(&|row| row.p99),
                median(&|row| row.cpu[0]),
                median(&|row| row.cpu[1]),
                median(&|row| row.cpu[2]),
                median(&|row| row.cpu[0] + row.cpu[1]),
                median(&|row| row.first_reply),
            );
        }
    }
}

pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
