//! Responders of one group: what is committed, what moves, what is done twice.
use milena::ResponderBuilder;

use crate::*;

const GROUP: &str = "gated";

/// Handlers that tell what they begin with and wait until they are let go.
struct Gate {
    begun: mpsc::Sender<String>,
    beginnings: mpsc::Receiver<String>,
    gate: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        let (begun, beginnings) = mpsc::channel(100);
        Self { begun, beginnings, gate: Arc::new(Semaphore::new(0)) }
    }

    fn responder(&self, client: &Client) -> ResponderBuilder {
        let (begun, gate) = (self.begun.clone(), self.gate.clone());
        let handler = move |request: Request| {
            let (begun, gate) = (begun.clone(), gate.clone());
            async move {
                let value = String::from_utf8(request.value().to_vec()).unwrap();
                let _ = begun.send(value.clone()).await;
                // Only the requests that say so wait.
                if value.starts_with("wait") {
                    gate.acquire().await.unwrap().forget();
                }
                value
            }
        };
        let quick = Duration::from_millis(10);
        client
            .responder(GROUP)
            .on_request("sum", handler)
            .consumer(|consumer| consumer.auto_commit_interval(quick))
    }

    async fn begins(&mut self, value: &str) {
        assert_eq!(tokio::time::timeout(LONG, self.beginnings.recv()).await.unwrap().unwrap(), value);
    }

    fn let_go(&self) {
        self.gate.add_permits(100);
    }
}

/// Members that died are missed soon.
async fn brief_sessions() -> Stage {
    let broker = Broker::builder().config("group.min.session.timeout.ms", "100");
    let broker = broker.config("group.consumer.session.timeout.ms", "400");
    let broker = broker.config("group.consumer.heartbeat.interval.ms", "20").start().await.unwrap();
    broker.create_topic("sum", 4).unwrap();
    broker.create_topic(REPLIES, 3).unwrap();
    let client = Client::connect(&broker.address()).await.unwrap();
    Stage { broker, client }
}

type Asked = tokio::task::JoinHandle<milena::Result<Reply>>;

fn ask(requester: &Requester, value: &str, partition: i32) -> Asked {
    let (requester, value) = (requester.clone(), value.to_owned());
    tokio::spawn(async move { requester.request("sum", &value).partition(partition).timeout(LONG).await })
}

async fn answered(call: Asked) -> String {
    call.await.unwrap().unwrap().text().into_owned()
}

/// Where the group stands in a partition.
async fn committed(client: &Client, partition: i32) -> Option<i64> {
    let offsets = client.admin().group_offsets(GROUP).await.unwrap();
    offsets.get(&TopicPartition::new("sum", partition)).map(|committed| committed.offset)
}

