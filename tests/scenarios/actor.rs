//! A caller or a responder, which this test is itself when it is started as a process with arguments.
use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use milena::{
    AnswerStream, Answers, Client, IntoAnswers as _, Refusal, ReplyAllocator, ReplyGroup, Request, Requester,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::links::lead;
use crate::now;

/// The environment variable with the arguments, a line each: those on the command line are the test runner's.
pub(crate) const ARGUMENTS: &str = "MILENA_ACTOR";

type Arguments = HashMap<String, String>;

#[test]
#[ignore = "does something only in a process that other tests start"]
fn is_an_actor_when_started_as_a_process() {
    let Ok(given) = std::env::var(ARGUMENTS) else { return };
    println!(); // the test runner's line ends here
    let pairs = given.lines().filter_map(|line| line.split_once('='));
    let args: Arguments = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match &*args["role"] {
            "caller" => call(args).await,
            _ => answer(args).await,
        }
    });
}

fn tell(line: String) {
    let mut out = std::io::stdout().lock();
    // Whoever started it may have gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The lines of standard input, until its end.
fn input() -> UnboundedReceiver<String> {
    let (heard, lines) = unbounded_channel();
    std::thread::spawn(move || {
        // Nobody listens to one that has ended.
        let _ = std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| heard.send(line));
    });
    lines
}

/// So many ticks a second.
fn paced(rate: u64) -> Interval {
    let mut pace = interval(Duration::from_micros(1_000_000 / rate));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    pace
}

fn number(args: &Arguments, name: &str, default: u64) -> u64 {
    args.get(name).map_or(default, |text| text.parse().unwrap())
}

async fn client(args: &Arguments) -> Client {
    let mut builder = Client::builder().bootstrap(&args["bootstrap"]).unwrap().client_id(&*args["name"]);
    if let Some(links) = args.get("links") {
        builder = builder.connector(lead(links));
    }
    builder = builder.request_timeout(Duration::from_millis(number(args, "request_timeout", 30_000)));
    builder.metadata_max_age(Duration::from_secs(10)).build().await.unwrap()
}

async fn requester(args: &Arguments, client: &Client) -> Requester {
    let mut builder = client.requester().reply_topic(&*args["replies"]).create_reply_topic(false);
    builder = builder.max_in_flight(number(args, "limit", 10_000) as usize);
    builder = builder.wait_for_room(number(args, "wait", 1) == 1);
    let group = |name: &str| {
        let group = ReplyGroup::new(name).session_timeout(Duration::from_secs(6));
        group.heartbeat_interval(Duration::from_millis(500))
    };
    match args.get("home").and_then(|home| home.split_once(':')) {
        Some(("group", name)) => builder = builder.allocator(ReplyAllocator::group(group(name))),
        Some(("broadcast", _)) => builder = builder.allocator(ReplyAllocator::broadcast()),
        _ => {}
    }
    builder.build().await.unwrap()
}

/// A number that looks random and is always the same.
fn scatter(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 11
}

