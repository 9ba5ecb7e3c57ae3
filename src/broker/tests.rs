//! The shell: sockets, pipes, nodes that stop and start.
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// ApiVersions version 0 with correlation id 5 and no client id.
const ASK: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 5, 0xff, 0xff];

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Vec<u8>> {
    stream.write_all(&ASK).await?;
    let mut answer = vec![0; stream.read_i32().await? as usize];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn it_answers_over_tcp_and_in_memory_alike() {
    let broker = Broker::start().await.unwrap();
    let mut socket = TcpStream::connect(broker.address()).await.unwrap();
    let (host, port) =
        broker.address().split_once(':').map(|(h, p)| (h.to_owned(), p.parse().unwrap())).unwrap();
    let mut pipe = broker.connect(&host, port).unwrap();
    let answer = ask(&mut socket).await.unwrap();
    assert_eq!(answer[..6], [0, 0, 0, 5, 0, 0]);
    assert_eq!(ask(&mut pipe).await.unwrap(), answer);
    assert_eq!(broker.connections(), 2);
    broker.stop().await;
    assert!(ask(&mut pipe).await.is_err());
    assert!(ask(&mut socket).await.is_err());
}

#[tokio::test]
async fn a_stopped_node_refuses_and_comes_back_at_its_address() {
    let broker = Broker::builder().nodes(2).start().await.unwrap();
    broker.create_topic("t", 2).unwrap();
    let address = broker.node_address(1).unwrap();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    ask(&mut socket).await.unwrap();
    broker.stop_node(1).await.unwrap();
    assert!(ask(&mut socket).await.is_err());
    assert!(TcpStream::connect(&address).await.is_err());
    assert_eq!(broker.leader("t", 0).unwrap(), Some(2));
    assert_eq!(broker.log("t", 0).unwrap().leader_epoch(), 1);
    broker.start_node(1).await.unwrap();
    ask(&mut TcpStream::connect(&address).await.unwrap()).await.unwrap();
    broker.move_leader("t", 0, 1).unwrap();
    assert_eq!(broker.log("t", 0).unwrap().leader_epoch(), 2);
}

#[tokio::test]
async fn a_dropped_broker_leaves_nothing_behind() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    let network = broker.network();
    let mut pipe = network.connect("node-1", 9092).unwrap();
    ask(&mut pipe).await.unwrap();
    drop(broker);
    assert!(ask(&mut pipe).await.is_err());
    assert!(network.connect("node-1", 9092).is_err());
}

#[tokio::test]
async fn what_is_no_frame_closes_the_connection() {
    let broker =
        Broker::builder().in_memory().config("socket.request.max.bytes", "1000").start().await.unwrap();
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 8], &[0, 0, 4, 0], &[0, 0, 0, 0], &[0, 0, 0, 3, 1, 2, 3]]
    {
        let mut pipe = broker.connect("node-1", 9092).unwrap();
        pipe.write_all(bytes).await.unwrap();
        assert_eq!(pipe.read(&mut [0; 8]).await.unwrap(), 0, "{bytes:?}");
    }
}

/// A request of `kafka-protocol` as a frame, without a client id.
fn frame<R: crate::protocol::Request>(version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(None);
    let mut body = bytes::BytesMut::new();
    header.encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    [&(body.len() as i32).to_be_bytes()[..], &body].concat()
}

fn long_poll() -> Vec<u8> {
    let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1000);
    let topic = fetch_request::FetchTopic::default()
        .with_topic(TopicName("t".into()))
        .with_partitions(vec![partition]);
    let fetch = FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_max_bytes(1000);
    frame(4, &fetch.with_replica_id((-1).into()).with_topics(vec![topic]))
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_by_a_write_elsewhere_or_by_its_time() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("t", 1).unwrap();
    let mut pipe = broker.connect("node-1", 9092).unwrap();
    let start = tokio::time::Instant::now();
    pipe.write_all(&long_poll()).await.unwrap();
    let length = pipe.read_i32().await.unwrap();
    pipe.read_exact(&mut vec![0; length as usize]).await.unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_millis(500));

    pipe.write_all(&long_poll()).await.unwrap();
    let start = tokio::time::Instant::now();
    while broker.requests(Api::FETCH) < 2 {
        tokio::task::yield_now().await;
    }
    broker.append("t", 0, &[crate::Record::value("a")]).unwrap();
    assert!(pipe.read_i32().await.unwrap() > length);
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
}

/// Sends a request and reads the answer.
async fn call<R: crate::protocol::Request>(
    pipe: &mut DuplexStream,
    version: i16,
    request: &R,
) -> R::Response {
    pipe.write_all(&frame(version, request)).await.unwrap();
    let mut answer = vec![0; pipe.read_i32().await.unwrap() as usize];
    pipe.read_exact(&mut answer).await.unwrap();
    let header = 4 + usize::from(R::Response::header_version(version) > 0);
    R::Response::decode(&mut bytes::Bytes::from(answer).split_off(header), version).unwrap()
}

#[tokio::test]
async fn a_test_sees_into_a_group_and_ends_the_session_of_a_member() {
    let text = StrBytes::from_static_str;
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("t", 1).unwrap();
    assert_eq!((broker.coordinator("g"), broker.group("g")), (Some(1), None));
    let mut pipe = broker.connect("node-1", 9092).unwrap();
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_group_instance_id(Some(text("i")))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined = call(&mut pipe, 5, &join).await;
    assert_eq!(broker.group("g").unwrap().state(), "CompletingRebalance");
    // Version 0, one topic `t` with partition 0, no user data.
    let assignment = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";
    let given = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(bytes::Bytes::from_static(assignment));
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id(1)
        .with_member_id(joined.member_id.clone())
        .with_group_instance_id(Some(text("i")))
        .with_assignments(vec![given]);
    assert_eq!(call(&mut pipe, 4, &sync).await.error_code, 0);
    let group = broker.group("g").unwrap();
    assert_eq!((group.state(), group.protocol(), group.generation()), ("Stable", Some("range"), 1));
    let owner = group.owner("t", 0).unwrap();
    assert_eq!((owner.instance_id(), owner.client_id(), owner.generation()), (Some("i"), "", 1));
    assert_eq!((group.leader(), owner.id()), (Some(owner.id()), &*joined.member_id));
    assert_eq!(group.owner("t", 1), None);
    assert!(broker.expire_member("g", "nobody").is_err() && broker.expire_member("h", owner.id()).is_err());
    broker.expire_member("g", owner.id()).unwrap();
    let group = broker.group("g").unwrap();
    assert_eq!((group.state(), group.generation(), group.members()), ("Empty", 2, &[][..]));
}
