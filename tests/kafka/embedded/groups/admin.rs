//! Groups listed, described and deleted.
use super::*;

impl Play {
    fn listed(&mut self, version: i16, states: &[&str], kinds: &[&str]) {
        let all = |names: &[&str]| names.iter().map(|name| text(name)).collect();
        let request =
            ListGroupsRequest::default().with_states_filter(all(states)).with_types_filter(all(kinds));
        let answer = self.connection.call(version, &request);
        let mut groups: Vec<_> = answer
            .groups
            .iter()
            .filter(|group| group.group_id.starts_with("embedded-"))
            .map(|group| {
                format!(
                    "{} {} {} {}",
                    group.group_id.as_str(),
                    group.protocol_type,
                    group.group_state,
                    group.group_type
                )
            })
            .collect();
        groups.sort();
        self.say(format!("list v{version} {states:?} {kinds:?}: {} {groups:?}", answer.error_code));
    }

    fn described_group(&mut self, version: i16, group: &str) {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![id(group)])
            .with_include_authorized_operations(version >= 3);
        let answer = self.connection.call(version, &request).groups.remove(0);
        let mut members: Vec<_> = answer
            .members
            .iter()
            .map(|member| {
                let bytes = (&member.member_metadata, &member.member_assignment);
                format!(
                    "{:?} {:?} {} {bytes:?}",
                    member.group_instance_id, member.client_id, member.client_host
                )
            })
            .collect();
        members.sort();
        let message = answer.error_message.as_ref().is_some_and(|message| !message.is_empty());
        self.say(format!(
            "describe v{version} {group}: {} {message} {:?} {:?} {:?} {} {members:?}",
            answer.error_code,
            answer.group_state,
            answer.protocol_type,
            answer.protocol_data,
            answer.authorized_operations
        ));
    }

    fn deleted_groups(&mut self, version: i16, groups: &[&str]) {
        let request =
            DeleteGroupsRequest::default().with_groups_names(groups.iter().map(|group| id(group)).collect());
        let mut results = self.connection.call(version, &request).results;
        results.sort_by_key(|result| result.group_id.clone());
        let codes: Vec<_> =
            results.iter().map(|result| (result.group_id.as_str(), result.error_code)).collect();
        self.say(format!("delete groups v{version}: {codes:?}"));
    }

    pub(super) fn administration(&mut self) {
        let group = "embedded-admin";
        let answer = self.connection.call(9, &join(group, "", Some("a"), &[("range", TOPIC)]));
        let member = answer.member_id.to_string();
        for version in 0..=6 {
            self.described_group(version, group);
        }
        let answer = self.connection.call(5, &sync(group, &member, 1, &[(&member, "A")]));
        self.synced("admin, sync", &answer);
        for version in 0..=6 {
            self.described_group(version, group);
            self.described_group(version, "embedded-missing");
        }
        self.described_group(6, "embedded-v9");
        self.described_group(6, "embedded-commits-v9");
        for version in 0..=5 {
            self.listed(version, &[], &[]);
        }
        self.listed(4, &["stable"], &[]);
        self.listed(5, &["Empty", "Dead"], &["classic"]);
        self.listed(5, &[], &["consumer"]);
        self.listed(5, &[], &["nonsense"]);
        self.listed(5, &["nonsense"], &[]);
        self.deleted_offsets(group, &[(TOPIC, 0), ("embedded-here", 0), (TOPIC, 9), ("embedded-nope", 0)]);
        self.deleted_offsets("embedded-commits", &[(TOPIC, 0), (TOPIC, 1)]);
        self.deleted_offsets("embedded-missing", &[(TOPIC, 0)]);
        self.fetched_offsets(9, "embedded-commits", None, false);
        let other =
            join("embedded-connect", "", Some("a"), &[("x", TOPIC)]).with_protocol_type(text("connect"));
        self.connection.call(9, &other);
        self.deleted_offsets("embedded-connect", &[(TOPIC, 0)]);
        for version in 0..=2 {
            self.deleted_groups(version, &[group, "embedded-missing", &format!("embedded-v{version}")]);
        }
        self.deleted_groups(2, &["embedded-commits", "embedded-commits"]);
        self.fetched_offsets(9, "embedded-commits", Some(&[0]), false);
        self.left(5, group, &[("", Some("a"))]);
        self.deleted_groups(2, &[group]);
        self.described_group(6, group);
    }
}
