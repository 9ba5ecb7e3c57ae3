//! The client against peers written here, most of them hostile.
mod peer;

use crate::error::ErrorKind;
use peer::Peer;

#[tokio::test]
async fn a_client_finds_its_cluster_over_tcp() {
    let peer = Peer::start().await;
    let client = peer.connect().await.unwrap();
    let cluster = client.core().cluster();
    assert_eq!(cluster.nodes[&1].port, peer.port());
    let topic = client.core().topic("orders", peer::soon()).await.unwrap();
    assert_eq!((topic.partitions.len(), topic.partitions[0].leader), (3, Some(1)));
    client.close().await;
    assert_eq!(client.metrics().connections_open, 0);
}

#[tokio::test]
async fn nobody_listening_fails_with_address_and_cause() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = super::Client::connect(&free.to_string()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
