//! Groups on real Kafka: alone, and in one group with Java's consumer.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use milena::assignor::{
    Assignor, CooperativeStickyAssignor, RangeAssignor, RoundRobinAssignor, StickyAssignor,
};
use milena::{Batch, Client, CommittedOffset, Consumer, ConsumerEvent, ErrorCode, GroupProtocol, Record};

use crate::on_calm_kafka;
use crate::support::kafka::NEWEST;

const PARTITIONS: i32 = 4;

async fn write(client: &Client, topic: &str, from: u32, count: u32) {
    let producer = client.producer().build().await.unwrap();
    for number in from..from + count {
        let text = number.to_string();
        drop(producer.send(topic, Record::value(&text).partition(number as i32 % PARTITIONS)).await.unwrap());
    }
    producer.flush().await.unwrap();
    producer.close().await.unwrap();
}

fn numbers(batch: &Batch) -> Vec<u32> {
    let number = |value: Option<&[u8]>| std::str::from_utf8(value.unwrap()).unwrap().parse().unwrap();
    batch.iter().map(|record| number(record.value())).collect()
}

/// By the classic protocol with an assignor, or by that of KIP-848.
type Kind = Option<Arc<dyn Assignor>>;

async fn member(client: &Client, group: &str, topic: &str, kind: &Kind) -> Consumer {
    let builder = client.consumer().group(group).topics([topic]);
    let builder = match kind {
        Some(assignor) => builder.assignors([assignor.clone()]),
        None => builder.group_protocol(GroupProtocol::Consumer),
    };
    let builder =
        builder.session_timeout(Duration::from_secs(10)).heartbeat_interval(Duration::from_millis(200));
    builder.build().await.unwrap()
}

/// What was read, and how much of it more than once.
#[derive(Default)]
struct Seen {
    numbers: BTreeSet<u32>,
    repeated: usize,
}

impl Seen {
    fn take(&mut self, batch: milena::Result<Option<Batch>>) {
        for number in numbers(&batch.unwrap().unwrap()) {
            self.repeated += usize::from(!self.numbers.insert(number));
        }
    }

    async fn read(&mut self, consumer: &mut Consumer, count: usize) {
        while self.numbers.len() < count {
            self.take(consumer.next().await);
        }
    }
}

fn classic() -> Vec<Kind> {
    vec![
        Some(Arc::new(RangeAssignor)),
        Some(Arc::new(RoundRobinAssignor)),
        Some(Arc::new(StickyAssignor::default())),
        Some(Arc::new(CooperativeStickyAssignor::default())),
    ]
}

