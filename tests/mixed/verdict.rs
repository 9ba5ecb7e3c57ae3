//! Whether what the members told keeps the promises.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::{Event, Line};
use crate::support::kafka::Partition;

/// What was wrong, and what is worth knowing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Broken promises.
    pub(crate) wrong: Vec<String>,
    /// What members of other clients did among themselves that they should not have done.
    pub(crate) foreign: Vec<String>,
    pub(crate) records: usize,
    /// Records that were read again: what was read by a member that was killed, or lost its partition, and not committed.
    pub(crate) again: usize,
    /// The same for partitions that had been given back in an orderly way.
    pub(crate) again_after_revoked: usize,
    /// Of those, by members of milena.
    pub(crate) again_after_ours: usize,
    /// Members that the coordinator gave up while they ran, and that learnt of it when others had their partitions: who, and when it
    /// learnt.
    pub(crate) evicted: BTreeSet<(usize, u64)>,
    /// Records that a halted or evicted member read on before it learnt that they are not its own.
    pub(crate) stale: usize,
}

/// Who holds a partition.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Holder {
    member: usize,
    since: u64,
}

/// How the last holder of a partition parted from it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Parting {
    #[default]
    None,
    Revoked(usize),
    Lost,
}

#[derive(Default)]
struct Account {
    holder: Option<Holder>,
    parting: Parting,
    /// Records that were read, by anybody.
    read: BTreeSet<i64>,
    committed: i64,
    /// It was assigned, and nothing was read of it since.
    fresh: bool,
}

/// The lines in any order, the names of the members, and the records that each partition has.
pub(crate) fn judge(lines: &[Line], names: &[String], written: &[(Partition, i64)]) -> Verdict {
    let mut lines: Vec<&Line> = lines.iter().collect();
    lines.sort_by_key(|line| line.at);
    let mut verdict = Verdict::default();
    let mut accounts: BTreeMap<&Partition, Account> = BTreeMap::new();
    // Members that stood still for longer than their session: what they do until they learn it counts for nothing.
    let mut halted: HashMap<usize, BTreeSet<&Partition>> = HashMap::new();
    let start = lines.first().map_or(0, |line| line.at);
    for (index, line) in lines.iter().enumerate() {
        let member = line.member;
        let ours = |member: usize| names[member].starts_with("Milena");
        let mut judged = |with_us: bool, what: String| {
            let at = (line.at - start) as f64 / 1e6;
            let findings = if with_us { &mut verdict.wrong } else { &mut verdict.foreign };
            findings.push(format!("{at:.3} s: {}: {what}", names[member]));
        };
        match &line.event {
            Event::Assigned(partitions) => {
                for partition in partitions {
                    halted.get_mut(&member).map(|stale| stale.remove(partition));
                    let account = accounts.entry(partition).or_default();
                    let holder = account.holder;
                    if let Some(other) = holder
                        && let Some(learnt) = learns(&lines[index..], other.member, partition)
                    {
                        verdict.evicted.insert((other.member, learnt));
                        halted.entry(other.member).or_default().insert(partition);
                        account.parting = Parting::Lost;
                    } else if let Some(other) = holder {
                        let since = (other.since - start) as f64 / 1e6;
                        let name = &names[other.member];
                        let what = format!("gets {partition:?}, which {name} has had since {since:.3} s");
                        judged(ours(member) || ours(other.member), what);
                    }
                    account.holder = Some(Holder { member, since: line.at });
                    account.fresh = true;
                }
            }
            Event::Revoked(partitions) | Event::Lost(partitions) => {
                let parting = match line.event {
                    Event::Revoked(_) => Parting::Revoked(member),
                    _ => Parting::Lost,
                };
                for partition in partitions {
                    if halted.get_mut(&member).is_some_and(|stale| stale.remove(partition)) {
                        continue;
                    }
                    let account = accounts.entry(partition).or_default();
                    if account.holder.is_none_or(|holder| holder.member != member) {
                        // Lost is what it may have given up just before.
                        if parting != Parting::Lost {
                            judged(ours(member), format!("gives up {partition:?}, which it does not have"));
                        }
                        continue;
                    }
                    (account.holder, account.parting) = (None, parting);
                }
            }
            Event::Closed | Event::Killed | Event::Halted => {
                for (partition, account) in &mut accounts {
                    if account.holder.is_some_and(|holder| holder.member == member) {
                        (account.holder, account.parting) = (None, Parting::Lost);
                        match line.event {
                            Event::Halted => drop(halted.entry(member).or_default().insert(partition)),
                            Event::Closed => judged(
                                ours(member),
                                format!("left, and told of {partition:?} neither revoked nor lost"),
                            ),
                            _ => {}
                        }
                    }
                }
                if line.event != Event::Halted {
                    halted.remove(&member);
                }
            }
            Event::Records(partition, offsets) => {
                let account = accounts.entry(partition).or_default();
                let is_stale = halted.get(&member).is_some_and(|stale| stale.contains(partition));
                let first = offsets.first().copied().unwrap_or_default();
                if is_stale {
                    verdict.stale += offsets.len();
                } else if account.holder.is_none_or(|holder| holder.member != member) {
                    judged(ours(member), format!("reads {partition:?} from {first}, which it does not have"));
                }
                if !is_stale && std::mem::take(&mut account.fresh) && first < account.committed {
                    judged(
                        ours(member),
                        format!("begins {partition:?} at {first}, and {} was committed", account.committed),
                    );
                }
                let new = offsets.iter().filter(|offset| account.read.insert(**offset)).count();
                verdict.records += new;
                match account.parting {
                    _ if is_stale => {}
                    Parting::Revoked(by) => {
                        verdict.again_after_revoked += offsets.len() - new;
                        verdict.again_after_ours += if ours(by) { offsets.len() - new } else { 0 };
                    }
                    _ => verdict.again += offsets.len() - new,
                }
            }
            Event::Committed(offsets) => {
                for (partition, offset) in offsets {
                    // Agreed before it stood still, and told only now.
                    if halted.get(&member).is_some_and(|stale| stale.contains(partition)) {
                        continue;
                    }
                    let account = accounts.entry(partition).or_default();
                    if *offset < account.committed {
                        judged(
                            ours(member),
                            format!("commits {offset} of {partition:?} after {}", account.committed),
                        );
                    }
                    if *offset > account.read.last().map_or(0, |last| last + 1) {
                        judged(
                            ours(member),
                            format!("commits {offset} of {partition:?}, which nobody has read so far"),
                        );
                    }
                    account.committed = *offset;
                }
            }
            Event::Trouble(_) => {}
        }
    }
    for (partition, count) in written {
        let read = accounts.get(partition).map(|account| &account.read);
        let missing: Vec<_> =
            (0..*count).filter(|offset| read.is_none_or(|read| !read.contains(offset))).collect();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let some = format!("{} of {count} records, of {first} to {last}", missing.len());
            verdict.wrong.push(format!("nobody read {partition:?}: {some}"));
        }
    }
    verdict
}

