//! What peers that are no Kafka nodes, or broken ones, do to a client: it answers with an error that names where and why,
//! within its timeout, and neither panics nor hangs nor takes memory that the bytes received do not justify.
#![allow(unsafe_code, unreachable_pub)]

#[path = "../support/allocations.rs"]
mod allocations;
mod answers;
mod batches;
mod peers;
#[path = "../support/proxy.rs"]
mod proxy;
mod refusals;

use milena::broker::Broker;
use milena::{Client, Connector, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(1_500);
/// What a client may take besides the bytes it receives.
const MEMORY: usize = 8 << 20;

/// Every error names the place, and one of the words of the cause.
#[track_caller]
fn names(error: &Error, address: impl ToString, causes: &[&str]) {
    let text = error.to_string();
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(causes.iter().any(|cause| text.contains(cause)), "{text}");
}

/// Connects to an embedded broker through pipes on which the n-th answer to the given API is tampered with.
async fn tampered(
    broker: &Broker,
    (api_key, nth): (i16, usize),
    change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
) -> Result<Client, Error> {
    let (network, done) = (broker.network(), AtomicUsize::new(0));
    let tamper: Arc<proxy::Tamper> = Arc::new(move |key, _, frame| {
        if key == api_key && done.fetch_add(1, Ordering::Relaxed) == nth {
            change(frame);
        }
    });
    let connector =
        Connector::new(move |host, port| proxy::connect(network.clone(), host, port, tamper.clone()));
    let builder = Client::builder().bootstrap(&broker.address())?.connector(connector);
    builder.request_timeout(TIMEOUT).connect_timeout(TIMEOUT).build().await
}

/// A client of an embedded broker, with nobody between them.
async fn client(broker: &Broker) -> Client {
    tampered(broker, (-1, 0), |_| {}).await.unwrap()
}