async fn until_committed(client: &Client, partition: i32, offset: i64) {
    let deadline = Instant::now() + LONG;
    loop {
        let at = committed(client, partition).await;
        if at == Some(offset) {
            return;
        }
        assert!(Instant::now() < deadline && at.is_none_or(|at| at <= offset), "{at:?}, not {offset}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A client of its own, which can die without the others.
async fn own_client(stage: &Stage) -> Client {
    Client::connect(&stage.broker.address()).await.unwrap()
}

#[tokio::test]
async fn requests_sent_before_the_first_member_came_are_answered() {
    let stage = Stage::new(1).await;
    let call = ask(&stage.requester().await, "early", 2);
    until("the request in the log", || stage.broker.log("sum", 2).unwrap().end_offset() == 1).await;
    let _responder = Gate::new().responder(&stage.client).start().await.unwrap();
    assert_eq!(answered(call).await, "early");
}

#[tokio::test]
async fn a_commit_never_passes_an_unfinished_request() {
    let stage = Stage::new(1).await;
    let mut gate = Gate::new();
    let responder = gate.responder(&stage.client).start().await.unwrap();
    let requester = stage.requester().await;
    assert_eq!(answered(ask(&requester, "a", 0)).await, "a");
    let slow = ask(&requester, "wait", 0);
    gate.begins("a").await;
    gate.begins("wait").await;
    for _ in 0..5 {
        assert_eq!(answered(ask(&requester, "b", 0)).await, "b");
    }
    until_committed(&stage.client, 0, 1).await;
    // Several intervals later it is still so.
    let commits = stage.broker.requests(Api::OFFSET_COMMIT);
    assert_eq!(answered(ask(&requester, "c", 1)).await, "c");
    until("another commit", || stage.broker.requests(Api::OFFSET_COMMIT) > commits).await;
    assert_eq!(committed(&stage.client, 0).await, Some(1));
    assert_eq!(responder.finished(&TopicPartition::new("sum", 0)), Some(1));
    gate.let_go();
    assert_eq!(answered(slow).await, "wait");
    until_committed(&stage.client, 0, 7).await;
}

#[tokio::test]
async fn nothing_is_committed_while_its_reply_is_not_acknowledged() {
    let stage = Stage::new(1).await;
    let responder = Gate::new().responder(&stage.client).start().await.unwrap();
    let requester = stage.requester().await;
    assert_eq!(answered(ask(&requester, "a", 0)).await, "a");
    until_committed(&stage.client, 0, 1).await;
    stage.broker.faults().add(Fault::on(Api::PRODUCE).topic(REPLIES).delay(Duration::from_millis(300)));
    let call = ask(&requester, "b", 0);
    until("the handler", || responder.metrics().requests == 2).await;
    assert_eq!(committed(&stage.client, 0).await, Some(1));
    stage.broker.faults().clear();
    assert_eq!(answered(call).await, "b");
    until_committed(&stage.client, 0, 2).await;
}

#[tokio::test]
async fn what_is_skipped_is_committed() {
    let stage = Stage::new(1).await;
    let responder = Gate::new().responder(&stage.client).clock_skew(Duration::ZERO).reply_topics(["others"]);
    let responder = responder.start().await.unwrap();
    let requester = stage.requester().await;
    let refused = requester.request("sum", "refused").partition(0).timeout(Duration::from_millis(20));
    assert!(refused.await.unwrap_err().is_timeout());
    let producer = stage.client.producer().build().await.unwrap();
    producer.send("sum", Record::value("no request").partition(0)).await.unwrap().await.unwrap();
    until("both are skipped", || responder.metrics().unhandled == 1).await;
    until_committed(&stage.client, 0, 2).await;
}

#[tokio::test]
async fn a_request_without_a_deadline_expires_with_its_age() {
    let stage = Stage::new(1).await;
    let producer = stage.client.producer().build().await.unwrap();
    let hour = 3_600_000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    for (age, value) in [(hour, "old"), (0, "new")] {
        let record = Record::value(value).partition(0).timestamp(now - age);
        let record = record.header("kafka_correlationId", "1").header("kafka_replyTopic", REPLIES);
        producer.send("sum", record).await.unwrap().await.unwrap();
    }
    let mut gate = Gate::new();
    let responder = gate.responder(&stage.client).start().await.unwrap();
    gate.begins("new").await;
    until_committed(&stage.client, 0, 2).await;
    assert_eq!((responder.metrics().expired, responder.metrics().requests), (1, 1));
}

#[tokio::test]
async fn a_responder_that_dies_between_reply_and_commit_is_replaced_and_its_caller_notices_nothing() {
    let stage = Stage::new(1).await;
    let mut gate = Gate::new();
    let client = own_client(&stage).await;
    let never = Duration::from_secs(3600);
    let first = gate.responder(&client).consumer(|consumer| {
        consumer.auto_commit_interval(never).session_timeout(Duration::from_secs(6)).group_instance_id("one")
    });
    let first = first.start().await.unwrap();
    let requester = stage.requester().await;
    assert_eq!(answered(ask(&requester, "once", 0)).await, "once");
    gate.begins("once").await;
    until("the reply is acknowledged", || first.metrics().answered == 1).await;
    assert_eq!(committed(&stage.client, 0).await, None);
    // It dies without a word; the next one of its name takes its place at once.
    drop(first);
    drop(client);
    let next = gate.responder(&stage.client).consumer(|consumer| consumer.group_instance_id("one"));
    let next = next.start().await.unwrap();
    gate.begins("once").await;
    until("the second reply", || requester.metrics().duplicate == 1).await;
    until_committed(&stage.client, 0, 1).await;
    let metrics = requester.metrics();
    assert_eq!((metrics.answered, metrics.in_flight, next.metrics().answered), (1, 0, 1));
}

#[tokio::test]
async fn members_come_close_and_die_and_every_call_is_answered() {
    for protocol in [milena::GroupProtocol::Classic, milena::GroupProtocol::Consumer] {
        come_close_and_die(protocol).await;
    }
}

async fn come_close_and_die(protocol: milena::GroupProtocol) {
    let stage = brief_sessions().await;
    let start = async |client: &Client| {
        let responder = client.responder("adders").on_request("sum", add).consumer(|consumer| {
            let consumer = consumer.group_protocol(protocol).session_timeout(Duration::from_millis(400));
            consumer.heartbeat_interval(Duration::from_millis(20))
        });
        responder.start().await.unwrap()
    };
    let requester = stage.requester().await;
    let mut calls = JoinSet::new();
    let mut call = |number: u64| {
        let requester = requester.clone();
        calls.spawn(async move {
            let reply = requester.request("sum", &format!("{number},1")).timeout(LONG).await.unwrap();
            assert_eq!(reply.text(), (number + 1).to_string());
        });
    };
    let stays = start(&stage.client).await;
    let mut number = 0;
    for round in 0..6 {
        let client = own_client(&stage).await;
        let comes = start(&client).await;
        until("its partitions", || {
            call(number);
            number += 1;
            comes.metrics().requests > 0
        })
        .await;
        match round % 2 {
            0 => comes.close().await,
            _ => drop((comes, client)),
        }
    }
    let count = calls.len();
    calls.join_all().await;
    assert!(stays.metrics().revoked > 0);
    println!("{count} calls answered, {} replies came twice", requester.metrics().duplicate);
}

#[tokio::test]
async fn a_partition_is_given_up_when_its_handlers_have_ended_and_the_others_go_on_meanwhile() {
    let stage = Stage::new(1).await;
    let mut gate = Gate::new();
    let first = gate.responder(&stage.client).revocation_timeout(LONG);
    let quick = |consumer: milena::ConsumerBuilder| consumer.heartbeat_interval(Duration::from_millis(10));
    let first = first.consumer(quick).start().await.unwrap();
    let requester = stage.requester().await;
    let calls: Vec<_> =
        (0..4).map(|partition| ask(&requester, &format!("wait {partition}"), partition)).collect();
    until("a handler in each partition", || first.metrics().running == 4).await;
    let second = gate.responder(&stage.client).consumer(quick).start().await.unwrap();
    until("both know of the second round", || stage.broker.requests(Api::SYNC_GROUP) >= 3).await;
    let heartbeats = stage.broker.requests(Api::HEARTBEAT);
    until("two partitions are asked back", || stage.broker.requests(Api::HEARTBEAT) >= heartbeats + 6).await;
    // Those that stay are read on, although handlers of all run.
    let stays = ask(&requester, "stays 0", 0);
    let more: Vec<_> =
        (1..4).map(|partition| ask(&requester, &format!("stays {partition}"), partition)).collect();
    let mut begun = Vec::new();
    while begun.len() < 6 {
        begun.push(tokio::time::timeout(LONG, gate.beginnings.recv()).await.unwrap().unwrap());
    }
    assert_eq!(begun.iter().filter(|value| value.starts_with("stays")).count(), 2, "{begun:?}");
    assert_eq!((first.metrics().revoked, second.metrics().requests), (0, 0));
    gate.let_go();
    for (partition, call) in calls.into_iter().enumerate() {
        assert_eq!(answered(call).await, format!("wait {partition}"));
    }
    for call in more.into_iter().chain([stays]) {
        answered(call).await;
    }
    assert_eq!((first.metrics().revoked, first.metrics().requests, second.metrics().requests), (2, 6, 2));
    assert_eq!(requester.metrics().duplicate, 0, "nothing was executed twice");
}

#[tokio::test]
async fn handlers_that_take_too_long_for_a_revocation_reply_and_their_requests_are_executed_again() {
    let stage = Stage::new(1).await;
    let mut gate = Gate::new();
    let quick = |consumer: milena::ConsumerBuilder| consumer.heartbeat_interval(Duration::from_millis(10));
    let first = gate.responder(&stage.client).revocation_timeout(Duration::from_millis(20)).consumer(quick);
    let first = first.start().await.unwrap();
    let requester = stage.requester().await;
    let calls: Vec<_> = (0..4).map(|partition| ask(&requester, "wait", partition)).collect();
    for _ in 0..4 {
        gate.begins("wait").await;
    }
    let second = gate.responder(&stage.client).consumer(quick).start().await.unwrap();
    for _ in 0..2 {
        gate.begins("wait").await;
    }
    assert_eq!((first.metrics().running, second.metrics().running), (4, 2));
    gate.let_go();
    for call in calls {
        answered(call).await;
    }
    until("the second replies", || requester.metrics().duplicate == 2).await;
    for partition in 0..4 {
        until_committed(&stage.client, partition, 1).await;
    }
}

#[tokio::test]
async fn what_runs_of_lost_partitions_replies_commits_nothing_and_is_executed_again() {
    let stage = brief_sessions().await;
    let mut gate = Gate::new();
    let responder = gate.responder(&stage.client).consumer(|consumer| {
        consumer.session_timeout(Duration::from_millis(400)).heartbeat_interval(Duration::from_millis(10))
    });
    let responder = responder.start().await.unwrap();
    let requester = stage.requester().await;
    let call = ask(&requester, "wait", 0);
    gate.begins("wait").await;
    stage.broker.faults().add(Fault::on(Api::HEARTBEAT).error(milena::ErrorCode::UNKNOWN_MEMBER_ID).times(1));
    gate.begins("wait").await;
    assert_eq!((responder.metrics().lost_partitions, responder.metrics().running), (4, 2));
    // The first execution ends.
    gate.gate.add_permits(1);
    assert_eq!(answered(call).await, "wait");
    assert_eq!(answered(ask(&requester, "other", 1)).await, "other");
    until_committed(&stage.client, 1, 1).await;
    assert!(committed(&stage.client, 0).await.is_none_or(|at| at == 0), "the second execution runs");
    gate.let_go();
    until_committed(&stage.client, 0, 1).await;
    assert_eq!((requester.metrics().answered, requester.metrics().duplicate), (2, 1));
}

#[tokio::test]
async fn where_nodes_stamp_requests_the_callers_clock_does_not_matter() {
    let stage = Stage::new(1).await;
    let stamped = milena::NewTopic::new("stamped", 1, 1).config("message.timestamp.type", "LogAppendTime");
    stage.client.admin().create_topics([stamped]).await.unwrap();
    let producer = stage.client.producer().build().await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    // A caller whose clock is five minutes slow.
    let deadline = (now - 300_000 + 30_000).to_string();
    for topic in ["sum", "stamped"] {
        let record =
            Record::value(topic).partition(0).header("rpc-id", "1").header("rpc-reply-topic", REPLIES);
        let record = record.header("rpc-deadline", &*deadline).header("rpc-timeout", "30000");
        producer.send(topic, record).await.unwrap().await.unwrap();
    }
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let handler = |seen: Arc<std::sync::Mutex<Vec<_>>>| {
        move |request: Request| {
            let left = request.deadline().unwrap() - Instant::now();
            seen.lock().unwrap().push((request.topic().to_owned(), left > Duration::from_secs(15)));
            async {}
        }
    };
    let responder = stage.client.responder(GROUP).on_request("sum", handler(seen.clone()));
    let responder = responder.on_request("stamped", handler(seen.clone())).start().await.unwrap();
    until("both are looked at", || responder.metrics().expired + responder.metrics().answered == 2).await;
    assert_eq!(*seen.lock().unwrap(), [("stamped".to_owned(), true)]);
}

#[tokio::test]
async fn a_partition_at_its_limit_is_paused_and_the_others_go_on() {
    let stage = Stage::new(1).await;
    let mut gate = Gate::new();
    let responder = gate.responder(&stage.client).partition_concurrency(2).start().await.unwrap();
    let requester = stage.requester().await;
    let slow: Vec<_> = (0..7).map(|_| ask(&requester, "wait", 0)).collect();
    for _ in 0..2 {
        gate.begins("wait").await;
    }
    until("all are in the log", || stage.broker.log("sum", 0).unwrap().end_offset() == 7).await;
    for _ in 0..20 {
        assert_eq!(answered(ask(&requester, "quick", 1)).await, "quick");
        gate.begins("quick").await;
    }
    assert_eq!(responder.metrics().running, 2);
    gate.let_go();
    for call in slow {
        answered(call).await;
    }
}

#[tokio::test]
async fn requests_of_one_key_run_one_after_the_other_and_others_beside_them() {
    let stage = Stage::new(1).await;
    let running = Arc::new(std::sync::Mutex::new((std::collections::HashMap::<Vec<u8>, u32>::new(), 0)));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let handler = {
        let (running, order) = (running.clone(), order.clone());
        move |request: Request| {
            let (running, order) = (running.clone(), order.clone());
            async move {
                let key = request.key().unwrap().to_vec();
                {
                    let (by_key, most) = &mut *running.lock().unwrap();
                    let of_key = by_key.entry(key.clone()).or_default();
                    *of_key += 1;
                    assert_eq!(*of_key, 1, "two of one key run");
                    *most = by_key.values().sum::<u32>().max(*most);
                }
                order.lock().unwrap().push((key.clone(), request.offset()));
                tokio::time::sleep(Duration::from_millis(2)).await;
                *running.lock().unwrap().0.get_mut(&key).unwrap() -= 1;
            }
        }
    };
    let responder = stage.client.responder("ordered").on_request("sum", handler).ordered_by_key();
    let _responder = responder.start().await.unwrap();
    let requester = stage.requester().await;
    let mut calls = JoinSet::new();
    for number in 0..60 {
        let requester = requester.clone();
        calls.spawn(async move {
            let key = format!("key {}", number % 4);
            requester.request("sum", "").partition(0).key(&key).timeout(LONG).await.unwrap()
        });
    }
    calls.join_all().await;
    let order = order.lock().unwrap();
    assert_eq!(order.len(), 60);
    for key in 0..4 {
        let key = format!("key {key}").into_bytes();
        assert!(order.iter().filter(|(of, _)| *of == key).map(|(_, offset)| offset).is_sorted());
    }
    assert!(running.lock().unwrap().1 > 1, "nothing ran side by side");
}

#[tokio::test]
async fn what_takes_longer_than_the_drain_is_cut_off_and_answered_by_the_next() {
    let stage = Stage::new(1).await;
    let gate = Gate::new();
    let client = own_client(&stage).await;
    let first = gate.responder(&client).drain_timeout(Duration::from_millis(20)).start().await.unwrap();
    let requester = stage.requester().await;
    let (done, cut) = (ask(&requester, "done", 0), ask(&requester, "wait", 1));
    assert_eq!(answered(done).await, "done");
    until("the slow handler", || first.metrics().requests == 2 && first.metrics().answered == 1).await;
    first.close().await;
    assert_eq!((first.metrics().cut_off, first.metrics().running), (1, 0));
    assert_eq!((committed(&stage.client, 0).await, committed(&stage.client, 1).await), (Some(1), Some(0)));
    gate.let_go();
    let next = gate.responder(&stage.client).start().await.unwrap();
    assert_eq!(answered(cut).await, "wait");
    assert_eq!(next.metrics().requests, 1);
}

#[tokio::test]
async fn a_responder_that_is_closed_commits_and_leaves() {
    let stage = Stage::new(1).await;
    let gate = Gate::new();
    let never = Duration::from_secs(3600);
    let first = gate.responder(&stage.client).consumer(|consumer| consumer.auto_commit_interval(never));
    let first = first.start().await.unwrap();
    let requester = stage.requester().await;
    assert_eq!(answered(ask(&requester, "a", 3)).await, "a");
    first.close().await;
    assert_eq!(committed(&stage.client, 3).await, Some(1));
    let next = gate.responder(&stage.client).start().await.unwrap();
    // It needs not wait for the session of the first to end.
    let call = ask(&requester, "b", 3);
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), answered(call)).await.unwrap(), "b");
    assert_eq!(next.metrics().requests, 1);
}

#[tokio::test]
async fn who_is_fenced_ends_and_says_so() {
    let stage = Stage::new(1).await;
    let gate = Gate::new();
    let same = |consumer: milena::ConsumerBuilder| {
        consumer.group_instance_id("same").heartbeat_interval(Duration::from_millis(10))
    };
    let first = gate.responder(&stage.client).consumer(same).start().await.unwrap();
    until("its partitions", || first.metrics().assigned == 4).await;
    let _second = gate.responder(&stage.client).consumer(same).start().await.unwrap();
    let error = tokio::time::timeout(LONG, first.wait()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(milena::ErrorCode::FENCED_INSTANCE_ID), "{error}");
}
