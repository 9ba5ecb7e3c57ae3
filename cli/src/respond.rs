//! `milena respond`: answers the requests of a topic by running a program, or with what they say.
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use milena::{Answer, Refusal, Request, Responder, Status};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::options::{Connection, pause};
use crate::outcome::{Failure, Interrupt, Outcome};

/// Options of `milena respond`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topic of the requests; may be repeated
    #[arg(short, long, required = true)]
    topic: Vec<String>,
    /// The group whose members share the requests
    #[arg(long, default_value = "milena-respond")]
    group: String,
    /// Runs this command line for each request: the value goes in, what comes out is the answer without its last line break. Ends it with
    /// another code than 0, its error output is an error reply. MILENA_TOPIC, MILENA_PARTITION, MILENA_OFFSET and MILENA_KEY are set
    #[arg(long, value_name = "COMMAND", required_unless_present = "echo", conflicts_with = "echo")]
    exec: Option<String>,
    /// Answers with the request's value
    #[arg(long)]
    echo: bool,
    /// Waits so long before each answer. Seconds, or 500ms
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = pause)]
    delay: Duration,
    /// How many requests may be handled at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
}

pub(crate) async fn run(args: Args, mut interrupt: Interrupt) -> Outcome {
    let responder = tokio::select! {
        responder = start(&args) => responder?,
        () = interrupt.wait() => return Err(Failure::Interrupted("nothing was answered".to_owned())),
    };
    args.connection.tell(|| format!("answering {}", args.topic.join(", ")));
    let ended = tokio::select! {
        ended = responder.wait() => ended,
        () = interrupt.wait() => Ok(()),
    };
    responder.close().await;
    let done = responder.metrics();
    args.connection.tell(|| {
        format!(
            "{} requests, {} answered, {} of them with an error, {} expired, {} could not be answered",
            done.requests,
            done.answered,
            done.refused,
            done.expired,
            done.unanswerable + done.lost
        )
    });
    Ok(ended?)
}

async fn start(args: &Args) -> Outcome<Responder> {
    let client = args.connection.client().await?;
    let mut builder = client.responder(&args.group).concurrency(args.concurrency as usize);
    let command: Option<Arc<str>> = args.exec.as_deref().map(Arc::from);
    let delay = args.delay;
    for topic in &args.topic {
        let command = command.clone();
        builder = builder.on_request(topic, move |request: Request| {
            let command = command.clone();
            async move {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                match command {
                    Some(command) => execute(&command, &request).await,
                    None if request.is_null() => Ok(Answer::null()),
                    None => Ok(Answer::new(request.value().to_vec())),
                }
            }
        });
    }
    Ok(builder.start().await?)
}

/// Runs the command line by the shell, with the request as its input.
async fn execute(command: &str, request: &Request) -> Result<Answer, Refusal> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("MILENA_TOPIC", request.topic())
        .env("MILENA_PARTITION", request.partition().to_string())
        .env("MILENA_OFFSET", request.offset().to_string())
        .env(
            "MILENA_KEY",
            String::from_utf8_lossy(request.key().unwrap_or_default()).replace('\0', "\u{fffd}"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Refusal::new(Status::INTERNAL, format!("sh: {error}")))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program need not read what it is given.
            let _ = stdin.write_all(request.value()).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.map_err(|error| Refusal::new(Status::INTERNAL, error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        let reason = if said.is_empty() { format!("the program ended with {}", output.status) } else { said };
        return Err(Refusal::new(Status::UNKNOWN, reason));
    }
    let mut value = output.stdout;
    value.pop_if(|last| *last == b'\n');
    Ok(Answer::new(value))
}
