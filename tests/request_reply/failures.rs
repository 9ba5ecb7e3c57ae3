//! What becomes of requests that fail, come again, or cannot be answered.
use crate::wire::Wire;
use crate::*;
use milena::{Json, json};

const LETTERS: &str = "letters";

fn flaky() -> Refusal {
    Refusal::new(Status::UNAVAILABLE, "not now").retriable()
}

/// A handler that fails as often as the request says, and counts its runs.
fn failing(
    runs: &Arc<AtomicUsize>,
) -> impl Fn(Request) -> std::pin::Pin<Box<dyn Future<Output = Result<String, Refusal>> + Send>>
+ Send
+ Sync
+ use<> {
    let runs = runs.clone();
    move |request| {
        let run = runs.fetch_add(1, SeqCst) + 1;
        let value = String::from_utf8(request.value().to_vec()).unwrap();
        Box::pin(async move {
            match value.parse::<usize>() {
                Ok(failures) if run <= failures => Err(flaky()),
                Ok(_) => Ok(format!("run {run}")),
                Err(_) => Err(Refusal::new(Status::NOT_FOUND, value)),
            }
        })
    }
}

#[tokio::test]
async fn a_retriable_error_runs_the_handler_again_beside_other_requests() {
    let stage = Stage::new(1).await;
    let runs = Arc::new(AtomicUsize::new(0));
    stage.broker.create_topic("other", 1).unwrap();
    let responder = stage.client.responder("flaky").retries(3, Duration::from_millis(100));
    let responder =
        responder.on_request("sum", failing(&runs)).on_request("other", add).start().await.unwrap();
    let requester = stage.requester().await;
    let begun = Instant::now();
    let (retried, at_once) = tokio::join!(requester.request("sum", "2"), async {
        let reply = requester.request("other", "1,2").await.unwrap();
        (reply.text().into_owned(), begun.elapsed())
    });
    assert_eq!(retried.unwrap().text(), "run 3");
    assert_eq!(at_once.0, "3");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300), "no pauses of 100 and 200 ms: {took:?}");
    assert!(at_once.1 < took, "the other request waited");
    assert_eq!(responder.metrics().retried, 2);
}

#[tokio::test]
async fn what_fails_in_the_end_is_answered_and_becomes_a_dead_letter() {
    let stage = Stage::new(1).await;
    stage.broker.create_topic(LETTERS, 3).unwrap();
    stage.broker.create_topic("numbers", 1).unwrap();
    let responder = stage.client.responder("flaky").retries(2, Duration::ZERO).dead_letter_topic(LETTERS);
    let responder = responder
        .on_request("sum", failing(&Arc::default()))
        .on_request("numbers", async |Json(numbers): Json<Vec<i64>>| Json(numbers.iter().sum::<i64>()))
        .on_event("sum", async |_: Event| Err::<(), _>(Refusal::from("no such luck")));
    let responder = responder.start().await.unwrap();
    let (requester, mut letters) = (stage.requester().await, Wire::on(&stage, LETTERS).await);
    let status = async |topic: &str, value: &str| {
        let error = requester.request(topic, value).header("mine", "x").await.unwrap_err();
        error.source().unwrap().downcast_ref::<ErrorReply>().unwrap().status()
    };
    // An answer, if not a pleasant one.
    assert_eq!(status("sum", "no number").await, Status::NOT_FOUND);
    assert_eq!(status("sum", "99").await, Status::UNAVAILABLE);
    let letter = letters.next().await;
    assert_eq!((letter.value.as_deref(), letter.text("mine")), (Some("99"), "x"));
    let story = ["original-topic", "original-timestamp-type", "original-consumer-group", "exception-message"];
    let story = story.map(|name| letter.text(&format!("kafka_dlt-{name}")));
    assert_eq!(story, ["sum", "CreateTime", "flaky", "not now"]);
    let size = |name| letter.header(&format!("kafka_dlt-original-{name}")).unwrap().len();
    assert_eq!((size("partition"), size("offset"), size("timestamp")), (4, 8, 8));
    assert_eq!(responder.metrics().retried, 2);

    // Undecodable.
    assert_eq!(status("numbers", "{\"a\":1}").await, Status::INVALID_ARGUMENT);
    let letter = letters.next().await;
    assert_eq!(
        (letter.value.as_deref(), letter.text("kafka_dlt-original-topic")),
        (Some("{\"a\":1}"), "numbers")
    );

    letters.send("event", &[]).await;
    let letter = letters.next().await;
    assert_eq!(
        (letter.value.as_deref(), letter.text("kafka_dlt-exception-message")),
        (Some("event"), "no such luck")
    );
    until("all are counted", || responder.metrics().dead_letters == 3).await;
}

