//! `milena demo`: calls over Kafka in a storm of rebalances: callers join and leave a group, or die in it, its coordinator stops, and the
//! leaders of the replies move. No reply may be lost.
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use milena::broker::Broker;
use milena::{Client, Error, NewTopic, Refusal, ReplyAllocator, ReplyGroup, Request, Requester, Responder};
use tokio::task::JoinSet;

use crate::outcome::{Failure, Interrupt, Outcome};

const REQUEST_PARTITIONS: i32 = 6;
const REPLY_PARTITIONS: i32 = 12;
/// How many callers one place sees in the course of a demonstration.
const LIVES: u64 = 5;
/// After so many calls without an answer no more are made.
const HOPELESS: u64 = 100;
/// How long the coordinator of a group waits for a dead caller: the shortest that Kafka allows by default, and less on the embedded broker.
const SESSION: Duration = Duration::from_secs(6);
const SHORT_SESSION: Duration = Duration::from_millis(600);

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
    /// Who chooses the partition that a caller's replies come on: a group of all callers, or each for itself; or half of them so, half so
    #[arg(long, value_enum, default_value_t)]
    home: Home,
    /// Nothing comes or goes, stops or moves: for measuring
    #[arg(long)]
    calm: bool,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Home {
    Group,
    #[value(name = "self")]
    SelfChosen,
    #[default]
    Both,
}

impl Home {
    /// Whether the callers of this place are in the group.
    fn in_group(self, place: u64) -> bool {
        match self {
            Self::Group => true,
            Self::SelfChosen => false,
            Self::Both => place % 2 == 1,
        }
    }
}

/// What the callers have seen together.
#[derive(Default)]
struct Tally {
    /// Calls that may still be begun.
    left: AtomicI64,
    /// What calls are told apart by.
    numbers: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
    /// Calls whose caller was killed. They are made once more, and counted as sent only then.
    died: AtomicU64,
    callers: AtomicU64,
    /// Of these, those in the group, and those that were killed.
    members: AtomicU64,
    killed: AtomicU64,
    late: AtomicU64,
    repeated: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    /// The first thing that went wrong, in words.
    trouble: Mutex<Option<String>>,
}

impl Tally {
    fn complain(&self, what: String) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    fn take(&self) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| (left > 0).then_some(left - 1)).is_ok()
    }

    /// A caller has ended: what it has seen besides replies in time.
    fn collect(&self, requester: &Requester) {
        let metrics = requester.metrics();
        self.late.fetch_add(metrics.late, Relaxed);
        self.repeated.fetch_add(metrics.duplicate, Relaxed);
    }

    fn line(&self) -> String {
        let [sent, answered, late, lost] =
            [&self.sent, &self.answered, &self.late, &self.lost].map(|count| count.load(Relaxed));
        format!("sent {sent}  answered {answered}  late {late}  lost {lost}")
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
    group: String,
    session: Duration,
    timeout: Duration,
}

impl Place {
    async fn client(&self) -> Result<Client, Error> {
        Client::builder().bootstrap(&self.bootstrap)?.client_id("milena-demo").build().await
    }

    fn allocator(&self, in_group: bool) -> ReplyAllocator {
        if !in_group {
            return ReplyAllocator::self_chosen();
        }
        let group = ReplyGroup::new(&*self.group).session_timeout(self.session);
        ReplyAllocator::group(group.heartbeat_interval(self.session / 6))
    }
}

