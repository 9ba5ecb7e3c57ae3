//! The closing table, and what is needed to look into a failure.
use std::collections::BTreeMap;
use std::time::Duration;

use milena::{ClientMetrics, ProducerMetrics};

use crate::fault_proxy::Passed;
use crate::history::{History, Outcome};
use crate::places;
use crate::progress::{Progress, Standstill};
use crate::storm::{Event, Weathered};
use crate::verdict::{Breach, Verdict};

/// Findings of one kind that are printed.
const SHOWN: usize = 8;

/// Faults are of interest for so long before and after a finding.
const NEAR: Duration = Duration::from_secs(20);

/// Everything that is known when all is over.
pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) history: &'a History,
    pub(crate) verdict: &'a Verdict,
    pub(crate) weathered: &'a Weathered,
    pub(crate) events: &'a [Event],
    pub(crate) progress: &'a Progress,
    pub(crate) producers: &'a [ProducerMetrics],
    pub(crate) clients: &'a [ClientMetrics],
    pub(crate) passed: &'a Passed,
    /// Sends that failed, errors of readers, and what else should not be.
    pub(crate) troubles: &'a [String],
}

impl Report<'_> {
    pub(crate) fn is_good(&self) -> bool {
        self.verdict.findings.is_empty() && self.troubles.is_empty() && self.weathered.stuck.is_none()
    }

    pub(crate) fn print(&self) {
        let Self { verdict, weathered, passed, .. } = self;
        let mut faults = BTreeMap::<&str, usize>::new();
        self.events.iter().for_each(|event| *faults.entry(event.kind).or_default() += 1);
        let faults: Vec<_> = faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let sum = |part: fn(&ClientMetrics) -> u64| self.clients.iter().map(part).sum::<u64>();
        println!();
        row(
            "seed",
            format!(
                "{}, {:.1} minutes, {} rounds",
                self.seed,
                self.took.as_secs_f64() / 60.0,
                weathered.rounds
            ),
        );
        row("faults", format!("{}: {}", self.events.len(), faults.join(", ")));
        row(
            "links",
            format!(
                "{} through the proxy, {} reset by it, {} bytes delivered after their client had gone",
                passed.links, passed.resets, passed.late_bytes
            ),
        );
        row(
            "connections",
            format!(
                "{} made, {} lost, {} attempts failed, {} requests timed out",
                sum(|client| client.connections_opened),
                sum(|client| client.connections_lost),
                sum(|client| client.connect_failures),
                sum(|client| client.timeouts)
            ),
        );
        row(
            "written",
            format!(
                "{}: {} acknowledged, {} surely not written, {} maybe written (of which {} were)",
                verdict.written,
                verdict.acknowledged,
                verdict.not_written,
                verdict.maybe_written,
                verdict.written_after_all
            ),
        );
        self.writers();
        row("read", format!("{} of a log of {}", verdict.read, verdict.in_log));
        row("slowest", format!("acknowledged after {:.1?}", verdict.slowest));
        self.stall("acknowledged", "nothing", &self.progress.longest_without_acknowledgement());
        let (reader, standstill) = self.progress.longest_without_reading();
        self.stall("read", &format!("nothing by {reader}"), &standstill);
        row(
            "recovery",
            format!(
                "all get on in all partitions {:.1?} after a round; last: {}",
                weathered.longest_recovery, weathered.last_to_recover
            ),
        );
        row("lost", verdict.count(&[Breach::Lost, Breach::WrongOffset]).to_string());
        row("duplicated", verdict.count(&[Breach::Duplicated]).to_string());
        row("out of order", verdict.count(&[Breach::OutOfOrder]).to_string());
        row("not as told", verdict.count(&[Breach::Denied, Breach::Foreign, Breach::Hole]).to_string());
        row("misread", verdict.count(&[Breach::Misread, Breach::Unread]).to_string());
        row(
            "late",
            format!(
                "{}; at most {:.1?} over",
                verdict.count(&[Breach::Late, Breach::Unsettled]),
                verdict.latest
            ),
        );
    }

    /// The longest time in which nothing moved, and what happened then.
    fn stall(&self, name: &str, what: &str, standstill: &Standstill) {
        let to = standstill.ended - self.progress.begun;
        let from = to - standstill.longest;
        let (place, seconds) = (places::name(standstill.place), standstill.longest.as_secs_f64());
        row(name, format!("{what} in {place} for {seconds:.1} s, until {:.1} s", to.as_secs_f64()));
        let during = self.events.iter().filter(|event| event.overlaps(from, to));
        during.for_each(|event| row("·", event.to_string()));
    }

    fn writers(&self) {
        for (written, metrics) in self.history.written.iter().zip(self.producers) {
            let outcomes = written.places.iter().flatten().map(|delivered| delivered.outcome);
            let mut counts = [0; 3];
            for outcome in outcomes {
                match outcome {
                    Outcome::Written(_) | Outcome::WrittenSomewhere => counts[0] += 1,
                    Outcome::NotWritten => counts[1] += 1,
                    Outcome::MaybeWritten | Outcome::Unsettled => counts[2] += 1,
                }
            }
            row(
                &format!("· {}", written.writer),
                format!(
                    "{} acknowledged, {} not, {} maybe; {} batches, {} sent again, {} producer epochs",
                    counts[0],
                    counts[1],
                    counts[2],
                    metrics.batches_sent,
                    metrics.retries,
                    metrics.producer_epochs
                ),
            );
        }
    }

    /// What is needed to find the reason: findings, and the faults around them.
    pub(crate) fn diagnose(&self) {
        let (mut shown, mut times) = (BTreeMap::<Breach, usize>::new(), Vec::new());
        println!("\nfindings:");
        for finding in &self.verdict.findings {
            let count = shown.entry(finding.breach).or_default();
            *count += 1;
            if *count <= SHOWN {
                println!("  {finding}");
                times.extend(finding.at);
            }
        }
        self.troubles.iter().take(SHOWN).for_each(|trouble| println!("  {trouble}"));
        if let Some(stuck) = &self.weathered.stuck {
            println!("  {stuck}");
            times.push(self.took);
        }
        println!("\nfaults around them:");
        let near = |event: &&Event| {
            times.is_empty() || times.iter().any(|at| event.overlaps(at.saturating_sub(NEAR), *at + NEAR))
        };
        self.events.iter().filter(near).for_each(|event| println!("  {event}"));
    }
}

fn row(name: &str, text: String) {
    println!("{name:>15}  {text}");
}
