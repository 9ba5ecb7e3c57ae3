//! Runs the rounds and prints the table.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::meter::Figures;
use crate::{Args, JOBS, Load};

/// One client run: its figures, and what the sink says of it.
struct Run {
    figures: Figures,
    sink_cpu: u64,
}

pub fn run(args: &Args) {
    let rounds = args.number("--rounds", 5) as usize;
    let load = Load::from_args(args);
    let only = args.text("--only").unwrap_or("");
    let jobs: Vec<_> = JOBS.iter().filter(|(job, peer)| format!("{job}/{peer}").contains(only)).collect();
    println!("{load:?}, {rounds} rounds, acks=all, idempotent, no compression, linger 5 ms, checksums on");
    println!("load average before: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    for job in &jobs {
        once(job, &Load { records: 100_000, warm_up: 0, ..load }, true); // counted and checked record by record
    }
    let mut runs: BTreeMap<(&str, &str), Vec<Run>> = BTreeMap::new();
    for round in 0..rounds {
        for at in 0..jobs.len() {
            let job = jobs[(at + round) % jobs.len()];
            runs.entry(*job).or_default().push(once(job, &load, false));
        }
    }
    println!(
        "{:<26} {:>9} {:>17} {:>7} {:>7} {:>8} {:>9} {:>9} {:>9}",
        "client CPU ns/record",
        "median",
        "min..max",
        "user",
        "system",
        "x floor",
        "allocs",
        "peak MiB",
        "sink ns"
    );
    let floor = |job: &str| runs.get(&(job, "floor")).map(|runs| median(runs, cpu));
    for (job, peer) in jobs {
        let of = &runs[&(*job, *peer)];
        let cpus: Vec<f64> = of.iter().map(cpu).collect();
        let ratio = floor(job).map_or("-".into(), |floor| format!("{:.2}", median(of, cpu) / floor));
        let allocations = if peer.starts_with("rdkafka") {
            "in C".into()
        } else {
            format!("{:.4}", median(of, |run| per_record(run, run.figures.allocations)))
        };
        println!(
            "{:<26} {:>9.1} {:>8.1}..{:<7.1} {:>7.1} {:>7.1} {:>8} {:>9} {:>9.1} {:>9.1}",
            format!("{job} {peer}"),
            median(of, cpu),
            cpus.iter().copied().fold(f64::MAX, f64::min),
            cpus.iter().copied().fold(0.0, f64::max),
            median(of, |run| per_record(run, run.figures.user)),
            median(of, |run| per_record(run, run.figures.system)),
            ratio,
            allocations,
            median(of, |run| run.figures.peak_kib as f64 / 1024.0),
            median(of, |run| run.sink_cpu as f64 / (load.records + load.warm_up) as f64),
        );
    }
}

fn per_record(run: &Run, number: u64) -> f64 {
    number as f64 / run.figures.records as f64
}

fn cpu(run: &Run) -> f64 {
    per_record(run, run.figures.user + run.figures.system)
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut all: Vec<f64> = runs.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// This program again, pinned to one core.
fn pinned(core: &str, words: &[&str], load: &Load) -> Command {
    let own = std::env::current_exe().expect("a path");
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(own).args(words);
    for (name, value) in [
        ("--records", load.records),
        ("--warm-up", load.warm_up),
        ("--value", load.value as u64),
        ("--partitions", load.partitions as u64),
        ("--batch", load.batch as u64),
        ("--outstanding", load.outstanding as u64),
    ] {
        command.args([name, &value.to_string()]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn line(from: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

fn start(mut command: Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.spawn().expect("taskset (util-linux) starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    (child, out)
}

fn once((job, peer): &(&str, &str), load: &Load, check: bool) -> Run {
    let checked = if check { "1" } else { "0" };
    let (mut sink, mut sink_out) = start(pinned("1", &["sink", "--check", checked], load));
    let port = line(&mut sink_out).strip_prefix("sink ").expect("a port").to_owned();
    let address = format!("127.0.0.1:{port}");
    let words = ["client", "--job", job, "--peer", peer, "--address", &address];
    let (mut client, mut out) = start(pinned("0", &words, load));
    let said = line(&mut out);
    let status = client.wait().expect("the client ends");
    assert!(status.success(), "{job} {peer} failed: {status}");
    let figures = Figures::parse(&said).unwrap_or_else(|| panic!("{job} {peer} said {said:?}"));
    drop(sink.stdin.take());
    let counted = line(&mut sink_out);
    sink.wait().expect("the sink ends");
    let counts: Vec<u64> = counted.split(' ').skip(1).map(|text| text.parse().expect("a count")).collect();
    let [records, bytes, batches, requests, bad, handed_out, sink_cpu] = counts[..] else {
        panic!("the sink said {counted:?}");
    };
    let wanted = load.records + load.warm_up;
    match *job {
        "produce" => {
            assert_eq!(records, wanted, "{peer}: records that arrived");
            assert_eq!(bad, 0, "{peer}: bad batches");
            if check {
                assert_eq!(bytes, wanted * load.value as u64, "{peer}: bytes that arrived");
            }
        }
        _ => assert!(handed_out >= wanted, "{peer}: {handed_out} handed out for {wanted}"),
    }
    let fill = if batches > 0 { records / batches } else { 0 };
    eprintln!(
        "{job} {peer}: {:.1} ns/record, {requests} requests, {fill} records a batch, {handed_out} handed out",
        cpu(&Run { figures, sink_cpu })
    );
    Run { figures, sink_cpu }
}
