//! Administration: topics, their partitions, records and options; groups and their offsets.
mod groups;
mod types;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest, MetadataResponse,
};

pub use groups::{GroupDescription, GroupListing, GroupMemberDescription};
pub use types::{
    ClusterDescription, NewTopic, NodeDescription, PartitionDescription, TopicConfig, TopicDescription,
};
use types::{text, topic_name};

use crate::client::{Client, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::Purpose;
use crate::network::link::now;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::request::Request;

/// How long an operation is tried again (Kafka: `default.api.timeout.ms`).
const API_TIMEOUT: Duration = Duration::from_secs(60);
/// Kafka's number for a topic among the things that have options.
const TOPIC: i8 = 2;
/// Kafka's number for a value that is the topic's own.
const OWN_VALUE: i8 = 1;

/// Codes of an operation that had no effect and may have one later. An unknown topic is not among them: whoever deletes
/// one wants to hear of it.
const PASSING: [ErrorCode; 3] =
    [ErrorCode::NOT_CONTROLLER, ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::THROTTLING_QUOTA_EXCEEDED];

/// Creates, changes, describes and deletes topics, and looks after groups. Made by [`Client::admin`]; cheap to clone.
///
/// An operation on several topics fails with the first error that a topic met, which names the topic; what could be
/// done for the others was done. Errors that pass by themselves, such as a controller that has just moved, are waited
/// out for a minute. All methods are cancel safe in that nothing breaks; what was asked for may happen all the same.
///
/// ```
/// use milena::{Client, NewTopic};
///
/// # #[tokio::main]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// let client = Client::connect(&broker.address()).await?;
/// let admin = client.admin();
/// admin.create_topics(NewTopic::new("orders", 12, 1).config("retention.ms", "3600000")).await?;
/// for topic in admin.list_topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions.len());
/// }
/// admin.delete_topics(["orders"]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Client {
    /// Administration of the cluster.
    pub fn admin(&self) -> Admin {
        Admin { client: self.clone() }
    }
}

/// A topic's error in an answer.
type Failed = (String, ErrorCode, Option<String>);

impl Admin {
    /// Creates topics. A node may need a moment longer to know them; producers and consumers wait for that.
    ///
    /// Fails with `TOPIC_ALREADY_EXISTS`, `INVALID_REPLICATION_FACTOR` and so on, as the controller says.
    pub async fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> Result<()> {
        let topics: Vec<_> = topics.into_iter().map(|topic| topic.request()).collect();
        let timeout = self.timeout();
        let answer = |response: &<CreateTopicsRequest as Request>::Response| {
            let topics = response.topics.iter();
            topics
                .map(|topic| failed(&topic.name.0, topic.error_code, topic.error_message.as_deref()))
                .collect()
        };
        let build =
            move |_| CreateTopicsRequest::default().with_topics(topics.clone()).with_timeout_ms(timeout);
        self.on_controller(build, answer).await
    }

