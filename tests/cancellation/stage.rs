//! What a test plays on: a broker in memory, clients of it, and the wait for what others bring about.
use std::future::Future;
use std::time::{Duration, Instant};

use milena::broker::Broker;
use milena::{Client, ClientBuilder, Connector, Result};

/// Of real time; nothing comes near it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of the broker, without sockets.
pub(crate) fn builder(broker: &Broker) -> ClientBuilder {
    let network = broker.network();
    let connector = Connector::new(move |host, port| {
        let connected = network.connect(&host, port);
        async { connected }
    });
    Client::builder().bootstrap(&broker.address()).unwrap().connector(connector)
}

/// Tasks of this runtime.
pub(crate) fn alive() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Gives the others turns until it is so. With a paused clock no time passes meanwhile.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come about: {what}");
        tokio::task::yield_now().await;
    }
}

/// Ends within ten minutes of the runtime's time, which cost nothing where its clock is paused. All limits by default are below that.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), future).await.expect("it takes too long")
}

/// It works, at once or after the next try: what waits behind a request that hangs shares its end.
pub(crate) async fn again<T>(call: impl AsyncFn() -> Result<T>) -> T {
    match call().await {
        Err(error) if error.is_retriable() => call().await.unwrap(),
        outcome => outcome.unwrap(),
    }
}
