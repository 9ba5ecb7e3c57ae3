//! A node of the cluster: where it is reached, whether it is up, the fetch sessions it keeps.
use std::collections::BTreeMap;

use super::Topics;
use super::fetch_session::Session;
use super::group::Groups;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
    pub(crate) up: bool,
    /// Cut off from the other nodes; what it believes of topics and groups since then, but while a request is served on it.
    pub(super) isolated: bool,
    pub(super) view: Option<(Topics, Groups)>,
    pub(crate) sessions: BTreeMap<i32, Session>,
}

impl Node {
    pub(super) fn new(id: i32, racks: bool) -> Self {
        Self {
            id,
            // Until the shell says where it listens.
            host: format!("node-{id}"),
            port: 9092,
            rack: racks.then(|| format!("rack-{id}")),
            up: true,
            isolated: false,
            view: None,
            sessions: BTreeMap::new(),
        }
    }
}
