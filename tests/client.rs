//! The client and its administration against the embedded broker, over TCP and in memory.
use std::time::Duration;

use milena::broker::{Api, Broker, Fault, Release};
use milena::protocol::messages::{ListOffsetsRequest, MetadataRequest};
use milena::{Client, ClientBuilder, Connector, ErrorCode, ErrorKind, NewTopic, Target};

/// A client of the broker's, without sockets.
fn in_memory(broker: &Broker) -> ClientBuilder {
    let network = broker.network();
    let connector = Connector::new(move |host: String, port| {
        let stream = network.connect(&host, port);
        async move { stream }
    });
    Client::builder().bootstrap(&broker.address()).unwrap().connector(connector)
}

/// Waits until a look at something is satisfied.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

#[tokio::test]
async fn topics_are_created_described_grown_and_deleted() {
    let broker = Broker::builder().nodes(3).start().await.unwrap();
    let client = Client::connect(&broker.address()).await.unwrap();
    let admin = client.admin();
    admin.create_topics(NewTopic::new("orders", 2, 3).config("retention.ms", "60000")).await.unwrap();
    admin.create_topics([NewTopic::new("a", 1, 1), NewTopic::new("b", -1, -1)]).await.unwrap();
    let names: Vec<_> = admin.list_topics().await.unwrap().into_iter().map(|topic| topic.name).collect();
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "orders"]);
    let orders = admin.describe_topics(["orders"]).await.unwrap().remove(0);
    assert_eq!((orders.partitions.len(), orders.internal, orders.id.is_nil()), (2, false, false));
    assert!(
        orders.partitions.iter().all(|partition| partition.leader.is_some() && partition.replicas.len() == 3)
    );
    admin.create_partitions("orders", 5).await.unwrap();
    assert_eq!(admin.describe_topics(["orders"]).await.unwrap()[0].partitions.len(), 5);
    admin.delete_topics(["a", "b"]).await.unwrap();
    assert_eq!(admin.list_topics().await.unwrap().len(), 1);
    let cluster = admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 2, 3]);
    client.close().await;
}

#[tokio::test]
async fn an_error_of_a_topic_names_it() {
    let broker = Broker::start().await.unwrap();
    let admin = Client::connect(&broker.address()).await.unwrap().admin();
    admin.create_topics(NewTopic::new("t", 1, 1)).await.unwrap();
    let again = admin.create_topics([NewTopic::new("u", 1, 1), NewTopic::new("t", 1, 1)]).await.unwrap_err();
    assert_eq!((again.code(), again.topic()), (Some(ErrorCode::TOPIC_ALREADY_EXISTS), Some("t")));
    assert_eq!(again.api(), Some("CreateTopics"));
    assert_eq!(admin.list_topics().await.unwrap().len(), 2, "the other one was created");
    let unknown = admin.delete_topics(["nope"]).await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let unknown = admin.describe_topics(["nope"]).await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.topic()),
        (Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), Some("nope"))
    );
}

#[tokio::test]
async fn an_operation_waits_out_a_controller_that_has_moved() {
    let broker = Broker::start().await.unwrap();
    let admin = in_memory(&broker).build().await.unwrap().admin();
    broker.faults().add(Fault::on(Api::CREATE_TOPICS).times(2).error(ErrorCode::NOT_CONTROLLER));
    admin.create_topics(NewTopic::new("t", 1, 1)).await.unwrap();
    assert_eq!(broker.faults().struck(), 2);
}

#[tokio::test]
async fn records_before_an_offset_are_deleted() {
    let broker = Broker::builder().nodes(2).start().await.unwrap();
    broker.create_topic("t", 2).unwrap();
    for value in ["a", "b", "c"] {
        broker.append("t", 1, &[milena::Record::value(value)]).unwrap();
    }
    let admin = in_memory(&broker).build().await.unwrap().admin();
    assert_eq!(admin.delete_records("t", 1, 2).await.unwrap(), 2);
    assert_eq!(admin.delete_records("t", 1, -1).await.unwrap(), 3);
    let beyond = admin.delete_records("t", 1, 9).await.unwrap_err();
    assert_eq!((beyond.code(), beyond.partition()), (Some(ErrorCode::OFFSET_OUT_OF_RANGE), Some(1)));
}