/// Calls at an even pace, of which its input may name another, until its input ends; then waits for what is in flight.
async fn call(args: Arguments) {
    let client = client(&args).await;
    let requester = requester(&args, &client).await;
    let (name, topic) = (args["name"].clone(), args["requests"].clone());
    tell(format!("ready {}", now()));
    let (most, slow, drop_at) =
        (number(&args, "calls", u64::MAX), number(&args, "slow", 5), number(&args, "dropped", 0));
    let (work, timeout) = (number(&args, "work", 20), number(&args, "timeout", 30_000));
    let (race, items) = (number(&args, "race", 0), number(&args, "items", 0));
    let salt = name.bytes().fold(0u64, |salt, byte| salt * 31 + u64::from(byte));
    let mut pace = paced(number(&args, "rate", 20));
    let (mut input, mut calls) = (input(), JoinSet::new());
    'calls: for number in 0..most {
        loop {
            tokio::select! {
                biased;
                // Who is to make a certain number of calls makes them.
                told = input.recv(), if most == u64::MAX => match told {
                    Some(rate) => pace = paced(rate.parse().unwrap()),
                    None => break 'calls,
                },
                _ = pace.tick() => break,
            }
        }
        while calls.try_join_next().is_some() {}
        let chance = scatter(salt ^ number << 20);
        let work = match chance % 100 < slow {
            true => 1_000 + chance / 100 % 4_000,
            false => chance / 100 % (work + 1),
        };
        let timeout = match race {
            0 => timeout,
            // Just before or after the reply.
            width => (work + 1 + chance / 10_000 % width).saturating_sub(width / 2).max(1),
        };
        let patience = (chance / 1_000_000 % 100 < drop_at).then(|| Duration::from_millis(work / 2));
        let (requester, topic) = (requester.clone(), topic.clone());
        let token = format!("{name}-{number}");
        calls.spawn(async move {
            let value = format!("{token} {work} {items}");
            let (sent, timeout_in) = (now(), Duration::from_millis(timeout));
            let call = async {
                if items > 0 {
                    return stream(&requester, &topic, &value, &token, items, timeout_in).await;
                }
                let reply = requester.request(&topic, &value).timeout(timeout_in).await?;
                Ok(reply.text().into_owned())
            };
            let outcome = match patience {
                Some(patience) => tokio::time::timeout(patience, call).await.ok(),
                None => Some(call.await),
            };
            let outcome = match outcome {
                None => "dropped".to_owned(),
                Some(Ok(reply)) if reply == expected(&token) => "reply".to_owned(),
                Some(Ok(reply)) => format!("wrong {reply}"),
                Some(Err(error)) => format!("{:?} {error}", error.kind()),
            };
            tell(format!("call {token} {sent} {} {} {outcome}", sent + timeout * 1_000, now()));
        });
    }
    if most < u64::MAX {
        // The last one may not have begun yet.
        while calls.join_next().await.is_some() {}
    }
    requester.close().await;
    while calls.join_next().await.is_some() {}
    let metrics = requester.metrics();
    tell(format!("closed {} {} {} {}", metrics.in_flight, metrics.late, metrics.duplicate, metrics.foreign));
    client.close().await;
}

/// Takes all items, each of which must be the next. What a whole stream gives is what a single reply would.
async fn stream(
    requester: &Requester,
    topic: &str,
    value: &str,
    token: &str,
    items: u64,
    timeout: Duration,
) -> milena::Result<String> {
    let mut replies = requester.stream(topic, value).timeout(timeout).await?;
    let mut next = 0;
    while let Some(reply) = replies.next().await? {
        if reply.text() != format!("{} {next} {items}", expected(token)) {
            return Ok(format!("{} as item {next}", reply.text()));
        }
        next += 1;
    }
    Ok(if next == items { expected(token) } else { format!("{next} of {items} items") })
}

/// What the reply to a call says.
pub(crate) fn expected(token: &str) -> String {
    let sum = token.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    format!("{token} {sum}")
}

async fn answer(args: Arguments) {
    let client = client(&args).await;
    let handler = async |request: Request| -> Result<Answers, Refusal> {
        let text = std::str::from_utf8(request.value())?;
        let [token, work, items] = text.split(' ').collect::<Vec<_>>()[..] else {
            return Err("no work".into());
        };
        let (work, items): (u64, u64) = (work.parse()?, items.parse()?);
        tokio::time::sleep(Duration::from_millis(work)).await;
        let answer = expected(token);
        if items == 0 {
            return answer.into_answers();
        }
        let items = AnswerStream::written_by(async move |mut sink| {
            for item in 0..items {
                sink.send(format!("{answer} {item} {items}")).await;
            }
            Ok(())
        });
        items.into_answers()
    };
    let builder = client.responder(&args["group"]).on_request(&*args["requests"], handler);
    // Others take over before their callers' deadlines.
    let builder = builder.consumer(|consumer| consumer.session_timeout(Duration::from_secs(6)));
    let builder = builder.clock_skew(Duration::from_millis(number(&args, "skew", 1_000)));
    let responder = builder.concurrency(number(&args, "limit", 4_096) as usize).start().await.unwrap();
    tell(format!("ready {}", now()));
    while input().recv().await.is_some() {}
    responder.close().await;
    tell(format!("closed 0 0 0 0 {}", responder.metrics().lost));
    client.close().await;
}
