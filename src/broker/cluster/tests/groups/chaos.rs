//! Whatever members of the classic protocol do: the rules of their group hold.
use proptest::prelude::*;

use super::*;

/// A member as a client would be: what it believes.
#[derive(Debug, Default, Clone)]
struct Client {
    connection: Option<ConnectionId>,
    id: String,
    generation: i32,
    waits: Option<Wait>,
    assignment: Option<Bytes>,
}

#[derive(Debug, Clone, Copy)]
enum Wait {
    Join,
    Sync,
}

struct Group {
    rig: Rig,
    clients: Vec<Client>,
    newest: i32,
}

impl Group {
    fn connection(&mut self, who: usize) -> ConnectionId {
        match self.clients[who].connection {
            Some(connection) => connection,
            None => {
                let node = self.rig.cluster.coordinator(GROUP).unwrap();
                let connection = self.rig.connect(node);
                self.clients[who].connection = Some(connection);
                connection
            }
        }
    }

    fn instance(who: usize) -> Option<&'static str> {
        (who == 0).then_some("fixed")
    }

    fn join(&mut self, who: usize, mark: &str) {
        let connection = self.connection(who);
        let request = join_request(&self.clients[who].id, Self::instance(who), &["range"], mark);
        self.rig.send(connection, 9, &request);
        self.clients[who].waits = Some(Wait::Join);
        self.clients[who].assignment = None;
    }

    fn heartbeat(&mut self, who: usize) {
        let connection = self.connection(who);
        let Client { id, generation, .. } = self.clients[who].clone();
        let request = HeartbeatRequest::default()
            .with_group_id(super::id(GROUP))
            .with_generation_id(generation)
            .with_member_id(text(&id))
            .with_group_instance_id(Self::instance(who).map(text));
        let code = self.rig.call(connection, 4, &request).error_code;
        self.heard(who, code.into());
        if code != 0 {
            self.join(who, "");
        }
    }

    fn heard(&mut self, who: usize, code: ErrorCode) {
        let client = &mut self.clients[who];
        match code {
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => client.id.clear(),
            ErrorCode::NOT_COORDINATOR => client.connection = None,
            _ => {}
        }
    }

    fn cut(&mut self, who: usize) {
        if let Some(connection) = self.clients[who].connection.take() {
            self.rig.cluster.disconnect(connection);
        }
        self.clients[who].waits = None;
        self.join(who, "");
    }

    /// Takes in what was answered, and goes on as a client does. True if there was anything.
    fn answers(&mut self, who: usize) -> bool {
        let Some((connection, waits)) = self.clients[who].connection.zip(self.clients[who].waits) else {
            return false;
        };
        match waits {
            Wait::Join => {
                let Some(answer) = self.rig.answer::<JoinGroupRequest>(connection, 9) else { return false };
                self.clients[who].waits = None;
                if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED.code() {
                    self.clients[who].id = answer.member_id.to_string();
                } else if answer.error_code != 0 {
                    self.heard(who, answer.error_code.into());
                } else {
                    return self.joined(who, connection, &answer);
                }
                self.join(who, "");
            }
            Wait::Sync => {
                let Some((code, assignment)) = self.rig.synced(connection) else { return false };
                self.clients[who].waits = None;
                match code {
                    ErrorCode::NONE => self.clients[who].assignment = Some(assignment),
                    code => {
                        self.heard(who, code);
                        self.join(who, "");
                    }
                }
            }
        }
        true
    }

    fn joined(&mut self, who: usize, connection: ConnectionId, answer: &JoinGroupResponse) -> bool {
        let client = &mut self.clients[who];
        (client.id, client.generation) = (answer.member_id.to_string(), answer.generation_id);
        self.newest = self.newest.max(answer.generation_id);
        let plan = match answer.leader == answer.member_id {
            true => answer.members.iter().map(|member| (&*member.member_id, &*member.member_id)).collect(),
            false => Vec::new(),
        };
        let request = sync_request(&client.id, client.generation, &plan);
        client.waits = Some(Wait::Sync);
        self.rig.send(connection, 5, &request.with_group_instance_id(Self::instance(who).map(text)));
        true
    }

    fn settle(&mut self) {
        while (0..self.clients.len()).any(|who| self.answers(who)) {}
        self.check();
    }

    fn check(&self) {
        let Some(group) = self.rig.cluster.groups.get(GROUP).and_then(|group| group.classic()) else {
            return;
        };
        assert_eq!(group.leader.is_some(), !group.members.is_empty());
        assert!(group.leader.as_ref().is_none_or(|leader| group.member(leader).is_some()));
        assert_eq!(group.members.is_empty(), group.state.name() == "Empty");
        // In a stable group everybody who thinks to be in its generation owns what the leader said.
        if group.state.name() == "Stable" {
            for client in self.clients.iter().filter(|client| client.generation == group.generation) {
                if let (Some(member), Some(assignment)) = (group.member(&client.id), &client.assignment) {
                    assert_eq!(member.assignment, assignment);
                    // A static member that came back has what its former self was given.
                    assert!(member.instance.is_some() || *assignment == client.id);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_group_keeps_its_rules_and_settles(steps in prop::collection::vec((0usize..4, 0u8..10, 0u64..20_000), 1..60)) {
        let (rig, []) = Rig::groups(Config { nodes: 3, ..Config::default() });
        let mut group = Group { rig, clients: vec![Client::default(); 4], newest: 0 };
        for (who, what, millis) in steps {
            match what {
                0..=2 if group.clients[who].waits.is_none() => group.join(who, if what == 2 { "!" } else { "" }),
                3 | 4 if group.clients[who].waits.is_none() => group.heartbeat(who),
                5 => group.cut(who),
                6 => group.rig.pass(Duration::from_millis(millis)),
                7 if group.clients[who].waits.is_none() => {
                    let (connection, id) = (group.connection(who), group.clients[who].id.clone());
                    let leaving = leave_group_request::MemberIdentity::default()
                        .with_member_id(text(&id))
                        .with_group_instance_id(Group::instance(who).map(text))
                        .with_reason(None);
                    let request = LeaveGroupRequest::default().with_group_id(id_of_group()).with_members(vec![leaving]);
                    let code = group.rig.call(connection, 5, &request).error_code;
                    group.heard(who, code.into());
                }
                8 => {
                    group.rig.cluster.move_coordinator(group.rig.now, GROUP, None);
                }
                _ => {}
            }
            group.settle();
        }
        // Left alone, all find together.
        for _ in 0..200 {
            for who in 0..4 {
                if group.clients[who].waits.is_none() {
                    group.heartbeat(who);
                }
            }
            group.settle();
            group.rig.pass(Duration::from_secs(2));
        }
        group.settle();
        assert_eq!(group.rig.state(), "Stable");
        assert!(group.clients.iter().all(|client| client.assignment.is_some()), "{:?}", group.clients);
        let generation = group.rig.cluster.groups.get(GROUP).and_then(|group| group.classic()).unwrap().generation;
        assert!(group.clients.iter().all(|client| client.generation == generation));
        assert_eq!(group.newest, generation);
    }
}

fn id_of_group() -> GroupId {
    id(GROUP)
}
