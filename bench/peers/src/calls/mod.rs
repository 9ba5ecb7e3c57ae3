//! Request-reply: a caller and a responder with milena, with a lean pair on librdkafka, and with milena's producer and consumer alone (the
//! raw exchange: what a call costs without the layer). What they are told and what they tell: tests/partners/README.md.
mod milena_pair;
mod raw_pair;
mod rdkafka_pair;

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Instant;

use crate::Args;
use crate::meter::{Figures, Meter};

/// Where the replies of a pair that knows nothing of other callers go.
const REPLY_PARTITION: i32 = 0;

/// `key=value`, as the partners' arguments are.
pub struct Sides(HashMap<String, String>);

impl Sides {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("{name}=.. is missing"))
    }
}

/// What a line asks for: so many calls, so many at a time.
#[derive(Debug, Clone, Copy)]
struct Order {
    calls: usize,
    concurrency: usize,
}

/// How long each call took, in milliseconds.
struct Took {
    begun: Instant,
    millis: Vec<f64>,
    lost: usize,
}

impl Took {
    fn start(order: Order) -> Self {
        Self { begun: Instant::now(), millis: Vec::with_capacity(order.calls), lost: 0 }
    }

    fn call(&mut self, since: Instant) {
        self.millis.push(since.elapsed().as_secs_f64() * 1000.0);
    }

    fn tell(mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.millis.sort_by(f64::total_cmp);
        let at =
            |part: f64| self.millis[((self.millis.len() as f64 * part) as usize).min(self.millis.len() - 1)];
        let (calls, lost, p50, p99, max) = (self.millis.len(), self.lost, at(0.5), at(0.99), at(1.0));
        println!(
            "{{\"event\":\"done\",\"calls\":{calls},\"lost\":{lost},\"seconds\":{seconds},\"p50\":{p50},\"p99\":{p99},\"max\":{max}}}"
        );
    }
}

/// One side as a process.
pub fn side(words: &[String]) {
    let pairs = words.iter().map(|word| word.split_once('=').unwrap_or_else(|| panic!("{word}: key=value")));
    let args = Sides(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    match (args.text("peer"), args.text("role")) {
        ("milena", "caller") => milena_pair::caller(&args),
        ("milena", "responder") => milena_pair::responder(&args),
        ("rdkafka", "caller") => rdkafka_pair::caller(&args),
        ("rdkafka", "responder") => rdkafka_pair::responder(&args),
        other => panic!("no such side: {other:?}"),
    }
    println!("{{\"event\":\"closed\"}}");
}

fn ready() {
    println!("{{\"event\":\"ready\"}}");
}

/// The next line of standard input; None when it closes.
fn order() -> Option<Order> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).expect("standard input");
    (read > 0).then(|| {
        let mut words = line.split(' ').skip(1).map(|word| word.parse().unwrap_or(0));
        Order { calls: words.next().unwrap_or(0), concurrency: words.next().unwrap_or(1) }
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The value of call i, as all callers here ask, and what comes back.
fn request(call: usize) -> String {
    format!("echo {}-{call}", "x".repeat(20))
}

fn answer(request: &[u8]) -> &[u8] {
    request.strip_prefix(b"echo ").expect("an echo")
}

/// A node that answers from memory, until standard input closes.
pub fn node() {
    runtime().block_on(async {
        let broker = milena::broker::Broker::start().await.expect("a node");
        for topic in ["requests", "replies"] {
            broker.create_topic(topic, 1).expect("a topic");
        }
        println!("node {}", broker.address());
        let end = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
        let _ = end.await;
    });
}

/// Caller and responder in this process, on one thread: what both cost together for a call.
pub fn job(peer: &str, args: &Args) -> Figures {
    let address = args.text("--address").expect("--address").to_owned();
    let order = Order {
        calls: args.number("--calls", 100_000) as usize,
        concurrency: args.number("--concurrency", 1000) as usize,
    };
    let warm_up = Order { calls: order.calls / 10 + 1, ..order };
    runtime().block_on(async {
        match peer {
            "milena" => milena_pair::together(&address, warm_up, order).await,
            "raw" => raw_pair::together(&address, warm_up, order, &[]).await,
            // With as many bytes of headers as a call has.
            "raw-headers" => raw_pair::together(&address, warm_up, order, &raw_pair::HEADERS).await,
            other => panic!("no such peer: {other}"),
        }
    })
}