#[tokio::test]
async fn options_of_a_topic_can_be_read() {
    let broker = Broker::start().await.unwrap();
    let admin = in_memory(&broker).build().await.unwrap().admin();
    admin.create_topics(NewTopic::new("t", 1, 1).config("max.message.bytes", "1234")).await.unwrap();
    let configs = admin.describe_configs("t").await.unwrap();
    let limit = configs.iter().find(|config| config.name == "max.message.bytes").unwrap();
    assert_eq!(limit.value.as_deref(), Some("1234"));
}

#[tokio::test]
async fn nodes_of_every_release_are_understood() {
    for release in [Release::V2_1, Release::V2_8, Release::V3_9, Release::V4_1] {
        let broker = Broker::builder().versions(release).in_memory().start().await.unwrap();
        let client = in_memory(&broker).build().await.unwrap();
        client.admin().create_topics(NewTopic::new("t", 1, 1)).await.unwrap();
        assert_eq!(client.admin().describe_topics(["t"]).await.unwrap().len(), 1, "{release:?}");
        client.admin().delete_topics(["t"]).await.unwrap();
        client.close().await;
    }
}

#[tokio::test]
async fn any_message_can_be_sent_and_a_missing_version_is_named() {
    let broker = Broker::builder().max_version(Api::LIST_OFFSETS, 0).start().await.unwrap();
    let client = in_memory(&broker).build().await.unwrap();
    let answer = client.request(Target::Any, |_| MetadataRequest::default().with_topics(None)).await.unwrap();
    assert_eq!(answer.brokers.len(), 1);
    let error = client.request(Target::Node(1), |_| ListOffsetsRequest::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::Unsupported, Some("ListOffsets")));
    let error = client.request(Target::Node(9), |_| MetadataRequest::default()).await.unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("node 9"), "{error}");
}

#[tokio::test]
async fn a_client_outlives_every_node_but_one_and_finds_the_cluster_again_when_all_were_gone() {
    let broker = Broker::builder().nodes(3).start().await.unwrap();
    broker.create_topic("t", 3).unwrap();
    let client = in_memory(&broker)
        .retry_backoff(Duration::from_millis(1), Duration::from_millis(5))
        .reconnect_backoff(Duration::from_millis(1), Duration::from_millis(5))
        .build()
        .await
        .unwrap();
    let admin = client.admin();
    for node in [1, 2] {
        broker.stop_node(node).await.unwrap();
        let topics = admin.describe_topics(["t"]).await.unwrap();
        assert_eq!(topics[0].partitions.len(), 3);
    }
    broker.stop_node(3).await.unwrap();
    broker.start_node(1).await.unwrap();
    until("node 1 answers", async || admin.describe_topics(["t"]).await.ok()).await;
    client.close().await;
    assert!(admin.list_topics().await.unwrap_err().is_closed());
}

#[tokio::test]
async fn an_answer_cut_in_the_middle_says_how_far_it_came() {
    let broker = Broker::start().await.unwrap();
    let client = in_memory(&broker).build().await.unwrap();
    broker.faults().add(Fault::on(Api::DESCRIBE_CONFIGS).times(1).cut_mid_frame());
    broker.create_topic("t", 1).unwrap();
    let error = client.admin().describe_configs("t").await.unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::Connect, Some("DescribeConfigs")));
    assert!(error.to_string().contains("the connection ended after"), "{error}");
    assert!(client.admin().describe_configs("t").await.is_ok(), "the next connection serves");
}

#[tokio::test]
async fn options_are_checked() {
    for (key, value) in [
        ("request.timeout.ms", "-1"),
        ("request.timeout.ms", "x"),
        ("request.timeout.ms", "18446744073709551615"),
        ("bootstrap.servers", "host:port"),
        ("no.such.key", "1"),
        ("security.protocol", "SSL"),
    ] {
        let error = Client::builder().set(key, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{key}");
        assert!(error.to_string().contains(value) || error.to_string().contains(key), "{error}");
    }
    assert_eq!(Client::builder().build().await.unwrap_err().kind(), ErrorKind::Config);
    assert!(ClientBuilder::knows("client.id") && ClientBuilder::knows("request.timeout.ms"));
    assert!(!ClientBuilder::knows("linger.ms"));
    let odd = Client::builder().bootstrap("h:1").unwrap().request_timeout(Duration::ZERO);
    assert_eq!(odd.build().await.unwrap_err().kind(), ErrorKind::Config);
}
