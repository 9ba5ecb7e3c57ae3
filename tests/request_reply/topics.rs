//! Reply topics that go away, come back, grow, or hold what cannot be read.
use crate::*;

use milena::ReplyAllocator;
use milena::broker::Fault;

const SOON: Duration = Duration::from_secs(5);

/// A call that nobody has answered yet.
async fn pending(requester: &Requester) -> tokio::task::JoinHandle<milena::Result<Reply>> {
    let (requester, before) = (requester.clone(), requester.metrics().in_flight);
    let asking = requester.clone();
    let call = tokio::spawn(async move { asking.request("sum", "1").timeout(LONG * 10).await });
    until("the call in flight", || requester.metrics().in_flight > before).await;
    call
}

async fn is_gone(call: tokio::task::JoinHandle<milena::Result<Reply>>) {
    let error = tokio::time::timeout(SOON, call).await.expect("it hangs").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
    assert!(error.maybe_written() && !error.is_timeout(), "{error}");
}

#[tokio::test]
async fn calls_end_with_their_reply_topic_and_the_next_goes_to_the_new_one() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let call = pending(&requester).await;
    stage.broker.delete_topic(REPLIES).unwrap();
    stage.broker.create_topic(REPLIES, 3).unwrap();
    is_gone(call).await;
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,2").timeout(LONG).await.unwrap().text(), "3");
    let metrics = requester.metrics();
    assert_eq!((metrics.gone, metrics.answered, metrics.draining), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_end_with_a_reply_topic_that_does_not_come_back() {
    let stage = Stage::in_memory(1).await;
    let build = stage.client.requester().reply_topic(REPLIES).create_reply_topic(false);
    let requester = build.build().await.unwrap();
    let call = pending(&requester).await;
    stage.broker.delete_topic(REPLIES).unwrap();
    is_gone(call).await;
    // It does not create the topic, and says why nothing can be asked.
    let started = tokio::time::Instant::now();
    let error = requester.request("sum", "1").timeout(LONG).await.unwrap_err();
    assert!(started.elapsed() <= LONG && !error.maybe_written(), "{error}");
    stage.broker.create_topic(REPLIES, 1).unwrap();
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,2").timeout(LONG).await.unwrap().text(), "3");
}

#[tokio::test(start_paused = true)]
async fn a_reply_topic_that_was_deleted_is_created_by_the_next_call() {
    let stage = Stage::in_memory(1).await;
    let requester = stage.requester().await;
    let call = pending(&requester).await;
    stage.broker.delete_topic(REPLIES).unwrap();
    is_gone(call).await;
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,2").timeout(LONG).await.unwrap().text(), "3");
}

fn value_of<'a>(record: &'a milena::ConsumerRecord, name: &str) -> Option<&'a [u8]> {
    record.headers().filter(|(key, _)| *key == name.as_bytes()).last()?.1
}

/// The requests so far, one by one.
async fn requests(stage: &Stage) -> milena::Consumer {
    stage.client.consumer().topics(["sum"]).build().await.unwrap()
}

async fn next(requests: &mut milena::Consumer) -> milena::ConsumerRecord {
    requests.next().await.unwrap().unwrap().records().next().unwrap()
}

#[tokio::test]
async fn a_requester_that_chose_its_partition_keeps_it_when_the_topic_grows() {
    let stage = Stage::new(1).await;
    let mut requests = requests(&stage).await;
    let requester = stage.client.requester().reply_topic(REPLIES).instance_id("it").build().await.unwrap();
    let _adder = stage.adder().await;
    requester.request("sum", "1").await.unwrap();
    let before = next(&mut requests).await;
    stage.client.admin().create_partitions(REPLIES, 12).await.unwrap();
    let mut cluster = stage.client.consumer().topics([REPLIES]).build().await.unwrap();
    cluster.next().await.unwrap();
    requester.request("sum", "1").await.unwrap();
    let after = next(&mut requests).await;
    let name = "rpc-reply-partition";
    assert!(value_of(&before, name).is_some());
    assert_eq!(value_of(&before, name), value_of(&after, name));
}

#[tokio::test]
async fn who_reads_all_partitions_names_none_and_finds_replies_on_new_ones() {
    let stage = Stage::new(1).await;
    let mut requests = requests(&stage).await;
    let build = stage.client.requester().reply_topic(REPLIES).allocator(ReplyAllocator::broadcast());
    let requester = build.build().await.unwrap();
    let call = pending(&requester).await;
    let request = next(&mut requests).await;
    for name in ["rpc-reply-partition", "kafka_replyPartition", "REPLY_PARTITION"] {
        assert_eq!(value_of(&request, name), None);
    }
    stage.client.admin().create_partitions(REPLIES, 5).await.unwrap();
    let producer = stage.client.producer().build().await.unwrap();
    let id = value_of(&request, "rpc-id").unwrap();
    let reply = Record::value("found").header("rpc-id", id).partition(4);
    producer.send(REPLIES, reply).await.unwrap().await.unwrap();
    let reply = tokio::time::timeout(SOON, call).await.expect("it is lost").unwrap().unwrap();
    assert_eq!((reply.text(), reply.record().partition()), ("found".into(), 4));
    let _adder = stage.adder().await;
    assert_eq!(requester.request("sum", "1,2").await.unwrap().text(), "3");
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_costs_no_reply_behind_it() {
    let stage = Stage::new(1).await;
    let requester = stage.requester().await;
    let mut requests = requests(&stage).await;
    let call = pending(&requester).await;
    let request = next(&mut requests).await;
    let producer = stage.client.producer().build().await.unwrap();
    // Its value is hit on the way each time it is fetched; other answers are shorter.
    let faults = stage.broker.faults();
    faults.add(Fault::on(Api::FETCH).corrupt(1_000));
    // The fetch that was parked before is over; who waits for requests has one of its own.
    let before = faults.struck();
    until("fetches that will be hit", || faults.struck() >= before + 2).await;
    // Long, whatever the codec.
    let long: Vec<u8> = (0..3_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    producer.send(REPLIES, Record::value(&long).partition(0)).await.unwrap().await.unwrap();
    let id = value_of(&request, "rpc-id").unwrap();
    let reply = Record::value("behind").header("rpc-id", id).partition(0);
    producer.send(REPLIES, reply).await.unwrap().await.unwrap();
    until("it is given up", || requester.metrics().unreadable == 1).await;
    faults.clear();
    let reply = tokio::time::timeout(LONG, call).await.expect("it is lost").unwrap().unwrap();
    assert_eq!(reply.text(), "behind");
    assert_eq!((requester.metrics().unreadable, requester.metrics().foreign), (1, 0));
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_refused() {
    let stage = Stage::new(1).await;
    let build = stage.client.requester().reply_topic(REPLIES).allocator(ReplyAllocator::fixed(3));
    assert_eq!(build.build().await.unwrap_err().kind(), ErrorKind::Config);
}
