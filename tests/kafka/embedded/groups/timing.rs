//! What ends by itself: sessions, join and sync phases, ids that were given out, partitions that are not given up.
use super::consumer::{beat, joins};
use super::*;

/// Long enough for what is done meanwhile, short enough to wait for.
const SHORT: i32 = 2_500;

fn short(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    join(group, member, instance, &[("range", TOPIC)]).with_rebalance_timeout_ms(SHORT)
}

impl Play {
    pub(super) fn endings(&mut self) {
        self.sessions_end();
        self.join_phases_end();
        self.revocations_end();
    }

    fn sessions_end(&mut self) {
        let mut ids = Ids::default();
        // A leader that does not sync.
        let group = "embedded-ends-sync";
        let answer = self.connection.call(9, &short(group, "", Some("a")));
        let member = answer.member_id.to_string();
        self.until(group, "Empty");
        let code = self.connection.call(4, &heartbeat(group, &member, 1)).error_code;
        self.say(format!("ends, heartbeat after a sync that did not come: {code}"));
        let answer = self.connection.call(9, &short(group, &member, Some("a")));
        self.say(format!("ends, join after that: {}", ids.joined(&answer)));
        let answer = self.connection.call(9, &short(group, "", Some("a")));
        self.say(format!("ends, join anew: {}", ids.joined(&answer)));
        // A member that is not heard of.
        let group = "embedded-ends-session";
        let answer = self.connection.call(9, &short(group, "", Some("a")).with_session_timeout_ms(1_000));
        let member = answer.member_id.to_string();
        self.connection.call(5, &sync(group, &member, 1, &[]));
        self.until(group, "Empty");
        let answer = self.connection.call(5, &sync(group, &member, 1, &[]));
        self.synced("ends, sync after a session", &answer);
        let answer = self.connection.call(9, &short(group, "", Some("a")));
        self.say(format!("ends, generation after a session: {}", answer.generation_id));
    }

    fn join_phases_end(&mut self) {
        let group = "embedded-ends-join";
        let (mut first, mut second) = (self.open(), self.open());
        let mut ids = Ids::default();
        let a = first.call(9, &short(group, "", None)).member_id.to_string();
        ids.name(&a);
        first.call(9, &short(group, &a, None));
        first.call(5, &sync(group, &a, 1, &[]));
        second.send(9, &short(group, "", Some("b")));
        self.until(group, "PreparingRebalance");
        let answer = first.call(9, &short(group, &a, None));
        self.say(format!("ends, both: {}", ids.joined(&answer)));
        let b = second.receive::<JoinGroupRequest>(9).member_id.to_string();
        first.call(5, &sync(group, &a, 2, &[]));
        second.call(5, &sync(group, &b, 2, &[]));
        // A static member that does not join stays in the group, a dynamic one does not.
        let answer = first.call(9, &short(group, &a, None));
        self.say(format!("ends, without the static one: {}", ids.joined(&answer)));
        first.call(5, &sync(group, &a, 3, &[]));
        let code = second.call(4, &heartbeat(group, &b, 3)).error_code;
        self.say(format!("ends, it has to sync: {code}"));
        second.call(5, &sync(group, &b, 3, &[]));
        let answer = second.call(
            9,
            &short(group, &b, Some("b"))
                .with_protocols(join(group, "", None, &[("range", "embedded-here")]).protocols),
        );
        self.say(format!("ends, without the dynamic one: {}", ids.joined(&answer)));
        let code = first.call(4, &heartbeat(group, &a, 3)).error_code;
        self.say(format!("ends, which is out: {code}"));
        second.call(5, &sync(group, &b, 4, &[]));
        // An id that was given out holds up the others for a session.
        let c = first.call(9, &short(group, "", None).with_session_timeout_ms(1_000)).member_id.to_string();
        let answer = second.call(9, &short(group, &b, Some("b")).with_rebalance_timeout_ms(60_000));
        self.say(format!("ends, without the one that never came: {}", ids.joined(&answer)));
        let answer = first.call(9, &short(group, &c, None));
        self.say(format!("ends, it comes late: {}", answer.error_code));
    }

    fn revocations_end(&mut self) {
        let group = "embedded-ends-revoke";
        self.connection.call(1, &joins(group, "a", &[TOPIC]).with_rebalance_timeout_ms(SHORT));
        self.connection.call(1, &joins(group, "b", &[TOPIC]).with_rebalance_timeout_ms(SHORT));
        self.connection.call(1, &beat(group, "a", 2));
        let code = crate::support::kafka::wait_for("an end of patience", SOON, || {
            match self.connection.call(1, &beat(group, "a", 2)).error_code {
                0 => Err("not yet".to_owned()),
                code => Ok(code),
            }
        });
        self.say(format!("ends, who did not revoke: {code}"));
        let answer = self.connection.call(1, &beat(group, "b", 3));
        let topics = answer.assignment.map(|assigned| assigned.topic_partitions);
        let count = topics.map(|topics| topics.iter().map(|topic| topic.partitions.len()).sum::<usize>());
        self.say(format!(
            "ends, the other one: {} epoch {} {count:?}",
            answer.error_code, answer.member_epoch
        ));
        self.connection.call(1, &beat(group, "b", -1));
    }
}
