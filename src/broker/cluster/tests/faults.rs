use super::*;
use crate::broker::api::Api;
use crate::broker::fault::Fault;
use crate::protocol::error_code::ErrorCode;

fn rig() -> (Rig, ConnectionId) {
    let mut rig = Rig::nodes(3);
    rig.cluster.create_topic("t", 2, Some(3)).unwrap();
    let id = rig.connect(1);
    (rig, id)
}

fn end(rig: &Rig) -> i64 {
    rig.cluster.topics.partition("t", 0).unwrap().log.end()
}

#[test]
fn an_error_strikes_as_often_and_where_it_should() {
    let (mut rig, id) = rig();
    let code = ErrorCode::REQUEST_TIMED_OUT;
    rig.cluster.faults.add(Fault::on(Api::PRODUCE).topic("t").partition(0).after(1).times(2).error(code));
    let codes: Vec<_> = (0..4).map(|_| rig.produce(id, "t", 0, batch(&["a"])).0).collect();
    assert_eq!(codes, [0, 7, 7, 0]);
    assert_eq!((end(&rig), rig.cluster.faults.struck()), (2, 2));
    rig.cluster.faults.add(Fault::on(Api::PRODUCE).node(2).error(code));
    rig.cluster.faults.add(Fault::on(Api::FETCH).error(code));
    rig.cluster.faults.add(Fault::on(Api::PRODUCE).topic("other").error(code));
    assert_eq!(rig.produce(id, "t", 0, batch(&["a"])).0, 0);
}

#[test]
fn a_write_can_succeed_and_report_an_error() {
    let (mut rig, id) = rig();
    let code = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
    rig.cluster.faults.add(Fault::on(Api::PRODUCE).nth(1).error_after(code));
    assert_eq!(rig.produce(id, "t", 0, batch(&["a"])), (code.code(), -1));
    assert_eq!(end(&rig), 1);
}

#[test]
fn answers_are_delayed_dropped_cut_and_replaced() {
    for (fault, written, output) in [
        (Fault::on_any().cut(), 0, vec!["close"]),
        (Fault::on_any().cut_after(), 1, vec!["close"]),
        (Fault::on_any().cut_mid_frame(), 1, vec!["bytes", "close"]),
        (Fault::on_any().hang(), 0, vec![]),
        (Fault::on_any().drop_answer(), 1, vec![]),
        (Fault::on_any().garbage(&b"?"[..]), 1, vec!["bytes"]),
        (Fault::on_any().stop_node(), 0, vec!["close"]),
    ] {
        let (mut rig, id) = rig();
        rig.cluster.faults.add(fault.clone().times(1));
        rig.send(id, 9, &produce_request("t", 0, batch(&["a"])));
        let mut got = Vec::new();
        while let Some(output) = rig.cluster.poll_output(id) {
            got.push(if output == Output::Close { "close" } else { "bytes" });
        }
        assert_eq!((end(&rig), got), (written, output), "{fault:?}");
    }
}

#[test]
fn a_delayed_answer_holds_up_what_comes_behind() {
    let (mut rig, id) = rig();
    rig.cluster.faults.add(Fault::on(Api::PRODUCE).delay(Duration::from_millis(30)));
    rig.send(id, 9, &produce_request("t", 0, batch(&["a"])));
    rig.send(id, 9, &MetadataRequest::default());
    assert_eq!(end(&rig), 1);
    rig.pass(Duration::from_millis(29));
    assert!(rig.cluster.poll_output(id).is_none());
    rig.pass(Duration::from_millis(1));
    assert!(rig.answer::<ProduceRequest>(id, 9).is_some());
    assert!(rig.answer::<MetadataRequest>(id, 9).is_some());
}

#[test]
fn a_fault_can_move_the_leader_before_the_request_is_served() {
    let (mut rig, id) = rig();
    rig.cluster.faults.add(Fault::on(Api::PRODUCE).nth(1).move_leader());
    assert_eq!(rig.produce(id, "t", 0, batch(&["a"])).0, ErrorCode::NOT_LEADER_OR_FOLLOWER.code());
    assert_eq!(rig.cluster.topics.partition("t", 0).unwrap().leader, 2);
}

#[test]
fn bodies_are_replaced_and_damaged_at_the_right_place() {
    let (mut rig, id) = rig();
    rig.cluster.faults.add(Fault::on(Api::METADATA).nth(1).body(&b"xyz"[..]));
    rig.send(id, 9, &MetadataRequest::default());
    let Some(Output::Send(frame)) = rig.cluster.poll_output(id) else { panic!("no answer") };
    assert_eq!(frame[..], [0, 0, 0, 8, 0, 0, 0, 1, 0, b'x', b'y', b'z']);
    rig.cluster.faults.add(Fault::on(Api::PRODUCE).nth(1).corrupt(0));
    rig.send(id, 8, &produce_request("t", 0, batch(&["a"])));
    let Some(Output::Send(frame)) = rig.cluster.poll_output(id) else { panic!("no answer") };
    assert_eq!(frame[8], 0xff);
}

#[test]
fn the_same_seed_gives_the_same_course() {
    let course = |seed| {
        let mut rig = Rig::new(Config { seed, ..Config::default() });
        rig.cluster.create_topic("t", 1, None).unwrap();
        rig.cluster.faults.add(Fault::on(Api::PRODUCE).probability(0.5).error(ErrorCode::REQUEST_TIMED_OUT));
        let id = rig.connect(1);
        (0..50).map(|_| rig.produce(id, "t", 0, batch(&["a"])).0).collect::<Vec<_>>()
    };
    assert_eq!(course(1), course(1));
    assert_ne!(course(1), course(2));
}

#[test]
fn partitions_of_stopped_nodes_move_and_come_back() {
    let (mut rig, id) = rig();
    rig.cluster.stop_node(rig.now, 1);
    assert_eq!(rig.cluster.poll_output(id), Some(Output::Close));
    assert!(rig.cluster.connect(1).is_none());
    let state = |rig: &Rig| {
        let partition = rig.cluster.topics.partition("t", 0).unwrap();
        (partition.leader, partition.leader_epoch, partition.in_sync.clone())
    };
    assert_eq!(state(&rig), (2, 1, vec![2, 3]));
    rig.cluster.stop_node(rig.now, 2);
    rig.cluster.stop_node(rig.now, 3);
    assert_eq!(state(&rig), (-1, 3, vec![3]));
    // The last replica that was in sync leads again; others are not asked, they might lack records.
    rig.cluster.start_node(rig.now, 1);
    assert_eq!(state(&rig).0, -1);
    rig.cluster.start_node(rig.now, 3);
    assert_eq!(state(&rig), (3, 4, vec![3, 1]));
}
