//! What happens in each scenario. A letter and its counts are those of the list by which request-reply layers are proven here.
use std::time::{Duration, Instant};

use crate::book::Verdict;
use crate::kafka::{NEWEST, TopicSpec};
use crate::links::Kind;
use crate::process::Process;
use crate::stage::Stage;
use crate::{SECOND, now};

/// A scenario in its share for every day, or in full.
#[derive(Clone, Copy, PartialEq)]
enum Length {
    Share,
    Full,
}

impl Length {
    fn pick<T>(self, share: T, full: T) -> T {
        if self == Self::Share { share } else { full }
    }
}

/// A: callers come one by one and leave one by one, under load.
fn scale(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(length.pick(3, 3), 12)?;
    stage.respond(1);
    stage.tell("rate", length.pick(20, 500));
    for _ in 0..length.pick(1, 6) {
        for _ in 0..length.pick(4, 8) {
            stage.come(1);
            stage.pass(length.pick(1.0, 2.0));
        }
        while stage.callers.len() > 1 {
            stage.oldest().leave();
            stage.pass(length.pick(1.0, 2.0));
        }
        stage.oldest().leave();
    }
    Some(stage.end())
}

/// B: callers are killed, others come in their place.
fn kill(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(3, 4)?;
    stage.respond(1);
    stage.tell("rate", length.pick(30, 250));
    stage.come(4);
    for _ in 0..length.pick(6, 50) {
        stage.pass(1.5);
        stage.oldest().kill();
        stage.come(1);
    }
    Some(stage.end())
}

/// C: each caller is restarted in good order, round after round.
fn rolling(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(3, 8)?;
    stage.respond(1);
    stage.tell("slow", 2);
    stage.come(6);
    for _ in 0..length.pick(6, 60) {
        stage.pass(0.3);
        stage.come(1);
        stage.oldest().leave();
    }
    Some(stage.end())
}

/// D: callers are stopped by a signal for longer than any session lasts, and go on.
fn stopped(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(3, 4)?;
    stage.respond(1);
    stage.tell("timeout", 60_000);
    stage.come(4);
    for round in 0..length.pick(1, 7) {
        stage.pass(2.0);
        for at in 0..3 {
            stage.callers[(round + at) % 4].stop();
        }
        stage.pass(length.pick(8.0, 12.0));
        for at in 0..3 {
            stage.callers[(round + at) % 4].resume();
        }
    }
    stage.pass(2.0);
    Some(stage.end())
}

/// E: nodes are killed one after the other, those that lead among them, and started again.
fn nodes(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(3, 6)?;
    // The controller takes nine seconds to see that a node is gone.
    stage.grace = 20 * SECOND;
    stage.tell("timeout", 45_000);
    stage.respond(1);
    stage.come(3);
    let faults = stage.cluster.faults();
    for round in 0..length.pick(1, 9) {
        stage.pass(2.0);
        let node = round % 3 + 1;
        faults.kill(node);
        stage.pass(12.0);
        faults.restart(node);
        faults.wait_until_healed();
    }
    stage.pass(2.0);
    let verdict = stage.end();
    drop(faults);
    Some(verdict)
}

/// F: the node that coordinates the callers' group is stopped: calls need none.
fn coordinator(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(3, 6)?;
    stage.grace = 20 * SECOND;
    stage.tell("timeout", 90_000);
    let group = format!("{}-callers", stage.replies);
    stage.tell("home", format!("group:{group}"));
    stage.respond(1);
    stage.come(3);
    stage.pass(5.0);
    let faults = stage.cluster.faults();
    for _ in 0..length.pick(1, 5) {
        let node = stage.cluster.coordinator(&group);
        faults.pause(node);
        stage.pass(length.pick(12.0, 60.0));
        faults.resume(node);
        stage.pass(2.0);
        stage.come(1);
        stage.oldest().leave();
        faults.wait_until_healed();
    }
    let verdict = stage.end();
    drop(faults);
    Some(verdict)
}