    /// Deletes topics with all their records.
    pub async fn delete_topics<T: AsRef<str>>(&self, names: impl IntoIterator<Item = T>) -> Result<()> {
        let names: Vec<_> = names.into_iter().map(|name| topic_name(name.as_ref())).collect();
        let timeout = self.timeout();
        let answer = |response: &<DeleteTopicsRequest as Request>::Response| {
            let topics = response.responses.iter();
            topics
                .map(|topic| {
                    let name = topic.name.as_ref().map(|name| name.0.as_str()).unwrap_or_default();
                    failed(name, topic.error_code, topic.error_message.as_deref())
                })
                .collect()
        };
        let build = move |version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(timeout);
            if version < 6 {
                return request.with_topic_names(names.clone());
            }
            let topic = |name: &_| DeleteTopicState::default().with_name(Some(Clone::clone(name)));
            request.with_topics(names.iter().map(topic).collect())
        };
        self.on_controller(build, answer).await
    }

    /// Grows a topic to so many partitions. Keys may go to other partitions than before.
    pub async fn create_partitions(&self, topic: &str, total: i32) -> Result<()> {
        let (name, timeout) = (topic_name(topic), self.timeout());
        let answer = |response: &<CreatePartitionsRequest as Request>::Response| {
            let topics = response.results.iter();
            topics
                .map(|topic| failed(&topic.name.0, topic.error_code, topic.error_message.as_deref()))
                .collect()
        };
        let build = move |_| {
            let topic = CreatePartitionsTopic::default().with_name(name.clone()).with_count(total);
            CreatePartitionsRequest::default()
                .with_topics(vec![topic.with_assignments(None)])
                .with_timeout_ms(timeout)
        };
        self.on_controller(build, answer).await?;
        self.client.core().refresh();
        Ok(())
    }

    /// All topics that this client may see, by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>> {
        let response = self.metadata(None).await?;
        let mut topics: Vec<TopicDescription> = response.topics.iter().map(TopicDescription::from).collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// These topics, in the order of their names.
    ///
    /// Fails with `UNKNOWN_TOPIC_OR_PARTITION` if one does not exist.
    pub async fn describe_topics<T: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = T>,
    ) -> Result<Vec<TopicDescription>> {
        let names: Vec<_> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let response = self.metadata(Some(names)).await?;
        let mut topics = Vec::with_capacity(response.topics.len());
        for topic in &response.topics {
            let description = TopicDescription::from(topic);
            let code = ErrorCode::from(topic.error_code);
            if !code.is_none() {
                let error = Error::broker(code, "the topic cannot be described").in_api("Metadata");
                return Err(error.on_topic(description.name));
            }
            topics.push(description);
        }
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The nodes of the cluster.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let response = self.metadata(Some(Vec::new())).await?;
        let mut nodes: Vec<_> = response
            .brokers
            .iter()
            .map(|node| NodeDescription {
                id: node.node_id.0,
                host: node.host.as_str().into(),
                port: node.port as u16,
                rack: node.rack.as_deref().map(Into::into),
            })
            .collect();
        nodes.sort_unstable_by_key(|node| node.id);
        Ok(ClusterDescription {
            id: response.cluster_id.as_deref().map(Into::into),
            controller: (response.controller_id.0 >= 0).then_some(response.controller_id.0),
            nodes,
        })
    }

    /// Deletes the records of a partition that come before an offset; -1: all that are there. Returns the offset of
    /// the first record left.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<i64> {
        let core = self.client.core();
        let deadline = now() + API_TIMEOUT;
        let mut failures = 0;
        loop {
            let known = core.topic(topic, deadline).await?;
            let leader = known.partitions.get(partition as usize).and_then(|partition| partition.leader);
            let (name, timeout) = (topic_name(topic), self.timeout());
            let result = match leader {
                None => Err(Error::broker(ErrorCode::LEADER_NOT_AVAILABLE, "the partition has no leader")),
                Some(leader) => {
                    let build = move |_| {
                        let partition = DeleteRecordsPartition::default()
                            .with_partition_index(partition)
                            .with_offset(before);
                        let topic =
                            DeleteRecordsTopic::default().with_name(name).with_partitions(vec![partition]);
                        DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout)
                    };
                    core.call(Target::Node(leader), Purpose::Rest, build).await
                }
            };
            let result = result.and_then(|response| {
                let result = response.topics.first().and_then(|topic| topic.partitions.first());
                let result = result
                    .ok_or_else(|| Error::new(ErrorKind::Protocol, "an answer without the partition"))?;
                match ErrorCode::from(result.error_code) {
                    ErrorCode::NONE => Ok(result.low_watermark),
                    code => Err(Error::broker(code, "records were not deleted")),
                }
            });
            match result {
                Err(error) if error.is_retriable() && self.wait(&mut failures, deadline).await => {}
                result => {
                    return result
                        .map_err(|error| error.in_api("DeleteRecords").on_partition(topic, partition));
                }
            }
        }
    }

    /// The options of a topic, by name, defaults included.
    pub async fn describe_configs(&self, topic: &str) -> Result<Vec<TopicConfig>> {
        let name = text(topic);
        let build = move |_| {
            let resource =
                DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(name);
            DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(None)])
        };
        let response = self.client.core().call(Target::Any, Purpose::Rest, build).await?;
        let mut configs = Vec::new();
        for result in response.results {
            if let Some(error) = failure::<DescribeConfigsRequest>(failed(
                topic,
                result.error_code,
                result.error_message.as_deref(),
            )) {
                return Err(error);
            }
            configs.extend(result.configs.into_iter().map(|config| TopicConfig {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_own: config.config_source == OWN_VALUE,
                is_read_only: config.read_only,
            }));
        }
        configs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(configs)
    }

    /// Sets options of a topic, or with `None` takes their own value away (KIP-339). Others stay as they are.
    pub async fn alter_configs(&self, topic: &str, options: &[(&str, Option<&str>)]) -> Result<()> {
        let options: BTreeMap<String, Option<String>> =
            options.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
        let name = topic.to_owned();
        let answer = |response: &<IncrementalAlterConfigsRequest as Request>::Response| {
            let results = response.responses.iter();
            results
                .map(|result| {
                    failed(&result.resource_name, result.error_code, result.error_message.as_deref())
                })
                .collect()
        };
        let build = move |_| {
            let config = |(name, value): (&String, &Option<String>)| {
                AlterableConfig::default()
                    .with_name(text(name))
                    .with_config_operation(i8::from(value.is_none())) // 0 sets, 1 deletes
                    .with_value(value.as_deref().map(text))
            };
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(&name))
                .with_configs(options.iter().map(config).collect());
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        };
        self.on_controller(build, answer).await
    }

    /// How long a node may take, in milliseconds: less than the client waits, so that its answer arrives.
    fn timeout(&self) -> i32 {
        i32::try_from(self.client.core().config().request_timeout.as_millis() * 9 / 10).unwrap_or(i32::MAX)
    }

    async fn metadata(&self, names: Option<Vec<String>>) -> Result<MetadataResponse> {
        let topic = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let topics = names.map(|names| names.iter().map(topic).collect());
        let build =
            move |_| MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        self.client.core().call(Target::Any, Purpose::Rest, build).await
    }

    /// Asks the controller until no topic meets an error that passes by itself. What has succeeded meets
    /// "already exists" or "unknown" at the next try, so nothing is repeated unless all topics may be.
    async fn on_controller<R: Request>(
        &self,
        build: impl Fn(i16) -> R + Clone + Send + 'static,
        answer: impl Fn(&R::Response) -> Vec<Failed>,
    ) -> Result<()> {
        let deadline = now() + API_TIMEOUT;
        let mut failures = 0;
        loop {
            let build = build.clone();
            let result = self.client.core().call(Target::Controller, Purpose::Rest, build);
            let errors: Vec<Error> = match result.await {
                Ok(response) => {
                    let all = answer(&response);
                    let count = all.len();
                    let errors: Vec<_> = all.into_iter().filter_map(failure::<R>).collect();
                    if errors.len() < count {
                        return errors.into_iter().next().map_or(Ok(()), Err);
                    }
                    errors
                }
                Err(error) => vec![error],
            };
            let Some(first) = errors.first() else { return Ok(()) };
            let again = errors.iter().all(|error| match error.code() {
                Some(code) => PASSING.contains(&code),
                None => error.is_retriable() && !error.maybe_written(),
            });
            if !again || !self.wait(&mut failures, deadline).await {
                return Err(first.clone());
            }
        }
    }

    /// Waits before the next try; false: there is no time for one.
    async fn wait(&self, failures: &mut u32, deadline: std::time::Instant) -> bool {
        *failures += 1;
        let core = self.client.core();
        let next = now() + core.config().retry_backoff.after(*failures, &mut rand::rng());
        if next >= deadline || core.is_closed() {
            return false;
        }
        core.refresh();
        tokio::time::sleep_until(next.into()).await;
        true
    }
}

fn failed(topic: &str, code: i16, message: Option<&str>) -> Failed {
    (topic.to_owned(), code.into(), message.filter(|message| !message.is_empty()).map(str::to_owned))
}

fn failure<R: Request>((topic, code, message): Failed) -> Option<Error> {
    let message = message.unwrap_or_else(|| "refused".to_owned());
    (!code.is_none()).then(|| Error::broker(code, message).in_api(R::NAME).on_topic(topic))
}
