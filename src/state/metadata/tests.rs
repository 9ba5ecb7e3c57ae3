use super::*;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use rand::SeedableRng;
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The newest version, with reliable epochs.
const NEWEST: i16 = 13;

fn metadata(now: Instant, bootstrap: usize) -> Metadata {
    let backoff = Backoff { first: Duration::from_millis(100), max: SECOND };
    let options = MetadataOptions { max_age: 5 * MINUTE, backoff, bootstrap, rebootstrap: true };
    Metadata::new(now, options, SmallRng::seed_from_u64(1))
}

fn response(nodes: &[i32], topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let node = |id: &i32| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*id))
            .with_host(StrBytes::from_string(format!("node-{id}")))
            .with_port(9092)
    };
    MetadataResponse::default()
        .with_brokers(nodes.iter().map(node).collect())
        .with_cluster_id(Some("c".into()))
        .with_controller_id(BrokerId(1))
        .with_topics(topics)
}

/// A topic whose partitions have these (leader, epoch).
fn topic(name: &'static str, id: u128, partitions: &[(i32, i32)]) -> MetadataResponseTopic {
    let partition = |(at, (leader, epoch)): (usize, &(i32, i32))| {
        MetadataResponsePartition::default()
            .with_partition_index(at as i32)
            .with_leader_id(BrokerId(*leader))
            .with_leader_epoch(*epoch)
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(name.into())))
        .with_topic_id(Uuid::from_u128(id))
        .with_partitions(partitions.iter().enumerate().map(partition).collect())
}

fn missing(name: &'static str) -> MetadataResponseTopic {
    topic(name, 0, &[]).with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code())
}

fn name(name: &str) -> Arc<str> {
    name.into()
}

fn refused() -> Error {
    Error::new(ErrorKind::Connect, "refused")
}

/// A machine that has heard of three nodes and of one topic with leader 1 in epoch 5.
fn settled(now: Instant) -> Metadata {
    let mut metadata = metadata(now, 1);
    metadata.want(&name("t"), false);
    let query = metadata.poll_request(now).unwrap();
    assert_eq!((query.node, &query.topics[..]), (-1, &[name("t")][..]));
    metadata.handle_response(
        now,
        query.ticket,
        &response(&[1, 2, 3], vec![topic("t", 7, &[(1, 5)])]),
        NEWEST,
    );
    assert!(matches!(metadata.poll_event(), Some(Event::Changed(_))));
    metadata
}

fn answer(metadata: &mut Metadata, now: Instant, topics: Vec<MetadataResponseTopic>) {
    let query = metadata.poll_request(now).expect("a query is due");
    metadata.handle_response(now, query.ticket, &response(&[1, 2, 3], topics), NEWEST);
}

fn leader(metadata: &Metadata) -> (Option<i32>, i32) {
    let partition = metadata.cluster().partition("t", 0).unwrap();
    (partition.leader, partition.leader_epoch)
}

#[test]
fn with_nothing_to_do_it_asks_again_when_the_metadata_is_old() {
    let now = Instant::now();
    let mut metadata = settled(now);
    assert_eq!(metadata.next_deadline(), Some(now + 5 * MINUTE));
    assert_eq!(metadata.poll_request(now + 5 * MINUTE - SECOND), None);
    answer(&mut metadata, now + 5 * MINUTE, vec![topic("t", 7, &[(1, 5)])]);
    assert!(metadata.poll_event().is_none(), "the same again is no event");
    assert_eq!(metadata.next_deadline(), Some(now + 10 * MINUTE));
}

#[test]
fn a_partition_never_goes_back_to_an_older_epoch() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    answer(&mut metadata, now, vec![topic("t", 7, &[(2, 4)])]);
    assert_eq!(leader(&metadata), (Some(1), 5));
    metadata.refresh();
    answer(&mut metadata, now + MINUTE, vec![topic("t", 7, &[(2, 6)])]);
    assert_eq!(leader(&metadata), (Some(2), 6));
}

#[test]
fn a_topic_that_was_made_again_begins_anew() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    answer(&mut metadata, now, vec![topic("t", 8, &[(3, 0), (2, 0)])]);
    assert_eq!(leader(&metadata), (Some(3), 0));
    assert_eq!(metadata.cluster().topic("t").unwrap().partitions.len(), 2);
}

#[test]
fn another_cluster_at_the_same_addresses_begins_anew() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    let query = metadata.poll_request(now).unwrap();
    let other = response(&[1], vec![topic("t", 7, &[(1, 0)])]).with_cluster_id(Some("d".into()));
    metadata.handle_response(now, query.ticket, &other, NEWEST);
    assert_eq!(leader(&metadata), (Some(1), 0));
}

