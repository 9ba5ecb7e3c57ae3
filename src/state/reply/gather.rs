//! One request that several groups answer: whose answers have come, and whose are missing.
use std::collections::{BTreeMap, BTreeSet};

use super::dialect::ReadReply;

/// Which answers to one request count: the first of each group, and every record of those that do not say who they are.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    groups: BTreeSet<Box<[u8]>>,
    /// Of records of nobody known, the last offset for each partition.
    seen: BTreeMap<i32, i64>,
}

impl Gathering {
    /// Whether this reply, read at this partition and offset, is a further answer.
    pub(crate) fn handle_reply(&mut self, head: &ReadReply<'_>, at: (i32, i64)) -> bool {
        match head.responder {
            Some(name) => self.groups.insert(group_of(name).into()),
            None => {
                let further = self.seen.get(&at.0).is_none_or(|&seen| at.1 > seen);
                if further {
                    self.seen.insert(at.0, at.1);
                }
                further
            }
        }
    }

    /// Those of the expected groups that have not answered, in the order of their names.
    pub(crate) fn missing<'a>(&self, expected: &'a BTreeSet<String>) -> impl Iterator<Item = &'a String> {
        expected.iter().filter(|group| !self.groups.contains(group.as_bytes()))
    }
}

/// The group in the name of a responder, which is group and instance.
pub(crate) fn group_of(responder: &[u8]) -> &[u8] {
    let slash = responder.iter().rposition(|&byte| byte == b'/');
    slash.map_or(responder, |at| &responder[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(responder: &'static str) -> ReadReply<'static> {
        ReadReply { responder: Some(responder.as_bytes()), ..ReadReply::default() }
    }

    #[test]
    fn one_answer_of_each_group_counts() {
        let mut gathering = Gathering::default();
        let counted =
            ["a/1", "b/1", "a/2", "a/1", "a/b/1"].map(|name| gathering.handle_reply(&from(name), (0, 0)));
        assert_eq!(counted, [true, true, false, false, true]);
    }

    #[test]
    fn who_is_expected_and_has_not_answered_is_missing() {
        let expected = BTreeSet::from(["prices", "stock", "tax"].map(String::from));
        let mut gathering = Gathering::default();
        for name in ["stock/0f", "other/1", "taxes/2"] {
            gathering.handle_reply(&from(name), (0, 0));
        }
        assert_eq!(gathering.missing(&expected).collect::<Vec<_>>(), ["prices", "tax"]);
    }

    #[test]
    fn answers_of_nobody_known_count_once_for_each_place_in_the_log() {
        let mut gathering = Gathering::default();
        let counted = [(0, 5), (0, 6), (0, 5), (1, 5), (0, 6)]
            .map(|at| gathering.handle_reply(&ReadReply::default(), at));
        assert_eq!(counted, [true, true, false, true, false]);
    }

    #[test]
    fn the_group_is_all_before_the_last_slash() {
        for (name, group) in [("a/1", "a"), ("a/b/1", "a/b"), ("a", "a"), ("", ""), ("/1", "")] {
            assert_eq!(group_of(name.as_bytes()), group.as_bytes());
        }
    }
}
