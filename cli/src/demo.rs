//! `milena demo`: calls over Kafka while callers come and go, a node stops and a leader moves; not one may be lost.
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use milena::broker::Broker;
use milena::{Client, Error, NewTopic, Refusal, Request, Requester, Responder};
use tokio::task::JoinSet;

use crate::outcome::{Failure, Interrupt, Outcome};

const REQUEST_PARTITIONS: i32 = 6;
const REPLY_PARTITIONS: i32 = 12;
/// How many callers one place sees in the course of a demonstration.
const LIVES: u64 = 5;
/// After so many calls without an answer no more are made.
const HOPELESS: u64 = 100;

/// Options of `milena demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A real cluster; without it an embedded broker of three nodes is used
    #[arg(long, value_name = "HOST:PORT[,..]")]
    bootstrap: Option<String>,
    /// How many calls to make
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    calls: u64,
    /// How many callers, each with a client of its own, are there at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    callers: u64,
    /// How many calls each caller has in flight
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    concurrency: u64,
    /// How long a call may take, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Nothing comes or goes, stops or moves: for measuring
    #[arg(long)]
    calm: bool,
}

/// What the callers have seen together.
#[derive(Default)]
struct Tally {
    /// Calls that may still be begun.
    left: AtomicI64,
    sent: AtomicU64,
    answered: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
    callers: AtomicU64,
    late_or_repeated: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    /// The first thing that went wrong, in words.
    trouble: Mutex<Option<String>>,
}

impl Tally {
    fn complain(&self, what: String) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    fn take(&self) -> bool {
        self.left.fetch_sub(1, Relaxed) > 0
    }

    fn ended(&self) -> u64 {
        self.answered.load(Relaxed) + self.lost.load(Relaxed) + self.failed.load(Relaxed)
    }
}

/// Where the demonstration takes place.
#[derive(Clone)]
struct Place {
    bootstrap: String,
    requests: String,
    replies: String,
    timeout: Duration,
}

impl Place {
    async fn client(&self) -> Result<Client, Error> {
        Client::builder().bootstrap(&self.bootstrap)?.client_id("milena-demo").build().await
    }
}

pub(crate) async fn run(args: Args, mut interrupt: Interrupt) -> Outcome {
    let broker = match args.bootstrap {
        Some(_) => None,
        None => Some(Broker::builder().nodes(3).start().await?),
    };
    let bootstrap = match (&args.bootstrap, &broker) {
        (Some(bootstrap), _) => bootstrap.clone(),
        (None, Some(broker)) => broker.address(),
        (None, None) => String::new(),
    };
    let prefix = format!("milena-demo-{:08x}", std::process::id() ^ subsecond());
    let place = Place {
        bootstrap,
        requests: format!("{prefix}.sum"),
        replies: format!("{prefix}.replies"),
        timeout: Duration::from_secs(args.timeout),
    };
    let client = place.client().await?;
    create_topics(&client, &place).await?;
    let tally = Arc::new(Tally { left: AtomicI64::new(args.calls as i64), ..Tally::default() });
    let outcome = tokio::select! {
        outcome = perform(&args, &place, broker.as_ref(), &tally) => outcome,
        () = interrupt.wait() => {
            let (sent, answered) = (tally.sent.load(Relaxed), tally.answered.load(Relaxed));
            Err(Failure::Interrupted(format!("{answered} of {sent} calls were answered")))
        }
    };
    let removed = client.admin().delete_topics([&*place.requests, &*place.replies]).await;
    client.close().await;
    if let Some(broker) = broker {
        broker.stop().await;
    }
    outcome?;
    Ok(removed.map(drop)?)
}

fn subsecond() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos()
}

async fn create_topics(client: &Client, place: &Place) -> Result<(), Error> {
    let nodes = client.admin().describe_cluster().await?.nodes.len();
    let (replicas, in_sync) = if nodes >= 3 { (3, "2") } else { (nodes.max(1) as i16, "1") };
    let topic = |name: &str, partitions| {
        NewTopic::new(name, partitions, replicas)
            .config("min.insync.replicas", in_sync)
            .config("retention.ms", "3600000")
    };
    let topics = [topic(&place.requests, REQUEST_PARTITIONS), topic(&place.replies, REPLY_PARTITIONS)];
    client.admin().create_topics(topics).await.map(drop)
}

