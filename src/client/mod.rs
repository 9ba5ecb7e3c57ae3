//! The client: shared metadata and connections, from which all other handles come.
pub(crate) mod config;
pub(crate) mod core;

use std::sync::Arc;

pub(crate) use self::core::Core;
pub use self::core::Target;

/// A connection to a Kafka cluster, shared by everything made from it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}
