//! What an error code of a produced batch means.
use crate::protocol::error_code::ErrorCode;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It is in the log at the offset the answer names.
    Written,
    /// It is in the log, and the node no longer knows where.
    WrittenSomewhere,
    /// Send it again.
    Retry,
    /// Send it again in smaller pieces.
    Split,
    /// The log ends before the batch.
    OutOfOrder,
    /// The node has forgotten the producer: its numbers begin anew.
    NewEpoch,
    /// The node does not accept the producer id, or a later epoch of it was seen.
    NewIdentity,
    /// Trying again would not help.
    Fail,
}

pub(super) fn reaction(code: ErrorCode, idempotent: bool) -> Reaction {
    match code {
        ErrorCode::NONE => Reaction::Written,
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Reaction::WrittenSomewhere,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Reaction::Split,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if idempotent => Reaction::OutOfOrder,
        ErrorCode::UNKNOWN_PRODUCER_ID if idempotent => Reaction::NewEpoch,
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::INVALID_PRODUCER_ID_MAPPING if idempotent => {
            Reaction::NewIdentity
        }
        code if code.is_retriable() => Reaction::Retry,
        _ => Reaction::Fail,
    }
}

/// Whether the code says that this attempt was refused before anything was appended.
///
/// A leader answers NOT_LEADER_OR_FOLLOWER and UNKNOWN_TOPIC_OR_PARTITION also for a batch that it had appended and was
/// waiting to see replicated, so these do not prove it; nor does a code that milena does not know.
pub(super) fn proves_absence(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CORRUPT_MESSAGE
            | ErrorCode::MESSAGE_TOO_LARGE
            | ErrorCode::INVALID_TOPIC_EXCEPTION
            | ErrorCode::RECORD_LIST_TOO_LARGE
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::INVALID_REQUIRED_ACKS
            | ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::INVALID_TIMESTAMP
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
            | ErrorCode::POLICY_VIOLATION
            | ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::PRODUCER_FENCED
            | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED
            | ErrorCode::INVALID_RECORD
    )
}