#[test]
fn epochs_of_nodes_before_2_4_are_not_believed() {
    let now = Instant::now();
    let mut metadata = metadata(now, 1);
    metadata.want(&name("t"), false);
    let query = metadata.poll_request(now).unwrap();
    metadata.handle_response(now, query.ticket, &response(&[1], vec![topic("t", 0, &[(1, 5)])]), 8);
    assert_eq!(leader(&metadata), (Some(1), -1));
}

#[test]
fn a_hint_moves_a_leader_at_once_and_never_back() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.hint("t", 0, 2, 5, None);
    metadata.hint("t", 0, 9, 6, None); // a node nobody knows
    metadata.hint("t", 9, 2, 6, None);
    assert!(metadata.poll_event().is_none());
    metadata.hint("t", 0, 2, 6, None);
    assert_eq!(leader(&metadata), (Some(2), 6));
    let endpoint = Node { id: 9, host: name("new"), port: 1, rack: None };
    metadata.hint("t", 0, 9, 7, Some(endpoint.clone()));
    assert_eq!(leader(&metadata), (Some(9), 7));
    assert_eq!(metadata.cluster().nodes[&9], endpoint);
    assert_eq!(metadata.cluster().generation, 3);
    metadata.refresh();
    answer(&mut metadata, now, vec![topic("t", 7, &[(1, 5)])]);
    assert_eq!(leader(&metadata), (Some(9), 7));
}

#[test]
fn waits_grow_while_answers_bring_nothing_new() {
    let now = Instant::now();
    let mut metadata = settled(now);
    let (mut at, mut waits) = (now, Vec::new());
    for _ in 0..6 {
        metadata.refresh();
        let due = metadata.next_deadline().unwrap();
        waits.push(due - at);
        at = due;
        answer(&mut metadata, at, vec![topic("t", 7, &[(1, 5)])]);
    }
    assert_eq!(waits[0], Duration::ZERO);
    assert!(waits[1] >= Duration::from_millis(80) && waits[5] >= Duration::from_millis(800), "{waits:?}");
    metadata.refresh();
    let due = metadata.next_deadline().unwrap();
    answer(&mut metadata, due, vec![topic("t", 7, &[(2, 6)])]);
    metadata.refresh();
    assert_eq!(metadata.next_deadline(), Some(due), "news end the series");
}

#[test]
fn an_unknown_topic_is_asked_for_again_and_keeps_its_error() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.want(&name("u"), false);
    let query = metadata.poll_request(now).expect("a new topic is asked for at once");
    assert_eq!((&query.topics[..], query.create), (&[name("u")][..], false));
    metadata.handle_response(now, query.ticket, &response(&[1, 2, 3], vec![missing("u")]), NEWEST);
    assert_eq!(metadata.cluster().topic("u").unwrap().error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let due = metadata.next_deadline().unwrap();
    assert!(due - now <= Duration::from_millis(120));
    answer(&mut metadata, due, vec![missing("u")]);
    metadata.forget(&name("u"), false);
    assert!(metadata.cluster().topic("u").is_none());
    assert_eq!(metadata.next_deadline(), Some(due + 5 * MINUTE));
}

#[test]
fn an_answer_without_the_topic_does_not_make_it_ask_in_a_circle() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.want(&name("u"), false);
    answer(&mut metadata, now, vec![]);
    assert_eq!(metadata.poll_request(now), None);
    assert!(metadata.next_deadline().unwrap() > now);
}

#[test]
fn a_node_that_does_not_know_a_topic_yet_does_not_take_its_partitions_away() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    answer(&mut metadata, now, vec![missing("t")]);
    assert_eq!(leader(&metadata), (Some(1), 5));
    assert_eq!(metadata.cluster().topic("t").unwrap().error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn only_topics_that_may_be_created_are_asked_for_with_leave_to_create() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.want(&name("mine"), true);
    metadata.want(&name("other"), false);
    let query = metadata.poll_request(now).unwrap();
    assert!(!query.create, "first it is found out whether it exists");
    let answer = response(&[1, 2, 3], vec![missing("mine"), missing("other")]);
    metadata.handle_response(now, query.ticket, &answer, NEWEST);
    let query = metadata.poll_request(metadata.next_deadline().unwrap()).unwrap();
    assert_eq!((&query.topics[..], query.create), (&[name("mine")][..], true));
    assert!(query.request().allow_auto_topic_creation);
}

