//! Streams of answers, as they stand in the log, and what callers say meanwhile.
use crate::wire::Wire;
use crate::*;
use milena::{AnswerStream, ReplyAllocator, ResponderBuilder};

/// Counts to the number that was asked for, then does what the word behind it says.
fn counter(stage: &Stage) -> ResponderBuilder {
    counted(stage, Arc::default())
}

fn counted(stage: &Stage, made: Arc<AtomicUsize>) -> ResponderBuilder {
    stage.client.responder("counters").on_request("sum", move |request: String| {
        let made = made.clone();
        async move {
            let (to, end) = request.split_once(' ').unwrap_or((&request, ""));
            let (to, end): (u64, _) = (to.parse().unwrap(), end.to_owned());
            AnswerStream::written_by(async move |mut items| {
                for number in 1..=to {
                    made.fetch_add(1, SeqCst);
                    items.send(number.to_string()).await;
                }
                match &end[..] {
                    "large" => items.send(vec![b'x'; 2 << 20]).await,
                    "fail" => return Err("enough".into()),
                    "panic" => panic!("enough"),
                    "late" => tokio::time::sleep(Duration::from_millis(300)).await,
                    _ => {}
                }
                Ok(())
            })
        }
    })
}

const STREAM: &[(&str, &str)] = &[("rpc-kind", "stream")];

#[tokio::test]
async fn the_items_of_a_stream_are_counted_and_the_last_is_its_end() {
    let stage = Stage::new(1).await;
    let _responder = counter(&stage).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    wire.ask("a", "3", STREAM).await;
    let first = wire.next().await;
    assert_eq!(first.native(), (Some("1"), "0", false));
    assert_eq!(first.text("rpc-caps"), "cancel,credit");
    assert!(first.text("rpc-responder").starts_with("counters/"));
    assert_eq!(wire.next().await.native(), (Some("2"), "1", false));
    assert_eq!(wire.next().await.native(), (Some("3"), "2", true));
    wire.ask("b", "0", STREAM).await;
    assert_eq!(wire.next().await.native(), (None, "0", true));
}

#[tokio::test]
async fn an_error_ends_a_stream_in_the_place_of_the_next_item() {
    let stage = Stage::new(1).await;
    let responder = counter(&stage).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    for (end, status) in [("fail", "2"), ("panic", "13"), ("large", "8")] {
        wire.ask(end, &format!("1 {end}"), STREAM).await;
        assert_eq!(wire.next().await.native(), (Some("1"), "0", false));
        let error = wire.next().await;
        assert_eq!(error.native(), (None, "1", true), "{end}");
        assert_eq!(error.text("rpc-status"), status, "{end}");
    }
    until("all are answered", || responder.metrics().answered == 3).await;
    assert_eq!((responder.metrics().panicked, responder.metrics().refused), (1, 3));
}

