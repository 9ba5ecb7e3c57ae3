//! The classic protocol: join, sync, heartbeat, leave.
use super::*;

impl Play {
    /// Where coordinators are. The first search has Kafka make the topic.
    pub(super) fn coordinators(&mut self) {
        let ask = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("embedded-ready")]);
        crate::support::kafka::wait_for("a coordinator", super::super::super::LONGEST, || {
            let found = self.connection.call(4, &ask).coordinators.remove(0);
            let listed = self.connection.call(4, &ListGroupsRequest::default()).error_code;
            if found.error_code == 0 && listed == 0 { Ok(()) } else { Err(found.error_code.to_string()) }
        });
        let beat = heartbeat("embedded-ready", "m", 0);
        crate::support::kafka::wait_for("its groups", super::super::super::LONGEST, || {
            match self.connection.call(4, &beat).error_code {
                25 => Ok(()),
                code => Err(code.to_string()),
            }
        });
        for version in 0..=6 {
            for kind in if version == 0 { 0..1 } else { 0..2 } {
                let mut request = FindCoordinatorRequest::default().with_key_type(kind);
                match version {
                    0..=3 => request.key = text("embedded-g"),
                    _ => request.coordinator_keys = vec![text("embedded-g"), text("")],
                }
                if kind == 1 {
                    continue; // transactions are not modelled
                }
                let answer = self.connection.call(version, &request);
                let many: Vec<_> = answer
                    .coordinators
                    .iter()
                    .map(|found| {
                        let place = (found.node_id.0, found.host.is_empty(), found.port > 0);
                        (found.key.clone(), found.error_code, found.error_message.clone(), place)
                    })
                    .collect();
                let one =
                    (answer.node_id.0, answer.error_code, answer.error_message.as_deref(), answer.port > 0);
                self.say(format!("find v{version} kind {kind}: {one:?} {many:?}"));
            }
        }
    }

    /// One dynamic member, from its first request to its last, in every version.
    pub(super) fn every_version(&mut self) {
        for version in 0..=9 {
            let group = format!("embedded-v{version}");
            let mut ids = Ids::default();
            let mut request = join(&group, "", None, &[("range", TOPIC)]);
            let mut answer = self.connection.call(version, &request);
            self.say(format!("join v{version} first: {}", ids.joined(&answer)));
            if answer.error_code == 79 {
                request.member_id = answer.member_id;
                answer = self.connection.call(version, &request);
                self.say(format!("join v{version} again: {}", ids.joined(&answer)));
            }
            let member = answer.member_id.to_string();
            for generation in [1, 2] {
                let mut request = sync(&group, &member, generation, &[(&member, "plan")]);
                if version < 5 {
                    (request.protocol_type, request.protocol_name) = (None, None);
                }
                let answer = self.connection.call(version.min(5), &request);
                self.synced(&format!("sync v{version} generation {generation}"), &answer);
            }
            for (member, generation) in [(&*member, 1), (&member, 0), ("stranger", 1), ("", -1)] {
                let code =
                    self.connection.call(version.min(4), &heartbeat(&group, member, generation)).error_code;
                self.say(format!("heartbeat v{version} generation {generation}: {code}"));
            }
            let again = self.connection.call(version, &join(&group, &member, None, &[("range", TOPIC)]));
            self.say(format!("join v{version} by the leader: {}", ids.joined(&again)));
            for _ in 0..2 {
                self.left(version.min(5), &group, &[(&member, None)]);
            }
        }
        self.left(5, "embedded-missing", &[("m", None)]);
        self.left(2, "embedded-missing", &[("m", None)]);
        self.left(5, "", &[("m", None)]);
        let answer = self.connection.call(5, &sync("embedded-missing", "m", 1, &[]));
        self.synced("sync of a missing group", &answer);
        let answer = self.connection.call(5, &sync("", "m", 1, &[]));
        self.synced("sync of no group", &answer);
        let code = self.connection.call(4, &heartbeat("embedded-missing", "m", 1)).error_code;
        self.say(format!("heartbeat of a missing group: {code}"));
    }

    pub(super) fn left(&mut self, version: i16, group: &str, members: &[(&str, Option<&str>)]) {
        let mut request = LeaveGroupRequest::default().with_group_id(id(group));
        match version {
            0..=2 => request.member_id = text(members[0].0),
            _ => {
                let one = |(member, instance): &(&str, Option<&str>)| {
                    leave_group_request::MemberIdentity::default()
                        .with_member_id(text(member))
                        .with_group_instance_id(instance.map(text))
                        .with_reason(None)
                };
                request.members = members.iter().map(one).collect();
            }
        }
        let answer = self.connection.call(version, &request);
        let codes: Vec<_> = answer
            .members
            .iter()
            .map(|member| (member.error_code, member.member_id.is_empty(), member.group_instance_id.clone()))
            .collect();
        self.say(format!("leave v{version}: {} {codes:?}", answer.error_code));
    }

    /// Two dynamic members through every state of their group.
    pub(super) fn two_members(&mut self) {
        let group = "embedded-two";
        let both = [("range", TOPIC), ("roundrobin", TOPIC)];
        let (mut first, mut second) = (self.open(), self.open());
        let mut ids = Ids::default();
        let named = |connection: &mut Connection| {
            connection.call(9, &join(group, "", None, &both)).member_id.to_string()
        };
        let a = named(&mut first);
        let answer = first.call(9, &join(group, &a, None, &both));
        self.say(format!("two, a alone: {}", ids.joined(&answer)));
        let answer = first.call(9, &join(group, &a, None, &both));
        self.say(format!("two, a again while completing: {}", ids.joined(&answer)));
        let code = first.call(4, &heartbeat(group, &a, 1)).error_code;
        self.say(format!("two, heartbeat while completing: {code}"));
        let answer = first.call(5, &sync(group, &a, 1, &[(&a, "all"), ("stranger", "x")]));
        self.synced("two, a syncs", &answer);
        let b = named(&mut second);
        second.send(9, &join(group, &b, None, &both));
        self.until(group, "PreparingRebalance");
        let code = first.call(4, &heartbeat(group, &a, 1)).error_code;
        self.say(format!("two, heartbeat while preparing: {code}"));
        let answer = first.call(5, &sync(group, &a, 1, &[]));
        self.synced("two, sync while preparing", &answer);
        let answer = first.call(9, &join(group, &a, None, &both));
        self.say(format!("two, a joins: {}", ids.joined(&answer)));
        let answer = second.receive::<JoinGroupRequest>(9);
        self.say(format!("two, b joined: {}", ids.joined(&answer)));
        second.send(5, &sync(group, &b, 2, &[]));
        let wrong = sync(group, &a, 2, &[]);
        for wrong in [
            wrong.clone().with_protocol_name(Some(text("sticky"))),
            wrong.clone().with_protocol_type(Some(text("connect"))).with_protocol_name(Some(text("range"))),
            wrong.clone().with_protocol_name(None),
            wrong.clone().with_protocol_type(None),
            sync(group, &a, 1, &[]),
            sync(group, "stranger", 2, &[]),
            sync(group, &a, 2, &[]).with_group_instance_id(Some(text("i"))),
        ] {
            let answer = first.call(5, &wrong);
            self.synced("two, a syncs wrongly", &answer);
        }
        let answer = first.call(5, &sync(group, &a, 2, &[(&b, "for b")]));
        self.synced("two, a syncs as the leader", &answer);
        let answer = second.receive::<SyncGroupRequest>(5);
        self.synced("two, b synced", &answer);
        let answer = second.call(5, &sync(group, &b, 2, &[(&b, "ignored")]));
        self.synced("two, b syncs again", &answer);
        let answer = second.call(9, &join(group, &b, None, &both));
        self.say(format!("two, follower joins with the same: {}", ids.joined(&answer)));
        second.send(9, &join(group, &b, None, &[("roundrobin", TOPIC), ("range", "embedded-here")]));
        self.until(group, "PreparingRebalance");
        let answer = first.call(9, &join(group, &a, None, &both[1..]));
        self.say(format!("two, a joins with one: {}", ids.joined(&answer)));
        let answer = second.receive::<JoinGroupRequest>(9);
        self.say(format!("two, b joined with others: {}", ids.joined(&answer)));
        // A follower syncs, then changes its mind: the sync is over.
        let mut third = self.open();
        let roundrobin = sync(group, &b, 3, &[]).with_protocol_name(Some(text("roundrobin")));
        second.send(5, &roundrobin);
        let c = named(&mut third);
        third.send(9, &join(group, &c, None, &both));
        let answer = second.receive::<SyncGroupRequest>(5);
        self.synced("two, b was syncing", &answer);
        self.left(5, group, &[(&c, None), ("stranger", None), ("", None), ("", Some("nobody"))]);
        let answer = third.receive::<JoinGroupRequest>(9);
        self.say(format!("two, c left while joining: {}", ids.joined(&answer)));
        second.send(9, &join(group, &b, None, &both));
        let answer = first.call(9, &join(group, &a, None, &both));
        self.say(format!("two, a joins once more: {}", ids.joined(&answer)));
        let answer = second.receive::<JoinGroupRequest>(9);
        self.say(format!("two, b joins once more: {}", ids.joined(&answer)));
        self.left(3, group, &[(&a, None), (&b, None)]);
        let answer = first.call(9, &join(group, &a, None, &both));
        self.say(format!("two, join into the empty group: {}", ids.joined(&answer)));
    }

    /// Static members that come back, are fenced, and are removed.
    pub(super) fn static_members(&mut self) {
        let group = "embedded-static";
        let (mut first, mut second, mut third) = (self.open(), self.open(), self.open());
        let mut ids = Ids::default();
        let range = [("range", TOPIC)];
        let answer = first.call(9, &join(group, "", Some("a"), &range));
        self.say(format!("static, a: {}", ids.joined(&answer)));
        let a = answer.member_id.to_string();
        self.say(format!("static, id of a: {}", a.starts_with("a-")));
        let answer = first.call(5, &sync(group, &a, 1, &[]));
        self.synced("static, a syncs", &answer);
        second.send(9, &join(group, "", Some("b"), &range));
        self.until(group, "PreparingRebalance");
        let answer = first.call(9, &join(group, &a, Some("a"), &range));
        self.say(format!("static, a joins: {}", ids.joined(&answer)));
        let answer = second.receive::<JoinGroupRequest>(9);
        self.say(format!("static, b joins: {}", ids.joined(&answer)));
        let b = answer.member_id.to_string();
        let answer = first.call(5, &sync(group, &a, 2, &[(&a, "A"), (&b, "B")]));
        self.synced("static, a syncs", &answer);
        let answer = second.call(5, &sync(group, &b, 2, &[]));
        self.synced("static, b syncs", &answer);
        for (version, instance) in [(9, "b"), (9, "a"), (8, "a"), (5, "a"), (6, "b")] {
            let answer = third.call(version, &join(group, "", Some(instance), &[("range", "embedded-here")]));
            self.say(format!("static, {instance} is back in v{version}: {}", ids.joined(&answer)));
            let mut request = sync(group, &answer.member_id, 2, &[]);
            request.group_instance_id = Some(text(instance));
            let answer = third.call(5, &request);
            self.synced("static, it syncs", &answer);
        }
        let answer = second.call(9, &join(group, &b, Some("b"), &range));
        self.say(format!("static, former b joins: {}", ids.joined(&answer)));
        for instance in [Some("b"), None, Some("c")] {
            let mut beat = heartbeat(group, &b, 2);
            beat.group_instance_id = instance.map(text);
            let code = second.call(4, &beat).error_code;
            let mut request = sync(group, &b, 2, &[]);
            request.group_instance_id = instance.map(text);
            let answer = second.call(5, &request);
            self.say(format!("static, former b as {instance:?}: heartbeat {code}"));
            self.synced("static, former b syncs", &answer);
        }
        self.left(5, group, &[(&b, Some("b")), ("", Some("b")), ("", Some("b"))]);
        let mut fourth = self.open();
        fourth.send(9, &join(group, "", Some("a"), &range));
        let answer = fourth.receive::<JoinGroupRequest>(9);
        self.say(format!("static, a is back while preparing: {}", ids.joined(&answer)));
        self.left(5, group, &[("", Some("a"))]);
    }

    pub(super) fn wrong_joins(&mut self) {
        let group = "embedded-wrong";
        let mut ids = Ids::default();
        let fair = |member: &str| join(group, member, None, &[("range", TOPIC)]);
        for (label, version, request) in [
            ("no group", 9, fair("").with_group_id(id(""))),
            ("short session", 9, fair("").with_session_timeout_ms(1)),
            ("long session", 9, fair("").with_session_timeout_ms(i32::MAX)),
            ("no protocols", 9, fair("").with_protocols(vec![])),
            ("no protocol type", 9, fair("").with_protocol_type(text(""))),
            ("stranger", 9, fair("stranger")),
            ("stranger with instance", 9, join(group, "stranger", Some("i"), &[("range", TOPIC)])),
            ("old stranger", 2, fair("stranger")),
            ("short session in v0", 0, fair("").with_session_timeout_ms(1)),
        ] {
            let answer = self.connection.call(version, &request);
            self.say(format!("wrong join, {label}: {}", ids.joined(&answer)));
        }
        let answer = self.connection.call(9, &join(group, "", Some("a"), &[("range", TOPIC)]));
        self.say(format!("wrong join, a right one: {}", ids.joined(&answer)));
        let member = answer.member_id.to_string();
        for (label, request) in [
            ("other protocol", join(group, "", None, &[("sticky", TOPIC)])),
            ("other type", fair("").with_protocol_type(text("connect"))),
            ("own other protocol", join(group, &member, Some("a"), &[("sticky", TOPIC)])),
            ("stranger", fair("stranger")),
            ("unknown instance", join(group, &member, Some("b"), &[("range", TOPIC)])),
            ("id of another", join(group, "stranger", Some("a"), &[("range", TOPIC)])),
        ] {
            let answer = self.connection.call(9, &request);
            self.say(format!("wrong join into a group, {label}: {}", ids.joined(&answer)));
        }
    }
}
