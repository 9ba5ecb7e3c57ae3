//! The only sockets. What a produce or a fetch means is not known here.
pub(crate) mod call;
pub(crate) mod connector;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod metrics;
pub(crate) mod pool;
pub(crate) mod reader;
mod session;
pub(crate) mod task;
mod writer;
