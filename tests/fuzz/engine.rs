//! Runs a target: makes inputs, decodes them, and tells what must not happen.
use std::cell::RefCell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::allocations;
use crate::random::Random;
use crate::targets::Target;

/// What one input may take: far more than any needs, on a machine that has other things to do.
const BUDGET: Duration = Duration::from_millis(500);
/// Debug builds are slower.
const SLOWER: u32 = if cfg!(debug_assertions) { 4 } else { 1 };
/// After so long an input counts as one without end, and the process gives up.
const ENDLESS: Duration = Duration::from_secs(120);

/// What happened in one run of a target.
#[derive(Default)]
pub struct Figures {
    pub inputs: u64,
    pub decoded: u64,
    /// The most heap bytes for a byte of input, of inputs of at least 64 bytes.
    pub multiple: f64,
    pub most: usize,
    /// The largest part of what may be held.
    pub share: f64,
    pub slowest: Duration,
    pub findings: Vec<String>,
}

/// Why an input is a finding.
#[derive(Debug, PartialEq)]
pub enum Fault {
    Panic(String),
    Memory(String),
    Time(String),
    Promise(String),
}

pub struct Taken {
    decoded: bool,
    peak: usize,
    allowed: usize,
    time: Duration,
}

/// Decodes an input under all that must hold. `usual` is a time that needs no second look.
pub fn attempt(target: &Target, input: &[u8], usual: Duration) -> Result<Taken, Fault> {
    let bytes = Bytes::copy_from_slice(input);
    let mut decoded = Ok(false);
    let mut best = Duration::MAX;
    let mut peak = 0;
    // A thread may have had to wait for its turn: what is slow once is tried again.
    for _ in 0..5 {
        let start = Instant::now();
        peak = allocations::peak(|| decoded = caught(|| (target.decoder.decode)(&bytes)));
        best = best.min(start.elapsed());
        if decoded.is_err() || best <= usual {
            break;
        }
    }
    let decoded = decoded.map_err(Fault::Panic)?;
    let allowed = target.multiple * input.len() + target.constant;
    if peak > allowed {
        return Err(Fault::Memory(format!("{peak} bytes held for an input of {}", input.len())));
    }
    if best >= BUDGET * SLOWER {
        return Err(Fault::Time(format!("{best:?} for an input of {} bytes", input.len())));
    }
    if decoded {
        caught(|| (target.decoder.check)(&bytes)).map_err(Fault::Panic)?.map_err(Fault::Promise)?;
    }
    Ok(Taken { decoded, peak, allowed, time: best })
}

thread_local! {
    /// While a panic is expected: what the last one said, and where.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    PANIC.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(work));
    let said = PANIC.take().unwrap_or_default();
    match result {
        // One in a task ends the task only.
        Ok(value) if said.is_empty() => Ok(value),
        _ => Err(said),
    }
}

/// Keeps panics of decoders out of the output: they are findings.
pub fn catch_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match PANIC.with_borrow(Option::is_some) {
        true => PANIC.set(Some(info.to_string().replace('\n', " "))),
        false => others(info),
    }));
}

/// What is being decoded, for the watch.
pub struct Watch(Vec<Mutex<Option<(Instant, u64)>>>);

impl Watch {
    pub fn new(targets: usize) -> Self {
        Self((0..targets).map(|_| Mutex::new(None)).collect())
    }

    /// Ends the process if an input has no end: nothing else can stop a thread.
    pub fn look(&self, targets: &[Target], seed: u64) {
        for (target, place) in targets.iter().zip(&self.0) {
            if let Some((since, index)) = *place.lock().unwrap()
                && since.elapsed() > ENDLESS
            {
                let input = (target.make)(&mut Random::of(seed, target.name, index), &target.seeds);
                eprintln!("{}", report(target, seed, index, &input, &Fault::Time("no end".into())));
                std::process::exit(1);
            }
        }
    }
}

/// Runs one target until `end`.
pub fn run(target: &Target, seed: u64, end: Instant, place: (&Watch, usize)) -> Figures {
    let mut figures = Figures::default();
    let mut kinds = Vec::new();
    while Instant::now() < end && figures.findings.len() < 20 {
        let index = figures.inputs;
        figures.inputs += 1;
        let input = (target.make)(&mut Random::of(seed, target.name, index), &target.seeds);
        *place.0.0[place.1].lock().unwrap() = Some((Instant::now(), index));
        match attempt(target, &input, figures.slowest) {
            Ok(taken) => {
                figures.decoded += u64::from(taken.decoded);
                figures.slowest = figures.slowest.max(taken.time);
                figures.most = figures.most.max(taken.peak);
                figures.share = figures.share.max(taken.peak as f64 / taken.allowed as f64);
                if input.len() >= 64 {
                    figures.multiple = figures.multiple.max(taken.peak as f64 / input.len() as f64);
                }
            }
            Err(fault) => {
                // The same place again is no other finding.
                let kind = kind(&fault);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                    let small = shrink(target, input, &fault);
                    figures.findings.push(report(target, seed, index, &small, &fault));
                }
            }
        }
    }
    *place.0.0[place.1].lock().unwrap() = None;
    figures
}

/// A fault without its numbers.
fn kind(fault: &Fault) -> String {
    match fault {
        Fault::Panic(what) => what.split(" thread").next().unwrap_or(what).to_owned(),
        Fault::Promise(what) => {
            what.split(|char: char| char.is_ascii_digit()).next().unwrap_or(what).to_owned()
        }
        Fault::Memory(_) => "memory".to_owned(),
        Fault::Time(_) => "time".to_owned(),
    }
}

/// Takes away what the fault does not need.
fn shrink(target: &Target, mut input: Vec<u8>, fault: &Fault) -> Vec<u8> {
    let patience = Instant::now() + Duration::from_secs(20);
    let same = |input: &[u8]| attempt(target, input, BUDGET).is_err_and(|other| kind(&other) == kind(fault));
    let mut step = input.len().div_ceil(2);
    while step > 0 && Instant::now() < patience {
        let mut at = 0;
        while at < input.len() && Instant::now() < patience {
            let mut less = input.clone();
            less.drain(at..(at + step).min(input.len()));
            if same(&less) { input = less } else { at += step }
        }
        step /= 2;
    }
    input
}

/// What to know of a finding, with the input in a file and the command that repeats it.
fn report(target: &Target, seed: u64, index: u64, input: &[u8], fault: &Fault) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let file = folder.join(format!("{}-{seed}-{index}", target.name));
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input));
    let hex: String = input.iter().take(512).map(|byte| format!("{byte:02x}")).collect();
    let cut = if input.len() > 512 { ".." } else { "" };
    format!(
        "{}: {fault:?}\n  seed {seed}, input {index}, {} bytes {kept:?}: {hex}{cut}\n  again: MILENA_FUZZ_TARGET={} MILENA_FUZZ_INPUT={} \
         cargo test --test fuzz one_input -- --ignored --nocapture",
        target.name,
        input.len(),
        target.name,
        file.display()
    )
}
