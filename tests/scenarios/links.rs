//! The links of one process to the nodes. They lead through a proxy of its own, so that what happens to them happens to nobody else.
use std::collections::HashMap;
use std::sync::OnceLock;

use milena::Connector;
use tokio::runtime::Runtime;

use crate::fault_proxy::{FaultProxy, Hold, LinkFault, Struck, connector};

/// What a connection is for, by the API key of what it has carried.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Produce = 0,
    Fetch = 1,
}

pub(crate) struct Links(FaultProxy);

impl Links {
    pub(crate) fn new(nodes: &[u16]) -> Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"));
        let ports = nodes.iter().map(|node| (*node, 0));
        Self(runtime.block_on(FaultProxy::start(ports, 1)).expect("ports"))
    }

    /// What the process has to be told, for [`lead`].
    pub(crate) fn describe(&self) -> String {
        let ports: Vec<_> = self.0.ports().iter().map(|(node, own)| format!("{node}:{own}")).collect();
        ports.join(",")
    }

    /// The connections of this kind that are there now stay open, and nothing passes any more.
    pub(crate) fn silence(&self, kind: Kind) -> Vec<Struck> {
        let hold =
            Hold { requests: true, answers: true, old_only: true, carrying: Some(kind as i16), late: false };
        (0..self.0.ports().len()).map(|line| self.0.strike(line, LinkFault::Hold(hold))).collect()
    }

    /// They are reset.
    pub(crate) fn end(&self, silence: Vec<Struck>) {
        silence.into_iter().for_each(|struck| self.0.lift(struck));
    }
}

/// Leads the connections of a process through its links.
pub(crate) fn lead(description: &str) -> Connector {
    let pairs = description.split(',').filter_map(|pair| pair.split_once(':'));
    let ports: HashMap<u16, u16> =
        pairs.map(|(node, own)| (node.parse().unwrap(), own.parse().unwrap())).collect();
    connector(ports)
}
