//! milena on the command line: write and read records, look after topics, and a demonstration of calls answered through
//! Kafka. Data goes to stdout, everything else to stderr; the exit code is 0 only if all was done.
#![forbid(unsafe_code)]

mod assign;
mod consume;
mod demo;
mod groups;
mod json;
mod lines;
mod member;
mod options;
mod outcome;
mod produce;
mod request;
mod respond;
mod topics;

use clap::{Parser, Subcommand};
use outcome::{Failure, Interrupt, Outcome};
use std::process::ExitCode;

/// Write to, read from and look after a Kafka cluster, in pure Rust.
#[derive(Parser)]
#[command(name = "milena", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write records: one for each line of standard input
    Produce(produce::Args),
    /// Read records: one line on standard output for each
    Consume(consume::Args),
    /// List, create, describe and delete topics
    Topics(topics::Args),
    /// List, describe and delete groups, and change where they stand
    Groups(groups::Args),
    /// Tell who would read what in a group, without a cluster: one line of JSON for each on standard input
    Assign(assign::Args),
    /// Ask: a request for each line of standard input, a line on standard output for each reply
    Request(request::Args),
    /// Answer requests by a program, or with what they say
    Respond(respond::Args),
    /// Have thousands of calls answered through Kafka while callers and nodes come and go
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli.command));
            // Not awaited: a thread may wait for standard input until the end of days.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command) -> Outcome {
    let interrupt = Interrupt::listen().map_err(Failure::from)?;
    match command {
        Command::Produce(args) => produce::run(args, interrupt).await,
        Command::Consume(args) => consume::run(args, interrupt).await,
        Command::Topics(args) => topics::run(args, interrupt).await,
        Command::Groups(args) => groups::run(args, interrupt).await,
        Command::Assign(args) => assign::run(args, interrupt).await,
        Command::Request(args) => request::run(args, interrupt).await,
        Command::Respond(args) => respond::run(args, interrupt).await,
        Command::Demo(args) => demo::run(args, interrupt).await,
    }
}
