//! The only sockets. What a produce or a fetch means is not known here.
pub(crate) mod call;
pub(crate) mod connector;
pub(crate) mod task;
