//! A partner as a process: a caller, or a responder.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::partner::Partner;
use crate::support::kafka::Cluster;
use crate::support::process::Process;
use crate::support::program::Program;
use crate::verbs::Outcome;

/// For a JVM's start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A test wants a JVM that starts fast, not one that gets fast.
const JVM: [&str; 1] = ["-XX:TieredStopAtLevel=1"];

pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) process: Process,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    events: Mutex<Vec<Value>>,
    more: Condvar,
}

impl Said {
    fn events(&self) -> MutexGuard<'_, Vec<Value>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side {
    /// Starts it, and waits until it is ready. None if there is no such client here.
    pub(crate) fn start(kafka: &Cluster, partner: Partner, args: &[(&str, &str)]) -> Option<Self> {
        let mut side = Self::begin(kafka, partner, args)?;
        side.wait("ready", |event| (event["event"] == "ready").then_some(()));
        Some(side)
    }

    /// Starts it, and does not wait.
    pub(crate) fn begin(kafka: &Cluster, partner: Partner, args: &[(&str, &str)]) -> Option<Self> {
        Some(Self::launch(kafka, &format!("{partner:?}"), partner.program(&JVM)?, args))
    }

    /// Starts this program as one side, and does not wait.
    pub(crate) fn launch(kafka: &Cluster, who: &str, program: Program, args: &[(&str, &str)]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let role = args.iter().find(|(key, _)| *key == "role").map_or("", |(_, role)| role);
        let name = format!("{who}-{role}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let bootstrap = kafka.bootstrap();
        let own = [("name", name.as_str()), ("bootstrap", &bootstrap)];
        let args: Vec<_> = own.iter().chain(args).map(|(key, value)| format!("{key}={value}")).collect();
        let said = Arc::<Said>::default();
        let hear = {
            let said = said.clone();
            move |line: &str| {
                // A library's own words on standard output are none of ours.
                let Ok(event) = serde_json::from_str::<Value>(line) else { return };
                said.events().push(event);
                said.more.notify_all();
            }
        };
        let process = Process::start(&name, program, &args, None, hear);
        Self { name, process, said }
    }

    /// Waits until it has said something; what it said before counts, too.
    pub(crate) fn wait<T>(&mut self, what: &str, mut find: impl FnMut(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            {
                let events = self.said.events();
                let (events, _) = self
                    .said
                    .more
                    .wait_timeout_while(events, Duration::from_millis(200), |events| events.len() == seen)
                    .unwrap_or_else(PoisonError::into_inner);
                if let Some(found) = events[seen..].iter().find_map(&mut find) {
                    return found;
                }
                seen = events.len();
            }
            if let Some(complaints) = self.process.gone() {
                panic!("{} has ended before {what}:\n{complaints}", self.name);
            }
            assert!(
                Instant::now() < deadline,
                "{}: no {what} within {PATIENCE:?}:\n{}",
                self.name,
                self.process.complaints()
            );
        }
    }

    /// What it has said of these does not count any more.
    pub(crate) fn forget(&mut self, events: &[&str]) {
        self.said
            .events()
            .retain(|event| !event["event"].as_str().is_some_and(|name| events.contains(&name)));
    }

    /// What a responder has been asked, in its own words.
    pub(crate) fn was_asked(&self, text: &str) -> bool {
        self.said.events().iter().any(|event| event["event"] == "served" && event["value"] == text)
    }

    /// The last partition that it said its replies go to.
    pub(crate) fn home(&self) -> Option<i64> {
        let events = self.said.events();
        events.iter().rev().find(|event| event["event"] == "home")?["partition"].as_i64()
    }

    /// Has it make calls, all at once; call i asks `<text>-<i>`. How each ended.
    pub(crate) fn call(&mut self, calls: usize, limit: Duration, text: &str) -> Vec<Outcome> {
        self.begin_calls(calls, limit, text);
        self.finish_calls()
    }

    pub(crate) fn begin_calls(&mut self, calls: usize, limit: Duration, text: &str) {
        self.forget(&["outcome", "done"]);
        self.process.tell(&format!("call {calls} {calls} {} {text}", limit.as_millis()));
    }

    pub(crate) fn finish_calls(&mut self) -> Vec<Outcome> {
        self.wait("the end of its calls", |event| (event["event"] == "done").then_some(()));
        let events = self.said.events();
        let outcomes = events.iter().filter(|event| event["event"] == "outcome");
        let by_call: BTreeMap<_, _> =
            outcomes.map(|event| (event["call"].as_u64(), Outcome::read(event))).collect();
        by_call.into_values().collect()
    }
}