async fn perform(args: &Args, place: &Place, broker: Option<&Broker>, tally: &Arc<Tally>) -> Outcome {
    let mut responders = Vec::new();
    for index in 0..2 {
        let client = place.client().await?;
        let responder =
            client.responder("adders").share(index, 2).on_request(&place.requests, add).start().await?;
        responders.push((responder, client));
    }
    let bar = progress(args.calls);
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..args.callers {
        callers.spawn(caller(place.clone(), tally.clone(), args.concurrency, lifetime(args)));
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut troubles = (!args.calm).then_some(broker).flatten().map(|broker| Troubles { broker, done: 0 });
    loop {
        tokio::select! {
            ended = callers.join_next() => match ended {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => tally.complain(error.to_string()),
                Some(Err(error)) => tally.complain(error.to_string()),
            },
            _ = ticks.tick() => {
                bar.set_position(tally.ended());
                if tally.lost.load(Relaxed) + tally.failed.load(Relaxed) >= HOPELESS {
                    tally.left.store(0, Relaxed);
                }
                if let Some(troubles) = &mut troubles {
                    troubles.make(tally.ended(), args.calls, place, &bar).await?;
                }
            }
        }
    }
    let took = started.elapsed();
    bar.finish_and_clear();
    for (responder, client) in &responders {
        responder.close().await;
        client.close().await;
    }
    report(args, tally, took, &responders)
}

/// The request is a list of numbers, the reply its sum.
async fn add(request: Request) -> Result<String, Refusal> {
    let text = std::str::from_utf8(request.value())?;
    let mut sum = 0_u64;
    for number in text.split(',') {
        sum += number.parse::<u64>()?;
    }
    Ok(sum.to_string())
}

fn lifetime(args: &Args) -> u64 {
    if args.calm { u64::MAX } else { args.calls.div_ceil(args.callers * LIVES) }
}

/// One place for a caller: when one has made its calls, it leaves and another comes.
async fn caller(place: Place, tally: Arc<Tally>, concurrency: u64, lifetime: u64) -> Result<(), Error> {
    while tally.left.load(Relaxed) > 0 {
        let client = place.client().await?;
        let requester =
            client.requester().reply_topic(&place.replies).create_reply_topic(false).build().await?;
        tally.callers.fetch_add(1, Relaxed);
        let budget = Arc::new(AtomicI64::new(i64::try_from(lifetime).unwrap_or(i64::MAX)));
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            let (requester, place, tally, budget) =
                (requester.clone(), place.clone(), tally.clone(), budget.clone());
            workers.spawn(async move {
                let mut latencies = Vec::new();
                while budget.fetch_sub(1, Relaxed) > 0 && tally.take() {
                    call(&requester, &place, &tally, &mut latencies).await;
                }
                tally.latencies.lock().unwrap_or_else(PoisonError::into_inner).append(&mut latencies);
            });
        }
        workers.join_all().await;
        requester.close().await;
        let metrics = requester.metrics();
        tally.late_or_repeated.fetch_add(metrics.late + metrics.duplicate, Relaxed);
        client.close().await;
    }
    Ok(())
}

async fn call(requester: &Requester, place: &Place, tally: &Tally, latencies: &mut Vec<Duration>) {
    let number = tally.sent.fetch_add(1, Relaxed);
    let started = Instant::now();
    let request = format!("{number},{},2", number + 1);
    let reply = requester.request(&place.requests, &request).timeout(place.timeout).await;
    match reply {
        Ok(reply) if reply.value() == (2 * number + 3).to_string().as_bytes() => {
            latencies.push(started.elapsed());
            tally.answered.fetch_add(1, Relaxed);
        }
        Ok(reply) => {
            tally.failed.fetch_add(1, Relaxed);
            tally.complain(format!("call {number} got somebody else's reply: {}", reply.text()));
        }
        Err(error) => {
            let counter = if error.is_timeout() { &tally.lost } else { &tally.failed };
            counter.fetch_add(1, Relaxed);
            tally.complain(format!("call {number}: {error}"));
        }
    }
}

/// What happens to the embedded broker meanwhile.
struct Troubles<'a> {
    broker: &'a Broker,
    done: usize,
}

impl Troubles<'_> {
    /// Makes what is due after so many calls.
    async fn make(&mut self, ended: u64, calls: u64, place: &Place, bar: &ProgressBar) -> Result<(), Error> {
        let due = [calls / 3, calls / 2, calls * 2 / 3];
        if due.get(self.done).is_none_or(|&due| ended < due) {
            return Ok(());
        }
        match self.done {
            0 => {
                for partition in 0..REPLY_PARTITIONS {
                    self.broker.move_leader(&place.replies, partition, 1)?;
                }
                bar.println("every reply partition is led by node 1 now");
            }
            1 => {
                self.broker.stop_node(1).await?;
                bar.println("node 1 has stopped");
            }
            _ => {
                self.broker.start_node(1).await?;
                bar.println("node 1 is back");
            }
        }
        self.done += 1;
        Ok(())
    }
}

fn progress(calls: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} calls, {eta} left");
    let bar = ProgressBar::new(calls);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn report(args: &Args, tally: &Tally, took: Duration, responders: &[(Responder, Client)]) -> Outcome {
    let mut latencies = std::mem::take(&mut *tally.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    latencies.sort_unstable();
    let percentile = |percent: usize| {
        let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    };
    let (sent, answered) = (tally.sent.load(Relaxed), tally.answered.load(Relaxed));
    let (lost, failed) = (tally.lost.load(Relaxed), tally.failed.load(Relaxed));
    let mut out = std::io::stdout();
    writeln!(out, "sent       {sent}\nanswered   {answered}\nlost       {lost}\nfailed     {failed}")?;
    writeln!(out, "p50        {:.3} ms\np99        {:.3} ms", percentile(50), percentile(99))?;
    writeln!(out, "calls/s    {:.0}", answered as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE))?;
    let callers = tally.callers.load(Relaxed);
    writeln!(
        out,
        "callers    {callers}, {} at a time, {} calls in flight each",
        args.callers, args.concurrency
    )?;
    let handled: Vec<_> =
        responders.iter().map(|(responder, _)| responder.metrics().requests.to_string()).collect();
    writeln!(out, "handled    {} by the two responders", handled.join(" and "))?;
    writeln!(out, "repeated   {} replies, late ones included", tally.late_or_repeated.load(Relaxed))?;
    if answered == args.calls {
        return Ok(());
    }
    let trouble = tally.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    Err(format!(
        "{} of {} calls were not answered: {trouble}",
        args.calls.saturating_sub(answered),
        args.calls
    )
    .into())
}
