//! A group of members on real Kafka, with records that are written meanwhile; and how it is brought from one state to the next.
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::event::{Event, Line};
use crate::history::{History, now};
use crate::member::Member;
use crate::partner::Partner;
use crate::support::kafka::{Cluster, Group, Partition, wait_for};
use crate::verdict::{Verdict, judge};
use crate::writer::Writer;

/// Session timeout of all members. Shorter makes members that a busy machine holds up look dead.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

/// How often members of milena say that they live.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(300);

/// For a group to come to rest: a session, a JVM's start, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// An uneven count for most sizes of the group.
pub(crate) const TOPICS: [(&str, i32); 2] = [("a", 7), ("b", 4)];

/// Members speak the same protocol, and one assignor is asked for by all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Else that of KIP-848.
    pub(crate) classic: bool,
    pub(crate) assignor: &'static str,
}

impl Manner {
    pub(crate) const fn classic(assignor: &'static str) -> Self {
        Self { classic: true, assignor }
    }

    pub(crate) const fn consumer(assignor: &'static str) -> Self {
        Self { classic: false, assignor }
    }

    /// Whether members keep what stays theirs.
    pub(crate) fn is_cooperative(self) -> bool {
        !self.classic || self.assignor == "cooperative-sticky"
    }
}

pub(crate) struct Scene<'a> {
    kafka: &'a Cluster,
    group: String,
    manner: Manner,
    topics: Vec<(String, i32)>,
    history: Arc<History>,
    pub(crate) members: Vec<Member>,
    names: Vec<String>,
    writer: Option<Writer>,
    excuses: Vec<Range<u64>>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(kafka: &'a Cluster, manner: Manner) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = format!("g-{}-{number}-{}", std::process::id(), manner.assignor);
        let topics: Vec<_> = TOPICS
            .iter()
            .map(|(name, count)| (kafka.topic(&format!("{group}-{name}"), *count), *count))
            .collect();
        let mut scene = Self {
            kafka,
            group,
            manner,
            topics,
            history: Arc::default(),
            members: vec![],
            names: vec![],
            writer: None,
            excuses: vec![],
        };
        scene.writer = Some(Writer::start(kafka.bootstrap(), scene.partitions()));
        scene
    }

    fn partitions(&self) -> Vec<Partition> {
        let partitions = |(topic, count): &(String, i32)| {
            let topic = topic.clone();
            (0..*count).map(move |number| (topic.clone(), number))
        };
        self.topics.iter().flat_map(partitions).collect()
    }

    /// Whether there is such a client here.
    pub(crate) fn has(&self, partner: Partner) -> bool {
        partner.program(self.kafka).is_some()
    }

    /// One more member, which keeps what is revoked so long before it lets go. False if there is no such client here.
    pub(crate) fn join(&mut self, partner: Partner, hold: Duration) -> bool {
        let Some(program) = partner.program(self.kafka) else { return false };
        let topics: Vec<_> = self.topics.iter().map(|(topic, _)| topic.as_str()).collect();
        let args = [
            ("bootstrap", self.kafka.bootstrap()),
            ("group", self.group.clone()),
            ("topics", topics.join(",")),
            ("assignor", self.manner.assignor.to_owned()),
            ("protocol", if self.manner.classic { "classic" } else { "consumer" }.to_owned()),
            ("session", SESSION.as_millis().to_string()),
            ("hold", hold.as_millis().to_string()),
            // Every second one leaves that to its client; others than milena commit themselves.
            ("commit", if self.names.len().is_multiple_of(2) { "itself" } else { "auto" }.to_owned()),
        ];
        let member = Member::start(partner, program, &args, &self.history);
        self.names.push(member.name.clone());
        self.members.push(member);
        true
    }

    /// Waits until the coordinator and the members agree on who has what, all partitions are shared out as the assignor should, and
    /// each is read. How long it took.
    pub(crate) fn settle(&mut self, when: &str) -> Duration {
        let begun = Instant::now();
        wait_for(&format!("{}: {when}: a settled group", self.group), PATIENCE, || self.is_settled());
        let settled = now();
        wait_for(&format!("{}: {when}: records of every partition", self.group), PATIENCE, || {
            let silent = |partition: &Partition| self.history.read(partition).1 < settled;
            self.partitions()
                .into_iter()
                .find(silent)
                .map_or(Ok(()), |silent| Err(format!("{silent:?} is silent")))
        });
        begun.elapsed()
    }

    pub(crate) fn is_settled(&mut self) -> Result<(), String> {
        for member in &mut self.members {
            if let Some(said) = member.gone() {
                panic!("{} has ended by itself:\n{said}", member.name);
            }
        }
        let owned: BTreeMap<_, _> =
            self.members.iter().map(|member| (member.name.clone(), self.owned(member))).collect();
        let mut all: Vec<_> = owned.values().flatten().cloned().collect();
        all.sort();
        if all != self.partitions() {
            return Err(format!("members own {owned:?}, the coordinator says {:?}", self.defined()));
        }
        let mut loads: Vec<_> = owned.values().map(Vec::len).collect();
        loads.sort();
        if loads != self.loads() {
            return Err(format!("loads {loads:?}, and not {:?}", self.loads()));
        }
        let defined = self.defined()?;
        if defined.state != "Stable" || defined.members != owned {
            return Err(format!("members own {owned:?}, the coordinator says {defined:?}"));
        }
        Ok(())
    }

    /// The group as its coordinator sees it.
    pub(crate) fn defined(&self) -> Result<Group, String> {
        self.kafka.group(&self.group, self.manner.classic).map_err(|error| error.to_string())
    }

    /// The partitions of a member, sorted.
    pub(crate) fn owned(&self, member: &Member) -> Vec<Partition> {
        self.history.owned(member.index())
    }

    /// How many partitions members should have, in ascending order: range shares out topic by topic.
    fn loads(&self) -> Vec<usize> {
        let members = self.members.len() as i32;
        let share =
            |count: i32, member: i32| (count / members + i32::from(member < count % members)) as usize;
        let counts: Vec<i32> = self.topics.iter().map(|(_, count)| *count).collect();
        let load = |member: i32| match self.manner.assignor {
            "range" => counts.iter().map(|count| share(*count, member)).sum(),
            _ => share(counts.iter().sum(), member),
        };
        (0..members).rev().map(load).collect()
    }

    /// The member leaves in good order.
    pub(crate) fn leave(&mut self, place: usize) -> Member {
        let mut member = self.members.remove(place);
        member.ask_to_leave();
        self.wait_until_gone(&member);
        member
    }

    /// Who owns each partition.
    pub(crate) fn owners(&self) -> BTreeMap<Partition, usize> {
        let owned = |member: &Member| {
            let index = member.index();
            self.owned(member).into_iter().map(move |partition| (partition, index))
        };
        self.members.iter().flat_map(owned).collect()
    }

    fn wait_until_gone(&self, member: &Member) {
        wait_for(&format!("{}: {} leaves", self.group, member.name), PATIENCE, || {
            match self.history.is_closed(member.index()) {
                true => Ok(()),
                false => Err(format!("it does not; it says\n{}", member.complaints())),
            }
        });
    }

    /// The member is gone without a word.
    pub(crate) fn kill(&mut self, place: usize) {
        self.members.remove(place).kill();
    }

    /// The member stands still for longer than its session, until [`Scene::go_on`].
    pub(crate) fn halt(&mut self, place: usize) -> Member {
        let member = self.members.remove(place);
        member.stop(true);
        member
    }

    pub(crate) fn go_on(&mut self, halted: Member) {
        halted.go_on();
        self.members.push(halted);
    }

    /// The coordinator goes on now after it stood still for a session, and has remained the coordinator: it finds that the sessions of all
    /// members are over. Who learns soon of being evicted has no part in that.
    pub(crate) fn excuse(&mut self) {
        self.excuses.push(now()..now() + SESSION.as_micros() as u64);
    }

    /// Waits until all that was written has been read, then all members leave, all at once. What came of it.
    pub(crate) fn end(mut self) -> Outcome {
        let written = self.writer.take().expect("it ends once").end();
        wait_for(&format!("{}: the last records", self.group), PATIENCE, || {
            let mut behind = written.iter().filter(|(partition, end)| self.history.read(partition).0 < *end);
            behind.next().map_or(Ok(()), |(partition, end)| {
                Err(format!("{partition:?}: {} of {end}", self.history.read(partition).0))
            })
        });
        self.members.iter_mut().for_each(Member::ask_to_leave);
        self.members.iter().for_each(|member| self.wait_until_gone(member));
        let told = self.history.lock();
        let verdict = judge(&told.lines, &self.names, &written);
        Outcome {
            group: self.group.clone(),
            names: self.names.clone(),
            lines: told.lines.clone(),
            verdict,
            excuses: self.excuses.clone(),
        }
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    pub(crate) fn history(&self) -> &Arc<History> {
        &self.history
    }
}

