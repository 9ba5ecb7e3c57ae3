//! Who answers on which topic of requests, learned from replies.
//!
//! A request in all dialects is understood by everybody, and large. Once replies show that milena's responders answer, requests in its own
//! dialect are enough. Only that is ever learned: the items of a NestJS stream cannot be told from Spring's replies, and each of the two
//! ignores the other's requests.
use std::collections::BTreeMap;

use super::dialect::{Capabilities, Dialect, ReadReply};

/// So many replies of one dialect in a row are believed: where services move to milena one by one, one topic has responders of both kinds, and
/// a request that its responder does not understand is lost.
const BELIEVED: u8 = 64;
/// Topics that something is known of. With more, all begin anew.
const TOPICS: usize = 1024;

/// Who gave one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Answerer {
    pub(crate) native: bool,
    pub(crate) capabilities: Capabilities,
}

impl Answerer {
    pub(crate) fn of(head: &ReadReply<'_>) -> Self {
        Self { native: head.dialect == Some(Dialect::Native), capabilities: head.capabilities }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Answerers {
    topics: BTreeMap<Box<str>, Known>,
}

/// What is known of one topic; by default nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// How many replies in a row were milena's.
    native: u8,
    /// What its responders can do, as the last of them said.
    pub(crate) capabilities: Capabilities,
}

impl Known {
    /// The dialect for the next request, if the requester leaves it open.
    pub(crate) fn dialect(self) -> Dialect {
        if self.native >= BELIEVED { Dialect::Native } else { Dialect::Auto }
    }

    /// Whether this answer says anything new.
    pub(crate) fn learns_from(self, answerer: Answerer) -> bool {
        match answerer.native {
            true => self.native < BELIEVED || self.capabilities != answerer.capabilities,
            false => self.native > 0,
        }
    }
}

impl Answerers {
    pub(crate) fn known(&self, topic: &str) -> Known {
        self.topics.get(topic).copied().unwrap_or_default()
    }

    /// A call of this topic was answered.
    pub(crate) fn handle_answer(&mut self, topic: &str, answerer: Answerer) {
        if !answerer.native {
            return self.handle_silence(topic);
        }
        let native = self.known(topic).native.saturating_add(1);
        if native == 1 && self.topics.len() == TOPICS {
            self.topics.clear();
        }
        let known = Known { native, capabilities: answerer.capabilities };
        match self.topics.get_mut(topic) {
            Some(entry) => *entry = known,
            None => _ = self.topics.insert(topic.into(), known),
        }
    }

    /// A call of this topic ended without a reply.
    pub(crate) fn handle_silence(&mut self, topic: &str) {
        self.topics.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANCEL: Capabilities = Capabilities { cancel: true, credit: false, dedupe: false };
    const NATIVE: Answerer = Answerer { native: true, capabilities: CANCEL };

    fn learned() -> Answerers {
        let mut answerers = Answerers::default();
        for _ in 0..BELIEVED {
            assert_eq!(answerers.known("t").dialect(), Dialect::Auto);
            assert!(answerers.known("t").learns_from(NATIVE));
            answerers.handle_answer("t", NATIVE);
        }
        answerers
    }

    #[test]
    fn many_replies_of_milena_are_believed_for_their_topic() {
        let answerers = learned();
        assert_eq!(
            [answerers.known("t").dialect(), answerers.known("u").dialect()],
            [Dialect::Native, Dialect::Auto]
        );
        assert!(!answerers.known("t").learns_from(NATIVE), "nothing new");
    }

    #[test]
    fn what_a_responder_can_do_is_known_from_its_first_reply() {
        let mut answerers = Answerers::default();
        assert_eq!(answerers.known("t").capabilities, Capabilities::default());
        answerers.handle_answer("t", NATIVE);
        assert_eq!(answerers.known("t").capabilities, CANCEL);
        assert!(learned().known("t").learns_from(Answerer { native: true, ..Answerer::default() }));
    }

    #[test]
    fn a_call_without_a_reply_and_a_reply_of_another_dialect_forget_it() {
        let (mut silent, mut other) = (learned(), learned());
        silent.handle_silence("t");
        assert!(other.known("t").learns_from(Answerer::default()));
        other.handle_answer("t", Answerer::default());
        for answerers in [silent, other] {
            assert_eq!(answerers.known("t").dialect(), Dialect::Auto);
            assert_eq!(answerers.known("t").capabilities, Capabilities::default());
            assert!(!answerers.known("t").learns_from(Answerer::default()));
        }
    }

    #[test]
    fn one_reply_of_another_dialect_among_many_is_enough() {
        let mut answerers = Answerers::default();
        for n in 0..10 * u32::from(BELIEVED) {
            let native = n % u32::from(BELIEVED) != 0;
            answerers.handle_answer("t", Answerer { native, ..Answerer::default() });
            assert_eq!(answerers.known("t").dialect(), Dialect::Auto);
        }
    }

    #[test]
    fn topics_without_number_do_not_pile_up() {
        let mut answerers = Answerers::default();
        for n in 0..3 * TOPICS {
            answerers.handle_answer(&n.to_string(), NATIVE);
        }
        assert!(answerers.topics.len() <= TOPICS);
    }
}
