//! What makes a message of `kafka-protocol` a request: its key, its name, its response, the versions both sides share.
//!
//! `kafka-protocol` ties request and response together only when it is built for clients and brokers at once, and its
//! `ApiKey::valid_versions` reports versions that the request type cannot encode; hence this table.
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

/// A request that a node answers with [`Request::Response`].
pub trait Request: Message + Encodable + HeaderVersion {
    /// The API key in the request header.
    const KEY: i16;
    /// Kafka's name of the API, for errors and traces.
    const NAME: &'static str;
    /// Lowest and highest version that both the request and the response type can express.
    const RANGE: (i16, i16) = (
        max(Self::VERSIONS.min, Self::Response::VERSIONS.min),
        min(Self::VERSIONS.max, Self::Response::VERSIONS.max),
    );
    /// The answer.
    type Response: Message + Decodable + HeaderVersion;
}

/// Does the same with whichever message it is given.
#[cfg(feature = "__internals")]
#[allow(dead_code, reason = "tests that compile this module have no visitor")]
pub(crate) trait Visitor {
    type Output;
    fn visit<R: Request<Response: Encodable> + Decodable>(self) -> Self::Output;
}

const fn max(a: i16, b: i16) -> i16 {
    if a > b { a } else { b }
}

const fn min(a: i16, b: i16) -> i16 {
    if a < b { a } else { b }
}

macro_rules! requests {
    ($($key:literal $name:literal $request:ident $response:ident,)*) => {
        $(impl Request for $request {
            const KEY: i16 = $key;
            const NAME: &'static str = $name;
            type Response = $response;
        })*

        /// Version of the response header, which differs from API to API.
        pub(crate) fn response_header_version(key: i16, version: i16) -> i16 {
            match key {
                $($key => <$response as HeaderVersion>::header_version(version),)*
                _ => 0,
            }
        }

        /// Kafka's name of an API key, `None` for one that milena does not know.
        pub(crate) fn api_name(key: i16) -> Option<&'static str> {
            match key {
                $($key => Some($name),)*
                _ => None,
            }
        }

        /// Lets a visitor see the request type of an API key.
        #[cfg(feature = "__internals")]
        #[allow(dead_code, reason = "tests that compile this module have no visitor")]
        pub(crate) fn visit<V: Visitor>(key: i16, visitor: V) -> Option<V::Output> {
            match key {
                $($key => Some(visitor.visit::<$request>()),)*
                _ => None,
            }
        }

        /// Every API: its key, its request, its response.
        #[cfg(test)]
        pub(crate) const CODECS: &[(i16, Codec, Codec)] = &[$(($key, Codec::of::<$request>(), Codec::of::<$response>()),)*];
    };
}

