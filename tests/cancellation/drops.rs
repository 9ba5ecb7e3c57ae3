//! Client, producer, consumer, requester and responder dropped in any order, whatever they do.
use std::sync::Arc;
use std::time::Duration;

use milena::Connector;
use tokio::sync::Semaphore;

use crate::crew::{Crew, Held, STATES, Waiters, cluster, runtimes, turns};
use crate::*;

/// A handler that answers only after the test.
const LATER: Duration = Duration::from_secs(20);

/// All orders of five.
fn orders() -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for next in 0..5 {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, next);
                order
            })
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    orders
}

#[test]
fn in_every_order_nothing_is_left_and_everybody_is_answered() {
    for (runtime, step) in runtimes().into_iter().zip([1, 10]) {
        runtime.block_on(async {
            for (at, order) in orders().iter().enumerate().step_by(step) {
                for state in STATES {
                    let broker = cluster(Broker::builder().in_memory()).await;
                    let of_the_broker = alive();
                    let client = within(builder(&broker).build()).await.unwrap();
                    let crew = within(Crew::new(client, LATER)).await;
                    let (held, waiters) = within(crew.hold(&broker, state)).await;
                    let mut held = held.map(Some);
                    for member in order {
                        drop::<Option<Held>>(held[*member].take());
                        turns(at % 3).await;
                    }
                    waiters.end(&broker).await;
                    until("no task is left", || alive() == of_the_broker).await;
                    drop(broker);
                    until("the broker ends", || alive() == 0).await;
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_dropped_producer_had_handed_over_may_be_written_later_and_says_so() {
    let broker = cluster(Broker::builder().in_memory()).await;
    let gate = Arc::new(Semaphore::new(1));
    let (network, door) = (broker.network(), gate.clone());
    let connector = Connector::new(move |host: String, port| {
        let (network, door) = (network.clone(), door.clone());
        async move {
            door.acquire().await.unwrap().forget();
            network.connect(&host, port)
        }
    });
    let client = builder(&broker).connector(connector).build().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    let mut waiters = Waiters::default();
    waiters.send(&producer).await;
    turns(100).await;
    // The requests wait in the client, which lives on.
    assert!(producer.metrics().in_flight > 0 && broker.requests(Api::PRODUCE) == 0);
    drop(producer);
    turns(100).await;
    gate.add_permits(10);
    turns(100).await;
    drop(client);
    waiters.end(&broker).await;
}

/// A race of two threads: about one drop in a thousand hit it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_dropped_while_it_fetched_kept_a_connection() {
    let broker = cluster(Broker::builder().in_memory()).await;
    broker.append("t", 0, &[Record::value("a")]).unwrap();
    let client = builder(&broker).build().await.unwrap();
    for at in 1..=1000 {
        let consumer = client.consumer().assign([("t", 0), ("t", 1)]).fetch_max_wait(Duration::ZERO);
        let mut consumer = consumer.build().await.unwrap();
        within(consumer.next()).await.unwrap().unwrap();
        drop(consumer);
        if at % 50 == 0 {
            // One to each node is the client's own.
            until("only the client's connections are left", || broker.connections() <= 2).await;
        }
    }
}
