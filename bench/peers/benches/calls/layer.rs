//! What request-reply costs over the raw exchange: caller and responder together on one thread and one core, a node that answers from
//! memory on another.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::peer::CONCURRENCY;
use crate::table::median;

const PEERS: [&str; 3] = ["milena", "raw", "raw-headers"];

fn pinned(core: &str, words: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core, env!("CARGO_BIN_EXE_milena-peers")]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// CPU and allocations for a call.
fn once(peer: &str, concurrency: usize) -> (f64, f64) {
    let mut node = pinned("1", &["node"]).spawn().expect("taskset (util-linux) starts");
    let mut said = String::new();
    BufReader::new(node.stdout.take().expect("piped")).read_line(&mut said).expect("a line");
    let address = said.trim().strip_prefix("node ").expect("an address").to_owned();
    let (calls, concurrency) = (if concurrency == 1 { "20000" } else { "300000" }, concurrency.to_string());
    let words =
        ["call", "--peer", peer, "--address", &address, "--calls", calls, "--concurrency", &concurrency];
    let output = pinned("0", &words).stderr(Stdio::inherit()).output().expect("taskset starts");
    assert!(output.status.success(), "{peer} failed");
    drop(node.stdin.take());
    node.wait().expect("the node ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> =
        said.split_whitespace().skip(1).map(|word| word.parse().expect("a number")).collect();
    let [calls, user, system, allocations, ..] = numbers[..] else { panic!("{peer} said {said:?}") };
    ((user + system) / calls / 1000.0, allocations / calls)
}

pub fn measure(rounds: usize) {
    let mut figures = BTreeMap::<_, Vec<_>>::new();
    for round in 0..rounds {
        for concurrency in CONCURRENCY {
            for turn in 0..PEERS.len() {
                let peer = PEERS[(round + turn) % PEERS.len()];
                figures.entry((concurrency, peer)).or_default().push(once(peer, concurrency));
            }
        }
    }
    println!("| concurrency | exchange | CPU us/call, both sides | x raw | allocations a call |");
    println!("|---|---|---|---|---|");
    let cpu = |concurrency, peer| median(figures[&(concurrency, peer)].iter().map(|(cpu, _)| *cpu).collect());
    for ((concurrency, peer), all) in &figures {
        let allocations = median(all.iter().map(|(_, allocations)| *allocations).collect());
        let own = cpu(*concurrency, *peer);
        println!(
            "| {concurrency} | {peer} | {own:.2} | {:.2} | {allocations:.1} |",
            own / cpu(*concurrency, "raw")
        );
    }
}
