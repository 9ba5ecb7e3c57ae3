//! What runs when, and what is finished.
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// An offset and a key.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Job(i64, Option<u64>);

impl Work for Job {
    fn offset(&self) -> i64 {
        self.0
    }

    fn key(&self) -> Option<u64> {
        self.1
    }
}

type Batch = std::vec::IntoIter<Job>;

fn intake(total: usize, partition: usize, by_key: bool) -> Intake<Batch> {
    Intake::new(Limits { total, partition, by_key })
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

/// Records without keys.
fn put(intake: &mut Intake<Batch>, partition: i32, offsets: std::ops::Range<i64>) {
    let end = offsets.end;
    let jobs: Vec<_> = offsets.map(|offset| Job(offset, None)).collect();
    intake.put(&name(partition), jobs.into_iter(), end);
}

/// Takes what may run.
fn drain(intake: &mut Intake<Batch>) -> Vec<(Ticket, Job)> {
    std::iter::from_fn(|| intake.take()).collect()
}

fn offsets(taken: &[(Ticket, Job)]) -> Vec<i64> {
    taken.iter().map(|(_, job)| job.0).collect()
}

#[test]
fn a_partition_at_its_limit_holds_up_no_other() {
    let mut intake = intake(100, 2, false);
    put(&mut intake, 0, 0..5);
    let first = drain(&mut intake);
    assert_eq!(offsets(&first), [0, 1]);
    assert!(intake.pause_if_full(&name(0)));
    put(&mut intake, 1, 10..12);
    assert_eq!(offsets(&drain(&mut intake)), [10, 11]);
    assert!(!intake.pause_if_full(&name(1)), "all of it was taken");
    assert!(intake.finish(&first[1].0, true));
    assert_eq!(offsets(&drain(&mut intake)), [2]);
    assert_eq!((intake.floor(&name(0)), intake.floor(&name(1))), (Some(0), Some(10)));
    assert!(intake.finish(&first[0].0, true));
    assert_eq!(offsets(&drain(&mut intake)), [3]);
    assert!(intake.take_resumable().is_empty());
}

#[test]
fn a_partition_is_resumed_when_the_last_of_it_was_taken() {
    let mut intake = intake(100, 1, false);
    put(&mut intake, 0, 0..2);
    let first = drain(&mut intake);
    assert!(intake.pause_if_full(&name(0)));
    intake.finish(&first[0].0, true);
    assert_eq!(offsets(&drain(&mut intake)), [1]);
    assert_eq!(intake.take_resumable(), [name(0)]);
    assert!(!intake.pause_if_full(&name(0)));
}

#[test]
fn at_the_limit_for_all_partitions_take_turns() {
    let mut intake = intake(2, 2, false);
    put(&mut intake, 0, 0..9);
    put(&mut intake, 1, 10..19);
    let mut running = VecDeque::from(drain(&mut intake));
    let mut seen = offsets(running.make_contiguous());
    for _ in 0..6 {
        let (ticket, _) = running.pop_front().unwrap();
        assert!(intake.finish(&ticket, true));
        let next = drain(&mut intake);
        seen.extend(offsets(&next));
        running.extend(next);
    }
    assert_eq!(seen, [0, 10, 1, 11, 2, 12, 3, 13]);
}

#[test]
fn of_one_key_one_after_the_other_and_others_side_by_side() {
    let mut intake = intake(100, 3, true);
    let jobs = [Job(0, Some(7)), Job(1, Some(7)), Job(2, None), Job(3, Some(8)), Job(4, Some(7))];
    intake.put(&name(0), Vec::from(jobs).into_iter(), 5);
    let mut first = drain(&mut intake);
    assert_eq!(offsets(&first), [0, 2, 3]);
    let (unkeyed, other) = (first.remove(1).0, first.remove(1).0);
    intake.finish(&other, true);
    assert!(drain(&mut intake).is_empty(), "the key of offset 1 runs");
    intake.finish(&unkeyed, true);
    intake.finish(&first[0].0, true);
    assert_eq!(intake.floor(&name(0)), Some(1), "what waits for its turn is not finished");
    let second = drain(&mut intake);
    assert_eq!(offsets(&second), [1]);
    intake.finish(&second[0].0, true);
    let third = drain(&mut intake);
    assert_eq!(offsets(&third), [4]);
    intake.finish(&third[0].0, true);
    assert_eq!((intake.floor(&name(0)), intake.running()), (Some(5), 0));
}

#[test]
fn one_busy_key_fills_no_memory() {
    let mut intake = intake(100, 2, true);
    for offset in 0..2 {
        intake.put(&name(0), vec![Job(offset, Some(1))].into_iter(), offset + 1);
    }
    let first = drain(&mut intake);
    assert_eq!((first.len(), intake.pause_if_full(&name(0))), (1, false));
    intake.put(&name(0), vec![Job(2, Some(1))].into_iter(), 3);
    assert!(drain(&mut intake).is_empty());
    assert!(intake.pause_if_full(&name(0)), "as many wait as may run");
    intake.finish(&first[0].0, true);
    assert_eq!(offsets(&drain(&mut intake)), [1]);
    assert_eq!(intake.take_resumable(), [name(0)]);
}

#[test]
fn what_ends_late_of_a_lost_partition_changes_nothing_when_it_comes_back() {
    let mut intake = intake(100, 10, false);
    put(&mut intake, 0, 0..2);
    let old = drain(&mut intake);
    intake.forget(&name(0));
    assert_eq!(intake.floor(&name(0)), None);
    assert!(intake.is_idle(&name(0)));
    put(&mut intake, 0, 0..2);
    let new = drain(&mut intake);
    assert_eq!(offsets(&new), [0, 1]);
    for (ticket, _) in &old {
        intake.finish(ticket, true);
    }
    assert_eq!((intake.floor(&name(0)), intake.running()), (Some(0), 2));
    for (ticket, _) in &new {
        intake.finish(ticket, true);
    }
    assert_eq!((intake.floor(&name(0)), intake.running()), (Some(2), 0));
}

#[test]
fn what_is_stopped_or_abandoned_is_not_finished() {
    let mut intake = intake(100, 2, false);
    put(&mut intake, 0, 3..9);
    let taken = drain(&mut intake);
    intake.stop(&name(0));
    assert!(!intake.is_idle(&name(0)));
    assert!(!intake.finish(&taken[0].0, true), "nothing more of it is to run");
    assert_eq!(intake.take_floors(), [(name(0), 4)]);
    intake.finish(&taken[1].0, false);
    assert!(intake.is_idle(&name(0)));
    assert_eq!((intake.take_floors(), intake.floor(&name(0))), (vec![], Some(4)));
}

#[test]
fn what_waits_for_its_caller_holds_no_place_and_is_not_idle() {
    let mut intake = intake(1, 1, false);
    put(&mut intake, 0, 0..40);
    let mut parked = Vec::new();
    for offset in 0..PARKED as i64 {
        let mut taken = drain(&mut intake);
        assert_eq!(offsets(&taken), [offset]);
        parked.append(&mut taken);
        assert_eq!(intake.park(&parked[offset as usize].0), (true, true));
    }
    let last = drain(&mut intake);
    assert_eq!(intake.park(&last[0].0), (false, false), "their number has a limit");
    assert_eq!(intake.running(), PARKED + 1);
    intake.unpark(&parked[0].0);
    assert!(intake.finish(&last[0].0, true));
    assert!(drain(&mut intake).is_empty(), "the one that goes on has the place");
    intake.stop(&name(0));
    for (at, (ticket, _)) in parked.iter().enumerate() {
        assert!(!intake.is_idle(&name(0)));
        if at > 0 {
            intake.unpark(ticket);
        }
        intake.finish(ticket, true);
    }
    assert_eq!((intake.running(), intake.floor(&name(0))), (0, Some(17)));
}

#[test]
fn what_is_taken_out_of_a_batch_that_waits_is_passed_with_it() {
    let mut intake = intake(1, 1, false);
    put(&mut intake, 0, 0..4);
    let first = drain(&mut intake);
    let (rest, end) = intake.take_back(&name(0)).unwrap();
    assert_eq!((rest.clone().map(|job| job.0).collect::<Vec<_>>(), end), (vec![1, 2, 3], 4));
    let kept: Vec<_> = rest.filter(|job| job.0 == 2).collect();
    intake.put(&name(0), kept.into_iter(), end);
    assert!(intake.pause_if_full(&name(0)));
    intake.finish(&first[0].0, true);
    assert_eq!(intake.floor(&name(0)), Some(1));
    let second = drain(&mut intake);
    assert_eq!((offsets(&second), intake.take_resumable()), (vec![2], vec![name(0)]));
    // All of the next.
    put(&mut intake, 0, 4..6);
    let (_, end) = intake.take_back(&name(0)).unwrap();
    intake.put(&name(0), vec![].into_iter(), end);
    assert!(!intake.pause_if_full(&name(0)));
    assert_eq!(intake.floor(&name(0)), Some(2));
    intake.finish(&second[0].0, true);
    assert_eq!(intake.floor(&name(0)), Some(6));
}

#[test]
fn whatever_happens_the_limits_hold_and_the_floor_passes_nothing_unfinished() {
    for seed in 0..100 {
        let mut random = SmallRng::seed_from_u64(seed);
        let limits = Limits {
            total: random.random_range(1..8),
            partition: random.random_range(1..5),
            by_key: random.random(),
        };
        let mut intake = Intake::new(limits);
        let (mut next, mut running, mut done) = ([0; 3], Vec::<(Ticket, i32, Job)>::new(), HashMap::new());
        let mut paused = [false; 3];
        for step in 0..400 {
            let p = random.random_range(0..3);
            if step < 300 && !paused[p as usize] && random.random() {
                let end = next[p as usize] + random.random_range(1..6);
                let jobs: Vec<_> = (next[p as usize]..end)
                    .map(|offset| {
                        Job(
                            offset * 3 + i64::from(p),
                            random.random_bool(0.8).then(|| random.random_range(0..3)),
                        )
                    })
                    .collect();
                next[p as usize] = end;
                intake.put(&name(p), jobs.into_iter(), (end - 1) * 3 + i64::from(p) + 1);
            } else if !running.is_empty() {
                let (ticket, p, job) = running.swap_remove(random.random_range(0..running.len()));
                intake.finish(&ticket, true);
                done.entry(p).or_insert_with(Vec::new).push(job.0);
            }
            for (ticket, job) in drain(&mut intake) {
                let p = (job.0 % 3) as i32;
                let same =
                    |other: &&(Ticket, i32, Job)| other.1 == p && job.1.is_some() && other.2.1 == job.1;
                assert!(!limits.by_key || running.iter().find(same).is_none(), "seed {seed}");
                running.push((ticket, p, job));
            }
            for resumed in intake.take_resumable() {
                paused[resumed.partition() as usize] = false;
            }
            assert!(running.len() <= limits.total && running.len() == intake.running(), "seed {seed}");
            for p in 0..3 {
                paused[p as usize] = intake.pause_if_full(&name(p));
                assert!(running.iter().filter(|of| of.1 == p).count() <= limits.partition, "seed {seed}");
                let Some(floor) = intake.floor(&name(p)) else { continue };
                let done = done.get(&p).map_or(&[][..], Vec::as_slice);
                let missing =
                    (i64::from(p)..floor).step_by(3).filter(|offset| !done.contains(offset)).count();
                assert_eq!(missing, 0, "seed {seed}: the floor {floor} passes what is not finished");
            }
        }
        while let Some((ticket, _, _)) = running.pop() {
            intake.finish(&ticket, true);
            running.extend(drain(&mut intake).into_iter().map(|(ticket, job)| (ticket, 0, job)));
        }
        for p in (0..3).filter(|p| next[*p as usize] > 0) {
            assert_eq!(
                intake.floor(&name(p)),
                Some((next[p as usize] - 1) * 3 + i64::from(p) + 1),
                "seed {seed}"
            );
        }
    }
}
