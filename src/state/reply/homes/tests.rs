use super::*;
use crate::state::metadata::{Partition, Topic};

const SECOND: Duration = Duration::from_secs(1);

fn settle(homes: &mut Homes, partitions: &[i32]) -> HomeId {
    let address = Arc::new(match partitions {
        [one] => ReplyAddress::new("t", *one),
        _ => ReplyAddress::new("t", None),
    });
    homes.settle(address, partitions.iter().copied().collect(), Uuid::from_u128(1));
    homes.home("t").unwrap().0
}

fn released(homes: &mut Homes) -> Vec<i32> {
    let mut released: Vec<_> =
        std::iter::from_fn(|| homes.poll_release()).map(|released| released.partition()).collect();
    released.sort_unstable();
    released
}

/// What the metadata knows of the topic.
fn cluster(known: Option<u128>) -> Cluster {
    let mut cluster = Cluster::default();
    let (error, id) = match known {
        Some(id) => (ErrorCode::NONE, id),
        None => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0),
    };
    let (name, id): (Arc<str>, _) = ("t".into(), Uuid::from_u128(id));
    let topic = Topic { name: name.clone(), id, error, internal: false, partitions: Vec::new() };
    cluster.topics.insert(name, Arc::new(topic));
    cluster
}

#[test]
fn a_home_without_calls_is_released_as_soon_as_another_takes_its_place() {
    let mut homes = Homes::default();
    let first = settle(&mut homes, &[0]);
    assert_eq!(settle(&mut homes, &[0]), first);
    assert!(released(&mut homes).is_empty());
    settle(&mut homes, &[1]);
    assert_eq!((released(&mut homes), homes.draining()), (vec![0], 0));
}

#[test]
fn a_home_that_comes_back_while_it_drains_was_never_away() {
    let mut homes = Homes::default();
    let first = settle(&mut homes, &[0]);
    homes.begin(first);
    let second = settle(&mut homes, &[1]);
    assert_eq!(homes.unread("t", &[0, 2].into()), [2].into());
    homes.begin(second);
    assert_eq!(settle(&mut homes, &[0]), first);
    homes.end(first);
    assert_eq!((released(&mut homes), homes.draining()), (vec![], 1));
    homes.end(second);
    assert_eq!(released(&mut homes), [1]);
}

#[test]
fn a_partition_that_a_present_home_reads_too_is_not_released() {
    let mut homes = Homes::default();
    let one = settle(&mut homes, &[1]);
    homes.begin(one);
    settle(&mut homes, &[0, 1, 2]);
    homes.end(one);
    assert!(released(&mut homes).is_empty());
    settle(&mut homes, &[3]);
    assert_eq!(released(&mut homes), [0, 1, 2]);
}

#[test]
fn only_a_home_of_all_partitions_grows_with_its_topic() {
    let mut homes = Homes::default();
    settle(&mut homes, &[0]);
    let mut cluster = cluster(Some(1));
    let topic = Arc::make_mut(cluster.topics.get_mut("t").unwrap());
    let partition = Partition {
        leader: None,
        leader_epoch: 0,
        replicas: vec![],
        in_sync: vec![],
        error: ErrorCode::NONE,
    };
    topic.partitions = vec![partition; 3];
    assert_eq!(homes.widen(&cluster), []);
    settle(&mut homes, &[0, 1]);
    assert_eq!(homes.widen(&cluster), [TopicPartition::new("t", 2)]);
    assert_eq!((homes.widen(&cluster), homes.of("t", 2).count()), (vec![], 1));
}

#[test]
fn a_topic_that_was_created_again_loses_its_homes_at_once() {
    let mut homes = Homes::default();
    let old = settle(&mut homes, &[0]);
    homes.begin(old);
    let home = settle(&mut homes, &[1]);
    homes.begin(home);
    let now = Instant::now();
    assert_eq!(homes.handle_metadata(now, &cluster(Some(1))), []);
    // A node that tells no ids says nothing against it.
    assert_eq!(homes.handle_metadata(now, &cluster(Some(0))), []);
    assert_eq!(homes.handle_metadata(now, &cluster(Some(2))), [old, home]);
    assert!(homes.home("t").is_none());
    homes.end(old);
    homes.end(home);
    assert_eq!(released(&mut homes), [0, 1]);
}

#[test]
fn a_topic_is_gone_when_nobody_has_known_it_for_a_while() {
    let mut homes = Homes::default();
    settle(&mut homes, &[0]);
    let now = Instant::now();
    assert_eq!(
        (homes.handle_metadata(now, &cluster(None)), homes.next_deadline()),
        (vec![], Some(now + GONE_AFTER))
    );
    // One node had not heard of it.
    assert_eq!(
        (homes.handle_metadata(now + SECOND, &cluster(Some(1))), homes.next_deadline()),
        (vec![], None)
    );
    let since = now + SECOND * 2;
    assert_eq!(homes.handle_metadata(since, &cluster(None)), []);
    assert_eq!(homes.handle_metadata(since + SECOND, &Cluster::default()), []);
    assert_eq!(homes.handle_metadata(since + GONE_AFTER, &cluster(None)).len(), 1);
    assert_eq!((released(&mut homes), homes.next_deadline()), (vec![0], None));
}
