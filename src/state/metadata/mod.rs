//! The cluster as the client knows it.
pub(crate) mod cluster;

pub(crate) use cluster::{Cluster, Node, Partition, Topic};
