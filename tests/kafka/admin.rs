//! Administration of real clusters, old and new.
use milena::protocol::messages::{ApiVersionsRequest, DescribeClusterRequest};
use milena::{ErrorCode, NewTopic, Target};

use crate::support::kafka::NEWEST;

#[test]
fn topics_of_kafka_4_3_are_administered() {
    administer(NEWEST);
}

#[test]
fn topics_of_kafka_2_8_are_administered() {
    administer("2.8.2");
}

fn administer(version: &'static str) {
    crate::on_calm_kafka(version, 1, async |kafka, client| {
        let admin = client.admin();
        let name = kafka.topic("grown", 1);
        admin.create_partitions(&name, 3).await.unwrap();
        crate::kafka::wait_for("three partitions", std::time::Duration::from_secs(30), || {
            let leaders = (0..3).map(|partition| kafka.leader(&name, partition));
            if leaders.min() == Some(1) { Ok(()) } else { Err("not led yet".into()) }
        });
        let again = admin.create_topics(NewTopic::new(&name, 1, 1)).await.unwrap_err();
        assert_eq!(again.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
        let greedy = admin.create_topics(NewTopic::new(format!("{name}-greedy"), 1, 5)).await.unwrap_err();
        assert_eq!(greedy.code(), Some(ErrorCode::INVALID_REPLICATION_FACTOR));
        admin.alter_configs(&name, &[("retention.ms", Some("12345"))]).await.unwrap();
        let own = |configs: Vec<milena::TopicConfig>| {
            let found = configs.into_iter().find(|config| config.name == "retention.ms").unwrap();
            (found.value, found.is_own)
        };
        let set = own(admin.describe_configs(&name).await.unwrap());
        assert_eq!(set, (Some("12345".into()), true));
        admin.alter_configs(&name, &[("retention.ms", None)]).await.unwrap();
        assert!(!own(admin.describe_configs(&name).await.unwrap()).1);
        assert_eq!(admin.delete_records(&name, 0, -1).await.unwrap(), 0);
        assert!(admin.list_topics().await.unwrap().iter().any(|topic| *topic.name == *name));
        assert_eq!(admin.describe_cluster().await.unwrap().nodes.len(), 1);
        admin.delete_topics([&name]).await.unwrap();
        let gone = admin.delete_topics([&name]).await.unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        // And what no method is for.
        let versions = client
            .request(Target::Any, |_| {
                ApiVersionsRequest::default()
                    .with_client_software_name("test".into())
                    .with_client_software_version("1".into())
            })
            .await
            .unwrap();
        assert!(versions.api_keys.len() > 40);
        let described = client.request(Target::Node(1), |_| DescribeClusterRequest::default()).await.unwrap();
        assert_eq!(described.brokers.len(), 1);
    });
}