/// K: what a reader stands before is deleted from the log.
fn deleted(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(1, 3)?;
    stage.respond(1);
    stage.come(2);
    for _ in 0..length.pick(2, 20) {
        stage.come(1);
        // One that stands still comes back to a position that is gone.
        stage.callers[0].stop();
        stage.pass(1.0);
        stage.delete_replies();
        stage.callers[0].resume();
        stage.pass(0.5);
        stage.oldest().leave();
    }
    stage.log_is_cut = true;
    Some(stage.end())
}

/// R: of some processes the connections of one kind become black holes: they stay open, nothing passes and nobody is told, for longer than
/// a call has time. It is noticed, and what was on them goes on on new ones.
fn silence(length: Length, kind: Kind, who: fn(&mut Stage) -> &mut Vec<Process>) -> Option<Verdict> {
    let mut stage = Stage::new(1, 6)?;
    for (name, value) in [("slow", 0), ("timeout", 12_000)] {
        stage.tell(name, value);
    }
    // What a producer waits for an answer, it waits on a connection that may be dead.
    if matches!(kind, Kind::Produce) {
        stage.tell("request_timeout", 4_000);
    }
    stage.own_links = true;
    stage.respond(2);
    stage.come(length.pick(3, 5));
    let mut slowest = 0;
    for _ in 0..length.pick(1, 5) {
        stage.pass(1.0);
        let silences: Vec<_> = who(&mut stage).iter().map(|process| process.links().silence(kind)).collect();
        stage.pass(7.0);
        let noticed = now();
        stage.pass(6.0);
        let calm = noticed..now();
        slowest = stage.book.times(&calm).last().copied().max(Some(slowest)).unwrap_or_default();
        stage.book.calm(calm);
        for (process, silence) in who(&mut stage).iter().zip(silences) {
            process.links().end(silence);
        }
    }
    stage.pass(1.0);
    println!("once it was noticed, the slowest call took {} ms", slowest / 1_000);
    let mut verdict = stage.end();
    // The deadlines leave time enough to notice it.
    if verdict.timed_out > 0 {
        verdict.findings.push(format!("{} calls timed out", verdict.timed_out));
    }
    Some(verdict)
}

fn silent_replies(length: Length) -> Option<Verdict> {
    silence(length, Kind::Fetch, |stage| &mut stage.callers)
}

fn silent_asking(length: Length) -> Option<Verdict> {
    silence(length, Kind::Produce, |stage| &mut stage.callers)
}

fn silent_requests(length: Length) -> Option<Verdict> {
    silence(length, Kind::Fetch, |stage| &mut stage.responders)
}

/// T: streams, while callers and responders leave in good order.
fn streams(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(3, 6)?;
    for (name, value) in [("items", length.pick(50, 1_000)), ("slow", 0), ("rate", 2), ("timeout", 60_000)] {
        stage.tell(name, value);
    }
    stage.respond(2);
    stage.come(3);
    for _ in 0..length.pick(2, 40) {
        stage.pass(2.0);
        stage.come(1);
        stage.oldest().leave();
        stage.respond(1);
        stage.responders.remove(0).leave();
    }
    Some(stage.end())
}

/// H: the first call right after the start, to a responder that answers at once.
fn first(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(1, 4)?;
    stage.respond(1);
    for (name, value) in [("calls", 1), ("slow", 0), ("work", 0)] {
        stage.tell(name, value);
    }
    for _ in 0..length.pick(20, 500) {
        stage.come(1);
        stage.oldest().leave();
    }
    // Every other one is in a group.
    for (kind, odd) in [("chooses itself", 0), ("is in a group", 1)] {
        let mut starts: Vec<u64> = stage.starts.iter().skip(odd).step_by(2).copied().collect();
        starts.sort_unstable();
        let median = Duration::from_micros(starts[starts.len() / 2]);
        println!("from the start of a process that {kind} until it calls: p50 {median:?}");
    }
    Some(stage.end())
}

