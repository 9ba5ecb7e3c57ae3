use std::fmt;

/// An error code of the Kafka protocol, as a node sent it.
///
/// Codes that this version of milena does not know are kept as they came: [`ErrorCode::name`] calls them
/// `UNKNOWN_CODE` and they belong to no class, so nothing is retried on their account.
///
/// ```
/// use milena::ErrorCode;
///
/// let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
/// assert_eq!(code.code(), 6);
/// assert!(code.is_retriable() && code.refreshes_metadata());
/// assert_eq!(code.to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
/// assert_eq!(ErrorCode::from(999).name(), "UNKNOWN_CODE");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(i16);

/// What a client does about a code, wherever the API gives it no meaning of its own (Kafka's KIP-1050).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// No error.
    None,
    /// Back off and try again.
    Retriable,
    /// Refresh the topic's metadata, then try again.
    RefreshMetadata,
    /// Look the coordinator up again, then try again.
    RefreshCoordinator,
    /// The principal lacks a right or an identity.
    Authorization,
    /// The API decides; by itself it is final.
    Other,
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self.0
    }

    /// Whether this is `NONE`, the absence of an error.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Kafka's name for the code, `UNKNOWN_CODE` where there is none.
    pub fn name(self) -> &'static str {
        self.row().map_or("UNKNOWN_CODE", |row| row.1)
    }

    /// Whether the same request may succeed later, as Kafka's `RetriableException` says.
    pub fn is_retriable(self) -> bool {
        matches!(self.class(), Class::Retriable | Class::RefreshMetadata | Class::RefreshCoordinator)
    }

    /// Whether the client's metadata is stale, as Kafka's `InvalidMetadataException` says.
    pub fn refreshes_metadata(self) -> bool {
        self.class() == Class::RefreshMetadata
    }

    /// Whether the coordinator has to be found again.
    pub fn refreshes_coordinator(self) -> bool {
        self.class() == Class::RefreshCoordinator
    }

    /// Whether the principal lacks a right or could not be authenticated.
    pub fn is_authorization(self) -> bool {
        self.class() == Class::Authorization
    }

    fn class(self) -> Class {
        self.row().map_or(Class::Other, |row| row.2)
    }

    fn row(self) -> Option<&'static (i16, &'static str, Class)> {
        // The table is dense and begins at -1.
        usize::try_from(i32::from(self.0) + 1).ok().and_then(|at| TABLE.get(at))
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! codes {
    ($($code:literal $name:ident $class:ident,)*) => {
        /// One constant a code, under Kafka's name.
        #[allow(missing_docs)] // the name is Kafka's and says it all
        impl ErrorCode {
            $(pub const $name: ErrorCode = ErrorCode($code);)*
        }
        static TABLE: &[(i16, &str, Class)] = &[$(($code, stringify!($name), Class::$class),)*];
    };
}

codes! {
    -1 UNKNOWN_SERVER_ERROR Other,
    0 NONE None,
    1 OFFSET_OUT_OF_RANGE Other,
    2 CORRUPT_MESSAGE Retriable,
    3 UNKNOWN_TOPIC_OR_PARTITION RefreshMetadata,
    4 INVALID_FETCH_SIZE Other,
    5 LEADER_NOT_AVAILABLE RefreshMetadata,
    6 NOT_LEADER_OR_FOLLOWER RefreshMetadata,
    7 REQUEST_TIMED_OUT Retriable,
    8 BROKER_NOT_AVAILABLE Other,
    9 REPLICA_NOT_AVAILABLE RefreshMetadata,
    10 MESSAGE_TOO_LARGE Other,
    11 STALE_CONTROLLER_EPOCH Other,
    12 OFFSET_METADATA_TOO_LARGE Other,
    13 NETWORK_EXCEPTION RefreshMetadata,
    14 COORDINATOR_LOAD_IN_PROGRESS Retriable,
    15 COORDINATOR_NOT_AVAILABLE RefreshCoordinator,
    16 NOT_COORDINATOR RefreshCoordinator,
    17 INVALID_TOPIC_EXCEPTION Other,
    18 RECORD_LIST_TOO_LARGE Other,
    19 NOT_ENOUGH_REPLICAS Retriable,
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND Retriable,
    21 INVALID_REQUIRED_ACKS Other,
    22 ILLEGAL_GENERATION Other,
    23 INCONSISTENT_GROUP_PROTOCOL Other,
    24 INVALID_GROUP_ID Other,
    25 UNKNOWN_MEMBER_ID Other,
    26 INVALID_SESSION_TIMEOUT Other,
    27 REBALANCE_IN_PROGRESS Other,
    28 INVALID_COMMIT_OFFSET_SIZE Other,
    29 TOPIC_AUTHORIZATION_FAILED Authorization,
    30 GROUP_AUTHORIZATION_FAILED Authorization,
    31 CLUSTER_AUTHORIZATION_FAILED Authorization,
    32 INVALID_TIMESTAMP Other,
    33 UNSUPPORTED_SASL_MECHANISM Authorization,
    34 ILLEGAL_SASL_STATE Authorization,
    35 UNSUPPORTED_VERSION Other,
    36 TOPIC_ALREADY_EXISTS Other,
    37 INVALID_PARTITIONS Other,
    38 INVALID_REPLICATION_FACTOR Other,
    39 INVALID_REPLICA_ASSIGNMENT Other,
    40 INVALID_CONFIG Other,
    41 NOT_CONTROLLER Retriable,
    42 INVALID_REQUEST Other,
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT Other,
    44 POLICY_VIOLATION Other,
    45 OUT_OF_ORDER_SEQUENCE_NUMBER Other,
    46 DUPLICATE_SEQUENCE_NUMBER Other,
    47 INVALID_PRODUCER_EPOCH Other,
    48 INVALID_TXN_STATE Other,
    49 INVALID_PRODUCER_ID_MAPPING Other,
    50 INVALID_TRANSACTION_TIMEOUT Other,
    51 CONCURRENT_TRANSACTIONS Retriable,
    52 TRANSACTION_COORDINATOR_FENCED Other,
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED Authorization,
    54 SECURITY_DISABLED Other,
    55 OPERATION_NOT_ATTEMPTED Other,
    56 KAFKA_STORAGE_ERROR RefreshMetadata,
    57 LOG_DIR_NOT_FOUND Other,
    58 SASL_AUTHENTICATION_FAILED Authorization,
    59 UNKNOWN_PRODUCER_ID Other,
    60 REASSIGNMENT_IN_PROGRESS Other,
    61 DELEGATION_TOKEN_AUTH_DISABLED Other,
    62 DELEGATION_TOKEN_NOT_FOUND Other,
    63 DELEGATION_TOKEN_OWNER_MISMATCH Other,
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED Other,
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED Authorization,
    66 DELEGATION_TOKEN_EXPIRED Other,
    67 INVALID_PRINCIPAL_TYPE Other,
    68 NON_EMPTY_GROUP Other,
    69 GROUP_ID_NOT_FOUND Other,
    70 FETCH_SESSION_ID_NOT_FOUND Retriable,
    71 INVALID_FETCH_SESSION_EPOCH Retriable,
    72 LISTENER_NOT_FOUND RefreshMetadata,
    73 TOPIC_DELETION_DISABLED Other,
    74 FENCED_LEADER_EPOCH RefreshMetadata,
    75 UNKNOWN_LEADER_EPOCH Retriable,
    76 UNSUPPORTED_COMPRESSION_TYPE Other,
    77 STALE_BROKER_EPOCH Other,
    78 OFFSET_NOT_AVAILABLE Retriable,
    79 MEMBER_ID_REQUIRED Other,
    80 PREFERRED_LEADER_NOT_AVAILABLE RefreshMetadata,
    81 GROUP_MAX_SIZE_REACHED Other,
    82 FENCED_INSTANCE_ID Other,
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE RefreshMetadata,
    84 ELECTION_NOT_NEEDED RefreshMetadata,
    85 NO_REASSIGNMENT_IN_PROGRESS Other,
    86 GROUP_SUBSCRIBED_TO_TOPIC Other,
    87 INVALID_RECORD Other,
    88 UNSTABLE_OFFSET_COMMIT Retriable,
    89 THROTTLING_QUOTA_EXCEEDED Retriable,
    90 PRODUCER_FENCED Other,
    91 RESOURCE_NOT_FOUND Other,
    92 DUPLICATE_RESOURCE Other,
    93 UNACCEPTABLE_CREDENTIAL Other,
    94 INCONSISTENT_VOTER_SET Other,
    95 INVALID_UPDATE_VERSION Other,
    96 FEATURE_UPDATE_FAILED Other,
    97 PRINCIPAL_DESERIALIZATION_FAILURE Other,
    98 SNAPSHOT_NOT_FOUND Other,
    99 POSITION_OUT_OF_RANGE Other,
    100 UNKNOWN_TOPIC_ID RefreshMetadata,
    101 DUPLICATE_BROKER_REGISTRATION Other,
    102 BROKER_ID_NOT_REGISTERED Other,
    103 INCONSISTENT_TOPIC_ID RefreshMetadata,
    104 INCONSISTENT_CLUSTER_ID Other,
    105 TRANSACTIONAL_ID_NOT_FOUND Other,
    106 FETCH_SESSION_TOPIC_ID_ERROR Retriable,
    107 INELIGIBLE_REPLICA Other,
    108 NEW_LEADER_ELECTED Other,
    109 OFFSET_MOVED_TO_TIERED_STORAGE Other,
    110 FENCED_MEMBER_EPOCH Other,
    111 UNRELEASED_INSTANCE_ID Other,
    112 UNSUPPORTED_ASSIGNOR Other,
    113 STALE_MEMBER_EPOCH Other,
    114 MISMATCHED_ENDPOINT_TYPE Other,
    115 UNSUPPORTED_ENDPOINT_TYPE Other,
    116 UNKNOWN_CONTROLLER_ID Other,
    117 UNKNOWN_SUBSCRIPTION_ID Other,
    118 TELEMETRY_TOO_LARGE Other,
    119 INVALID_REGISTRATION Other,
    120 TRANSACTION_ABORTABLE Other,
    121 INVALID_RECORD_STATE Other,
    122 SHARE_SESSION_NOT_FOUND Retriable,
    123 INVALID_SHARE_SESSION_EPOCH Retriable,
    124 FENCED_STATE_EPOCH Other,
    125 INVALID_VOTER_KEY Other,
    126 DUPLICATE_VOTER Other,
    127 VOTER_NOT_FOUND Other,
    128 INVALID_REGULAR_EXPRESSION Other,
    129 REBOOTSTRAP_REQUIRED Other,
    130 STREAMS_INVALID_TOPOLOGY Other,
    131 STREAMS_INVALID_TOPOLOGY_EPOCH Other,
    132 STREAMS_TOPOLOGY_FENCED Other,
    133 SHARE_SESSION_LIMIT_REACHED Retriable,
    134 GROUP_DELETION_FAILED Other,
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED Other,
    136 CONTROLLER_ID_NOT_REGISTERED Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_dense_and_in_order() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(i32::from(row.0), at as i32 - 1, "{}", row.1);
        }
    }

    #[test]
    fn an_unknown_code_has_no_class() {
        for code in [i16::MIN, -2, TABLE.len() as i16, i16::MAX] {
            assert!(!ErrorCode::from(code).is_retriable());
            assert_eq!(ErrorCode::from(code).name(), "UNKNOWN_CODE");
        }
    }
}