#[tokio::test]
async fn typed_values_travel_as_json_and_others_are_told_apart() {
    let stage = Stage::new(1).await;
    let responder = stage
        .client
        .responder("adders")
        .on_request("sum", async |Json(numbers): Json<Option<Vec<i64>>>| {
            Json(numbers.map(|numbers| numbers.iter().sum::<i64>()))
        })
        .start()
        .await
        .unwrap();
    let requester = stage.requester().await;
    let reply = requester.request("sum", &json(&[1, 2, 3]).unwrap()).await.unwrap();
    assert_eq!((reply.json::<i64>().unwrap(), reply.decode::<String>().unwrap()), (6, "6".to_owned()));
    let error = reply.json::<Vec<i64>>().unwrap_err();
    assert_eq!((error.kind(), error.topic()), (ErrorKind::Message, Some(REPLIES)));
    let null = requester.request_record("sum", Record::tombstone()).await.unwrap();
    assert!(null.is_null());
    assert_eq!(null.json::<Option<i64>>().unwrap(), None);
    assert_eq!(responder.metrics().refused, 0);
}

#[tokio::test]
async fn the_error_object_of_nest_is_read_and_kept() {
    let stage = Stage::new(1).await;
    let _responder =
        stage.client.responder("flaky").on_request("sum", failing(&Arc::default())).start().await.unwrap();
    let requester =
        stage.client.requester().reply_topic(REPLIES).dialect(Dialect::Nest).build().await.unwrap();
    let error = requester.request("sum", "bo\"om").await.unwrap_err();
    let reply = error.source().unwrap().downcast_ref::<ErrorReply>().unwrap();
    assert_eq!(reply.message(), "bo\"om");
    assert_eq!(reply.raw(), r#"{"status":"error","message":"bo\"om"}"#);
}

#[tokio::test]
async fn a_request_that_comes_again_is_answered_and_not_executed_again() {
    let stage = Stage::new(1).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let responder = stage.client.responder("once").dedupe(100, 1 << 20, LONG);
    let responder = responder.on_request("sum", failing(&runs)).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    let answered = async |wire: &mut Wire, id: &str, value: &str, more: &[(&str, &str)]| {
        wire.ask(id, value, more).await;
        let seen = wire.next().await;
        assert_eq!(seen.text("rpc-id"), id);
        assert!(seen.text("rpc-caps").contains("dedupe"));
        (seen.value.clone(), seen.text("rpc-error").to_owned())
    };
    let run = |number: usize| (Some(format!("run {number}")), String::new());
    let key = [("rpc-idem", "k")];
    assert_eq!(answered(&mut wire, "a", "0", &[]).await, run(1));
    assert_eq!(answered(&mut wire, "a", "0", &[("rpc-attempt", "1")]).await, run(1));
    assert_eq!(answered(&mut wire, "b", "0", &key).await, run(2));
    assert_eq!(answered(&mut wire, "c", "0", &key).await, run(2));
    // A refusal is an answer; a retriable error is none.
    for _ in 0..2 {
        assert_eq!(answered(&mut wire, "d", "none", &[]).await, (None, "none".to_owned()));
    }
    assert_eq!(runs.load(SeqCst), 3);
    assert_eq!(answered(&mut wire, "e", "4", &[]).await, (None, "not now".to_owned()));
    assert_eq!(answered(&mut wire, "e", "4", &[]).await, run(5));
    assert_eq!(responder.metrics().deduplicated, 3);
}

#[tokio::test]
async fn a_request_that_comes_while_the_same_runs_waits_for_its_answer() {
    let stage = Stage::new(1).await;
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (gate, runs) = (gate.clone(), runs.clone());
        move |_: Request| {
            let (gate, run) = (gate.clone(), runs.fetch_add(1, SeqCst) + 1);
            async move {
                gate.acquire().await.unwrap().forget();
                format!("run {run}")
            }
        }
    };
    let responder = stage.client.responder("once").dedupe(100, 1 << 20, LONG).on_request("sum", handler);
    let responder = responder.start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    let key = [("rpc-idem", "k")];
    // The same call twice, another one, and one that is cancelled while it waits.
    for id in ["a", "a", "b", "c"] {
        wire.ask(id, "", &key).await;
    }
    until("all have come", || responder.metrics().requests == 4).await;
    wire.send("", &[("rpc-id", "c"), ("rpc-kind", "cancel")]).await;
    until("one is cancelled", || responder.metrics().cancelled == 1).await;
    assert!(wire.is_quiet().await);
    gate.add_permits(1);
    let mut answered =
        [wire.next().await, wire.next().await].map(|seen| (seen.text("rpc-id").to_owned(), seen.value));
    answered.sort();
    assert_eq!(answered, ["a", "b"].map(|id| (id.to_owned(), Some("run 1".to_owned()))));
    // The one that runs is cancelled: the one that waits runs instead.
    let key = [("rpc-idem", "l")];
    wire.ask("d", "", &key).await;
    until("it runs", || runs.load(SeqCst) == 2).await;
    wire.ask("e", "", &key).await;
    until("both have come", || responder.metrics().requests == 6).await;
    wire.send("", &[("rpc-id", "d"), ("rpc-kind", "cancel")]).await;
    gate.add_permits(1);
    let seen = wire.next().await;
    assert!(wire.is_quiet().await);
    assert_eq!((seen.text("rpc-id"), seen.value.as_deref()), ("e", Some("run 3")));
}