pub(crate) async fn run(args: Args, mut interrupt: Interrupt) -> Outcome {
    let broker = match args.bootstrap {
        Some(_) => None,
        None => {
            let shortest = SHORT_SESSION.as_millis().to_string();
            let broker = Broker::builder().nodes(3).config("group.min.session.timeout.ms", &shortest);
            Some(broker.start().await?)
        }
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
        group: format!("{prefix}.callers"),
        session: if broker.is_some() { SHORT_SESSION } else { SESSION },
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
    for number in 0..args.callers {
        let in_group = args.home.in_group(number);
        callers.spawn(caller(place.clone(), tally.clone(), args.concurrency, lifetime(args), in_group));
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let storm = broker.filter(|_| !args.calm);
    let mut troubles = storm.map(|broker| Troubles { broker, coordinator: 1, done: 0 });
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
                bar.set_message(tally.line());
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
    report(args, tally, took, &responders)?;
    if let Some(group) = broker.and_then(|broker| broker.group(&place.group)) {
        writeln!(std::io::stdout(), "group      has been made anew {} times", group.generation())?;
    }
    Ok(())
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

/// One place for a caller: when one has made its calls, another comes. Every second one is killed instead of leaving, in the midst of calls.
async fn caller(
    place: Place,
    tally: Arc<Tally>,
    concurrency: u64,
    lifetime: u64,
    in_group: bool,
) -> Result<(), Error> {
    let mut killed = false;
    while tally.left.load(Relaxed) > 0 {
        let client = place.client().await?;
        let requester = client.requester().reply_topic(&place.replies).create_reply_topic(false);
        let requester = requester.allocator(place.allocator(in_group)).build().await?;
        tally.callers.fetch_add(1, Relaxed);
        tally.members.fetch_add(in_group.into(), Relaxed);
        let budget = Arc::new(AtomicI64::new(i64::try_from(lifetime).unwrap_or(i64::MAX)));
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            let (requester, place, tally, budget) =
                (requester.clone(), place.clone(), tally.clone(), budget.clone());
            workers.spawn(async move {
                while budget.fetch_sub(1, Relaxed) > 0 && tally.take() {
                    call(&requester, &place, &tally).await;
                }
            });
        }
        if killed {
            // The first has nothing left to do, the others wait for replies. The group is not told: both handles are just dropped.
            workers.join_next().await;
            tally.killed.fetch_add(1, Relaxed);
            // Before its calls are called off, whose replies would count as late.
            tally.collect(&requester);
            workers.shutdown().await;
        } else {
            workers.join_all().await;
            requester.close().await;
            tally.collect(&requester);
            client.close().await;
        }
        killed = !killed;
    }
    Ok(())
}

/// A call on its way: if its caller dies, somebody else has to make it.
struct OnItsWay<'a>(&'a Tally);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.sent.fetch_sub(1, Relaxed);
        self.0.died.fetch_add(1, Relaxed);
        self.0.left.fetch_add(1, Relaxed);
    }
}

async fn call(requester: &Requester, place: &Place, tally: &Tally) {
    tally.sent.fetch_add(1, Relaxed);
    let on_its_way = OnItsWay(tally);
    let number = tally.numbers.fetch_add(1, Relaxed);
    let started = Instant::now();
    let request = format!("{number},{},2", number + 1);
    let reply = requester.request(&place.requests, &request).timeout(place.timeout).await;
    std::mem::forget(on_its_way);
    match reply {
        Ok(reply) if reply.value() == (2 * number + 3).to_string().as_bytes() => {
            let took = started.elapsed();
            tally.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
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
    /// The node that stops.
    coordinator: i32,
    done: usize,
}

impl Troubles<'_> {
    /// Makes what is due after so many calls.
    async fn make(&mut self, ended: u64, calls: u64, place: &Place, bar: &ProgressBar) -> Result<(), Error> {
        let due = [calls / 3, calls / 2, calls * 2 / 3];
        if due.get(self.done).is_none_or(|&due| ended < due) {
            return Ok(());
        }
        let node = self.coordinator;
        match self.done {
            0 => {
                self.coordinator = self.broker.coordinator(&place.group).unwrap_or(1);
                for partition in 0..REPLY_PARTITIONS {
                    self.broker.move_leader(&place.replies, partition, self.coordinator)?;
                }
                bar.println(format!(
                    "node {}, the group's coordinator, leads every reply partition now",
                    self.coordinator
                ));
            }
            1 => {
                self.broker.stop_node(node).await?;
                bar.println(format!("node {node} has stopped"));
            }
            _ => {
                self.broker.start_node(node).await?;
                bar.println(format!("node {node} is back"));
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
    let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left");
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
    let count = |count: &AtomicU64| count.load(Relaxed);
    let (callers, members, killed) = (count(&tally.callers), count(&tally.members), count(&tally.killed));
    let (at_a_time, each) = (args.callers, args.concurrency);
    writeln!(
        out,
        "callers    {callers}, {members} of them in the group; {at_a_time} at a time, {each} calls in flight each"
    )?;
    if !args.calm {
        let died = count(&tally.died);
        writeln!(out, "killed     {killed} callers in the midst of {died} calls, which others made")?;
    }
    let handled = responders.iter().map(|(responder, _)| responder.metrics().requests.to_string());
    writeln!(out, "handled    {} by the two responders", handled.collect::<Vec<_>>().join(" and "))?;
    writeln!(out, "late       {}\nrepeated   {}", count(&tally.late), count(&tally.repeated))?;
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
