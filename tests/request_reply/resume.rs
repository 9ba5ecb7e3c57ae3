//! Replies to calls of a former life.
use crate::*;

use milena::{CallToken, ReplyAllocator};

async fn on(stage: &Stage, partition: i32) -> Requester {
    let build = stage.client.requester().reply_topic(REPLIES).allocator(ReplyAllocator::fixed(partition));
    build.build().await.unwrap()
}

/// A call that was sent by a requester which is gone, and is answered when the gate opens.
async fn left_behind(stage: &Stage, beginnings: &mut mpsc::Receiver<Vec<u8>>) -> CallToken {
    let requester = on(stage, 0).await;
    let call = requester.request("sum", "42").timeout(LONG).send().await.unwrap();
    let text = call.token().to_string();
    beginnings.recv().await.unwrap();
    text.parse().unwrap()
}

#[tokio::test]
async fn a_reply_that_comes_after_a_restart_is_found_wherever_the_new_life_lives() {
    for home in [0, 1] {
        let stage = Stage::new(1).await;
        let (_responder, mut beginnings, gate) = gated(&stage).await;
        let token = left_behind(&stage, &mut beginnings).await;
        let requester = on(&stage, home).await;
        let call = requester.resume(&token).await.unwrap();
        assert_eq!(call.token(), &token);
        assert_eq!(requester.metrics().draining, u64::from(home != 0));
        gate.add_permits(1);
        assert_eq!(call.await.unwrap().text(), "42");
        assert_eq!((requester.metrics().draining, requester.metrics().in_flight), (0, 0));
    }
}

#[tokio::test]
async fn a_reply_that_came_before_the_restart_is_found() {
    let stage = Stage::new(1).await;
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let token = left_behind(&stage, &mut beginnings).await;
    gate.add_permits(1);
    until("the reply", || stage.broker.log(REPLIES, 0).unwrap().end_offset() == 1).await;
    // At home where the reply lies, and with calls of its own.
    let requester = on(&stage, 0).await;
    let own = requester.request("sum", "7").timeout(LONG).send().await.unwrap();
    beginnings.recv().await.unwrap();
    let call = requester.resume(&token).await.unwrap();
    assert_eq!(call.await.unwrap().text(), "42");
    gate.add_permits(1);
    assert_eq!(own.await.unwrap().text(), "7");
}

#[tokio::test]
async fn a_reply_is_found_although_the_place_it_was_expected_at_is_gone() {
    let stage = Stage::new(1).await;
    let producer = stage.client.producer().build().await.unwrap();
    let (_responder, mut beginnings, gate) = gated(&stage).await;
    let token = left_behind(&stage, &mut beginnings).await;
    for _ in 0..5 {
        producer.send(REPLIES, Record::value("x").partition(0)).await.unwrap().await.unwrap();
    }
    gate.add_permits(1);
    until("the reply", || stage.broker.log(REPLIES, 0).unwrap().end_offset() == 6).await;
    stage.client.admin().delete_records(REPLIES, 0, 4).await.unwrap();
    let requester = on(&stage, 1).await;
    let reply = requester.resume(&token).await.unwrap().await.unwrap();
    assert_eq!((reply.text(), reply.record().offset()), ("42".into(), 5));
}

#[tokio::test]
async fn a_lost_position_is_found_although_the_responders_clock_is_five_minutes_slow() {
    let stage = Stage::new(1).await;
    let producer = stage.client.producer().build().await.unwrap();
    let former = on(&stage, 0).await;
    let token = former.request("sum", "42").timeout(LONG).send().await.unwrap().token().clone();
    let id = token.to_string().split(':').nth(1).unwrap().to_owned();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    for value in ["x", "x", "42"] {
        let record = Record::value(value).partition(0).timestamp(now - 300_000);
        let id = if value == "42" { &id[..] } else { "somebody" };
        producer.send(REPLIES, record.header("rpc-id", id)).await.unwrap().await.unwrap();
    }
    stage.client.admin().delete_records(REPLIES, 0, 1).await.unwrap();
    let requester = on(&stage, 1).await;
    assert_eq!(requester.resume(&token).await.unwrap().await.unwrap().text(), "42");
    assert_eq!(requester.metrics().foreign, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_resumed_ends_at_its_own_deadline() {
    let stage = Stage::in_memory(1).await;
    let requester = on(&stage, 0).await;
    let text = requester.request("sum", "1").timeout(LONG * 1000).send().await.unwrap().token().to_string();
    let mut parts: Vec<_> = text.split(':').map(str::to_owned).collect();
    let token: CallToken = text.parse().unwrap();
    // Its own calls it knows.
    assert_eq!(requester.resume(&token).await.unwrap_err().kind(), ErrorKind::Config);
    let other = on(&stage, 1).await;
    let call = other.resume(&token).await.unwrap();
    assert_eq!(other.resume(&token).await.unwrap_err().kind(), ErrorKind::Config);
    assert!(tokio::time::timeout(LONG, call).await.is_err(), "it has time left");
    assert_eq!((other.metrics().in_flight, other.metrics().draining), (0, 0));
    parts[3] = "1".to_owned();
    let past: CallToken = parts.join(":").parse().unwrap();
    assert!(other.resume(&past).await.unwrap_err().is_timeout());
    // A topic that is not there.
    parts[3] = i64::MAX.to_string();
    parts[4] = "nowhere".to_owned();
    let nowhere: CallToken = parts.join(":").parse().unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(other.resume(&nowhere).await.unwrap().await.unwrap_err().kind(), ErrorKind::Gone);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
