//! One pair of caller and responder, from its start to its last call.
use std::time::Instant;

use crate::partner::Partner;
use crate::side::Side;
use crate::support::kafka::Cluster;
use crate::support::program::Program;
use crate::table::{Row, Rows};

/// Calls at a time.
pub const CONCURRENCY: [usize; 3] = [1, 64, 1000];
/// Partitions of the request topic.
const PARTITIONS: i32 = 4;
/// A measurement should last so long, in seconds.
const LONG_ENOUGH: f64 = 4.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Milena,
    Rdkafka,
    Nest11,
    Nest12,
    Spring,
    SpringTuned,
}

impl Peer {
    pub fn named(name: &str) -> Self {
        match name {
            "milena" => Self::Milena,
            "rdkafka" => Self::Rdkafka,
            "nest11" => Self::Nest11,
            "nest12" => Self::Nest12,
            "spring" => Self::Spring,
            "spring-tuned" => Self::SpringTuned,
            other => panic!("--peers: milena, rdkafka, nest11, nest12, spring or spring-tuned, not {other}"),
        }
    }

    fn program(self) -> Option<Program> {
        let own = |peer: &str| {
            let words = ["side".to_owned(), format!("peer={peer}")];
            Some((env!("CARGO_BIN_EXE_milena-peers").into(), words.into()))
        };
        match self {
            Self::Milena => own("milena"),
            Self::Rdkafka => own("rdkafka"),
            Self::Nest11 => Partner::Nest11.program(&[]),
            Self::Nest12 => Partner::Nest12.program(&[]),
            Self::Spring | Self::SpringTuned => Partner::Spring.program(&[]),
        }
    }

    pub fn measure(self, kafka: &Cluster, rows: &mut Rows) {
        let Some(program) = self.program() else { return };
        let who = format!("{self:?}");
        let topic = kafka.topic("bench", PARTITIONS);
        let replies = format!("{topic}.reply");
        kafka.create_topic(&crate::support::kafka::TopicSpec {
            name: &replies,
            partitions: PARTITIONS,
            replication: 1,
            ..Default::default()
        });
        let partitions = PARTITIONS.to_string();
        let mut args = vec![("topics", &*topic), ("group", &topic), ("replies", &replies), ("quiet", "yes")];
        args.extend([("partition", "0"), ("partitions", &partitions)]);
        args.extend((self == Self::SpringTuned).then_some(("tuned", "yes")));
        let start = |role| {
            let args = [&args[..], &[("role", role)]].concat();
            let mut side = Side::launch(kafka, &who, program.clone(), &args);
            side.wait("ready", |event| (event["event"] == "ready").then_some(()));
            side
        };
        let responder = start("responder");
        let begun = Instant::now();
        let mut caller = start("caller");
        bench(&mut caller, 1, 1);
        let first_reply = begun.elapsed().as_secs_f64() * 1000.0;
        let node = kafka.running()[0].2;
        for concurrency in CONCURRENCY {
            // The first call at 1 is the warm-up of the compilers, as far as anybody waits for it.
            let warm_up = bench(&mut caller, 400.max(4 * concurrency), concurrency);
            let calls = (warm_up.0 as f64 / warm_up.1.seconds * LONG_ENOUGH) as usize;
            let pids = [caller.process.pid, responder.process.pid, node];
            let before = pids.map(cpu);
            let (calls, mut row) = bench(&mut caller, calls.max(200), concurrency);
            let after = pids.map(cpu);
            row.cpu = std::array::from_fn(|side| (after[side] - before[side]) * 1e6 / calls as f64);
            row.first_reply = first_reply;
            eprintln!("{who} {concurrency}: {row:?}");
            rows.add(self, concurrency, row);
        }
    }
}

fn bench(caller: &mut Side, calls: usize, concurrency: usize) -> (usize, Row) {
    caller.forget(&["done"]);
    caller.process.tell(&format!("bench {calls} {concurrency} 30000 echo {}", "x".repeat(20)));
    let done = caller.wait("the end of its calls", |event| (event["event"] == "done").then(|| event.clone()));
    let number = |name: &str| done[name].as_f64().unwrap_or_else(|| panic!("no {name} in {done}"));
    let row = Row {
        seconds: number("seconds"),
        calls: calls as f64,
        p50: number("p50"),
        p99: number("p99"),
        max: number("max"),
        lost: number("lost"),
        ..Row::default()
    };
    (calls, row)
}

/// The CPU time of a process so far, in seconds: user and system, all its threads.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process that runs");
    // The second field is a name in parentheses, which may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("a number")).sum();
    // Linux counts in hundredths of a second, whatever its kernel's own clock.
    ticks / 100.0
}