requests! {
    0 "Produce" ProduceRequest ProduceResponse,
    1 "Fetch" FetchRequest FetchResponse,
    2 "ListOffsets" ListOffsetsRequest ListOffsetsResponse,
    3 "Metadata" MetadataRequest MetadataResponse,
    8 "OffsetCommit" OffsetCommitRequest OffsetCommitResponse,
    9 "OffsetFetch" OffsetFetchRequest OffsetFetchResponse,
    10 "FindCoordinator" FindCoordinatorRequest FindCoordinatorResponse,
    11 "JoinGroup" JoinGroupRequest JoinGroupResponse,
    12 "Heartbeat" HeartbeatRequest HeartbeatResponse,
    13 "LeaveGroup" LeaveGroupRequest LeaveGroupResponse,
    14 "SyncGroup" SyncGroupRequest SyncGroupResponse,
    15 "DescribeGroups" DescribeGroupsRequest DescribeGroupsResponse,
    16 "ListGroups" ListGroupsRequest ListGroupsResponse,
    17 "SaslHandshake" SaslHandshakeRequest SaslHandshakeResponse,
    18 "ApiVersions" ApiVersionsRequest ApiVersionsResponse,
    19 "CreateTopics" CreateTopicsRequest CreateTopicsResponse,
    20 "DeleteTopics" DeleteTopicsRequest DeleteTopicsResponse,
    21 "DeleteRecords" DeleteRecordsRequest DeleteRecordsResponse,
    22 "InitProducerId" InitProducerIdRequest InitProducerIdResponse,
    23 "OffsetForLeaderEpoch" OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
    24 "AddPartitionsToTxn" AddPartitionsToTxnRequest AddPartitionsToTxnResponse,
    25 "AddOffsetsToTxn" AddOffsetsToTxnRequest AddOffsetsToTxnResponse,
    26 "EndTxn" EndTxnRequest EndTxnResponse,
    27 "WriteTxnMarkers" WriteTxnMarkersRequest WriteTxnMarkersResponse,
    28 "TxnOffsetCommit" TxnOffsetCommitRequest TxnOffsetCommitResponse,
    29 "DescribeAcls" DescribeAclsRequest DescribeAclsResponse,
    30 "CreateAcls" CreateAclsRequest CreateAclsResponse,
    31 "DeleteAcls" DeleteAclsRequest DeleteAclsResponse,
    32 "DescribeConfigs" DescribeConfigsRequest DescribeConfigsResponse,
    33 "AlterConfigs" AlterConfigsRequest AlterConfigsResponse,
    34 "AlterReplicaLogDirs" AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse,
    35 "DescribeLogDirs" DescribeLogDirsRequest DescribeLogDirsResponse,
    36 "SaslAuthenticate" SaslAuthenticateRequest SaslAuthenticateResponse,
    37 "CreatePartitions" CreatePartitionsRequest CreatePartitionsResponse,
    38 "CreateDelegationToken" CreateDelegationTokenRequest CreateDelegationTokenResponse,
    39 "RenewDelegationToken" RenewDelegationTokenRequest RenewDelegationTokenResponse,
    40 "ExpireDelegationToken" ExpireDelegationTokenRequest ExpireDelegationTokenResponse,
    41 "DescribeDelegationToken" DescribeDelegationTokenRequest DescribeDelegationTokenResponse,
    42 "DeleteGroups" DeleteGroupsRequest DeleteGroupsResponse,
    43 "ElectLeaders" ElectLeadersRequest ElectLeadersResponse,
    44 "IncrementalAlterConfigs" IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    45 "AlterPartitionReassignments" AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
    46 "ListPartitionReassignments" ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
    47 "OffsetDelete" OffsetDeleteRequest OffsetDeleteResponse,
    48 "DescribeClientQuotas" DescribeClientQuotasRequest DescribeClientQuotasResponse,
    49 "AlterClientQuotas" AlterClientQuotasRequest AlterClientQuotasResponse,
    50 "DescribeUserScramCredentials" DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse,
    51 "AlterUserScramCredentials" AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse,
    52 "Vote" VoteRequest VoteResponse,
    53 "BeginQuorumEpoch" BeginQuorumEpochRequest BeginQuorumEpochResponse,
    54 "EndQuorumEpoch" EndQuorumEpochRequest EndQuorumEpochResponse,
    55 "DescribeQuorum" DescribeQuorumRequest DescribeQuorumResponse,
    56 "AlterPartition" AlterPartitionRequest AlterPartitionResponse,
    57 "UpdateFeatures" UpdateFeaturesRequest UpdateFeaturesResponse,
    58 "Envelope" EnvelopeRequest EnvelopeResponse,
    59 "FetchSnapshot" FetchSnapshotRequest FetchSnapshotResponse,
    60 "DescribeCluster" DescribeClusterRequest DescribeClusterResponse,
    61 "DescribeProducers" DescribeProducersRequest DescribeProducersResponse,
    62 "BrokerRegistration" BrokerRegistrationRequest BrokerRegistrationResponse,
    63 "BrokerHeartbeat" BrokerHeartbeatRequest BrokerHeartbeatResponse,
    64 "UnregisterBroker" UnregisterBrokerRequest UnregisterBrokerResponse,
    65 "DescribeTransactions" DescribeTransactionsRequest DescribeTransactionsResponse,
    66 "ListTransactions" ListTransactionsRequest ListTransactionsResponse,
    67 "AllocateProducerIds" AllocateProducerIdsRequest AllocateProducerIdsResponse,
    68 "ConsumerGroupHeartbeat" ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
    69 "ConsumerGroupDescribe" ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse,
    70 "ControllerRegistration" ControllerRegistrationRequest ControllerRegistrationResponse,
    71 "GetTelemetrySubscriptions" GetTelemetrySubscriptionsRequest GetTelemetrySubscriptionsResponse,
    72 "PushTelemetry" PushTelemetryRequest PushTelemetryResponse,
    73 "AssignReplicasToDirs" AssignReplicasToDirsRequest AssignReplicasToDirsResponse,
    74 "ListConfigResources" ListConfigResourcesRequest ListConfigResourcesResponse,
    75 "DescribeTopicPartitions" DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
    76 "ShareGroupHeartbeat" ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse,
    77 "ShareGroupDescribe" ShareGroupDescribeRequest ShareGroupDescribeResponse,
    78 "ShareFetch" ShareFetchRequest ShareFetchResponse,
    79 "ShareAcknowledge" ShareAcknowledgeRequest ShareAcknowledgeResponse,
    80 "AddRaftVoter" AddRaftVoterRequest AddRaftVoterResponse,
    81 "RemoveRaftVoter" RemoveRaftVoterRequest RemoveRaftVoterResponse,
    82 "UpdateRaftVoter" UpdateRaftVoterRequest UpdateRaftVoterResponse,
    83 "InitializeShareGroupState" InitializeShareGroupStateRequest InitializeShareGroupStateResponse,
    84 "ReadShareGroupState" ReadShareGroupStateRequest ReadShareGroupStateResponse,
    85 "WriteShareGroupState" WriteShareGroupStateRequest WriteShareGroupStateResponse,
    86 "DeleteShareGroupState" DeleteShareGroupStateRequest DeleteShareGroupStateResponse,
    87 "ReadShareGroupStateSummary" ReadShareGroupStateSummaryRequest ReadShareGroupStateSummaryResponse,
    90 "DescribeShareGroupOffsets" DescribeShareGroupOffsetsRequest DescribeShareGroupOffsetsResponse,
    91 "AlterShareGroupOffsets" AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse,
    92 "DeleteShareGroupOffsets" DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse,
}

