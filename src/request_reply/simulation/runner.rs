//! Many seeds, one after the other, and how to repeat the one that fails.
use std::time::{Duration, Instant};

use super::Counts;
use super::scene::SCENES;
use crate::simulation::runner::{caught, number, run_all};

/// What `cargo test` runs unless `MILENA_SIMULATION_SEEDS` says otherwise.
const SHARE: u64 = 100;
/// Virtual time that no scene needs.
const LONGEST: Duration = Duration::from_secs(600);

fn run(seed: u64, talk: bool) -> Result<Counts, String> {
    let scene = SCENES[(seed % SCENES.len() as u64) as usize];
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let ended = caught(|| {
        runtime.block_on(async {
            match tokio::time::timeout(LONGEST, scene.run(seed, talk)).await {
                Ok(ended) => ended,
                Err(_) => Err(format!("endless: nothing has ended after {LONGEST:?}")),
            }
        })
    });
    ended.map_err(|what| format!("{what} ({scene:?})"))
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.timed_out += other.timed_out;
        self.dropped += other.dropped;
        self.closed += other.closed;
        self.events += other.events;
        self.faults += other.faults;
    }
}

#[test]
fn whatever_befalls_a_caller_its_calls_end_as_the_log_says() {
    let (first, count) = (number("MILENA_SIMULATION_SEED", 0), number("MILENA_SIMULATION_SEEDS", SHARE));
    if count == 1 {
        let counts = run(first, true).unwrap_or_else(|what| panic!("seed {first}: {what}"));
        println!("{counts:?}");
        return;
    }
    let began = Instant::now();
    match run_all(first..first + count, |seed| run(seed, false), Counts::add) {
        Ok((seeds, total)) => {
            println!("{seeds} seeds in {:?}: {total:?}", began.elapsed());
            let tried = total.answered > count && total.timed_out > 0 && total.events > count;
            assert!(tried, "nothing was tried: {total:?}");
        }
        Err((seed, what)) => {
            panic!(
                "seed {seed}: {what}\nagain, with all that happens: MILENA_SIMULATION_SEED={seed} MILENA_SIMULATION_SEEDS=1 \
                 cargo test --lib request_reply::simulation -- --nocapture"
            );
        }
    }
}

#[test]
fn a_position_that_was_lost_while_a_requester_was_built_was_the_end_of_it() {
    run(2454, false).unwrap();
}
