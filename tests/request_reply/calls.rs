//! What calls give.
use crate::*;

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
    let responder = stage.client.responder("large").on_request("sum", async |_: Request| vec![b'x'; 3 << 20]);
    let _responder = responder.start().await.unwrap();
    let error = stage.requester().await.request("sum", "").await.unwrap_err();
    let reply = error.source().unwrap().downcast_ref::<ErrorReply>().unwrap();
    assert_eq!(reply.status(), Status::RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn a_repeated_reply_ends_its_call_once() {
    let stage = Stage::new(1).await;
    // Two groups both answer everything.
    let other = stage.client.responder("others").on_request("sum", add).start();
    let (_first, _second) = (stage.adder().await, other.await.unwrap());
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

#[tokio::test]
async fn a_requester_is_ready_after_a_few_round_trips() {
    for existing in [true, false] {
        let broker = Broker::start().await.unwrap();
        if existing {
            broker.create_topic(REPLIES, 3).unwrap();
        }
        let client = Client::connect(&broker.address()).await.unwrap();
        let count = || [Api::METADATA, Api::CREATE_TOPICS, Api::LIST_OFFSETS].map(|api| broker.requests(api));
        let before = count();
        client.requester().reply_topic(REPLIES).build().await.unwrap();
        let asked: Vec<_> = count().into_iter().zip(before).map(|(after, before)| after - before).collect();
        assert!(asked[0] <= 3 && asked[1..] == [u64::from(!existing), 1], "existing {existing}: {asked:?}");
    }
}