/// What came of a scene.
pub(crate) struct Outcome {
    pub(crate) group: String,
    names: Vec<String>,
    pub(crate) lines: Vec<Line>,
    pub(crate) verdict: Verdict,
    excuses: Vec<Range<u64>>,
}

impl Outcome {
    /// Fails with these findings, if there are any. All that was told is in a file then.
    pub(crate) fn assert_none(&self, wrong: &[String]) {
        if wrong.is_empty() {
            return;
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("members").join(format!("{}.log", self.group));
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by_key(|line| line.at);
        let start = lines.first().map_or(0, |line| line.at);
        let text = lines.iter().map(|line| {
            let at = (line.at - start) as f64 / 1e6;
            format!("{at:.3} {} {:?}\n", self.names[line.member], line.event)
        });
        fs::write(&path, text.collect::<String>()).expect("a file");
        panic!(
            "{}: {} findings, history in {}\n{}",
            self.group,
            wrong.len(),
            path.display(),
            wrong.join("\n")
        );
    }

    /// Members that were evicted while they ran, by a coordinator that had not stood still.
    fn evicted(&self) -> impl Iterator<Item = usize> {
        let is_excused = |at: &u64| self.excuses.iter().any(|excuse| excuse.contains(at));
        self.verdict.evicted.iter().filter(move |(_, at)| !is_excused(at)).map(|(member, _)| *member)
    }

    /// Nothing was wrong, and no more members of ours were evicted without an excuse than that.
    pub(crate) fn assert_good(&self, evicted: usize) {
        let mut wrong = self.verdict.wrong.clone();
        let ours = self.evicted().filter(|member| self.is_ours(*member));
        let names: Vec<_> = ours.map(|member| &self.names[member]).collect();
        if names.len() > evicted {
            wrong.push(format!("evicted while they ran: {names:?}"));
        }
        self.assert_none(&wrong);
    }

    pub(crate) fn is_ours(&self, member: usize) -> bool {
        self.names[member].starts_with("Milena")
    }

    pub(crate) fn print(&self) {
        let Verdict { records, again, again_after_revoked, stale, evicted, .. } = &self.verdict;
        println!(
            "  {records} records; read again: {again} after a loss, {again_after_revoked} after a revocation; {stale} stale; {} evicted",
            evicted.len()
        );
        if !self.excuses.is_empty() {
            println!(
                "  {} times the coordinator stood still for a session and remained it: {} of the evictions are its own",
                self.excuses.len(),
                evicted.len() - self.evicted().count()
            );
        }
        let mut troubles: BTreeMap<String, usize> = BTreeMap::new();
        for line in &self.lines {
            if let Event::Trouble(what) = &line.event {
                *troubles.entry(format!("{}: {what}", self.names[line.member])).or_default() += 1;
            }
        }
        for (what, count) in troubles {
            println!("  {count} x {what}");
        }
        self.verdict.foreign.iter().for_each(|what| println!("  not ours: {what}"));
    }
}
