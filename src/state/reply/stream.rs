//! An answer of many records: each item once and in order, or it breaks; and credit for the next ones.
//!
//! ```text
//!          item, repeated                end | error | gap | another responder | too much
//! (open) ----------------> (open)     -----------------------------------------------------> (ended)
//! ```
//!
//! Who counts the items (milena does) can be checked for gaps and repetitions. Of others, a record is known by its place in the log, and
//! those that read alike cannot be told apart: NestJS ends a stream that ended without an item by a null value.
use std::collections::BTreeMap;

use super::dialect::{Dialect, ReadReply};

/// What a record means for the call that it answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It was taken in before.
    Repeated,
    /// An item; more will come.
    Item,
    /// An item, and the end.
    Last,
    /// The end, and no item.
    End,
    /// The responder's error, and the end.
    Refused,
    /// The stream cannot go on.
    Breaks(Broken),
}

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// This item was to come, and that one came.
    Gap { expected: u64, found: u64 },
    /// Another responder answers from the start.
    OtherResponder,
    /// Items wait that were not asked for, and they take more bytes than may be.
    TooMuch,
}

/// What has come of one stream, and what of it was taken.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// How many items may be on their way or waiting.
    window: u32,
    /// What those beyond the window may take.
    max_bytes: usize,
    /// The answer is one record, as it says itself nowhere.
    single: bool,
    next: u64,
    responder: Option<Box<[u8]>>,
    /// Of records that nobody has counted, the last offset for each partition.
    seen: BTreeMap<i32, i64>,
    /// The responder waits for credit.
    credited: bool,
    waiting: u32,
    bytes: usize,
    /// Items taken since credit was granted for those before.
    taken: u32,
}

impl Incoming {
    /// `window` items were granted with the request, whose headers were of this dialect.
    pub(crate) fn new(window: u32, max_bytes: usize, dialect: Dialect) -> Self {
        Self {
            window,
            max_bytes,
            single: matches!(dialect, Dialect::Spring | Dialect::Quarkus),
            next: 0,
            responder: None,
            seen: BTreeMap::new(),
            credited: false,
            waiting: 0,
            bytes: 0,
            taken: 0,
        }
    }

    /// A record of the answer was read at this partition and offset, with a null value or another, and takes so many bytes.
    pub(crate) fn handle_reply(
        &mut self,
        head: &ReadReply<'_>,
        at: (i32, i64),
        null: bool,
        size: usize,
    ) -> Meaning {
        self.credited |= head.capabilities.credit;
        if let Some(name) = head.responder {
            // Its items need not be those of the first, even where their numbers go on.
            if &**self.responder.get_or_insert_with(|| name.into()) != name {
                return Meaning::Breaks(Broken::OtherResponder);
            }
        }
        if head.error.is_some() {
            return Meaning::Refused;
        }
        match head.sequence {
            // An end among items that were seen: it was executed again, and came out shorter.
            Some(found) if found > self.next || head.end && found < self.next => {
                return Meaning::Breaks(Broken::Gap { expected: self.next, found });
            }
            Some(found) if found < self.next => return Meaning::Repeated,
            Some(_) => {}
            None if self.seen.get(&at.0).is_some_and(|&seen| at.1 <= seen) => return Meaning::Repeated,
            None => _ = self.seen.insert(at.0, at.1),
        }
        if null && head.end && (self.next > 0 || head.sequence.is_some()) {
            return Meaning::End;
        }
        self.next += 1;
        self.waiting += 1;
        self.bytes += size;
        if self.waiting > self.window && self.bytes > self.max_bytes {
            return Meaning::Breaks(Broken::TooMuch);
        }
        let last = head.end || self.single || head.dialect == Some(Dialect::Quarkus);
        if last { Meaning::Last } else { Meaning::Item }
    }

    /// An item of this size was handed to the application.
    pub(crate) fn handle_taken(&mut self, size: usize) {
        self.waiting -= 1;
        self.bytes -= size;
        self.taken += 1;
    }