/// Two members, one after the other gone, of each kind.
fn share(version: &'static str, kinds: Vec<Kind>) {
    on_calm_kafka(version, 1, async |kafka, client| {
        for kind in kinds {
            let name = kind.as_ref().map_or("consumer", |assignor| assignor.name()).to_owned();
            let topic = &*kafka.topic(&format!("share-{name}"), PARTITIONS);
            let group = &*format!("share-{topic}");
            write(&client, topic, 0, 1000).await;
            let mut seen = Seen::default();
            let mut first = member(&client, group, topic, &kind).await;
            seen.read(&mut first, 500).await;
            let mut second = member(&client, group, topic, &kind).await;
            while seen.numbers.len() < 1000
                || [&first, &second].iter().any(|member| member.assignment().len() != 2)
            {
                tokio::select! {
                    batch = first.next() => seen.take(batch),
                    batch = second.next() => seen.take(batch),
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
            assert_eq!(seen.repeated, 0, "{name}: all was finished when it was given up");
            first.close().await;
            write(&client, topic, 1000, 1000).await;
            seen.read(&mut second, 2000).await;
            assert_eq!((seen.repeated, second.assignment().len()), (0, 4), "{name}");
            second.commit().await.unwrap();
            let offsets =
                second.committed((0..PARTITIONS).map(|partition| (topic, partition))).await.unwrap();
            for offset in offsets.into_values() {
                assert_eq!(offset.unwrap().offset, 500, "{name}");
            }
            let described = client.admin().describe_group(group).await.unwrap();
            let (kind, assignor) = match kind {
                Some(_) => ("classic", &*name),
                None => ("consumer", "uniform"),
            };
            assert_eq!((&*described.group_type, &*described.assignor), (kind, assignor));
            let [member] = &described.members[..] else { panic!("{described:?}") };
            let mut own = second.assignment();
            own.sort_unstable();
            assert_eq!(member.assignment, own, "{name}");
            assert_eq!(member.target_assignment.is_some(), kind == "consumer");
            second.close().await;
        }
    });
}

#[test]
fn two_members_share_a_topic_on_kafka_4_3() {
    share(NEWEST, classic());
}

#[test]
fn two_members_share_a_topic_by_the_consumer_protocol_on_kafka_4_3() {
    share(NEWEST, vec![None]);
}

#[test]
fn a_group_moves_from_one_protocol_to_the_other_on_kafka_4_3() {
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        let topic = &*kafka.topic("moves", PARTITIONS);
        let group = &*format!("moves-{topic}");
        write(&client, topic, 0, 1000).await;
        let mut seen = Seen::default();
        let cooperative: Kind = Some(Arc::new(CooperativeStickyAssignor::default()));
        let mut old = member(&client, group, topic, &cooperative).await;
        seen.read(&mut old, 500).await;
        let mut new = member(&client, group, topic, &None).await;
        while seen.numbers.len() < 1000 || [&old, &new].iter().any(|member| member.assignment().len() != 2) {
            tokio::select! {
                batch = old.next() => seen.take(batch),
                batch = new.next() => seen.take(batch),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        old.close().await;
        write(&client, topic, 1000, 1000).await;
        seen.read(&mut new, 2000).await;
        assert_eq!((seen.repeated, new.assignment().len()), (0, 4));
        new.close().await;
    });
}

#[test]
fn two_members_share_a_topic_on_kafka_3_9() {
    share("3.9.2", classic());
}

#[test]
fn two_members_share_a_topic_on_kafka_2_8() {
    share("2.8.2", classic());
}

/// A static member that restarts, its leader's topics that grow, and the administrator's view, as real coordinators have them.
fn details(version: &'static str) {
    on_calm_kafka(version, 1, async |kafka, client| {
        let topic = &*kafka.topic("details", 2);
        let group = &*format!("details-{topic}");
        let build = async |instance: &str| {
            let builder = client.consumer().group(group).topics([topic]).group_instance_id(instance);
            let builder = builder.assignors([Arc::new(CooperativeStickyAssignor::default()) as _]);
            builder.heartbeat_interval(Duration::from_millis(200)).build().await.unwrap()
        };
        let told = async |consumer: &mut Consumer| loop {
            match consumer.next_event().await.unwrap().unwrap() {
                ConsumerEvent::Batch(_) => {}
                event => return format!("{event:?}"),
            }
        };
        let mut first = build("one").await;
        assert_eq!(told(&mut first).await, format!("Assigned([{topic}-0, {topic}-1])"));
        let mut second = build("two").await;
        assert!(told(&mut first).await.starts_with("Revoked"));
        let (quiet, assigned) =
            tokio::join!(tokio::time::timeout(Duration::from_secs(1), first.next_event()), told(&mut second));
        assert!(quiet.is_err() && assigned.starts_with("Assigned"), "{quiet:?} {assigned}");
        // The second comes back, and the first does not learn of it.
        second.close().await;
        let mut second = build("two").await;
        assert_eq!(told(&mut second).await, assigned);
        assert!(tokio::time::timeout(Duration::from_secs(1), first.next_event()).await.is_err());

        let admin = client.admin();
        assert!(admin.list_groups().await.unwrap().iter().any(|listed| listed.id == group));
        let described = admin.describe_group(group).await.unwrap();
        assert_eq!((&*described.state, &*described.assignor), ("Stable", "cooperative-sticky"));
        let instances: Vec<_> =
            described.members.iter().map(|member| member.instance_id.as_deref()).collect();
        assert!(instances.contains(&Some("one")) && instances.contains(&Some("two")), "{instances:?}");
        let error = admin.delete_groups([group]).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NON_EMPTY_GROUP));
        let error = admin.alter_group_offsets(group, [((topic, 0), 0)]).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID));
        let error = admin.describe_group("nowhere").await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));

        // The leader comes back, too, and sees to it that new partitions are read.
        first.close().await;
        let mut first = build("one").await;
        assert!(told(&mut first).await.starts_with("Assigned"));
        client.admin().create_partitions(topic, 4).await.unwrap();
        let grown = async |consumer: &mut Consumer| {
            while consumer.assignment().len() < 2 {
                told(consumer).await;
            }
        };
        tokio::join!(grown(&mut first), grown(&mut second));
        // The older of two with one instance id is shut out.
        let mut twin = build("one").await;
        assert!(told(&mut twin).await.starts_with("Assigned"));
        assert!(told(&mut first).await.starts_with("Lost"));
        assert_eq!(first.next().await.unwrap_err().code(), Some(ErrorCode::FENCED_INSTANCE_ID));

        let other = &*format!("other-{topic}");
        admin
            .alter_group_offsets(other, [((topic, 0), CommittedOffset::from(0).metadata("by hand"))])
            .await
            .unwrap();
        let offsets = admin.group_offsets(other).await.unwrap();
        assert_eq!(&*offsets[&(topic, 0).into()].metadata, "by hand");
        admin.delete_group_offsets(other, [(topic, 0)]).await.unwrap();
        assert!(admin.group_offsets(other).await.unwrap().is_empty());
        admin.delete_groups([other]).await.unwrap_or_else(|error| {
            // Without offsets it may be gone by itself.
            assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
        });
    });
}

#[test]
fn details_of_a_group_on_kafka_4_3() {
    details(NEWEST);
}

#[test]
fn details_of_a_group_on_kafka_2_8() {
    details("2.8.2");
}