#[test]
fn one_node_after_the_other_is_tried_and_then_the_bootstrap_servers() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    let mut tried = Vec::new();
    for _ in 0..4 {
        let query = metadata.poll_request(now).expect("the next one is tried at once");
        tried.push(query.node);
        metadata.handle_failure(now, query.ticket, refused().at_address(format!("node-{}", query.node)));
    }
    tried[..3].sort_unstable();
    assert_eq!(tried, [1, 2, 3, -1]);
    let Some(Event::Unreachable(error)) = metadata.poll_event() else { panic!("no word of it") };
    for node in tried {
        assert!(error.to_string().contains(&format!("node-{node}")), "{error}");
    }
    assert!(error.is_retriable() && error.kind() == ErrorKind::Connect);
    // It goes on after a wait, with the nodes it knows.
    let due = metadata.next_deadline().unwrap();
    assert!(due > now);
    assert!(metadata.poll_request(due).unwrap().node > 0);
}

#[test]
fn error_129_leads_back_to_the_bootstrap_servers() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    let query = metadata.poll_request(now).unwrap();
    let gone = MetadataResponse::default().with_error_code(ErrorCode::REBOOTSTRAP_REQUIRED.code());
    metadata.handle_response(now, query.ticket, &gone, NEWEST);
    let query = metadata.poll_request(metadata.next_deadline().unwrap()).unwrap();
    assert_eq!(query.node, -1);
    metadata.handle_response(now, query.ticket, &response(&[4], vec![topic("t", 7, &[(4, 9)])]), NEWEST);
    assert_eq!(leader(&metadata), (Some(4), 9));
    metadata.refresh();
    assert_eq!(metadata.poll_request(now + SECOND).unwrap().node, 4);
}

#[test]
fn a_silent_node_gets_company_and_the_first_answer_counts() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    let slow = metadata.poll_request(now).unwrap();
    assert_eq!(metadata.next_deadline(), Some(now + PATIENCE));
    let quick = metadata.poll_request(now + PATIENCE).unwrap();
    assert_ne!(slow.node, quick.node);
    metadata.handle_response(
        now,
        quick.ticket,
        &response(&[1, 2, 3], vec![topic("t", 7, &[(2, 6)])]),
        NEWEST,
    );
    // The late answer is older, and does no harm.
    metadata.handle_response(now, slow.ticket, &response(&[1, 2, 3], vec![topic("t", 7, &[(1, 5)])]), NEWEST);
    assert_eq!(leader(&metadata), (Some(2), 6));
}

#[test]
fn a_silent_node_does_not_have_another_asked_without_a_pause() {
    // Found by tests/fuzz: as long as the first was silent, every answer of the second led to the next query.
    let (now, topics) = (Instant::now(), || vec![topic("t", 7, &[(1, 5)])]);
    let mut metadata = settled(now);
    metadata.refresh();
    let silent = metadata.poll_request(now).unwrap();
    let later = now + PATIENCE;
    let quick = metadata.poll_request(later).unwrap();
    assert_ne!(quick.node, silent.node);
    let answered = later + Duration::from_millis(1);
    metadata.handle_response(answered, quick.ticket, &response(&[1, 2, 3], topics()), NEWEST);
    while metadata.poll_event().is_some() {}
    assert_eq!(metadata.poll_request(answered + 2 * SECOND), None);
    // What becomes stale from here on is asked for all the same, and the silent one does not delay it.
    metadata.refresh();
    let again = metadata.poll_request(answered + 2 * SECOND).unwrap();
    assert_ne!(again.node, silent.node);
}

#[test]
fn stale_found_while_an_answer_is_under_way_is_asked_again() {
    let now = Instant::now();
    let mut metadata = settled(now);
    metadata.refresh();
    let query = metadata.poll_request(now).unwrap();
    metadata.refresh();
    metadata.handle_response(
        now,
        query.ticket,
        &response(&[1, 2, 3], vec![topic("t", 7, &[(1, 5)])]),
        NEWEST,
    );
    assert!(metadata.next_deadline().unwrap() < now + SECOND);
}

#[test]
fn answers_that_cannot_be_count_as_failures() {
    let now = Instant::now();
    let lonely = MetadataResponsePartition::default().with_partition_index(i32::MAX);
    let huge = topic("t", 7, &[]).with_partitions(vec![lonely.clone()]);
    let negative = topic("t", 7, &[]).with_partitions(vec![lonely.with_partition_index(-5)]);
    let nameless = topic("t", 7, &[(1, 6)]).with_name(None);
    let mut strange_node = response(&[1], vec![]);
    strange_node.brokers[0].port = 99_999;
    for wrong in [
        response(&[1], vec![huge]),
        response(&[1], vec![negative, nameless]),
        strange_node,
        response(&[], vec![]),
    ] {
        let mut metadata = metadata(now, 1);
        metadata.want(&name("t"), false);
        let query = metadata.poll_request(now).unwrap();
        metadata.handle_response(now, query.ticket, &wrong, NEWEST);
        assert!(matches!(metadata.poll_event(), Some(Event::Unreachable(_))), "{wrong:?}");
        assert!(metadata.cluster().topics.is_empty());
    }
}