/// What a test can do to any message.
#[cfg(test)]
#[allow(clippy::type_complexity, dead_code, reason = "tests/decoder_memory.rs compiles this module too")]
pub(crate) struct Codec {
    pub(crate) versions: (i16, i16),
    /// The default value on the wire, if the version can express it.
    pub(crate) default: fn(i16) -> Option<Vec<u8>>,
    /// Decodes, and answers with the bytes left and the message on the wire again.
    pub(crate) recode: fn(i16, &[u8]) -> Option<(usize, Vec<u8>)>,
    /// Decodes and drops.
    pub(crate) decode: fn(i16, &mut bytes::Bytes) -> bool,
}

#[cfg(test)]
impl Codec {
    const fn of<M: Message + Encodable + Decodable + Default>() -> Self {
        Self {
            versions: (M::VERSIONS.min, M::VERSIONS.max),
            default: |version| {
                let mut out = Vec::new();
                M::default().encode(&mut out, version).ok().map(|()| out)
            },
            recode: |version, mut bytes| {
                let (message, mut out) = (M::decode(&mut bytes, version).ok()?, Vec::new());
                message.encode(&mut out, version).ok()?;
                Some((bytes.len(), out))
            },
            decode: |version, bytes| M::decode(bytes, version).is_ok(),
        }
    }
}