/// I and S: responders come, go and are killed.
fn responders(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(3, 6)?;
    stage.tell("slow", 1);
    stage.tell("rate", length.pick(30, 150));
    stage.respond(2);
    stage.come(3);
    for round in 0..length.pick(4, 60) {
        stage.respond(1);
        stage.pass(1.0);
        let oldest = stage.responders.remove(0);
        match round % 3 {
            0 => oldest.leave(),
            _ => oldest.kill(),
        }
    }
    Some(stage.end())
}

/// J: replies and deadlines race within a few milliseconds.
fn races(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(1, 4)?;
    for (name, value) in [("race", 4), ("slow", 0), ("rate", length.pick(500, 1_000))] {
        stage.tell(name, value);
    }
    stage.respond(1);
    stage.come(2);
    stage.pass(length.pick(5.0, 50.0));
    Some(stage.end())
}

/// L: replies that were read are truncated away, as a node takes over that has not got them, and others take their offsets.
fn truncated(length: Length) -> Option<Verdict> {
    let configs = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let spec = TopicSpec { assignment: &[&[1, 2], &[1, 2]], configs: &configs, ..TopicSpec::default() };
    let mut stage = Stage::with(3, &spec)?;
    stage.log_is_cut = true;
    stage.grace = 5 * SECOND;
    stage.tell("timeout", 45_000);
    stage.tell("rate", 50);
    stage.respond(1);
    stage.come(3);
    let faults = stage.cluster.faults();
    let rounds = length.pick(1, 20);
    for round in 0..rounds {
        let (leader, behind) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        faults.pause(behind);
        stage.wait_for_replicas("a replica that has fallen behind", |leads, in_sync| {
            (leads, in_sync) == (leader, &[leader])
        });
        // Replies that nobody else has.
        stage.pass(1.0);
        // One looks again only when there are more replies than it had read: nothing but the epoch shows that they are others.
        let late = (round % 3 == 2).then_some(round / 3 % 3);
        faults.kill(leader);
        if let Some(caller) = late {
            stage.callers[caller].stop();
        }
        faults.resume(behind);
        stage.wait_for_replicas("a leader that has fallen behind", |leads, _| leads == behind);
        stage.pass(3.0);
        if let Some(caller) = late {
            stage.callers[caller].resume();
        }
        faults.restart(leader);
        faults.wait_until_healed();
        stage.pass(0.5);
    }
    let verdict = stage.end();
    drop(faults);
    assert!(verdict.vanished > rounds, "little was truncated away that had been read");
    Some(verdict)
}

/// M: eight callers on three partitions, and then on twelve.
fn growth(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(1, 3)?;
    stage.tell("rate", length.pick(20, 250));
    stage.respond(1);
    stage.come(8);
    stage.pass(length.pick(3.0, 25.0));
    stage.grow(12);
    stage.come(2);
    stage.pass(length.pick(3.0, 25.0));
    Some(stage.end())
}

