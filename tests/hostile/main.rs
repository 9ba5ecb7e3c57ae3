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
    let done = AtomicUsize::new(0);
    through(broker, move |key, frame| {
        if key == api_key && done.fetch_add(1, Ordering::Relaxed) == nth {
            change(frame);
        }
    })
    .await
}

/// The same with all answers to an API.
async fn every_answer_tampered(
    broker: &Broker,
    api_key: i16,
    change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
) -> Client {
    let client = through(broker, move |key, frame| {
        if key == api_key {
            change(frame);
        }
    });
    client.await.unwrap()
}

async fn through(
    broker: &Broker,
    change: impl Fn(i16, &mut Vec<u8>) + Send + Sync + 'static,
) -> Result<Client, Error> {
    let (network, tamper) = (broker.network(), Arc::new(move |key, _, frame: &mut _| change(key, frame)));
    let connector =
        Connector::new(move |host, port| proxy::connect(network.clone(), host, port, tamper.clone()));
    let builder = Client::builder().bootstrap(&broker.address())?.connector(connector);
    builder.request_timeout(TIMEOUT).connect_timeout(TIMEOUT / 2).build().await
}

/// A client of an embedded broker, with nobody between them.
async fn client(broker: &Broker) -> Client {
    tampered(broker, (-1, 0), |_| {}).await.unwrap()
}