    /// The credit to be granted now, if the responder waits for any: from half of the window on, lest there be a record for each item.
    pub(crate) fn poll_credit(&mut self) -> Option<u32> {
        (self.credited && self.taken >= self.window.div_ceil(2)).then(|| std::mem::take(&mut self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::reply::dialect::Capabilities;
    use Broken::*;
    use Meaning::*;

    const ROOM: usize = 1000;

    fn native(sequence: u64, end: bool) -> ReadReply<'static> {
        let capabilities = Capabilities { credit: true, ..Capabilities::default() };
        let responder = Some(&b"g/1"[..]);
        ReadReply {
            dialect: Some(Dialect::Native),
            sequence: Some(sequence),
            end,
            responder,
            capabilities,
            ..ReadReply::default()
        }
    }

    fn nest(end: bool) -> ReadReply<'static> {
        let dialect = if end { Dialect::Nest } else { Dialect::Spring };
        ReadReply { dialect: Some(dialect), end, ..ReadReply::default() }
    }

    fn stream() -> Incoming {
        Incoming::new(4, ROOM, Dialect::Auto)
    }

    #[test]
    fn items_come_once_and_in_order() {
        let mut stream = stream();
        for (sequence, end, meaning) in
            [(0, false, Item), (1, false, Item), (0, false, Repeated), (1, false, Repeated), (2, true, Last)]
        {
            // A repeated one has another place in the log, if its responder wrote it again.
            assert_eq!(stream.handle_reply(&native(sequence, end), (0, 7), false, 1), meaning);
        }
    }

    #[test]
    fn a_gap_breaks_a_stream_also_before_its_end() {
        for end in [false, true] {
            let mut stream = stream();
            assert_eq!(stream.handle_reply(&native(0, false), (0, 0), false, 1), Item);
            let gap = Breaks(Gap { expected: 1, found: 2 });
            assert_eq!(stream.handle_reply(&native(2, end), (0, 1), true, 0), gap);
        }
    }

    #[test]
    fn an_execution_that_came_out_shorter_is_no_end() {
        let mut stream = stream();
        for sequence in 0..3 {
            stream.handle_reply(&native(sequence, false), (0, 0), false, 1);
        }
        let gap = Breaks(Gap { expected: 3, found: 1 });
        assert_eq!(stream.handle_reply(&native(1, true), (0, 9), false, 1), gap);
    }

    #[test]
    fn items_of_two_responders_are_not_mixed() {
        let other = |sequence| ReadReply { responder: Some(b"g/2"), ..native(sequence, false) };
        for sequence in [0, 1] {
            let mut stream = stream();
            assert_eq!(stream.handle_reply(&native(0, false), (0, 0), false, 1), Item);
            assert_eq!(
                stream.handle_reply(&other(sequence), (0, 1), false, 1),
                Breaks(OtherResponder),
                "even where its numbers go on"
            );
        }
        assert_eq!(stream().handle_reply(&other(0), (0, 0), false, 1), Item, "whoever is first");
    }

    #[test]
    fn an_end_without_an_item_is_no_item() {
        let mut stream = stream();
        assert_eq!(stream.handle_reply(&native(0, false), (0, 0), false, 1), Item);
        assert_eq!(stream.handle_reply(&native(1, true), (0, 1), true, 0), End);
        assert_eq!(self::stream().handle_reply(&native(0, true), (0, 0), true, 0), End, "an empty stream");
        assert_eq!(
            self::stream().handle_reply(&native(0, false), (0, 0), true, 0),
            Item,
            "an item that is null"
        );
    }

    #[test]
    fn a_null_that_is_disposed_is_an_item_only_if_it_is_the_first() {
        let mut stream = stream();
        assert_eq!(stream.handle_reply(&nest(false), (0, 5), false, 1), Item);
        assert_eq!(stream.handle_reply(&nest(false), (0, 5), false, 1), Repeated, "read again");
        assert_eq!(stream.handle_reply(&nest(true), (0, 6), true, 0), End);
        assert_eq!(self::stream().handle_reply(&nest(true), (0, 5), true, 0), Last);
    }

    #[test]
    fn records_that_nobody_counted_are_known_by_partition_and_offset() {
        let mut stream = stream();
        assert_eq!(stream.handle_reply(&nest(false), (0, 5), false, 1), Item);
        assert_eq!(stream.handle_reply(&nest(false), (1, 3), false, 1), Item);
        assert_eq!(stream.handle_reply(&nest(false), (1, 2), false, 1), Repeated);
    }

    #[test]
    fn an_error_is_the_end_whatever_its_number() {
        let mut stream = stream();
        let error = ReadReply { error: Some((2, b"no")), ..native(9, true) };
        assert_eq!(stream.handle_reply(&error, (0, 0), true, 0), Refused);
        let error = ReadReply { error: Some((2, b"no")), ..nest(false) };
        assert_eq!(self::stream().handle_reply(&error, (0, 0), true, 0), Refused);
    }

    #[test]
    fn who_says_no_end_and_knows_no_streams_answers_with_one_record() {
        for dialect in [Dialect::Spring, Dialect::Quarkus] {
            let mut stream = Incoming::new(4, ROOM, dialect);
            assert_eq!(stream.handle_reply(&nest(false), (0, 0), false, 1), Last);
        }
        let quarkus = ReadReply { dialect: Some(Dialect::Quarkus), ..ReadReply::default() };
        assert_eq!(stream().handle_reply(&quarkus, (0, 0), false, 1), Last);
    }

    #[test]
    fn credit_is_granted_when_half_of_the_window_is_taken() {
        let mut stream = stream();
        for sequence in 0..4 {
            stream.handle_reply(&native(sequence, false), (0, 0), false, 1);
        }
        let granted = std::array::from_fn(|_| {
            stream.handle_taken(1);
            stream.poll_credit()
        });
        assert_eq!(granted, [None, Some(2), None, Some(2)]);
        assert_eq!(stream.poll_credit(), None);
    }

    #[test]
    fn who_knows_no_credit_gets_none() {
        let mut stream = stream();
        for offset in 0..8 {
            stream.handle_reply(&nest(false), (0, offset), false, 1);
            stream.handle_taken(1);
            assert_eq!(stream.poll_credit(), None);
        }
    }

    #[test]
    fn what_was_asked_for_may_be_large_and_what_was_not_may_not() {
        let mut stream = stream();
        for sequence in 0..4 {
            assert_eq!(stream.handle_reply(&native(sequence, false), (0, 0), false, ROOM), Item);
        }
        assert_eq!(stream.handle_reply(&native(4, false), (0, 0), false, 0), Breaks(TooMuch));
        let mut stream = self::stream();
        for offset in 0..ROOM as i64 {
            assert_eq!(stream.handle_reply(&nest(false), (0, offset), false, 1), Item);
        }
        assert_eq!(stream.handle_reply(&nest(false), (0, 1000), false, 1), Breaks(TooMuch));
    }
}
