//! Requests that are sent again because their caller asked for it.
use crate::*;

use milena::ConsumerRecord;

const SECOND: Duration = Duration::from_secs(1);

fn value_of<'a>(record: &'a ConsumerRecord, name: &str) -> Option<&'a [u8]> {
    record.headers().filter(|(key, _)| *key == name.as_bytes()).last()?.1
}

/// All requests there are.
async fn requests(stage: &Stage, count: usize) -> Vec<ConsumerRecord> {
    let mut consumer = stage.client.consumer().topics(["sum"]).build().await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(consumer.next().await.unwrap().unwrap().records());
    }
    assert!(tokio::time::timeout(SECOND, consumer.next()).await.is_err(), "there are more");
    records
}

#[tokio::test(start_paused = true)]
async fn attempts_have_one_id_and_one_deadline_and_are_counted() {
    let stage = Stage::in_memory(1).await;
    let requester = stage.requester().await;
    let started = tokio::time::Instant::now();
    let call = requester.request("sum", "1").key("k").header("h", "v").idempotency_key("order 7");
    let error = call.attempts(3).timeout(LONG).await.unwrap_err();
    assert!(error.is_timeout() && error.maybe_written(), "{error}");
    assert!((LONG..LONG + SECOND / 10).contains(&started.elapsed()), "{:?}", started.elapsed());
    let records = requests(&stage, 3).await;
    let attempts: Vec<_> = records.iter().map(|record| value_of(record, "rpc-attempt")).collect();
    assert_eq!(attempts, [None, Some(&b"1"[..]), Some(b"2")]);
    for record in &records {
        for name in ["rpc-id", "rpc-deadline", "rpc-idem", "h"] {
            assert!(value_of(record, name).is_some(), "{name}");
            assert_eq!(value_of(record, name), value_of(&records[0], name), "{name}");
        }
        assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), Some(&b"1"[..])));
    }
    assert_eq!(value_of(&records[0], "rpc-idem"), Some(&b"order 7"[..]));
    let metrics = requester.metrics();
    assert_eq!((metrics.sent, metrics.resent, metrics.timed_out, metrics.in_flight), (1, 2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_again_unless_it_is_asked_for() {
    let stage = Stage::in_memory(1).await;
    let requester = stage.requester().await;
    assert!(requester.request("sum", "1").timeout(LONG).await.unwrap_err().is_timeout());
    let records = requests(&stage, 1).await;
    assert_eq!(value_of(&records[0], "rpc-idem"), None);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_answered_where_the_first_attempt_is_not() {
    let stage = Stage::in_memory(1).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let handler = {
        let runs = runs.clone();
        move |_: Request| {
            let run = runs.fetch_add(1, SeqCst);
            async move {
                // The first one takes long, and answers all the same.
                if run == 0 {
                    tokio::time::sleep(SECOND * 5).await;
                }
                run.to_string()
            }
        }
    };
    let _responder = stage.client.responder("r").on_request("sum", handler).start().await.unwrap();
    let requester = stage.requester().await;
    let started = tokio::time::Instant::now();
    let reply = requester.request("sum", "1").hedge_after(SECOND).timeout(LONG).await.unwrap();
    assert_eq!(reply.text(), "1");
    assert!((SECOND..SECOND * 2).contains(&started.elapsed()), "{:?}", started.elapsed());
    // One winner; the other reply is a duplicate, and there is no third attempt.
    tokio::time::sleep(LONG).await;
    let metrics = requester.metrics();
    assert_eq!((metrics.answered, metrics.duplicate, metrics.resent), (1, 1, 1));
    assert_eq!(runs.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_could_not_be_sent_is_tried_again() {
    let stage =
        Stage::of(Broker::builder().in_memory().auto_create_topics(false).start().await.unwrap()).await;
    let producer = stage.client.producer().max_block(SECOND).linger(Duration::ZERO).build().await.unwrap();
    let requester =
        stage.client.requester().reply_topic(REPLIES).with_producer(producer).build().await.unwrap();
    let error = requester.request("later", "1").timeout(LONG).await.unwrap_err();
    assert!(!error.maybe_written(), "{error}");
    let create = async {
        tokio::time::sleep(SECOND * 3 / 2).await;
        stage.broker.create_topic("later", 1).unwrap();
        let echo = async |request: Request| request.value().to_vec();
        stage.client.responder("r").on_request("later", echo).start().await.unwrap()
    };
    let started = tokio::time::Instant::now();
    let call = requester.request("later", "1").attempts(5).timeout(LONG).into_future();
    let (reply, _responder) = tokio::join!(call, create);
    assert_eq!(reply.unwrap().text(), "1");
    // It does not wait for its share of the time.
    assert!(started.elapsed() < SECOND * 4, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_call_that_was_sent_can_be_waited_for_later_and_borrows_nothing() {
    let stage = Stage::new(1).await;
    let _adder = stage.adder().await;
    let requester = stage.requester().await;
    let pending = {
        let value = String::from("1,2");
        requester.request("sum", &value).send().await.unwrap()
    };
    assert_eq!(tokio::spawn(pending).await.unwrap().unwrap().text(), "3");
    let dropped = requester.request("sum", "1").timeout(LONG).send().await.unwrap();
    drop(dropped);
    until("nothing in flight", || requester.metrics().in_flight == 0).await;
}

#[tokio::test]
async fn a_trace_context_reaches_the_handler_and_a_malformed_one_does_not() {
    let stage = Stage::new(1).await;
    let tell = async |request: Request| format!("{:?} {:?}", request.trace_parent(), request.trace_state());
    let _responder = stage.client.responder("r").on_request("sum", tell).start().await.unwrap();
    let requester = stage.requester().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let told = requester.request("sum", "").trace_context(parent, "a=1").await.unwrap();
    assert_eq!(told.text(), format!("Some({parent:?}) Some(\"a=1\")"));
    let told = requester.request("sum", "").trace_context(parent, "").await.unwrap();
    assert_eq!(told.text(), format!("Some({parent:?}) None"));
    let told = requester.request("sum", "").trace_context(&parent[1..], "a=1").await.unwrap();
    assert_eq!(told.text(), "None None");
    let raw = requester.request("sum", "").header("traceparent", "nonsense").header("tracestate", "a=1");
    assert_eq!(raw.await.unwrap().text(), "None None");
}