/// O: callers ask ten times as often as a responder can answer, with room for so many calls in flight. One of them waits for room, the other
/// is told that there is none. Memory does not grow, and afterwards calls are as quick as before.
fn overload(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(1, 4)?;
    // Eight handlers of 20 ms on average. What nobody waits for any more is skipped: there is one clock.
    let (calm, offered, timeout) = (50, 2_000, length.pick(3, 8));
    stage.respond_as(1, &[("limit", "8".to_owned()), ("skew", "0".to_owned())]);
    for (name, value) in [("slow", 0), ("work", 40), ("rate", calm), ("timeout", timeout * 1_000)] {
        stage.tell(name, value);
    }
    stage.tell("limit", length.pick(200, 1_000));
    for wait in [1, 0] {
        stage.tell("wait", wait);
        stage.come(1);
    }
    let quiet = |stage: &Stage| {
        let from = now();
        stage.pass(length.pick(2.0, 5.0));
        let times = stage.book.times(&(from..now()));
        [500, 900].map(|per_mille| Duration::from_micros(times[times.len() * per_mille / 1_000]))
    };
    let memory = |stage: &Stage| {
        [&stage.callers[0], &stage.callers[1], &stage.responders[0]].map(|process| process.memory() >> 10)
    };
    let (before, mut held) = (quiet(&stage), vec![memory(&stage)]);
    stage.callers.iter_mut().for_each(|caller| caller.call_at(offered));
    for _ in 0..length.pick(4, 60) {
        stage.pass(1.0);
        held.push(memory(&stage));
    }
    stage.callers.iter_mut().for_each(|caller| caller.call_at(calm));
    stage.pass(timeout as f64 + 0.5);
    let after = quiet(&stage);
    println!("p50 and p90 of a call: {before:?} before and {after:?} after");
    // What waits for room is the application's own.
    for (at, (who, more)) in
        [("waits for room", 100_000), ("does not", 20_000), ("answers", 30_000)].iter().enumerate()
    {
        let peak = |held: &[[u64; 3]]| held.iter().map(|held| held[at]).max().unwrap_or_default();
        let (calm, first, second) =
            (held[0][at], peak(&held[..held.len() / 2]), peak(&held[held.len() / 2..]));
        println!("memory of the one that {who}: {calm} kB, then up to {first}, then up to {second}");
        assert!(second < calm + more, "it needs memory");
        assert!(
            length == Length::Share || second < first + first / 10 + 2_000,
            "it needs more and more memory"
        );
    }
    let verdict = stage.end();
    assert!(verdict.rejected > 0 && verdict.timed_out > 0, "that was no overload");
    assert!((0..2).all(|at| after[at] < before[at] * 2 + SECOND / 20), "it is slow afterwards");
    Some(verdict)
}

/// P: futures are dropped half-way.
fn dropped(length: Length) -> Option<Verdict> {
    let mut stage = Stage::new(1, 4)?;
    for (name, value) in [("dropped", 100), ("slow", 0), ("rate", length.pick(500, 1_000))] {
        stage.tell(name, value);
    }
    stage.respond(1);
    stage.come(2);
    stage.pass(length.pick(4.0, 50.0));
    Some(stage.end())
}

type Scenario = (&'static str, fn(Length) -> Option<Verdict>);

const SCENARIOS: &[Scenario] = &[
    ("A scale", scale),
    ("B kill", kill),
    ("C rolling restart", rolling),
    ("D stopped callers", stopped),
    ("E nodes killed", nodes),
    ("F coordinator", coordinator),
    ("H first call", first),
    ("I, S responders killed", responders),
    ("J races", races),
    ("K deleted records", deleted),
    ("L truncated replies", truncated),
    ("M growth", growth),
    ("O overload", overload),
    ("P dropped futures", dropped),
    ("R replies fetched in silence", silent_replies),
    ("R calls sent in silence", silent_asking),
    ("R requests fetched in silence", silent_requests),
    ("T streams", streams),
];

fn play(name: &str, length: Length) {
    let (title, scenario) = SCENARIOS.iter().find(|(title, _)| *title == name).expect("a scenario");
    let (began, at) = (Instant::now(), now());
    let Some(verdict) = scenario(length) else { return };
    println!("{title} ({:.0?}): {verdict}", began.elapsed());
    assert!(
        verdict.calls > 0 && verdict.answered + verdict.timed_out + verdict.dropped > 0,
        "nothing was tried"
    );
    assert!(verdict.findings.is_empty(), "{title} (at {at} on Kafka {NEWEST}): {:#?}", verdict.findings);
    assert_eq!(verdict.failed, 0, "{title}: calls failed");
}

#[test]
fn a_share_of_the_scenarios() {
    for name in [
        "A scale",
        "B kill",
        "D stopped callers",
        "E nodes killed",
        "H first call",
        "I, S responders killed",
        "J races",
        "K deleted records",
        "O overload",
        "R replies fetched in silence",
        "T streams",
    ] {
        play(name, Length::Share);
    }
}

#[test]
#[ignore = "half an hour"]
fn every_scenario_in_full() {
    let wanted = std::env::var("MILENA_SCENARIOS").unwrap_or_default();
    for (name, _) in SCENARIOS {
        if wanted.is_empty() || wanted.split(',').any(|letter| name.starts_with(letter)) {
            play(name, Length::Full);
        }
    }
}
