//! The embedded broker, over TCP.
use std::net::TcpListener;

use crate::*;

/// Two nodes with sockets.
async fn two_nodes(_: &Broker, _: &Client) -> Option<Broker> {
    Some(Broker::builder().nodes(2).start().await.unwrap())
}

async fn answers(broker: &Broker) {
    let client = Client::connect(&broker.address()).await.unwrap();
    client.admin().list_topics().await.unwrap();
    client.close().await;
}

#[tokio::test]
async fn starting_a_broker() {
    let started = async |_: &mut Stage<()>, broker: Option<Result<Broker>>| {
        if let Some(broker) = broker {
            answers(&broker.unwrap()).await;
        }
    };
    drop_at_each_await(
        "milena::broker::Broker::start",
        async |_, _| (),
        |_| Box::pin(Broker::start()),
        started,
    )
    .await;
    let start = || Broker::builder().nodes(3).start();
    let name = "milena::broker::BrokerBuilder::start";
    drop_at_each_await(name, async |_, _| (), |_| Box::pin(start()), started).await;
}

#[tokio::test]
async fn a_node_whose_stop_was_dropped_could_not_be_started() {
    let points = drop_at_each_await(
        "milena::broker::Broker::stop_node",
        two_nodes,
        |stage| Box::pin(stage.own.as_ref().unwrap().stop_node(2)),
        async |stage, _| {
            let broker = stage.own.as_ref().unwrap();
            let _ = broker.stop_node(2).await;
            broker.start_node(2).await.unwrap();
            answers(broker).await;
        },
    );
    assert!(points.await > 0);
}

#[tokio::test]
async fn starting_a_node() {
    drop_at_each_await(
        "milena::broker::Broker::start_node",
        async |broker, client| {
            let own = two_nodes(broker, client).await;
            own.as_ref().unwrap().stop_node(2).await.unwrap();
            own
        },
        |stage| Box::pin(stage.own.as_ref().unwrap().start_node(2)),
        async |stage, started| {
            let broker = stage.own.as_ref().unwrap();
            if started.is_none() {
                broker.start_node(2).await.unwrap();
            }
            answers(broker).await;
        },
    )
    .await;
}

#[tokio::test]
async fn stopping_a_broker() {
    let points = drop_at_each_await(
        "milena::broker::Broker::stop",
        async |broker, client| {
            let own = two_nodes(broker, client).await.unwrap();
            let client = Client::connect(&own.address()).await.unwrap();
            (own.node_address(1).unwrap(), Some(own), client)
        },
        |stage| Box::pin(stage.own.1.take().unwrap().stop()),
        async |stage, _| until("its port is free", || TcpListener::bind(&stage.own.0).is_ok()).await,
    );
    assert!(points.await > 0);
}