#[tokio::test]
async fn a_stream_to_nest_ends_with_its_last_item_and_no_null() {
    let stage = Stage::new(1).await;
    let _responder = counter(&stage).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    wire.ask_as_nest("a", "2").await;
    assert_eq!(wire.next().await.nest(), (Some("1"), false));
    assert_eq!(wire.next().await.nest(), (Some("2"), true));
    // Empty: one record, as an empty reply.
    wire.ask_as_nest("b", "0").await;
    assert_eq!(wire.next().await.nest(), (None, true));
    // As with NestJS itself, an end that comes late is a record of its own; the item did not wait for it.
    wire.ask_as_nest("c", "1 late").await;
    assert_eq!(wire.next().await.nest(), (Some("1"), false));
    assert_eq!(wire.next().await.nest(), (None, true));
    wire.ask_as_nest("d", "1 fail").await;
    assert_eq!(wire.next().await.nest(), (Some("1"), false));
    let error = wire.next().await;
    assert_eq!(error.nest(), (None, true));
    assert_eq!(error.text("kafka_nest-err"), r#"{"status":"error","message":"enough"}"#);
}

#[tokio::test]
async fn a_caller_that_can_take_one_reply_gets_the_first_item_only() {
    let stage = Stage::new(1).await;
    let made = Arc::new(AtomicUsize::new(0));
    let responder = counted(&stage, made.clone()).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    wire.ask("a", "1000000", &[]).await;
    assert_eq!(wire.next().await.native(), (Some("1"), "", true));
    let spring =
        [("kafka_correlationId", "b"), ("kafka_replyTopic", REPLIES), ("kafka_replyPartition", "\0\0\0\0")];
    wire.send("1000000", &spring).await;
    assert_eq!(wire.next().await.value.as_deref(), Some("1"));
    assert!(wire.is_quiet().await);
    until("both are done", || responder.metrics().running == 0).await;
    assert!(made.load(SeqCst) < 10, "{made:?}");
}

#[tokio::test]
async fn a_stream_goes_no_further_than_its_credit_and_on_with_more_of_it() {
    let stage = Stage::new(1).await;
    let made = Arc::new(AtomicUsize::new(0));
    let responder = counted(&stage, made.clone()).concurrency(1).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    wire.ask("a", "100", &[("rpc-kind", "stream"), ("rpc-credit", "2")]).await;
    for item in ["1", "2"] {
        assert_eq!(wire.next().await.value.as_deref(), Some(item));
    }
    assert!(wire.is_quiet().await);
    // One that waits for credit, one in the channel, one that the writer has in its hands.
    assert!(made.load(SeqCst) <= 5, "{made:?}");
    // The only place is taken; credit is heard all the same, and not that for somebody else.
    wire.send("", &[("rpc-id", "nobody"), ("rpc-kind", "credit"), ("rpc-credit", "9")]).await;
    wire.send("", &[("rpc-id", "a"), ("rpc-kind", "credit"), ("rpc-credit", "1")]).await;
    assert_eq!(wire.next().await.native(), (Some("3"), "2", false));
    assert!(wire.is_quiet().await);
    wire.send("", &[("rpc-id", "a"), ("rpc-kind", "credit"), ("rpc-credit", "1000")]).await;
    for item in 4..=100 {
        assert_eq!(
            wire.next().await.native(),
            (Some(&item.to_string()[..]), &(item - 1).to_string()[..], item == 100)
        );
    }
    until("it is done", || responder.metrics().running == 0).await;
}

#[tokio::test]
async fn a_stream_whose_deadline_has_passed_is_dropped() {
    let stage = Stage::new(1).await;
    let responder = counter(&stage).clock_skew(Duration::ZERO).start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    let soon = (milliseconds() + 1_000).to_string();
    wire.ask("a", "9", &[("rpc-kind", "stream"), ("rpc-credit", "1"), ("rpc-deadline", &soon)]).await;
    assert_eq!(wire.next().await.value.as_deref(), Some("1"));
    until("it is given up", || responder.metrics().running == 0).await;
    assert_eq!(responder.metrics().lost, 1);
    assert!(wire.is_quiet().await);
}

fn milliseconds() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test]
async fn a_caller_that_cancels_stops_the_handler() {
    /// Tells when the handler is dropped.
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let stage = Stage::new(1).await;
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, dropped) = (begun.clone(), dropped.clone());
        move |_: Request| {
            let (begun, dropped) = (begun.clone(), Dropped(dropped.clone()));
            async move {
                let _dropped = dropped;
                begun.notify_one();
                std::future::pending::<()>().await
            }
        }
    };
    let responder = stage.client.responder("slow").concurrency(1).on_request("sum", handler);
    let responder = responder.start().await.unwrap();
    let mut wire = Wire::on(&stage, REPLIES).await;
    wire.ask("a", "", &[]).await;
    begun.notified().await;
    for id in ["other", "a", "a"] {
        wire.send("", &[("rpc-id", id), ("rpc-kind", "cancel")]).await;
    }
    tokio::time::timeout(LONG, dropped.notified()).await.unwrap();
    // Its place is free again.
    wire.ask("b", "", &[]).await;
    begun.notified().await;
    assert_eq!(responder.metrics().cancelled, 1);
    assert!(wire.is_quiet().await, "nobody is answered");
}

#[tokio::test]
async fn items_for_a_caller_that_reads_all_partitions_went_to_several_and_came_out_of_order() {
    let stage = Stage::new(1).await;
    let large = async |_: Request| {
        Ok::<_, Refusal>(AnswerStream::written_by(async move |mut items| {
            for number in 0..40u8 {
                items.send(vec![number; 50_000]).await;
            }
            Ok(())
        }))
    };
    let _large = stage.client.responder("large").on_request("sum", large).start().await.unwrap();
    let build = stage.client.requester().reply_topic(REPLIES).allocator(ReplyAllocator::broadcast());
    let requester = build.build().await.unwrap();
    let mut partitions = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let (mut stream, mut count) = (requester.stream("sum", "").timeout(LONG).await.unwrap(), 0);
        let mut of_one = std::collections::BTreeSet::new();
        while let Some(reply) = stream.next().await.unwrap() {
            assert_eq!(reply.value()[0], count);
            count += 1;
            of_one.insert(reply.record().partition());
        }
        assert_eq!((count, of_one.len()), (40, 1), "{of_one:?}");
        partitions.extend(of_one);
    }
    assert!(partitions.len() > 1, "not all calls on one");
}