/// When this member learns that a partition which it holds is not its own any more; none, if it gives it up as its own.
fn learns(lines: &[&Line], member: usize, partition: &Partition) -> Option<u64> {
    lines.iter().filter(|line| line.member == member).find_map(|line| match &line.event {
        // Perhaps after it was told to give it up, in a round that it had no part in any more.
        Event::Lost(partitions) => partitions.contains(partition).then_some(Some(line.at)),
        Event::Assigned(partitions) => partitions.contains(partition).then_some(None),
        Event::Closed | Event::Killed => Some(None),
        _ => None,
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        ("t".to_owned(), 0)
    }

    fn judged(events: &[(usize, Event)], written: i64) -> Verdict {
        let lines: Vec<_> = events
            .iter()
            .enumerate()
            .map(|(at, (member, event))| Line { at: at as u64, member: *member, event: event.clone() })
            .collect();
        judge(&lines, &["Milena-a".to_owned(), "Milena-b".to_owned()], &[(partition(), written)])
    }

    fn assigned() -> Event {
        Event::Assigned(vec![partition()])
    }

    fn revoked() -> Event {
        Event::Revoked(vec![partition()])
    }

    fn read(offsets: std::ops::Range<i64>) -> Event {
        Event::Records(partition(), offsets.collect())
    }

    fn committed(offset: i64) -> Event {
        Event::Committed(vec![(partition(), offset)])
    }

    #[test]
    fn an_orderly_handover_is_right() {
        let verdict = judged(
            &[
                (0, assigned()),
                (0, read(0..3)),
                (0, committed(3)),
                (0, revoked()),
                (1, assigned()),
                (1, read(3..5)),
                (1, committed(5)),
                (1, revoked()),
                (1, Event::Closed),
            ],
            5,
        );
        assert_eq!(verdict, Verdict { records: 5, ..Verdict::default() });
    }

    #[test]
    fn each_broken_promise_is_seen() {
        let lost = Event::Lost(vec![partition()]);
        for (events, written, part) in [
            (vec![(0, assigned()), (1, assigned())], 0, "which Milena-a has had"),
            (vec![(0, assigned()), (0, revoked()), (0, read(0..1))], 1, "a: reads"),
            (vec![(0, assigned()), (1, read(0..1))], 1, "b: reads"),
            (vec![(0, assigned()), (0, read(0..3))], 5, "nobody read (\"t\", 0): 2 of 5 records, of 3 to 4"),
            (vec![(0, assigned()), (0, read(0..3)), (0, committed(3)), (0, committed(2))], 3, "commits 2"),
            (vec![(0, assigned()), (0, read(0..3)), (0, committed(4))], 3, "commits 4"),
            (
                vec![
                    (0, assigned()),
                    (0, read(0..3)),
                    (0, committed(2)),
                    (0, revoked()),
                    (1, assigned()),
                    (1, read(1..3)),
                ],
                3,
                "begins (\"t\", 0) at 1, and 2 was committed",
            ),
            (vec![(0, revoked())], 0, "does not have"),
            (vec![(0, assigned()), (1, revoked())], 0, "does not have"),
            (vec![(0, assigned()), (0, Event::Closed)], 0, "neither revoked nor lost"),
            (vec![(0, assigned()), (0, Event::Halted), (0, lost), (0, read(0..1))], 1, "a: reads"),
        ] {
            let verdict = judged(&events, written);
            assert!(
                verdict.wrong.len() == 1 && verdict.wrong[0].contains(part),
                "{part}: {:?}",
                verdict.wrong
            );
        }
    }

    #[test]
    fn who_is_evicted_and_learns_of_it_is_counted() {
        let lost = Event::Lost(vec![partition()]);
        let events = [
            (0, assigned()),
            (0, read(0..2)),
            (1, assigned()),
            (1, read(0..2)),
            (0, read(2..3)),
            (0, lost),
            (1, read(2..4)),
        ];
        let verdict = judged(&events, 4);
        let evicted = [(0, 5)].into();
        assert_eq!(verdict, Verdict { records: 4, again: 3, stale: 1, evicted, ..Verdict::default() });
    }

    #[test]
    fn what_others_do_among_themselves_is_no_fault_of_ours() {
        let lines: Vec<_> = [(0, assigned()), (1, assigned()), (2, assigned()), (0, assigned())]
            .into_iter()
            .zip(0..)
            .map(|((member, event), at)| Line { at, member, event })
            .collect();
        let names = ["Java-a", "FranzGo-b", "Milena-c"].map(String::from);
        let verdict = judge(&lines, &names, &[]);
        assert_eq!((verdict.wrong.len(), verdict.foreign.len()), (2, 1), "{verdict:?}");
    }

    #[test]
    fn what_was_read_again_is_counted_by_the_way_the_partition_went() {
        let handover = |parting: Event| {
            let events = [(0, assigned()), (0, read(0..4)), (0, parting), (1, assigned()), (1, read(1..5))];
            let verdict = judged(&events, 5);
            assert_eq!(verdict.wrong, Vec::<String>::new());
            (verdict.again, verdict.again_after_revoked, verdict.again_after_ours)
        };
        assert_eq!(handover(revoked()), (0, 3, 3));
        assert_eq!(handover(Event::Lost(vec![partition()])), (3, 0, 0));
        assert_eq!(handover(Event::Killed), (3, 0, 0));
        assert_eq!(handover(Event::Halted), (3, 0, 0));
    }

    #[test]
    fn a_halted_member_may_read_until_it_learns_what_happened() {
        let events = [
            (0, assigned()),
            (0, Event::Halted),
            (1, assigned()),
            (1, read(0..2)),
            (1, committed(2)),
            (0, committed(0)),
            (0, read(0..1)),
            (0, Event::Lost(vec![partition()])),
            (1, read(2..3)),
        ];
        let verdict = judged(&events, 3);
        assert_eq!(verdict, Verdict { records: 3, stale: 1, ..Verdict::default() });
    }
}
