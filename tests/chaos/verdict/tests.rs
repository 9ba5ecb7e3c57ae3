//! The verdict sees each kind of broken promise, and none where none is broken.
use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

const QUICK: Duration = Duration::from_millis(3);

/// Two writers, one partition: the log is 0a 0b 1a 2a 1b, and a reader has read all of it. Of `b` two more failed: number 2
/// perhaps written, and number 3 surely not.
fn sound() -> History {
    let end = |outcome| Delivered { outcome, sent: QUICK, took: QUICK };
    let written = |writer, outcomes: &[Outcome]| Written {
        writer,
        delivery_timeout: TIMEOUT,
        places: vec![outcomes.iter().copied().map(end).collect()],
    };
    let log: Vec<Found> = [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)]
        .into_iter()
        .zip(0..)
        .map(|((writer, number), offset)| Found { offset, what: Some(Numbered { writer, number }) })
        .collect();
    History {
        written: vec![
            written("a", &[Outcome::Written(0), Outcome::Written(2), Outcome::Written(3)]),
            written(
                "b",
                &[Outcome::Written(1), Outcome::WrittenSomewhere, Outcome::MaybeWritten, Outcome::NotWritten],
            ),
        ],
        readings: vec![
            Reading { reader: "whole", place: 0, from: 0, found: log.clone(), to_end: true },
            Reading { reader: "part", place: 0, from: 2, found: log[2..4].to_vec(), to_end: false },
        ],
        log: vec![log],
    }
}

/// What is found after this change.
fn found(change: impl FnOnce(&mut History)) -> Vec<(Breach, String)> {
    let mut history = sound();
    change(&mut history);
    judge(&history).findings.into_iter().map(|finding| (finding.breach, finding.to_string())).collect()
}

#[track_caller]
fn assert_found(breach: Breach, part: &str, change: impl FnOnce(&mut History)) {
    let found = found(change);
    assert!(
        matches!(found.as_slice(), [(found, text)] if *found == breach && text.contains(part)),
        "{breach:?} {part:?}: {found:?}"
    );
}

/// Takes the record out of the log, and out of what was read of it.
fn remove(history: &mut History, offset: usize) {
    history.log[0].remove(offset);
    renumber(history);
}

/// The readers have read what the log holds now.
fn renumber(history: &mut History) {
    for (index, found) in history.log[0].iter_mut().enumerate() {
        found.offset = index as i64;
    }
    history.readings.truncate(1);
    history.readings[0].found.clone_from(&history.log[0]);
}

fn end(history: &mut History, writer: usize, number: usize) -> &mut Delivered {
    &mut history.written[writer].places[0][number]
}

#[test]
fn a_sound_history_has_no_findings() {
    let verdict = judge(&sound());
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    assert_eq!((verdict.written, verdict.acknowledged, verdict.in_log, verdict.read), (7, 5, 5, 7));
    assert_eq!((verdict.not_written, verdict.maybe_written, verdict.written_after_all), (1, 1, 0));
}

#[test]
fn a_lost_record_is_found() {
    assert_found(Breach::Lost, "b number 1 is nowhere (sent at 0.0 s, WrittenSomewhere", |history| {
        remove(history, 4)
    });
    let found = found(|history| remove(history, 0));
    assert_eq!(found[0].0, Breach::Lost, "{found:?}");
    assert!(found[0].1.contains("a number 0 is nowhere (sent at 0.0 s, Written(0)"), "{found:?}");
}

#[test]
fn a_duplicate_is_found() {
    assert_found(Breach::Duplicated, "a number 1: at 2 and again at 5", |history| {
        let copy = history.log[0][2];
        history.log[0].push(copy);
        renumber(history);
    });
}

