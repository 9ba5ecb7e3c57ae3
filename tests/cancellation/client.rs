//! The client itself.
use milena::Target;
use milena::protocol::messages::MetadataRequest;

use crate::*;

#[tokio::test(start_paused = true)]
async fn building_a_client() {
    for faults in faults(Api::API_VERSIONS).into_iter().chain(faults(Api::METADATA)) {
        let points = drop_at_each_await(
            "milena::ClientBuilder::build",
            async |broker, _| {
                add(broker, &faults);
                broker.connections()
            },
            |stage| Box::pin(builder(&stage.broker).build()),
            async |stage, built| {
                drop(built);
                until("no connection is left", || stage.broker.connections() == stage.own).await;
                assert!(builder(&stage.broker).build().await.is_ok());
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request() {
    for faults in faults(Api::METADATA) {
        let points = drop_at_each_await(
            "milena::Client::request",
            async |broker, _| add(broker, &faults),
            |stage| Box::pin(stage.client.request(Target::Node(2), |_| MetadataRequest::default())),
            async |stage, _| {
                again(async || stage.client.request(Target::Node(2), |_| MetadataRequest::default()).await)
                    .await;
            },
        );
        assert!(points.await > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_close_of_a_client_left_its_metadata_task() {
    let points = drop_at_each_await(
        "milena::Client::close",
        async |broker, client| {
            broker.faults().add(Fault::on(Api::METADATA).hang());
            let admin = client.admin();
            let asking = tokio::spawn(async move { admin.list_topics().await });
            until("the node hangs", || broker.faults().struck() == 1).await;
            asking
        },
        |stage| Box::pin(stage.client.close()),
        async |stage, closed| {
            let begun = tokio::time::Instant::now();
            if closed.is_some() {
                assert_eq!(stage.broker.connections(), 0);
            }
            if stage.client.consumer().build().await.is_err() {
                // Begun, it goes on by itself, until only the broker's own task is there.
                until("all has ended", || (stage.broker.connections(), alive()) == (0, 1)).await;
            }
            stage.client.close().await;
            assert!((&mut stage.own).await.unwrap().unwrap_err().is_closed());
            assert!(stage.client.admin().list_topics().await.unwrap_err().is_closed());
            assert_eq!(begun.elapsed().as_secs(), 0, "it waits for the node");
        },
    );
    assert!(points.await > 0);
}
