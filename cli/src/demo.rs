//! The demonstration.
use crate::outcome::{Interrupt, Outcome};

/// Options of `milena demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Nodes of a real cluster to run it on, instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT[,..]")]
    bootstrap: Option<String>,
}

pub(crate) async fn run(args: Args, _interrupt: Interrupt) -> Outcome {
    let _ = args.bootstrap;
    Err("the demonstration is not built in yet".into())
}
