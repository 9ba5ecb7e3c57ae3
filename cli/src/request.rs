//! `milena request`: a call for each line of standard input, and its reply as a line on standard output.
use std::collections::VecDeque;
use std::io::{BufWriter, Stdout, Write as _, stdout};
use std::time::{Duration, Instant};

use milena::{Dialect, ErrorReply, Record, Reply, ReplyAllocator, ReplyGroup, Requester};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::json;
use crate::lines::{self, Lines};
use crate::options::{Connection, Format};
use crate::outcome::{Failure, Interrupt, Outcome};

/// Options of `milena request`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topic that is asked
    #[arg(short, long)]
    topic: String,
    /// Where replies are read [default: milena.replies; in NestJS's dialect TOPIC.reply]
    #[arg(long, value_name = "TOPIC")]
    reply_topic: Option<String>,
    /// Takes a reply partition of its own in this group of callers, for which it waits; with `--dialect nest` in the group that NestJS's
    /// clients with this groupId form
    #[arg(long, value_name = "GROUP")]
    reply_group: Option<String>,
    /// Whose headers a request has: those of all, or of one only
    #[arg(long, value_enum, default_value_t)]
    dialect: Headers,
    /// How many calls may be in flight; replies come out in the order of the lines all the same
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// Makes so many calls, beginning with the first line again when they are used up [default: one for each line]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// What a line is: the value as text, or a JSON object as `milena consume` prints it. Replies come out alike, in JSON with errors and
    /// milliseconds
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Headers {
    #[default]
    Auto,
    Native,
    Nest,
    Spring,
    Quarkus,
}

impl From<Headers> for Dialect {
    fn from(headers: Headers) -> Self {
        match headers {
            Headers::Auto => Self::Auto,
            Headers::Native => Self::Native,
            Headers::Nest => Self::Nest,
            Headers::Spring => Self::Spring,
            Headers::Quarkus => Self::Quarkus,
        }
    }
}

pub(crate) async fn run(args: Args, mut interrupt: Interrupt) -> Outcome {
    let session = tokio::select! {
        session = Session::open(args) => session?,
        () = interrupt.wait() => return Err(Failure::Interrupted("nothing was asked".to_owned())),
    };
    session.run(interrupt).await
}

/// A call on its way: the number of its line, and what it gives in which time.
type Asked = (u64, JoinHandle<(milena::Result<Reply>, Duration)>);

struct Session {
    args: Args,
    requester: Requester,
    out: BufWriter<Stdout>,
    asked: VecDeque<Asked>,
    /// Lines that may be asked again, if `--count` wants more calls than there are lines.
    again: Vec<Vec<u8>>,
    sent: u64,
    lost: u64,
    /// The first call that failed, and why; how many did.
    failed: (Option<(u64, String)>, u64),
    times: Vec<Duration>,
}

impl Session {
    async fn open(args: Args) -> Outcome<Self> {
        let client = args.connection.client().await?;
        let mut builder = client.requester().timeout(args.connection.timeout).dialect(args.dialect.into());
        if let Some(topic) = &args.reply_topic {
            builder = builder.reply_topic(topic);
        }
        if let Some(group) = &args.reply_group {
            let group = ReplyGroup::new(group.as_str()).share(false);
            builder = builder.allocator(match args.dialect {
                Headers::Nest => ReplyAllocator::nest_group(group),
                _ => ReplyAllocator::group(group),
            });
        }
        let concurrency = args.concurrency as usize;
        let requester = builder.max_in_flight(concurrency).request_topics([&args.topic]).build().await?;
        Ok(Self {
            args,
            requester,
            out: BufWriter::new(stdout()),
            asked: VecDeque::new(),
            again: Vec::new(),
            sent: 0,
            lost: 0,
            failed: (None, 0),
            times: Vec::new(),
        })
    }

    async fn run(mut self, mut interrupt: Interrupt) -> Outcome {
        let started = Instant::now();
        let mut input = Lines::read(std::io::stdin())?;
        let mut ended = false;
        while !(ended || self.enough() || interrupt.came()) {
            tokio::select! {
                biased;
                () = interrupt.wait() => {}
                block = input.next() => match block? {
                    Some(block) => {
                        for line in lines::split(&block) {
                            if self.enough() || interrupt.came() {
                                break;
                            }
                            self.ask(line, &mut interrupt).await?;
                            if self.args.count.is_some() {
                                self.again.push(line.to_vec());
                            }
                        }
                    }
                    None => ended = true,
                },
                told = first(&mut self.asked), if !self.asked.is_empty() => self.tell(told)?,
            }
        }
        let lines = std::mem::take(&mut self.again);
        for line in lines.iter().cycle() {
            if self.args.count.is_none() || self.enough() || interrupt.came() {
                break;
            }
            self.ask(line, &mut interrupt).await?;
        }
        while !self.asked.is_empty() {
            let told = first(&mut self.asked).await;
            self.tell(told)?;
        }
        self.requester.close().await;
        self.report(started.elapsed(), interrupt.came())
    }

