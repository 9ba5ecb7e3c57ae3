//! Client CPU time, allocations and memory per record: a hand-written floor, librdkafka (through `rdkafka`) and milena.
//!
//! `cargo run --release -p milena-peers` runs interleaved rounds with rotated order. Every round starts a fresh sink on
//! one core and a fresh client process on the other. The sink answers from memory, counts what it receives and what it
//! hands out, and is checked never to be the bottleneck: it reports its own CPU next to the client's.
mod calls;
mod floor;
mod meter;
mod milena_client;
mod rdkafka_client;
mod report;
mod sink;
mod wire;

use std::net::SocketAddr;

/// What every client does: the same records, the same batches, the same guarantees.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub records: u64,
    pub warm_up: u64,
    pub value: usize,
    pub partitions: i32,
    pub batch: usize,
    /// Deliveries that may be under way at once.
    pub outstanding: usize,
}

impl Load {
    fn from_args(args: &Args) -> Self {
        Self {
            records: args.number("--records", 2_000_000),
            warm_up: args.number("--warm-up", 200_000),
            value: args.number("--value", 100) as usize,
            partitions: args.number("--partitions", 4) as i32,
            batch: args.number("--batch", 128 * 1024) as usize,
            outstanding: args.number("--outstanding", 50_000) as usize,
        }
    }
}

/// `--name value` pairs behind a verb.
pub struct Args(Vec<String>);

impl Args {
    pub fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|arg| arg == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).map_or(default, |text| {
            text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text}"))
        })
    }
}

/// The jobs of the table, one row each.
pub const JOBS: &[(&str, &str)] = &[
    ("produce", "floor"),
    ("produce", "rdkafka-threaded"),
    ("produce", "rdkafka-base"),
    ("produce", "milena"),
    ("consume", "floor"),
    ("consume", "rdkafka"),
    ("consume", "milena-owned"),
    ("consume", "milena-borrowed"),
];

fn main() {
    let mut all: Vec<String> = std::env::args().skip(1).collect();
    let verb =
        if all.first().is_some_and(|arg| !arg.starts_with("--")) { all.remove(0) } else { "run".into() };
    if verb == "side" {
        return calls::side(&all);
    }
    let args = Args(all);
    match verb.as_str() {
        "run" => report::run(&args),
        "sink" => sink::serve(&args),
        "client" => client(&args),
        "node" => calls::node(),
        "call" => println!("{}", calls::job(args.text("--peer").expect("--peer"), &args)),
        other => panic!("unknown verb {other}: run, sink, client, side, node or call"),
    }
}

fn client(args: &Args) {
    let load = Load::from_args(args);
    let address: SocketAddr =
        args.text("--address").expect("--address HOST:PORT").parse().expect("an address");
    let job = (args.text("--job").expect("--job"), args.text("--peer").expect("--peer"));
    let figures = match job {
        ("produce", "floor") => floor::produce(address, &load),
        ("produce", "rdkafka-threaded") => rdkafka_client::produce_threaded(address, &load),
        ("produce", "rdkafka-base") => rdkafka_client::produce_base(address, &load),
        ("produce", "milena") => milena_client::produce(address, &load),
        ("consume", "floor") => floor::consume(address, &load),
        ("consume", "rdkafka") => rdkafka_client::consume(address, &load),
        ("consume", "milena-owned") => milena_client::consume_owned(address, &load),
        ("consume", "milena-borrowed") => milena_client::consume_borrowed(address, &load),
        other => panic!("unknown job {other:?}"),
    };
    println!("{figures}");
}
