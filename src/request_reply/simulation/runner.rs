//! Many seeds, one after the other, and how to repeat the one that fails.
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Counts;
use super::scene::SCENES;

/// What `cargo test` runs unless `MILENA_SIMULATION_SEEDS` says otherwise.
const SHARE: u64 = 100;
/// Virtual time that no scene needs.
const LONGEST: Duration = Duration::from_secs(600);
/// How long a seed may really take: hundreds of times more than it does.
const SPINS: Duration = Duration::from_secs(100);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

fn run(seed: u64, talk: bool) -> Result<Counts, String> {
    let scene = SCENES[(seed % SCENES.len() as u64) as usize];
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            match tokio::time::timeout(LONGEST, scene.run(seed, talk)).await {
                Ok(ended) => ended,
                Err(_) => Err(format!("endless: nothing has ended after {LONGEST:?}")),
            }
        })
    }));
    let ended = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
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
    let (began, next, total, failure) =
        (Instant::now(), AtomicU64::new(first), Mutex::new(Counts::default()), Mutex::new(None));
    let running = Mutex::new(BTreeMap::new());
    let work = || {
        while failure.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first + count {
                return;
            }
            running.lock().unwrap().insert(seed, Instant::now());
            let ended = run(seed, false);
            running.lock().unwrap().remove(&seed);
            match ended {
                Ok(counts) => total.lock().unwrap().add(&counts),
                Err(what) => *failure.lock().unwrap() = Some((seed, what)),
            }
        }
    };
    std::thread::scope(|scope| {
        let workers =
            (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work));
        let workers: Vec<_> = workers.collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(20));
            // A thread that spins cannot be stopped, and its virtual time stands still.
            let running = running.lock().unwrap();
            if let Some((seed, _)) = running.iter().find(|(_, began)| began.elapsed() > SPINS) {
                println!("seed {seed}: endless: it spins");
                std::process::exit(101);
            }
        }
    });
    if let Some((seed, what)) = failure.into_inner().unwrap() {
        println!("seed {seed}: {what}");
        panic!(
            "seed {seed}: {what}\nagain, with all that happens: MILENA_SIMULATION_SEED={seed} MILENA_SIMULATION_SEEDS=1 \
             cargo test --lib request_reply::simulation -- --nocapture"
        );
    }
    let total = total.into_inner().unwrap();
    println!("{count} seeds in {:?}: {total:?}", began.elapsed());
    assert!(
        total.answered > count && total.timed_out > 0 && total.events > count,
        "nothing was tried: {total:?}"
    );
}

#[test]
fn a_position_that_was_lost_while_a_requester_was_built_was_the_end_of_it() {
    run(2454, false).unwrap();
}
