//! Names for the APIs that the broker serves.
use std::fmt;

use crate::protocol::request::api_name;

/// An API of the Kafka protocol, by its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Api(i16);

#[allow(missing_docs)] // the name is Kafka's
impl Api {
    pub const PRODUCE: Api = Api(0);
    pub const FETCH: Api = Api(1);
    pub const LIST_OFFSETS: Api = Api(2);
    pub const METADATA: Api = Api(3);
    pub const OFFSET_COMMIT: Api = Api(8);
    pub const OFFSET_FETCH: Api = Api(9);
    pub const FIND_COORDINATOR: Api = Api(10);
    pub const JOIN_GROUP: Api = Api(11);
    pub const HEARTBEAT: Api = Api(12);
    pub const LEAVE_GROUP: Api = Api(13);
    pub const SYNC_GROUP: Api = Api(14);
    pub const DESCRIBE_GROUPS: Api = Api(15);
    pub const LIST_GROUPS: Api = Api(16);
    pub const API_VERSIONS: Api = Api(18);
    pub const CREATE_TOPICS: Api = Api(19);
    pub const DELETE_TOPICS: Api = Api(20);
    pub const DELETE_RECORDS: Api = Api(21);
    pub const INIT_PRODUCER_ID: Api = Api(22);
    pub const OFFSET_FOR_LEADER_EPOCH: Api = Api(23);
    pub const DESCRIBE_CONFIGS: Api = Api(32);
    pub const CREATE_PARTITIONS: Api = Api(37);
    pub const DELETE_GROUPS: Api = Api(42);
    pub const OFFSET_DELETE: Api = Api(47);
    pub const DESCRIBE_CLUSTER: Api = Api(60);
    pub const CONSUMER_GROUP_HEARTBEAT: Api = Api(68);
    pub const CONSUMER_GROUP_DESCRIBE: Api = Api(69);
}

impl Api {
    /// The API of a key.
    pub const fn new(key: i16) -> Self {
        Self(key)
    }

    /// The key on the wire.
    pub const fn key(self) -> i16 {
        self.0
    }

    /// Kafka's name of it, `Unknown` if milena does not know the key.
    pub fn name(self) -> &'static str {
        api_name(self.0).unwrap_or("Unknown")
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}
