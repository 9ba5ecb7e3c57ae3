//! Handlers that are ready when they are polled first, and those that are not.
use crate::*;

/// Answers with the task that it runs in.
async fn which_task(request: Request) -> String {
    if request.value() == b"later" {
        tokio::task::yield_now().await;
    }
    tokio::task::id().to_string()
}

#[tokio::test]
async fn only_a_handler_that_waits_has_a_task_of_its_own() {
    let stage = Stage::in_memory(1).await;
    let _responder = stage.client.responder("tasks").on_request("sum", which_task).start().await.unwrap();
    let requester = stage.requester().await;
    let task = async |value: &str| requester.request("sum", value).await.unwrap().text().into_owned();
    task("later").await;
    // No handler takes any time.
    tokio::time::pause();
    let first = task("").await;
    let later = [task("later").await, task("later").await];
    assert_eq!(task("").await, first);
    assert!(later[0] != first && later[1] != first && later[0] != later[1], "{first} {later:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handlers_that_keep_their_threads_run_side_by_side() {
    let stage = Stage::new(1).await;
    let met = Arc::new(AtomicUsize::new(0));
    let meet = {
        let met = met.clone();
        move |_: Request| {
            let met = met.clone();
            async move {
                let (before, begun) = (met.fetch_add(1, SeqCst), Instant::now());
                // The first shows what is to be expected; each of the others keeps its thread until the other is there.
                let (all, limit) = if before == 0 { (usize::MAX, 0.001) } else { (3, 5.0) };
                while met.load(SeqCst) < all && begun.elapsed().as_secs_f64() < limit {
                    std::thread::yield_now();
                }
                met.load(SeqCst).to_string()
            }
        }
    };
    let _responder = stage.client.responder("meeting").on_request("sum", meet).start().await.unwrap();
    let requester = stage.requester().await;
    let call = || requester.request("sum", "").timeout(LONG).into_future();
    assert_eq!(call().await.unwrap().text(), "1");
    let (one, other) = tokio::join!(call(), call());
    assert_eq!((&*one.unwrap().text(), &*other.unwrap().text()), ("3", "3"));
}

#[tokio::test]
async fn what_a_node_does_not_take_is_told_or_counted_for_each_reply() {
    let stage = Stage::new(1).await;
    let responder = stage.adder().await;
    let requester = stage.requester().await;
    assert_eq!(requester.request("sum", "1").await.unwrap().text(), "1");
    let refuse = |code| {
        let fault = Fault::on(Api::PRODUCE).topic(REPLIES).error(code);
        stage.broker.faults().add(fault.times(1));
    };
    refuse(milena::ErrorCode::MESSAGE_TOO_LARGE);
    let error = requester.request("sum", "1").await.unwrap_err();
    let reply = error.source().unwrap().downcast_ref::<ErrorReply>().unwrap();
    assert_eq!(reply.status(), Status::RESOURCE_EXHAUSTED);
    refuse(milena::ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let error = requester.request("sum", "1").timeout(Duration::from_millis(200)).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(requester.request("sum", "2").await.unwrap().text(), "2");
    until("all are done", || responder.metrics().running == 0).await;
    let metrics = responder.metrics();
    assert_eq!((metrics.requests, metrics.answered, metrics.refused, metrics.lost), (4, 3, 1, 1));
}

#[tokio::test]
async fn an_event_that_is_handled_at_once_is_finished() {
    let stage = Stage::new(1).await;
    let told = Arc::new(Notify::new());
    let tell = told.clone();
    let responder = stage.client.responder("events").on_event("sum", move |_: Event| {
        tell.notify_one();
        async {}
    });
    let responder = responder.start().await.unwrap();
    let producer = stage.client.producer().build().await.unwrap();
    let event = Record::value("happened").partition(0);
    let written = producer.send("sum", event).await.unwrap().await.unwrap();
    told.notified().await;
    let partition = TopicPartition::new("sum", written.partition);
    until("it is finished", || responder.finished(&partition) == written.offset.map(|offset| offset + 1))
        .await;
    assert_eq!(responder.metrics().running, 0);
}

#[tokio::test]
async fn events_that_are_handled_at_once_leave_the_thread_to_others() {
    const EVENTS: usize = 2_000;
    let stage = Stage::new(1).await;
    let producer = stage.client.producer().linger(LONG).build().await.unwrap();
    for _ in 0..EVENTS {
        drop(producer.send("sum", Record::value("").partition(0)).await.unwrap());
    }
    producer.flush().await.unwrap();
    let (handled, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let other = {
        let (handled, most) = (handled.clone(), most.clone());
        tokio::spawn(async move {
            let mut before = 0;
            while before < EVENTS {
                tokio::task::yield_now().await;
                let now = handled.load(SeqCst);
                most.fetch_max(now - before, SeqCst);
                before = now;
            }
        })
    };
    let count = handled.clone();
    let responder = stage.client.responder("counters").on_event("sum", move |_: Event| {
        count.fetch_add(1, SeqCst);
        async {}
    });
    let _responder = responder.start_at(Offset::Beginning).start().await.unwrap();
    tokio::time::timeout(LONG, other).await.unwrap().unwrap();
    let most = most.load(SeqCst);
    assert!(most <= 1_200, "{most} events while nobody else had a turn");
}
