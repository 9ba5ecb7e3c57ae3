//! What a member does about an error code, API by API: the whole table in one place.
use crate::protocol::error_code::ErrorCode;

/// The requests of a member that have reactions of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Join,
    Sync,
    Heartbeat,
    /// ConsumerGroupHeartbeat.
    Beat,
    Commit,
    Fetch,
}

impl Api {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Join => "JoinGroup",
            Self::Sync => "SyncGroup",
            Self::Heartbeat => "Heartbeat",
            Self::Beat => "ConsumerGroupHeartbeat",
            Self::Commit => "OffsetCommit",
            Self::Fetch => "OffsetFetch",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// No error.
    Accept,
    /// Join again under the member id that came with the answer.
    KeepId,
    /// The coordinator does not know this member: all is lost, member id included.
    ForgetMember,
    /// The generation is gone, the member is not: it joins again under its id, so that nobody waits for that to time out.
    ForgetGeneration,
    /// A round runs: join it. Nothing is lost by that.
    Rejoin,
    /// The same again at the same node, after a while.
    Again,
    /// Another node coordinates the group: find it, then the same again. Member id and generation stay.
    Find,
    /// Told to whoever asked, and to nobody else.
    Tell,
    /// Told to the application: it goes on only if that changes something.
    Fatal,
}

/// How a member reacts to `code` in an answer to `api`. Whether the answer is about the present generation is for the caller to see.
pub(super) fn reaction(api: Api, code: ErrorCode) -> Reaction {
    use Reaction::{Accept, Again, Fatal, Find, ForgetGeneration, ForgetMember, KeepId, Rejoin, Tell};
    match (code, api) {
        (ErrorCode::NONE, _) => Accept,
        (ErrorCode::MEMBER_ID_REQUIRED, Api::Join) => KeepId,
        (ErrorCode::UNKNOWN_MEMBER_ID, Api::Fetch) | (ErrorCode::ILLEGAL_GENERATION, Api::Fetch) => Tell,
        // Its member id is made by the member, and stays.
        (ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH, Api::Beat) => ForgetGeneration,
        (ErrorCode::UNRELEASED_INSTANCE_ID, Api::Beat) => Again,
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, Api::Beat) => Tell,
        (ErrorCode::STALE_MEMBER_EPOCH, Api::Commit | Api::Fetch) => Again,
        (ErrorCode::UNKNOWN_MEMBER_ID, _) => ForgetMember,
        (ErrorCode::ILLEGAL_GENERATION, _) => ForgetGeneration,
        // While the coordinator replicates what it knows of the group, it answers so.
        (ErrorCode::REBALANCE_IN_PROGRESS, Api::Join) => Again,
        (ErrorCode::REBALANCE_IN_PROGRESS, _) => Rejoin,
        (ErrorCode::FENCED_INSTANCE_ID, _) => Fatal,
        (ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE, _) => Find,
        (ErrorCode::REQUEST_TIMED_OUT, Api::Commit) => Find,
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Api::Sync) => Rejoin,
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Api::Commit) => Again,
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Api::Fetch) => Tell,
        (ErrorCode::UNSTABLE_OFFSET_COMMIT, Api::Fetch) => Again,
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, _) => Fatal,
        (_, Api::Commit | Api::Fetch) if !code.is_retriable() => Tell,
        _ if code.is_retriable() => Again,
        _ => Fatal,
    }
}

/// Whether it may work the next time, at another node perhaps. A connection that was given up is no reason to stop.
pub(super) fn is_passing(error: &crate::error::Error) -> bool {
    error.is_retriable() || error.is_closed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row: the code, then what follows in an answer to JoinGroup, SyncGroup, Heartbeat, OffsetCommit, OffsetFetch. `None` where the
    /// code does not occur.
    type Row = (ErrorCode, [Option<Reaction>; 5]);

    #[test]
    fn every_cell_of_the_table_has_its_reaction() {
        use Reaction::*;
        let every = |reaction| [Some(reaction); 5];
        let rows: &[Row] = &[
            (ErrorCode::NONE, every(Accept)),
            (ErrorCode::MEMBER_ID_REQUIRED, [Some(KeepId), None, None, None, None]),
            (
                ErrorCode::UNKNOWN_MEMBER_ID,
                [Some(ForgetMember), Some(ForgetMember), Some(ForgetMember), Some(ForgetMember), Some(Tell)],
            ),
            (
                ErrorCode::ILLEGAL_GENERATION,
                [None, Some(ForgetGeneration), Some(ForgetGeneration), Some(ForgetGeneration), None],
            ),
            (ErrorCode::REBALANCE_IN_PROGRESS, [Some(Again), Some(Rejoin), Some(Rejoin), Some(Rejoin), None]),
            (ErrorCode::FENCED_INSTANCE_ID, [Some(Fatal), Some(Fatal), Some(Fatal), Some(Fatal), None]),
            (ErrorCode::NOT_COORDINATOR, every(Find)),
            (ErrorCode::COORDINATOR_NOT_AVAILABLE, every(Find)),
            (ErrorCode::REQUEST_TIMED_OUT, [None, None, None, Some(Find), None]),
            (
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                [Some(Again), Some(Rejoin), Some(Again), Some(Again), Some(Again)],
            ),
            (ErrorCode::GROUP_MAX_SIZE_REACHED, [Some(Fatal), None, None, None, None]),
            (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, [Some(Fatal), Some(Fatal), None, None, None]),
            (ErrorCode::INVALID_SESSION_TIMEOUT, [Some(Fatal), None, None, None, None]),
            (ErrorCode::INVALID_GROUP_ID, [Some(Fatal), None, None, None, None]),
            (ErrorCode::GROUP_AUTHORIZATION_FAILED, every(Fatal)),
            (ErrorCode::UNSUPPORTED_VERSION, [Some(Fatal), None, None, None, Some(Tell)]),
            (ErrorCode::OFFSET_METADATA_TOO_LARGE, [None, None, None, Some(Tell), None]),
            (ErrorCode::INVALID_COMMIT_OFFSET_SIZE, [None, None, None, Some(Tell), None]),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, [None, None, None, Some(Tell), Some(Tell)]),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, [None, None, None, Some(Again), Some(Tell)]),
            (ErrorCode::UNSTABLE_OFFSET_COMMIT, [None, None, None, None, Some(Again)]),
            (ErrorCode::GROUP_ID_NOT_FOUND, [None, None, None, Some(Tell), Some(Tell)]),
        ];
        let apis = [Api::Join, Api::Sync, Api::Heartbeat, Api::Commit, Api::Fetch];
        for (code, row) in rows {
            for (api, expected) in apis.into_iter().zip(row) {
                if let Some(expected) = expected {
                    assert_eq!(reaction(api, *code), *expected, "{code} in an answer to {api:?}");
                }
            }
        }
    }
}
