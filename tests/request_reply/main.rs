//! What request-reply promises, against the embedded broker.
mod at_once;
mod attempts;
mod calls;
mod controls;
mod ends;
mod failures;
mod faults;
mod gather;
mod group;
mod homes;
mod responder;
mod resume;
mod room;
mod scribe;
mod streams;
mod streams_out;
mod topics;
mod wire;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use milena::broker::{Api, Broker, Fault};
use milena::{
    AnswerStream, Client, Connector, Dialect, ErrorKind, ErrorReply, Event, Gathered, GroupReply, Offset,
    Producer, Record, Refusal, Reply, ReplyStream, Request, Requester, Responder, Status, TopicPartition,
};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;

const REPLIES: &str = "replies";
const LONG: Duration = Duration::from_secs(30);

struct Stage {
    broker: Broker,
    client: Client,
}

impl Stage {
    async fn new(nodes: i32) -> Self {
        let broker = Broker::builder().nodes(nodes).start().await.unwrap();
        broker.create_topic("sum", 4).unwrap();
        broker.create_topic(REPLIES, 3).unwrap();
        let client = Client::connect(&broker.address()).await.unwrap();
        Self { broker, client }
    }

    /// Without sockets.
    async fn in_memory(nodes: i32) -> Self {
        Self::of(Broker::builder().nodes(nodes).in_memory().start().await.unwrap()).await
    }

    async fn of(broker: Broker) -> Self {
        broker.create_topic("sum", 4).unwrap();
        broker.create_topic(REPLIES, 3).unwrap();
        let network = broker.network();
        let connector = Connector::new(move |host: String, port| {
            let connected = network.connect(&host, port);
            async { connected }
        });
        let client = Client::builder().bootstrap(&broker.address()).unwrap().connector(connector);
        let client = client.build().await.unwrap();
        Self { broker, client }
    }

    async fn requester(&self) -> Requester {
        self.client.requester().reply_topic(REPLIES).reply_partition(0).build().await.unwrap()
    }

    async fn adder(&self) -> Responder {
        self.client.responder("adders").on_request("sum", add).start().await.unwrap()
    }
}

async fn add(request: Request) -> Result<String, Refusal> {
    let mut sum = 0;
    for number in std::str::from_utf8(request.value())?.split(',') {
        sum += number.parse::<u64>()?;
    }
    Ok(sum.to_string())
}

/// Waits for a condition that other tasks bring about.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A responder whose handlers wait until they are let go, and tell when they have begun.
async fn gated(stage: &Stage) -> (Responder, mpsc::Receiver<Vec<u8>>, Arc<Semaphore>) {
    let (begun, beginnings) = mpsc::channel(100);
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = gate.clone();
        move |request: Request| {
            let (gate, begun) = (gate.clone(), begun.clone());
            async move {
                begun.send(request.value().to_vec()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                request.value().to_vec()
            }
        }
    };
    let responder =
        stage.client.responder("gated").concurrency(4).on_request("sum", handler).start().await.unwrap();
    (responder, beginnings, gate)
}

fn calls(requester: &Requester, count: usize) -> JoinSet<milena::Result<Reply>> {
    let mut calls = JoinSet::new();
    for number in 0..count {
        let requester = requester.clone();
        calls.spawn(async move { requester.request("sum", &number.to_string()).timeout(LONG).await });
    }
    calls
}