#[test]
fn a_record_that_failed_as_maybe_written_may_be_there_once_and_not_twice() {
    let copy = Found { offset: 0, what: Some(Numbered { writer: 1, number: 2 }) };
    let add = |history: &mut History| {
        history.log[0].push(copy);
        renumber(history);
    };
    assert_eq!(found(add), []);
    assert_found(Breach::Duplicated, "b number 2: at 5 and again at 6", |history| {
        add(history);
        add(history);
    });
}

#[test]
fn a_swap_is_found() {
    let found = found(|history| {
        history.log[0].swap(2, 3);
        renumber(history);
    });
    let order = "OutOfOrder: chaos-a-0: a number 1 at 3: behind number 2 at 2 (sent at 0.0 s, Written(2) after 0.0 s)";
    assert_eq!(found[0], (Breach::OutOfOrder, order.to_owned()));
    // And neither is where it was acknowledged.
    assert_eq!(found[1..].iter().filter(|(breach, _)| *breach == Breach::WrongOffset).count(), 2);
}

#[test]
fn a_late_record_behind_newer_ones_is_out_of_order() {
    assert_found(Breach::OutOfOrder, "a number 0 at 4: behind number 2 at 2", |history| {
        end(history, 0, 0).outcome = Outcome::MaybeWritten;
        history.log[0].rotate_left(1);
        renumber(history);
        // The others are where they are now.
        end(history, 0, 1).outcome = Outcome::Written(1);
        end(history, 0, 2).outcome = Outcome::Written(2);
        end(history, 1, 0).outcome = Outcome::Written(0);
    });
}

#[test]
fn a_late_end_is_found() {
    assert_found(
        Breach::Late,
        "b number 3: the limit is 10s (sent at 0.0 s, NotWritten after 16.0 s)",
        |history| {
            end(history, 1, 3).took = Duration::from_secs(16);
        },
    );
    assert_eq!(found(|history| end(history, 1, 3).took = TIMEOUT + SLACK), []);
}

#[test]
fn a_missing_end_is_found() {
    assert_found(Breach::Unsettled, "a number 2 is at 3 (sent at 0.0 s, Unsettled", |history| {
        end(history, 0, 2).outcome = Outcome::Unsettled;
    });
}

#[test]
fn a_sure_failure_that_is_in_the_log_is_found() {
    assert_found(Breach::Denied, "b number 1 is at 4 (sent at 0.0 s, NotWritten", |history| {
        end(history, 1, 1).outcome = Outcome::NotWritten;
    });
}

#[test]
fn a_wrong_offset_is_found() {
    assert_found(Breach::WrongOffset, "a number 2 is at 3 (sent at 0.0 s, Written(4)", |history| {
        end(history, 0, 2).outcome = Outcome::Written(4);
    });
}

#[test]
fn what_nobody_wrote_is_found() {
    for what in [None, Some(Numbered { writer: 0, number: 3 }), Some(Numbered { writer: 9, number: 0 })] {
        assert_found(Breach::Foreign, "offset 5", |history| {
            history.log[0].push(Found { offset: 5, what });
            renumber(history);
        });
    }
}

#[test]
fn a_hole_in_the_log_is_found() {
    assert_found(Breach::Hole, "offset 5 comes where 4 should be", |history| {
        history.log[0][4].offset = 5;
        history.readings[0].found[4].offset = 5;
    });
}

#[test]
fn a_readers_gap_repeat_and_reversal_are_found() {
    assert_found(Breach::Misread, "whole, reading from 0", |history| {
        history.readings[0].found.remove(1);
    });
    assert_found(Breach::Misread, "whole, reading from 0", |history| {
        let twice = history.readings[0].found[4];
        history.readings[0].found.push(twice);
    });
    assert_found(Breach::Misread, "part, reading from 2", |history| {
        history.readings[1].found.swap(0, 1);
    });
    assert_found(Breach::Misread, "part, reading from 1", |history| history.readings[1].from = 1);
}

#[test]
fn a_reader_that_stops_early_is_found() {
    assert_found(Breach::Unread, "came to 4, and the log ends at 5", |history| {
        history.readings[0].found.pop();
    });
}
