//! What callers say of requests that run, while others wait for their turn in the same partition.
use crate::wire::Wire;
use crate::*;
use milena::AnswerStream;

/// Headers of a request of this id, and those of a control record.
fn headers<'a>(id: &'a str, kind: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let address = [("rpc-id", id), ("rpc-reply-topic", REPLIES), ("rpc-reply-partition", "0")];
    match kind {
        Some(kind) => vec![address[0], ("rpc-kind", kind)],
        None => address.to_vec(),
    }
}

#[tokio::test]
async fn a_stream_that_waits_for_credit_holds_no_place() {
    let stage = Stage::new(1).await;
    let responder = stage.client.responder("streams").concurrency(1).on_request("sum", async |to: String| {
        let to: u64 = to.parse()?;
        Ok::<_, Refusal>(AnswerStream::written_by(async move |mut items| {
            for number in 1..=to {
                items.send(number.to_string()).await;
            }
            Ok(())
        }))
    });
    let responder = responder.start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    let stream = [("rpc-kind", "stream"), ("rpc-credit", "1")];
    // More than there are places, each one item ahead of its caller.
    for id in ["a", "b", "c"] {
        wire.ask(id, "2", &stream).await;
        let seen = wire.next().await;
        assert_eq!((seen.text("rpc-id"), seen.native()), (id, (Some("1"), "0", false)));
    }
    wire.ask("d", "1", &[]).await;
    assert_eq!(wire.next().await.text("rpc-id"), "d");
    assert_eq!(responder.metrics().running, 3);
    for id in ["c", "a", "b"] {
        wire.send("", &[&headers(id, Some("credit"))[..], &[("rpc-credit", "1")]].concat()).await;
        let seen = wire.next().await;
        assert_eq!((seen.text("rpc-id"), seen.native()), (id, (Some("2"), "1", true)));
    }
    until("all have ended", || responder.metrics().running == 0).await;
    until("all are finished", || responder.finished(&TopicPartition::new("sum", 0)) == Some(7)).await;
}

#[tokio::test]
async fn a_cancel_behind_requests_that_wait_for_their_turn_is_heard_once() {
    let stage = Stage::new(1).await;
    let responder = stage.client.responder("slow").partition_concurrency(1);
    let responder = responder.on_request("sum", async |request: Request| {
        if request.value() == b"for ever" {
            std::future::pending::<()>().await;
        }
        request.value().to_vec()
    });
    let responder = responder.start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    wire.ask("a", "for ever", &[]).await;
    until("the handler runs", || responder.metrics().running == 1).await;
    let record = |value, headers: Vec<(&'static str, &'static str)>| {
        headers.into_iter().fold(Record::value(value), |record, (name, value)| record.header(name, value))
    };
    let batch = [record("next", headers("b", None)), record("", headers("a", Some("cancel")))];
    stage.broker.append("sum", 0, &batch).unwrap();
    let seen = wire.next().await;
    assert_eq!((seen.text("rpc-id"), seen.value.as_deref()), ("b", Some("next")));
    until("all are finished", || responder.finished(&TopicPartition::new("sum", 0)) == Some(3)).await;
    assert_eq!(responder.metrics().cancelled, 1);
}
