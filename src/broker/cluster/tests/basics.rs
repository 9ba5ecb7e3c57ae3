use super::*;
use crate::protocol::error_code::ErrorCode;

#[test]
fn what_is_produced_is_fetched() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    assert_eq!(rig.produce(id, "t", 0, batch(&["a", "b"])), (0, 0));
    assert_eq!(rig.produce(id, "t", 0, batch(&["c"])), (0, 2));
    let response = rig.call(id, 12, &fetch_request("t", 0, 0));
    let data = &response.responses[0].partitions[0];
    assert_eq!((data.error_code, data.high_watermark, data.log_start_offset), (0, 3, 0));
    let records = data.records.clone().unwrap();
    let batches: Vec<_> = crate::record::batch::batches(&records).map(|batch| batch.unwrap()).collect();
    assert_eq!(batches.iter().map(|batch| batch.header.base_offset).collect::<Vec<_>>(), [0, 2]);
    batches.iter().for_each(|batch| batch.verify_crc().unwrap());
}

#[test]
fn a_fetch_at_the_end_waits_for_bytes_or_its_time() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let (reader, writer) = (rig.connect(1), rig.connect(1));
    rig.send(reader, 12, &fetch_request("t", 0, 0));
    assert!(rig.answer::<FetchRequest>(reader, 12).is_none());
    rig.produce(writer, "t", 0, batch(&["a"]));
    let data = rig.answer::<FetchRequest>(reader, 12).unwrap().responses.remove(0).partitions.remove(0);
    assert!(!data.records.unwrap().is_empty());
    assert_eq!(rig.cluster.next_deadline(), None);

    rig.send(reader, 12, &fetch_request("t", 0, 1));
    // What comes behind a parked fetch waits as well.
    rig.send(reader, 9, &MetadataRequest::default().with_topics(None));
    rig.pass(Duration::from_millis(499));
    assert!(rig.cluster.poll_output(reader).is_none());
    rig.pass(Duration::from_millis(1));
    let data = rig.answer::<FetchRequest>(reader, 12).unwrap().responses.remove(0).partitions.remove(0);
    assert!(data.error_code == 0 && data.records.unwrap().is_empty());
    assert_eq!(rig.answer::<MetadataRequest>(reader, 9).unwrap().topics.len(), 1);
}

#[test]
fn a_version_of_api_versions_that_is_not_offered_is_answered_in_version_0() {
    let mut rig = Rig::nodes(1);
    let id = rig.connect(1);
    rig.cluster.handle(rig.now, id, put_frame(18, 9, &[0xff, 0xff, 0]));
    let Some(Output::Send(frame)) = rig.cluster.poll_output(id) else { panic!("no answer") };
    // Length, correlation id; error 35; one API: 18, from 0 to 4.
    assert_eq!(frame[..], [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[test]
fn unknown_apis_and_versions_close_the_connection() {
    for (key, version) in [(0, 2), (0, 14), (1, 3), (999, 0), (11, 5)] {
        let mut rig = Rig::nodes(1);
        let id = rig.connect(1);
        rig.cluster.handle(rig.now, id, put_frame(key, version, &[0xff, 0xff]));
        assert_eq!(rig.cluster.poll_output(id), Some(Output::Close), "{key} {version}");
    }
}

#[test]
fn metadata_creates_topics_only_when_both_sides_want_it() {
    let mut rig = Rig::nodes(3);
    let id = rig.connect(2);
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(name("new")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let response = rig.call(id, 12, &request.clone().with_allow_auto_topic_creation(false));
    assert_eq!(response.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code());
    let response = rig.call(id, 12, &request.with_allow_auto_topic_creation(true));
    assert_eq!(response.topics[0].error_code, 0);
    assert_eq!(response.brokers.len(), 3);
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.leader_id.0, partition.replica_nodes.len()), (1, 3));
    assert_eq!(rig.call(id, 1, &MetadataRequest::default().with_topics(Some(Vec::new()))).topics.len(), 0);
    assert_eq!(rig.call(id, 1, &MetadataRequest::default().with_topics(None)).topics.len(), 1);
}
