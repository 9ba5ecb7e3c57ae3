//! The end outside of the runtime that everything was made on: on other threads, while a thread ends or unwinds, and after the runtime.
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use milena::Dialect;
use tokio::runtime::{Builder, Runtime};

use crate::crew::{Crew, Held, STATES, cluster, runtimes, turns};
use crate::*;

type Crowd = [Held; 5];

fn another_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn on_a_plain_thread(crowd: Crowd) {
    thread::spawn(move || drop(crowd)).join().unwrap();
}

fn on_another_runtime(crowd: Crowd) {
    thread::spawn(move || another_runtime().block_on(async move { drop(crowd) })).join().unwrap();
}

fn while_unwinding(crowd: Crowd) {
    let unwinds = move || {
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _crowd = crowd;
            resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err());
    };
    thread::spawn(unwinds).join().unwrap();
}

fn when_a_thread_ends(crowd: Crowd) {
    thread_local!(static KEPT: RefCell<Option<Crowd>> = const { RefCell::new(None) });
    let keep = move || {
        KEPT.set(Some(crowd));
        // What the runtime keeps for this thread was made later and is gone earlier.
        another_runtime().block_on(async { turns(1).await });
    };
    thread::spawn(keep).join().unwrap();
}

const WAYS: [fn(Crowd); 4] = [on_a_plain_thread, on_another_runtime, while_unwinding, when_a_thread_ends];

#[test]
fn drops_on_other_threads_neither_block_nor_panic() {
    for runtime in runtimes() {
        runtime.block_on(async {
            for (way, state) in WAYS.iter().flat_map(|way| STATES.map(|state| (way, state))) {
                let broker = cluster(Broker::builder().in_memory()).await;
                let of_the_broker = alive();
                let client = within(builder(&broker).build()).await.unwrap();
                let crew = within(Crew::new(client, Duration::from_secs(20))).await;
                let (held, waiters) = within(crew.hold(&broker, state)).await;
                let begun = Instant::now();
                way(held);
                assert!(begun.elapsed() < Duration::from_secs(10), "it blocks");
                waiters.end(&broker).await;
                until("no task is left", || alive() == of_the_broker).await;
                drop(broker);
                until("the broker ends", || alive() == 0).await;
            }
        });
    }
}

/// Real time, for what must end by itself.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it waits for a runtime that is gone")
}

#[test]
fn what_a_runtime_leaves_behind_answers_that_it_is_closed() {
    for runtime in runtimes() {
        let (crew, delivery, broker) = runtime.block_on(async {
            let broker = cluster(Broker::builder().in_memory()).await;
            let client = builder(&broker).build().await.unwrap();
            let crew = Crew::new(client, Duration::from_secs(20)).await;
            let delivery = crew.producer.send("t", Record::value("lingers")).await.unwrap();
            (crew, delivery, broker)
        });
        drop(runtime);
        let Crew { client, producer, mut consumer, requester, responder } = crew;
        another_runtime().block_on(async {
            assert!(soon(delivery).await.unwrap_err().is_closed());
            assert!(soon(producer.send("t", Record::value("x"))).await.unwrap_err().is_closed());
            soon(producer.flush()).await.unwrap();
            soon(producer.close()).await.unwrap();
            assert!(matches!(soon(consumer.next()).await, Ok(None)));
            assert!(soon(consumer.position(("t", 0))).await.unwrap_err().is_closed());
            assert!(soon(consumer.end_offsets([("t", 0)])).await.unwrap_err().is_closed());
            soon(consumer.close()).await;
            assert!(soon(requester.request("asked", "x").into_future()).await.unwrap_err().is_closed());
            soon(requester.close()).await;
            assert!(soon(responder.wait()).await.unwrap_err().is_closed());
            soon(responder.close()).await;
            assert!(soon(client.admin().list_topics()).await.unwrap_err().is_closed());
            soon(client.close()).await;
        });
        drop((client, producer, requester, responder, broker));
    }
}

/// As the last one, but their tasks never had a turn.
#[test]
fn what_was_made_just_before_its_runtime_ended_answers_that_it_is_closed() {
    let runtime = another_runtime();
    let (broker, client) = runtime.block_on(async {
        let broker = cluster(Broker::builder().in_memory()).await;
        let client = builder(&broker).build().await.unwrap();
        (broker, client)
    });
    let (producer, mut consumer, requester) = runtime.block_on(async {
        let producer = client.producer().build().await.unwrap();
        let consumer = client.consumer().topics(["t"]).build().await.unwrap();
        (producer, consumer, client.requester().dialect(Dialect::Nest).build().await.unwrap())
    });
    drop(runtime);
    another_runtime().block_on(async {
        soon(producer.close()).await.unwrap();
        assert!(matches!(soon(consumer.next()).await, Ok(None)));
        assert!(soon(requester.request("asked", "x").into_future()).await.is_err());
        soon(requester.close()).await;
    });
    drop(broker);
}
