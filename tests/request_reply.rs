//! What request-reply promises, against the embedded broker: no sleeps, conditions only.
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use milena::broker::Broker;
use milena::{
    Client, Connector, Dialect, ErrorKind, ErrorReply, Record, Refusal, Reply, Request, Requester, Responder,
    Status,
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
        let broker = Broker::builder().nodes(nodes).in_memory().start().await.unwrap();
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

#[tokio::test]
async fn a_call_gets_its_answer() {
    let stage = Stage::new(1).await;
    let (_adder, requester) = (stage.adder().await, stage.requester().await);
    let reply = requester.request("sum", "1,2,3").key("k").header("trace", "7").await.unwrap();
    assert_eq!(reply.text(), "6");
    let metrics = requester.metrics();
    assert_eq!((metrics.sent, metrics.answered, metrics.in_flight), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_of_many_callers_each_get_their_own_answer() {
    many_calls(Stage::new(3).await).await;
}

#[tokio::test]
async fn many_calls_without_sockets_on_one_thread() {
    many_calls(Stage::in_memory(3).await).await;
}

async fn many_calls(stage: Stage) {
    let responders: Vec<_> = {
        let share = |index| stage.client.responder("adders").share(index, 2).on_request("sum", add).start();
        vec![share(0).await.unwrap(), share(1).await.unwrap()]
    };
    let mut calls = JoinSet::new();
    for caller in 0..4_u64 {
        // All on one partition, so that each sees the replies of all.
        let requester = stage.requester().await;
        for call in 0..50_u64 {
            let requester = requester.clone();
            calls.spawn(async move {
                let reply = requester.request("sum", &format!("{caller},{}", call * 10)).await.unwrap();
                assert_eq!(reply.text(), (caller + call * 10).to_string());
                requester
            });
        }
    }
    let requesters = calls.join_all().await;
    assert!(requesters.iter().any(|requester| requester.metrics().foreign > 0));
    assert_eq!(responders.iter().map(|responder| responder.metrics().requests).sum::<u64>(), 200);
}

#[tokio::test]
async fn every_dialect_is_answered() {
    let stage = Stage::new(1).await;
    let _adder = stage.adder().await;
    for dialect in [Dialect::Auto, Dialect::Native, Dialect::Nest, Dialect::Spring, Dialect::Quarkus] {
        let requester = stage.client.requester().dialect(dialect).build().await.unwrap();
        let reply = requester.request("sum", "1,2").timeout(LONG).await.unwrap();
        assert_eq!(reply.text(), "3", "{dialect:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_handler_comes_back_with_its_status() {
    let stage = Stage::new(1).await;
    let _responder = stage
        .client
        .responder("shop")
        .on_request("sum", async |request: Request| -> Result<(), Refusal> {
            match request.value() {
                b"missing" => Err(Refusal::new(Status::NOT_FOUND, "no such order")),
                b"panic" => panic!("broken"),
                b"null" => Ok(()),
                _ => Err("plain".into()),
            }
        })
        .start()
        .await
        .unwrap();
    let requester = stage.requester().await;
    let refused = async |value: &str| -> ErrorReply {
        let error = requester.request("sum", value).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Reply);
        error.source().unwrap().downcast_ref::<ErrorReply>().unwrap().clone()
    };
    let missing = refused("missing").await;
    assert_eq!((missing.status(), missing.message()), (Status::NOT_FOUND, "no such order"));
    assert_eq!(refused("panic").await.status(), Status::INTERNAL);
    let plain = refused("other").await;
    assert_eq!((plain.status(), plain.message()), (Status::UNKNOWN, "plain"));
    assert!(
        requester.request("sum", "null").await.unwrap().is_null(),
        "the responder lives on after a panic"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_becomes_an_error_reply() {
    let stage = Stage::new(1).await;
    let responder = stage.client.responder("large").on_request("sum", async |_| vec![b'x'; 3 << 20]);
    let _responder = responder.start().await.unwrap();
    let error = stage.requester().await.request("sum", "").await.unwrap_err();
    let reply = error.source().unwrap().downcast_ref::<ErrorReply>().unwrap();
    assert_eq!(reply.status(), Status::RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn without_a_responder_a_call_ends_at_its_deadline() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let started = Instant::now();
    let timeout = Duration::from_millis(50);
    let error = requester.request("sum", "1").timeout(timeout).await.unwrap_err();
    assert!(error.is_timeout() && error.maybe_written(), "{error}");
    assert_eq!(error.topic(), Some("sum"));
    assert!(started.elapsed() >= timeout);
    let metrics = requester.metrics();
    assert_eq!((metrics.timed_out, metrics.in_flight), (1, 0));
}

#[tokio::test]
async fn an_earlier_deadline_of_a_later_call_is_kept() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let patient = requester.request("sum", "1").timeout(LONG * 10).into_future();
    let mut patient = std::pin::pin!(patient);
    tokio::select! {
        biased;
        outcome = &mut patient => panic!("{outcome:?}"),
        outcome = requester.request("sum", "2").timeout(Duration::from_millis(20)) => {
            assert!(outcome.unwrap_err().is_timeout());
        }
    }
    assert_eq!(requester.metrics().in_flight, 1);
}

#[tokio::test]
async fn a_reply_after_the_deadline_is_counted_and_nothing_else() {
    let stage = Stage::new(1).await;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = gate.clone();
        move |_: Request| {
            let gate = gate.clone();
            async move { drop(gate.acquire().await) }
        }
    };
    let _responder = stage.client.responder("slow").on_request("sum", handler).start().await.unwrap();
    let requester = stage.requester().await;
    let late = requester.request("sum", "1").timeout(Duration::from_millis(50)).await;
    assert!(late.unwrap_err().is_timeout());
    gate.add_permits(1);
    until("the late reply", || requester.metrics().late == 1).await;
}

#[tokio::test]
async fn dropping_a_call_frees_its_place() {
    let stage = Stage::new(1).await;
    let requester = stage.client.requester().reply_topic(REPLIES).max_in_flight(1).build().await.unwrap();
    for _ in 0..20 {
        let mut call = requester.request("sum", "1").into_future();
        tokio::select! {
            biased;
            outcome = &mut call => panic!("{outcome:?}"),
            () = until("the call in flight", || requester.metrics().in_flight == 1) => {}
        }
        drop(call);
        assert_eq!(requester.metrics().in_flight, 0);
    }
    assert_eq!(requester.metrics().cancelled, 20);
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,1").await.unwrap().text(), "2");
}

#[tokio::test]
async fn calls_above_the_limit_wait_within_their_own_time() {
    let stage = Stage::new(1).await;
    let requester = stage.client.requester().reply_topic(REPLIES).max_in_flight(1).build().await.unwrap();
    let first = requester.request("sum", "1").timeout(LONG).into_future();
    let mut first = std::pin::pin!(first);
    tokio::select! {
        biased;
        outcome = &mut first => panic!("{outcome:?}"),
        outcome = requester.request("sum", "2").timeout(Duration::from_millis(30)) => {
            let error = outcome.unwrap_err();
            assert!(error.is_timeout() && !error.maybe_written(), "{error}");
        }
    }
    let _adder = stage.adder().await;
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

#[tokio::test]
async fn no_more_handlers_run_than_allowed() {
    let stage = Stage::new(1).await;
    let (responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let calls = calls(&requester, 12);
    for _ in 0..4 {
        beginnings.recv().await.unwrap();
    }
    for _ in 4..12 {
        assert_eq!(responder.metrics().running, 4);
        assert!(beginnings.try_recv().is_err(), "a fifth handler runs");
        gate.add_permits(1);
        beginnings.recv().await.unwrap();
    }
    gate.add_permits(4);
    for reply in calls.join_all().await {
        reply.unwrap();
    }
}

#[tokio::test]
async fn a_responder_that_is_closed_answers_what_it_has_taken() {
    let stage = Stage::new(1).await;
    let (responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let calls = calls(&requester, 3);
    for _ in 0..3 {
        beginnings.recv().await.unwrap();
    }
    let mut close = std::pin::pin!(responder.close());
    let still_open = tokio::time::timeout(Duration::from_millis(20), &mut close).await;
    assert!(still_open.is_err(), "closed although handlers run");
    gate.add_permits(3);
    close.await;
    for reply in calls.join_all().await {
        reply.unwrap();
    }
    assert_eq!(responder.metrics().answered, 3);
    assert_eq!(responder.metrics().running, 0);
}

#[tokio::test]
async fn a_requester_that_is_closed_waits_for_its_calls_and_refuses_new_ones() {
    let stage = Stage::new(1).await;
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let mut calls = calls(&requester, 1);
    beginnings.recv().await.unwrap();
    let mut close = std::pin::pin!(requester.close());
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut close).await.is_err());
    assert!(requester.request("sum", "9").await.unwrap_err().is_closed());
    gate.add_permits(1);
    close.await;
    assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap().text(), "0");
}

#[tokio::test]
async fn dropping_the_requester_ends_its_calls_at_once() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let client = stage.client.clone();
    drop(requester);
    client.close().await;
}

#[tokio::test]
async fn replies_survive_moves_of_the_reply_partitions_leader() {
    let stage = Stage::new(3).await;
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    for node in [2, 3, 1, 2] {
        let calls = calls(&requester, 4);
        for _ in 0..4 {
            beginnings.recv().await.unwrap();
        }
        stage.broker.move_leader(REPLIES, 0, node).unwrap();
        gate.add_permits(4);
        for reply in calls.join_all().await {
            reply.unwrap();
        }
    }
    assert_eq!(requester.metrics().answered, 16);
}

#[tokio::test]
async fn replies_survive_the_stop_of_a_node() {
    let stage = Stage::new(3).await;
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    for node in [1, 2, 3] {
        stage.broker.move_leader(REPLIES, 0, node).unwrap();
        let calls = calls(&requester, 4);
        for _ in 0..4 {
            beginnings.recv().await.unwrap();
        }
        stage.broker.stop_node(node).await.unwrap();
        gate.add_permits(4);
        for reply in calls.join_all().await {
            reply.unwrap();
        }
        stage.broker.start_node(node).await.unwrap();
    }
}

#[tokio::test]
async fn a_repeated_reply_ends_its_call_once() {
    let stage = Stage::new(1).await;
    // Two responders without shares both answer everything.
    let (_first, _second) = (stage.adder().await, stage.adder().await);
    let requester = stage.requester().await;
    for _ in 0..5 {
        assert_eq!(requester.request("sum", "1,2").await.unwrap().text(), "3");
    }
    until("the second replies", || requester.metrics().duplicate == 5).await;
    assert_eq!(requester.metrics().answered, 5);
}

#[tokio::test]
async fn strangers_on_the_reply_partition_are_counted_and_harmless() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let producer = stage.client.producer().build().await.unwrap();
    for record in [
        Record::value("no header").partition(0),
        Record::tombstone().header("rpc-id", "0123").partition(0),
        Record::value("x").header("kafka_correlationId", &[0xff, 0, 1]).null_header("rpc-id").partition(0),
    ] {
        producer.send(REPLIES, record).await.unwrap().await.unwrap();
    }
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,2").await.unwrap().text(), "3");
    assert_eq!(requester.metrics().foreign, 3);
}

#[tokio::test]
async fn a_lost_position_is_found_again_before_the_oldest_call() {
    let stage = Stage::new(1).await;
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let requester = stage.requester().await;
    let producer = stage.client.producer().build().await.unwrap();
    for _ in 0..5 {
        producer.send(REPLIES, Record::value("x").partition(0)).await.unwrap().await.unwrap();
    }
    let calls = calls(&requester, 1);
    beginnings.recv().await.unwrap();
    stage.client.admin().delete_records(REPLIES, 0, 5).await.unwrap();
    gate.add_permits(1);
    for reply in calls.join_all().await {
        reply.unwrap();
    }
}

#[tokio::test]
async fn requests_without_reply_address_are_events() {
    let stage = Stage::new(1).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let (count, told) = (seen.clone(), Arc::new(Notify::new()));
    let tell = told.clone();
    let responder = stage
        .client
        .responder("both")
        .on_request("sum", add)
        .on_event("sum", move |event| {
            assert_eq!(event.value(), b"happened");
            count.fetch_add(1, SeqCst);
            tell.notify_one();
            async {}
        })
        .start()
        .await
        .unwrap();
    let producer = stage.client.producer().build().await.unwrap();
    producer.send("sum", Record::value("happened")).await.unwrap().await.unwrap();
    told.notified().await;
    assert_eq!(stage.requester().await.request("sum", "2,2").await.unwrap().text(), "4");
    assert_eq!((seen.load(SeqCst), responder.metrics().events, responder.metrics().requests), (1, 1, 1));
}

#[tokio::test]
async fn a_request_whose_caller_has_given_up_is_skipped() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let error = requester.request("sum", "1").timeout(Duration::from_millis(10)).await.unwrap_err();
    assert!(error.is_timeout());
    let responder = stage.client.responder("late").on_request("sum", add);
    let responder =
        responder.start_at(milena::Offset::Beginning).clock_skew(Duration::ZERO).start().await.unwrap();
    until("the skipped request", || responder.metrics().expired == 1).await;
    assert_eq!(responder.metrics().requests, 0);
}

#[tokio::test]
async fn only_allowed_reply_topics_are_answered() {
    let stage = Stage::new(1).await;
    let responder = stage.client.responder("careful").reply_topics(["elsewhere"]).on_request("sum", add);
    let responder = responder.start().await.unwrap();
    let requester = stage.requester().await;
    let call = requester.request("sum", "1").timeout(Duration::from_millis(50)).await;
    assert!(call.unwrap_err().is_timeout());
    until("the refused request", || responder.metrics().unanswerable == 1).await;
}

#[tokio::test]
async fn a_call_that_cannot_be_sent_says_why_at_once() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let error = requester.request("sum", &vec![0; 2 << 20]).timeout(LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Record, "{error}");
    assert!(!error.maybe_written());
    assert_eq!(requester.metrics().failed, 1);
    let error = requester.request(REPLIES, "1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}
