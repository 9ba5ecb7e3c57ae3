//! Many seeds, one after the other, and how to repeat the one that fails.
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Counts, World};

/// Seeds that once failed, with what they found.
const KEPT: &str = "testdata/seeds.txt";
const KEPT_OF_GROUPS: &str = "testdata/seeds_of_groups.txt";

/// What `cargo test` runs unless `MILENA_SIMULATION_SEEDS` says otherwise.
const SHARE: u64 = 300;
const SHARE_OF_GROUPS: u64 = 100;

/// A number that the environment may set.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// What a seed is the seed of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Producers and consumers by themselves.
    Alone,
    Groups,
}

fn run(kind: Kind, seed: u64, talk: bool) -> Result<Counts, String> {
    caught(|| {
        let mut world = match kind {
            Kind::Alone => World::new(seed, talk),
            Kind::Groups => World::of_groups(seed, talk),
        };
        if talk {
            println!("{:#?}", world.plan);
        }
        world.run()
    })
}

/// What a run gives; a panic is a finding.
pub(crate) fn caught<C>(run: impl FnOnce() -> Result<C, String>) -> Result<C, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    })
}

/// How long a seed may take: a thousand times more than it does.
const LONGEST: Duration = Duration::from_secs(100);

/// Ends the process when a seed does not end, since a thread that spins inside a machine cannot be stopped.
fn watch(running: &Mutex<BTreeMap<u64, Instant>>) {
    let Some((seed, _)) = running
        .lock()
        .unwrap()
        .iter()
        .map(|(seed, began)| (*seed, began.elapsed()))
        .find(|(_, took)| *took > LONGEST)
    else {
        return;
    };
    println!("seed {seed}: spins: the run does not end");
    std::process::exit(101);
}

/// Runs the seeds on all processors. Gives how many there were and what they did together, or the lowest seed that fails.
pub(crate) fn run_all<C: Default + Send>(
    seeds: impl Iterator<Item = u64> + Send,
    run: impl Fn(u64) -> Result<C, String> + Sync,
    add: impl Fn(&mut C, &C) + Sync,
) -> Result<(u64, C), (u64, String)> {
    let seeds = Mutex::new(seeds);
    let lowest = AtomicU64::new(u64::MAX);
    let total = Mutex::new((0, C::default()));
    let failure = Mutex::new(None);
    let running = Mutex::new(BTreeMap::new());
    let work = || {
        while lowest.load(Ordering::SeqCst) == u64::MAX
            && let Some(seed) = { seeds.lock().unwrap().next() }
        {
            running.lock().unwrap().insert(seed, Instant::now());
            let ended = run(seed);
            running.lock().unwrap().remove(&seed);
            match ended {
                Ok(counts) => {
                    let mut total = total.lock().unwrap();
                    total.0 += 1;
                    add(&mut total.1, &counts);
                }
                Err(what) => {
                    if lowest.fetch_min(seed, Ordering::SeqCst) > seed {
                        *failure.lock().unwrap() = Some((seed, what));
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            workers.push(scope.spawn(work));
        }
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(20));
            watch(&running);
        }
    });
    match failure.into_inner().unwrap() {
        Some(failure) => Err(failure),
        None => Ok(total.into_inner().unwrap()),
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.written += other.written;
        self.maybe_written += other.maybe_written;
        self.not_written += other.not_written;
        self.read += other.read;
        self.faults += other.faults;
        self.retries += other.retries;
        self.epochs += other.epochs;
        self.resets += other.resets;
        self.lost_connections += other.lost_connections;
    }
}

/// A failing seed joins those that are always run. In CI nobody would commit it.
fn keep(kept_in: &str, seed: u64, what: &str) {
    if std::env::var_os("CI").is_none() {
        let mut text = std::fs::read_to_string(kept_in).unwrap_or_default();
        if kept(&text).all(|known| known != seed) {
            text.push_str(&format!("{seed} # {}\n", what.lines().next().unwrap_or_default()));
            std::fs::write(kept_in, text).unwrap();
        }
    }
}

fn kept(text: &str) -> impl Iterator<Item = u64> {
    let numbers = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    numbers.filter(|number| !number.is_empty()).map(|number| number.parse().unwrap())
}

/// The seeds that are asked for, and those that once failed.
fn try_all(kind: Kind, share: u64, kept_in: &str, was_tried: impl Fn(u64, &Counts) -> bool) {
    let (first, count) = (number("MILENA_SIMULATION_SEED", 0), number("MILENA_SIMULATION_SEEDS", share));
    let began = Instant::now();
    if count == 1 {
        run(kind, first, true).unwrap_or_else(|what| panic!("seed {first}: {what}"));
        return;
    }
    let once_failed: Vec<u64> = kept(&std::fs::read_to_string(kept_in).unwrap_or_default()).collect();
    let seeds = once_failed.into_iter().chain(first..first + count);
    match run_all(seeds, |seed| run(kind, seed, false), Counts::add) {
        Ok((seeds, counts)) => {
            println!("{seeds} seeds in {:?}: {counts:?}", began.elapsed());
            assert!(was_tried(seeds, &counts), "nothing was tried: {counts:?}");
        }
        Err((seed, what)) => {
            keep(kept_in, seed, &what);
            panic!(
                "seed {seed}: {what}\nagain, with all that happens: MILENA_SIMULATION_SEED={seed} \
                 MILENA_SIMULATION_SEEDS=1 cargo test --lib simulation -- --nocapture"
            );
        }
    }
}

#[test]
fn whatever_goes_wrong_every_promise_is_kept() {
    try_all(Kind::Alone, SHARE, KEPT, |seeds, counts| {
        let ends = counts.written > 0 && counts.maybe_written > 0 && counts.not_written > 0;
        ends && counts.resets > 0 && counts.epochs > seeds
    });
}

#[test]
fn whatever_happens_to_a_group_every_promise_is_kept() {
    try_all(Kind::Groups, SHARE_OF_GROUPS, KEPT_OF_GROUPS, |seeds, counts| {
        counts.read > seeds && counts.lost_connections > seeds
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..12 {
        for kind in [Kind::Alone, Kind::Groups] {
            let (once, again) = (run(kind, seed, false), run(kind, seed, false));
            assert_eq!(once, again, "seed {seed} of {kind:?}");
        }
    }
}
