//! Options that several commands share, and what they make of the library's builders.
use crate::outcome::Outcome;
use indicatif::{ProgressBar, ProgressStyle};
use milena::{Client, ClientBuilder};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// The library's own limits, which `--timeout` may only shorten; longer ones can be set by `-X`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach the cluster.
#[derive(clap::Args)]
pub(crate) struct Connection {
    /// Nodes through which the cluster is found
    #[arg(short, long, value_name = "HOST:PORT[,..]")]
    bootstrap: String,
    /// Sets an option of the library by Kafka's name; may be repeated
    #[arg(short = 'X', value_name = "OPTION=VALUE", value_parser = option)]
    options: Vec<(String, String)>,
    /// Ends the command, with the reason, when it can make no progress for so long; a call has so much time. Seconds, or 500ms
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(crate) timeout: Duration,
    /// Prints errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

pub(crate) fn option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("OPTION=VALUE expected")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Above zero: seconds, or with a unit.
fn time(text: &str) -> Result<Duration, String> {
    pause(text)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a number above zero expected, such as 5, 5s or 500ms".to_owned())
}

/// Seconds, or with a unit; zero is allowed.
pub(crate) fn pause(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number expected, such as 5, 5s or 500ms".to_owned())
}

/// What a line is.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

impl Connection {
    /// Connects, with those of the options that are a client's.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        let timeout = self.timeout.min(REQUEST_TIMEOUT);
        let mut builder = Client::builder().bootstrap(&self.bootstrap)?.request_timeout(timeout);
        // Shorter, so that a silent node is told from one that cannot be reached.
        builder = builder.connect_timeout(timeout.mul_f64(0.9).min(CONNECT_TIMEOUT));
        for (key, value) in self.options.iter().filter(|(key, _)| ClientBuilder::knows(key)) {
            builder = builder.set(key, value)?;
        }
        Ok(builder.build().await?)
    }

    /// Options that are not a client's.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        let others = self.options.iter().filter(|(key, _)| !ClientBuilder::knows(key));
        others.map(|(key, value)| (&**key, &**value))
    }

    /// Says something that is no error.
    pub(crate) fn tell(&self, text: impl FnOnce() -> String) {
        if !self.quiet {
            eprintln!("{}", text());
        }
    }

    /// A counter on the terminal, if there is one that nothing else is written to.
    pub(crate) fn progress(&self, what: &'static str) -> ProgressBar {
        if self.quiet || io::stdout().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{spinner} {human_pos} records {msg}, {per_sec}");
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = style { bar.with_style(style) } else { bar }
    }
}
