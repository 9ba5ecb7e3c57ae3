//! The task that keeps the cluster's metadata fresh: it carries queries out and answers in.
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use kafka_protocol::messages::MetadataRequest;
use tokio::sync::Notify;

use crate::client::core::Core;
use crate::network::call::{Completion, Purpose};
use crate::network::link::{Shared, now};
use crate::network::metrics::add;
use crate::protocol::header;
use crate::protocol::version::ApiVersions;
use crate::state::metadata::{Metadata, Query};

/// With nothing to do, it looks again after so long.
const LONG: Duration = Duration::from_secs(60 * 60);

/// A client without this task is closed: made before the task begins, as its runtime may end before the first turn.
pub(super) struct Open(pub(super) Weak<Core>);

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade() {
            core.end();
        }
    }
}

/// Runs until the client is closed or its last handle is gone: it holds none itself while it waits.
pub(super) async fn run(open: Open, wake: Arc<Notify>, shared: Arc<Shared>) {
    let core = &open.0;
    loop {
        let deadline = match core.upgrade() {
            Some(core) if !core.is_closed() => step(&core),
            _ => return,
        };
        let deadline = deadline.unwrap_or_else(|| now() + LONG);
        tokio::select! {
            _ = wake.notified() => {}
            _ = tokio::time::sleep_until(deadline.into()) => {}
            _ = shared.node_lost.notified() => {
                if let Some(core) = core.upgrade() {
                    core.metadata(Metadata::refresh);
                }
            }
        }
    }
}

/// All that can be done now; returns when there will be more.
fn step(core: &Core) -> Option<Instant> {
    for (ticket, outcome) in core.inbox.drain() {
        let decoded = outcome.map_err(|failure| failure.error).and_then(|answer| {
            let response = header::decode::<MetadataRequest>(&answer)?;
            Ok((response, answer.version))
        });
        core.metadata(|metadata| match decoded {
            Ok((response, version)) => {
                add(&core.pool.shared.counters.metadata_updates, 1);
                metadata.handle_response(now(), ticket, &response, version);
            }
            Err(error) => metadata.handle_failure(now(), ticket, error.in_api("Metadata")),
        });
    }
    while let Some(query) = core.metadata(|metadata| metadata.poll_request(now())) {
        ask(core, query);
    }
    core.metadata(|metadata| metadata.next_deadline())
}

fn ask(core: &Core, query: Query) {
    let deadline = now() + core.config().request_timeout;
    let (node, completion) = (query.node, Completion::inbox(&core.inbox, query.ticket));
    let client_id = core.config().client_id.clone();
    let build = move |versions: &ApiVersions| {
        let version = versions.choose::<MetadataRequest>()?;
        header::encode(&query.request(), version, &client_id)
    };
    core.submit(node, Purpose::Rest, deadline, build, completion);
}
