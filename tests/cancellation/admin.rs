//! Administration: what was asked for may happen all the same, and nothing breaks.
use milena::{Admin, Error, ErrorCode, ErrorKind, NewTopic};

use crate::dropped::Dropped;
use crate::*;

/// A call, dropped; the same call afterwards does what it should, or says that it was done.
async fn call<T>(
    name: &str,
    api: Api,
    call: impl for<'a> Fn(&'a Admin) -> Dropped<'a, Result<T>>,
    done: impl Fn(&Error) -> bool,
) {
    for faults in faults(api) {
        let points = drop_at_each_await(
            name,
            async |broker, client| {
                broker.append("t", 0, &[Record::value("a")]).unwrap();
                add(broker, &faults);
                client.admin()
            },
            |stage| call(&stage.own),
            async |stage, _| {
                stage.broker.faults().clear();
                again(async || match call(&stage.own).await {
                    Err(error) if !done(&error) => Err(error),
                    _ => Ok(()),
                })
                .await;
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn creating_topics() {
    call(
        "milena::Admin::create_topics",
        Api::CREATE_TOPICS,
        |admin| Box::pin(admin.create_topics(NewTopic::new("new", 1, 1))),
        |error| error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn deleting_topics() {
    call(
        "milena::Admin::delete_topics",
        Api::DELETE_TOPICS,
        |admin| Box::pin(admin.delete_topics(["t"])),
        |error| error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn adding_partitions() {
    call(
        "milena::Admin::create_partitions",
        Api::CREATE_PARTITIONS,
        |admin| Box::pin(admin.create_partitions("t", 3)),
        |error| error.code() == Some(ErrorCode::INVALID_PARTITIONS),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn deleting_records() {
    call(
        "milena::Admin::delete_records",
        Api::DELETE_RECORDS,
        |admin| Box::pin(admin.delete_records("t", 0, -1)),
        |_| false,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn listing_topics() {
    call("milena::Admin::list_topics", Api::METADATA, |admin| Box::pin(admin.list_topics()), |_| false).await;
}

#[tokio::test(start_paused = true)]
async fn describing_topics() {
    call(
        "milena::Admin::describe_topics",
        Api::METADATA,
        |admin| Box::pin(admin.describe_topics(["t"])),
        |_| false,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn describing_the_cluster() {
    call(
        "milena::Admin::describe_cluster",
        Api::METADATA,
        |admin| Box::pin(admin.describe_cluster()),
        |_| false,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn describing_options() {
    call(
        "milena::Admin::describe_configs",
        Api::DESCRIBE_CONFIGS,
        |admin| Box::pin(admin.describe_configs("t")),
        |_| false,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn altering_options() {
    // The embedded broker does not offer it, so its answer is not among the await points.
    call(
        "milena::Admin::alter_configs",
        Api::new(44),
        |admin| Box::pin(admin.alter_configs("t", &[("retention.ms", Some("1"))])),
        |error| error.kind() == ErrorKind::Unsupported,
    )
    .await;
}

fn no_group(error: &Error) -> bool {
    error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND)
}

#[tokio::test(start_paused = true)]
async fn listing_groups() {
    call("milena::Admin::list_groups", Api::LIST_GROUPS, |admin| Box::pin(admin.list_groups()), |_| false)
        .await;
}

#[tokio::test(start_paused = true)]
async fn describing_a_group() {
    for api in [Api::FIND_COORDINATOR, Api::CONSUMER_GROUP_DESCRIBE, Api::DESCRIBE_GROUPS] {
        call("milena::Admin::describe_group", api, |admin| Box::pin(admin.describe_group("g")), no_group)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn deleting_groups() {
    call(
        "milena::Admin::delete_groups",
        Api::DELETE_GROUPS,
        |admin| Box::pin(admin.delete_groups(["g"])),
        no_group,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn reading_the_offsets_of_a_group() {
    call(
        "milena::Admin::group_offsets",
        Api::OFFSET_FETCH,
        |admin| Box::pin(admin.group_offsets("g")),
        |_| false,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn setting_the_offsets_of_a_group() {
    call(
        "milena::Admin::alter_group_offsets",
        Api::OFFSET_COMMIT,
        |admin| Box::pin(admin.alter_group_offsets("g", [(("t", 0), 1)])),
        |_| false,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn deleting_the_offsets_of_a_group() {
    call(
        "milena::Admin::delete_group_offsets",
        Api::OFFSET_DELETE,
        |admin| Box::pin(admin.delete_group_offsets("g", [("t", 0)])),
        no_group,
    )
    .await;
}
