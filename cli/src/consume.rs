use crate::outcome::{Interrupt, Outcome};

/// Options of `milena consume`.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, _interrupt: Interrupt) -> Outcome {
    Err("not built in yet".into())
}