#[tokio::test]
async fn a_reply_without_a_place_is_counted_and_holds_up_nobody() {
    let broker = Broker::builder().auto_create_topics(false).in_memory().start().await.unwrap();
    let stage = Stage::of(broker).await;
    let responder =
        stage.client.responder("adders").concurrency(1).on_request("sum", add).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    let begun = Instant::now();
    let to =
        |topic, partition| [("rpc-id", "a"), ("rpc-reply-topic", topic), ("rpc-reply-partition", partition)];
    wire.send("1,2", &to(REPLIES, "99")).await;
    until("it is given up", || responder.metrics().unroutable == 1).await;
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() + 500;
    wire.send("1,2", &[&to("nowhere", "0")[..], &[("rpc-deadline", &soon.to_string())]].concat()).await;
    until("it is given up", || responder.metrics().unroutable == 2).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    wire.ask("b", "1,2", &[]).await;
    assert_eq!(wire.next().await.value.as_deref(), Some("3"));
    assert_eq!((responder.metrics().lost, responder.metrics().answered), (0, 1));
}

#[tokio::test]
async fn reply_topics_may_be_allowed_by_how_they_begin() {
    let stage = Stage::new(1).await;
    let responder = stage.client.responder("adders").reply_topics(["elsewhere", "repl*"]);
    let responder = responder.on_request("sum", add).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    wire.send("1", &[("rpc-id", "a"), ("rpc-reply-topic", "rep")]).await;
    wire.ask("b", "1,2", &[]).await;
    assert_eq!(wire.next().await.value.as_deref(), Some("3"));
    assert_eq!(responder.metrics().unanswerable, 1);
}

#[tokio::test]
async fn a_topic_of_dead_letters_cannot_be_one_of_requests() {
    let stage = Stage::new(1).await;
    let responder = stage.client.responder("adders").dead_letter_topic("sum").on_request("sum", add);
    assert_eq!(responder.start().await.unwrap_err().kind(), ErrorKind::Config);
}