    fn enough(&self) -> bool {
        self.args.count.is_some_and(|count| self.sent >= count)
    }

    /// Makes a call as soon as there is room for it.
    async fn ask(&mut self, line: &[u8], interrupt: &mut Interrupt) -> Outcome {
        while self.asked.len() >= self.args.concurrency as usize {
            // Calls end by themselves: also one that is interrupted has its reply told.
            let told = first(&mut self.asked).await;
            self.tell(told)?;
        }
        if interrupt.came() {
            return Ok(());
        }
        self.sent += 1;
        let parsed = match self.args.format {
            Format::Text => json::Line { value: Some(line.to_vec()), ..json::Line::default() },
            Format::Json => json::parse(line)
                .map_err(|reason| Failure::Failed(format!("line {}: {reason}", self.sent)))?,
        };
        let (requester, topic) = (self.requester.clone(), self.args.topic.clone());
        let call = tokio::spawn(async move {
            let headers = parsed.headers.iter().map(|(key, value)| (&key[..], value.as_deref()));
            let mut record = Record::tombstone().headers(headers);
            (record.key, record.value, record.partition) =
                (parsed.key.as_deref(), parsed.value.as_deref(), parsed.partition);
            let started = Instant::now();
            let reply = requester.request_record(&topic, record).await;
            (reply, started.elapsed())
        });
        self.asked.push_back((self.sent, call));
        Ok(())
    }

    fn tell(&mut self, (line, (reply, time)): (u64, (milena::Result<Reply>, Duration))) -> Outcome {
        let ms = (time.as_secs_f64() * 1e6).round() / 1e3;
        match (&reply, self.args.format) {
            (Ok(reply), Format::Text) => {
                self.out.write_all(reply.value())?;
                self.out.write_all(b"\n")?;
            }
            (Ok(reply), Format::Json) => {
                let headers: Vec<_> = reply
                    .headers()
                    .map(|(name, value)| json!([json::value(Some(name)), json::value(value)]))
                    .collect();
                let value = Some(reply.value()).filter(|_| !reply.is_null());
                let told = json!({
                    "line": line, "ms": ms, "key": json::value(reply.key()), "value": json::value(value), "headers": headers
                });
                writeln!(self.out, "{told}")?;
            }
            (Err(error), Format::Text) => eprintln!("milena: line {line}: {}", reason(error)),
            (Err(error), Format::Json) => {
                let status = refusal(error).map(|refused| refused.status().to_string());
                writeln!(
                    self.out,
                    "{}",
                    json!({ "line": line, "ms": ms, "error": reason(error), "status": status })
                )?;
            }
        }
        match reply {
            Ok(_) => self.times.push(time),
            Err(error) => {
                self.lost += u64::from(error.is_timeout());
                self.failed.1 += 1;
                self.failed.0.get_or_insert_with(|| (line, reason(&error)));
            }
        }
        // Somebody may wait for this line before the next is written.
        if self.asked.is_empty() || self.args.concurrency == 1 {
            self.out.flush()?;
        }
        Ok(())
    }

    fn report(mut self, took: Duration, interrupted: bool) -> Outcome {
        self.out.flush()?;
        self.times.sort_unstable();
        let percentile = |percent: usize| {
            let at = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
            self.times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        let (answered, (first, failed)) = (self.times.len(), self.failed);
        let summary = format!(
            "{} calls, {answered} answered, {} lost, {} failed otherwise, {:.0} calls/s, p50 {:.3} ms, p99 {:.3} ms",
            self.sent,
            self.lost,
            failed - self.lost,
            answered as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE),
            percentile(50),
            percentile(99)
        );
        match first {
            Some((line, reason)) => Err(Failure::Failed(format!("line {line}: {reason} ({summary})"))),
            None if interrupted => Err(Failure::Interrupted(summary)),
            None => {
                self.args.connection.tell(|| summary);
                Ok(())
            }
        }
    }
}

/// The oldest call, when it has ended. Cancel safe.
async fn first(asked: &mut VecDeque<Asked>) -> (u64, (milena::Result<Reply>, Duration)) {
    let Some((line, call)) = asked.front_mut() else { return std::future::pending().await };
    let line = *line;
    match call.await {
        Ok(told) => {
            asked.pop_front();
            (line, told)
        }
        // Nobody aborts it.
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn refusal(error: &milena::Error) -> Option<&ErrorReply> {
    std::error::Error::source(error)?.downcast_ref()
}

/// What the responder said, or what went wrong on the way.
fn reason(error: &milena::Error) -> String {
    refusal(error).map_or_else(|| error.to_string(), |refused| refused.to_string())
}
