//! Who answers on which topic of requests, learned from replies.
//!
//! A request in all dialects is understood by everybody, and large. Once replies show that milena's responders answer, requests in its own
//! dialect are enough. Only that is ever learned: the items of a NestJS stream cannot be told from Spring's replies, and each of the two
//! ignores the other's requests.
use std::collections::BTreeMap;

use super::dialect::{Capabilities, Dialect};

/// So many replies of one dialect in a row are believed: where services move to milena one by one, one topic has responders of both kinds, and
/// a request that its responder does not understand is lost.
const BELIEVED: u32 = 64;
/// Topics that something is known of. With more, all begin anew.
const TOPICS: usize = 1024;

/// Who gave one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Answerer {
    pub(crate) native: bool,
    pub(crate) capabilities: Capabilities,
}

#[derive(Debug, Default)]
pub(crate) struct Answerers {
    topics: BTreeMap<Box<str>, Known>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    native: u32,
    capabilities: Capabilities,
}

impl Answerers {
    /// The dialect for the next request on a topic, if the requester leaves it open.
    pub(crate) fn dialect(&self, topic: &str) -> Dialect {
        match self.topics.get(topic) {
            Some(known) if known.native >= BELIEVED => Dialect::Native,
            _ => Dialect::Auto,
        }
    }

    /// What the responders of a topic can do, as the last of them said.
    pub(crate) fn capabilities(&self, topic: &str) -> Capabilities {
        self.topics.get(topic).map_or_else(Capabilities::default, |known| known.capabilities)
    }

    /// Whether this answer says anything new.
    pub(crate) fn learns_from(&self, topic: &str, answerer: Answerer) -> bool {
        match self.topics.get(topic) {
            Some(known) if answerer.native => {
                known.native < BELIEVED || known.capabilities != answerer.capabilities
            }
            Some(_) => true,
            None => answerer.native,
        }
    }

    /// A call of this topic was answered.
    pub(crate) fn handle_answer(&mut self, topic: &str, answerer: Answerer) {
        if !answerer.native {
            return self.handle_silence(topic);
        }
        if !self.topics.contains_key(topic) {
            if self.topics.len() == TOPICS {
                self.topics.clear();
            }
            self.topics.insert(topic.into(), Known::default());
        }
        if let Some(known) = self.topics.get_mut(topic) {
            known.native = known.native.saturating_add(1);
            known.capabilities = answerer.capabilities;
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
            assert_eq!(answerers.dialect("t"), Dialect::Auto);
            assert!(answerers.learns_from("t", NATIVE));
            answerers.handle_answer("t", NATIVE);
        }
        answerers
    }

    #[test]
    fn many_replies_of_milena_are_believed_for_their_topic() {
        let answerers = learned();
        assert_eq!([answerers.dialect("t"), answerers.dialect("u")], [Dialect::Native, Dialect::Auto]);
        assert!(!answerers.learns_from("t", NATIVE), "nothing new");
    }

    #[test]
    fn what_a_responder_can_do_is_known_from_its_first_reply() {
        let mut answerers = Answerers::default();
        assert_eq!(answerers.capabilities("t"), Capabilities::default());
        answerers.handle_answer("t", NATIVE);
        assert_eq!(answerers.capabilities("t"), CANCEL);
        assert!(learned().learns_from("t", Answerer { native: true, ..Answerer::default() }));
    }

    #[test]
    fn a_call_without_a_reply_and_a_reply_of_another_dialect_forget_it() {
        let (mut silent, mut other) = (learned(), learned());
        silent.handle_silence("t");
        assert!(other.learns_from("t", Answerer::default()));
        other.handle_answer("t", Answerer::default());
        for answerers in [silent, other] {
            assert_eq!(answerers.dialect("t"), Dialect::Auto);
            assert_eq!(answerers.capabilities("t"), Capabilities::default());
            assert!(!answerers.learns_from("t", Answerer::default()));
        }
    }

    #[test]
    fn one_reply_of_another_dialect_among_many_is_enough() {
        let mut answerers = Answerers::default();
        for n in 0..10 * BELIEVED {
            let native = n % BELIEVED != 0;
            answerers.handle_answer("t", Answerer { native, ..Answerer::default() });
            assert_eq!(answerers.dialect("t"), Dialect::Auto);
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
