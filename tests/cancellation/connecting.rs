//! Futures dropped while a connection is being made, or never comes about.
use milena::protocol::messages::MetadataRequest;
use milena::{Connector, Target};

use crate::*;

/// Connects to the hosts that `reach` allows; the others are waited for in vain.
pub(crate) fn only(broker: &Broker, reach: impl Fn(&str) -> bool + Send + Sync + 'static) -> Connector {
    let network = broker.network();
    Connector::new(move |host: String, port| {
        let connected = reach(&host).then(|| network.connect(&host, port));
        async move {
            match connected {
                Some(connected) => connected,
                None => std::future::pending().await,
            }
        }
    })
}

/// A client that never reaches node 2.
pub(crate) async fn without_node_2(broker: &Broker) -> Client {
    builder(broker).connector(only(broker, |host| host != "node-2")).build().await.unwrap()
}

#[tokio::test]
async fn connecting_over_tcp() {
    // An address, and a name that is resolved on another thread.
    for host in ["127.0.0.1", "localhost"] {
        let points = drop_at_each_await(
            "milena::Client::connect",
            async |_, _| {
                let broker = Broker::start().await.unwrap();
                (broker.address().replace("127.0.0.1", host), broker)
            },
            |stage| Box::pin(Client::connect(&stage.own.0)),
            async |stage, client| {
                drop(client.map(Result::unwrap));
                until("no connection is left", || stage.own.1.connections() == 0).await;
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_connections_never_come_about() {
    let points = drop_at_each_await(
        "milena::ClientBuilder::build",
        async |_, _| alive(),
        |stage| Box::pin(builder(&stage.broker).connector(only(&stage.broker, |_| false)).build()),
        async |stage, built| {
            assert!(built.is_none_or(|built| built.is_err()));
            until("no task is left", || alive() == stage.own).await;
        },
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_node_that_cannot_be_reached() {
    let points = drop_at_each_await(
        "milena::Client::request",
        async |broker, _| without_node_2(broker).await,
        |stage| Box::pin(stage.own.request(Target::Node(2), |_| MetadataRequest::default())),
        async |stage, outcome| {
            assert!(outcome.is_none_or(|outcome| outcome.is_err_and(|error| !error.maybe_written())));
            // The connection there is serves on.
            stage.own.admin().list_topics().await.unwrap();
        },
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_to_a_node_that_cannot_be_reached() {
    let points = drop_at_each_await(
        "milena::Delivery",
        async |broker, _| {
            let producer = without_node_2(broker).await.producer().build().await.unwrap();
            (producer.send("t", Record::value("never").partition(1)).await.ok(), producer)
        },
        |stage| Box::pin(stage.own.0.take().unwrap()),
        async |stage, outcome| {
            assert!(outcome.is_none_or(|outcome| outcome.is_err_and(|error| error.is_timeout())));
            let producer = &stage.own.1;
            producer.send("t", Record::value("a").partition(0)).await.unwrap().await.unwrap();
            producer.close().await.unwrap();
            assert_eq!(producer.metrics().buffered_bytes, 0);
            assert_eq!(stage.broker.log("t", 1).unwrap().end_offset(), 0);
        },
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_look_and_a_next_while_a_node_cannot_be_reached() {
    let reading = async |broker: &Broker, _: &Client| {
        broker.append("t", 0, &[Record::value("a")]).unwrap();
        without_node_2(broker).await.consumer().assign([("t", 0), ("t", 1)]).build().await.unwrap()
    };
    let points = drop_at_each_await(
        "milena::ConsumerHandle::position",
        reading,
        |stage| Box::pin(stage.own.position(("t", 1))),
        async |stage, position| {
            assert!(position.is_none_or(|position| position.is_err_and(|error| error.is_timeout())));
            assert_eq!(stage.own.next().await.unwrap().unwrap().len(), 1, "the other node's");
        },
    );
    assert!(points.await > 0);
    let points = drop_at_each_await(
        "milena::Consumer::next",
        async |broker, client| {
            let mut consumer = reading(broker, client).await;
            consumer.next().await.unwrap().unwrap();
            consumer
        },
        |stage| Box::pin(stage.own.next()),
        async |stage, batch| {
            assert!(batch.is_none());
            stage.broker.append("t", 0, &[Record::value("b")]).unwrap();
            assert_eq!(stage.own.next().await.unwrap().unwrap().next_offset(), 2);
        },
    );
    assert!(points.await > 0);
}
