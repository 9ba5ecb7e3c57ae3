//! The layouts that other people's libraries read and write, byte by byte.
use proptest::prelude::*;

use super::*;

const CALL: &[u8] = b"0123456789abcdef0123456789abcdef";

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn request(dialect: Dialect, partition: i32) -> Vec<(String, Vec<u8>)> {
    let address = ReplyAddress::new("sum.reply", partition);
    let head = RequestHead::new(CALL, &address, 1_700_000_005_000, 5_000);
    owned(head.headers(dialect))
}

fn owned(headers: HeaderList<'_>) -> Vec<(String, Vec<u8>)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

fn read(headers: &[(&str, &[u8])]) -> Asked {
    read_request(headers.iter().map(|(name, value)| (name.as_bytes(), Some(*value))))
}

fn origin(headers: &[(&str, &[u8])]) -> Origin {
    match read(headers) {
        Asked::Request(origin) => origin,
        other => panic!("{other:?}"),
    }
}

fn origin_of(headers: &[(String, Vec<u8>)]) -> Origin {
    let asked = read_request(headers.iter().map(|(name, value)| (name.as_bytes(), Some(&**value))));
    let Asked::Request(origin) = asked else { panic!("{asked:?}") };
    origin
}

fn values<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    headers.iter().filter(|header| header.0 == name).map(|header| &*header.1).collect()
}

#[test]
fn a_nest_request_carries_what_nest_sends_in_its_order() {
    let headers = request(Dialect::Nest, 0);
    let expected: [(&str, &[u8]); 3] = [
        ("kafka_correlationId", CALL),
        ("kafka_replyTopic", b"sum.reply"),
        ("kafka_replyPartition", &[0x30]),
    ];
    assert_eq!(headers, owned(expected.to_vec()));
}

#[test]
fn a_request_for_all_names_the_partition_as_text_first_and_in_binary_last() {
    let headers = request(Dialect::Auto, 2);
    assert_eq!(values(&headers, "kafka_replyPartition"), [unhex("32"), unhex("00000002")]);
    assert_eq!(values(&headers, "REPLY_PARTITION"), [unhex("00000002")]);
    assert_eq!(values(&headers, "rpc-reply-partition"), [b"2"]);
    for id in ["rpc-id", "kafka_correlationId", "REPLY_CORRELATION_ID"] {
        assert_eq!(values(&headers, id), [CALL]);
    }
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    assert!(size < 450, "{size}");
}

#[test]
fn a_spring_request_has_only_the_binary_partition() {
    assert_eq!(values(&request(Dialect::Spring, 2), "kafka_replyPartition"), [unhex("00000002")]);
}

#[test]
fn a_responder_of_ours_reads_every_dialect_of_our_requests() {
    for dialect in [Dialect::Auto, Dialect::Native, Dialect::Nest, Dialect::Spring, Dialect::Quarkus] {
        let origin = origin_of(&request(dialect, 12));
        assert_eq!(
            (&*origin.topic, origin.partition, &*origin.id),
            ("sum.reply", Some(12), CALL),
            "{dialect:?}"
        );
        let asker = if dialect == Dialect::Auto { Dialect::Native } else { dialect };
        assert_eq!(origin.dialect, asker);
        let left = if dialect.native() { Some(4_000) } else { None };
        assert_eq!(origin.left(1_700_000_001_000, None, None), left, "{dialect:?}");
    }
}

#[test]
fn a_nest_caller_gets_its_id_back_and_the_disposed_mark() {
    let origin = origin(&[
        ("kafka_correlationId", b"cfeecf1581f947d82bb60"),
        ("kafka_replyTopic", b"one.reply"),
        ("kafka_replyPartition", &[0x30]),
    ]);
    assert_eq!((&*origin.topic, origin.partition), ("one.reply", Some(0)));
    let headers = owned(ReplyHead::last(&origin, 0).headers());
    let expected: [(&str, &[u8]); 2] =
        [("kafka_correlationId", b"cfeecf1581f947d82bb60"), ("kafka_nest-is-disposed", &[0])];
    assert_eq!(headers, owned(expected.to_vec()));
}

#[test]
fn a_nest_caller_gets_an_error_as_nests_json() {
    let origin = origin(&[("kafka_correlationId", b"1"), ("kafka_replyTopic", b"t.reply")]);
    let head = ReplyHead::error(&origin, 0, 13, "boom");
    let headers = owned(head.headers());
    let json = unhex("7b22737461747573223a226572726f72222c226d657373616765223a22626f6f6d227d");
    assert_eq!(values(&headers, "kafka_nest-err"), [json]);
    assert_eq!(values(&headers, "kafka_nest-is-disposed"), [[0]]);
}

#[test]
fn an_error_message_is_escaped_for_json() {
    assert_eq!(
        reply::nest_error("a \"b\" \\ \n\u{1} ü"),
        r#"{"status":"error","message":"a \"b\" \\ \n\u0001 ü"}"#
    );
}

#[test]
fn a_spring_caller_gets_its_sixteen_bytes_back() {
    let uuid = unhex("9d25be571c1c4a4e9c5a6f1a3c1f0b7e");
    let origin = origin(&[
        ("kafka_correlationId", &uuid),
        ("kafka_replyTopic", b"r"),
        ("kafka_replyPartition", &unhex("00000002")),
    ]);
    assert_eq!(origin.partition, Some(2));
    assert_eq!(values(&owned(ReplyHead::last(&origin, 0).headers()), "kafka_correlationId"), [uuid]);
}

#[test]
fn a_quarkus_caller_never_sees_a_reply_topic() {
    let origin = origin(&[
        ("REPLY_CORRELATION_ID", b"9d25be57-1c1c-4a4e-9c5a-6f1a3c1f0b7e"),
        ("REPLY_TOPIC", b"sum-replies"),
        ("REPLY_PARTITION", &unhex("00000002")),
    ]);
    assert_eq!(origin.partition, Some(2));
    let names: Vec<_> =
        ReplyHead::error(&origin, 0, 2, "no").headers().into_iter().map(|header| header.0).collect();
    assert_eq!(names, ["REPLY_CORRELATION_ID", "REPLY_ERROR"]);
}

#[test]
fn four_digits_are_digits_and_other_spellings_are_refused() {
    assert_eq!(number(b"1234"), Ok(1234));
    assert_eq!(number(&[0, 0, 4, 210]), Ok(1234));
    for bytes in [
        &b""[..],
        b"-1",
        b"+1",
        b"2.0",
        b"99999999999",
        &[255, 255, 255, 255],
        &[0, 1],
        b"99999999999999999999",
    ] {
        assert_eq!(number(bytes), Err(()), "{bytes:?}");
    }
    let bad = read(&[("rpc-id", b"1"), ("rpc-reply-topic", b"t"), ("rpc-reply-partition", b"x")]);
    assert_eq!(bad, Asked::Unanswerable);
    assert_eq!(read(&[("rpc-id", b"1"), ("rpc-reply-topic", &[0xff])]), Asked::Unanswerable);
}

#[test]
fn without_id_or_reply_topic_a_record_is_an_event() {
    assert_eq!(read(&[]), Asked::Event);
    assert_eq!(read(&[("kafka_correlationId", b"1")]), Asked::Event);
    assert_eq!(read(&[("kafka_replyTopic", b"t")]), Asked::Event);
}

#[test]
fn a_slow_clock_does_not_stretch_the_deadline() {
    let origin = origin(&[
        ("rpc-id", b"1"),
        ("rpc-reply-topic", b"t"),
        ("rpc-deadline", b"10000"),
        ("rpc-timeout", b"500"),
    ]);
    assert_eq!([0, 9_900, 10_001].map(|now| origin.left(now, None, None)), [Some(500), Some(100), Some(-1)]);
    // By the clock of the node that wrote it down.
    assert_eq!(origin.left(20_000, Some(19_900), None), Some(400));
    // A caller's clock is minutes behind, or ahead, and the request has just come.
    assert_eq!([310_000, -290_000].map(|now| origin.left(now, None, Some(200))), [Some(300), Some(500)]);
    assert_eq!(
        origin.left(310_000, None, Some(600)),
        Some(-100),
        "it has waited here for too long all the same"
    );
}

fn reply<'a>(headers: &'a [(&'a str, &'a [u8])]) -> ReadReply<'a> {
    read_reply(headers.iter().map(|(name, value)| (name.as_bytes(), Some(*value))))
}

#[test]
fn replies_are_read_in_every_dialect() {
    for (name, dialect, sequence) in [
        ("rpc-id", Dialect::Native, None),
        ("kafka_correlationId", Dialect::Spring, None),
        ("REPLY_CORRELATION_ID", Dialect::Quarkus, None),
    ] {
        let expected = ReadReply { id: Some(CALL), dialect: Some(dialect), sequence, ..ReadReply::default() };
        assert_eq!(reply(&[("x", b"y"), (name, CALL)]), expected);
    }
    let error =
        reply(&[("rpc-id", CALL), ("rpc-status", b"5"), ("rpc-error", b"no such order"), ("rpc-end", b"")]);
    assert_eq!((error.error, error.end), (Some((5, &b"no such order"[..])), true));
    let nest = reply(&[("kafka_correlationId", CALL), ("kafka_nest-err", b"{}")]);
    assert_eq!(nest.error, Some((UNKNOWN, &b"{}"[..])));
    assert!(nest.end, "an error is the end, disposed or not");
    assert_eq!(reply(&[("rpc-id", CALL), ("rpc-status", b"x")]).error, Some((UNKNOWN, &b""[..])));
    let whole = reply(&[("rpc-id", CALL), ("rpc-status", b"0"), ("rpc-end", b"")]);
    assert_eq!((whole.error, whole.end, whole.sequence), (None, true, Some(0)));
    let quarkus = reply(&[("REPLY_CORRELATION_ID", CALL), ("REPLY_ERROR", b"no")]);
    assert_eq!(quarkus.error, Some((UNKNOWN, &b"no"[..])));
}

#[test]
fn a_record_with_a_reply_topic_is_a_request_even_where_replies_are_read() {
    for name in ["rpc-reply-topic", "kafka_replyTopic", "REPLY_TOPIC"] {
        assert!(reply(&[("REPLY_CORRELATION_ID", CALL), (name, b"t")]).is_request);
    }
}

#[test]
fn what_a_responder_of_ours_writes_a_requester_of_ours_reads() {
    for dialect in [Dialect::Native, Dialect::Nest, Dialect::Spring, Dialect::Quarkus] {
        let headers = request(dialect, 0);
        let origin = origin_of(&headers);
        let able = Capabilities { cancel: true, credit: true, dedupe: false };
        let native = dialect == Dialect::Native;
        for (head, end, sequence) in [
            (ReplyHead::item(&origin, 0), false, 0),
            (ReplyHead::last(&origin, 7), true, 7),
            (ReplyHead::last(&origin, 0), true, 0),
            (ReplyHead::end(&origin, 3), true, 3),
        ] {
            let head = head.responder("adders", able);
            let headers = head.headers();
            let read = reply(&headers);
            assert_eq!((read.id, read.error), (Some(CALL), None));
            // Quarkus knows no end.
            assert_eq!(read.end, end && dialect != Dialect::Quarkus, "{dialect:?} {head:?}");
            assert_eq!(read.sequence, native.then_some(sequence), "{head:?}");
            assert_eq!(read.responder, native.then_some(&b"adders"[..]));
            assert_eq!(read.capabilities, if native { able } else { Capabilities::default() });
        }
    }
}

#[test]
fn a_stream_to_nest_is_disposed_with_its_last_item_only() {
    let origin = origin(&[("kafka_correlationId", b"1"), ("kafka_replyTopic", b"t.reply")]);
    let disposed = |head: ReplyHead<'_>| head.headers().iter().any(|(name, _)| *name == NEST_DISPOSED);
    assert_eq!([disposed(ReplyHead::item(&origin, 0)), disposed(ReplyHead::last(&origin, 1))], [false, true]);
}

#[test]
fn a_request_says_what_it_wants_and_how_often_it_was_sent() {
    let address = ReplyAddress::new("sum.reply", None);
    let head = RequestHead::new(CALL, &address, 5_000, 500)
        .kind(Kind::Stream { credit: Some(64) })
        .attempt(2)
        .idempotency_key(Some(b"order 5"));
    for dialect in [Dialect::Auto, Dialect::Native] {
        let origin = origin_of(&owned(head.headers(dialect)));
        assert_eq!(origin.kind, Kind::Stream { credit: Some(64) });
        assert_eq!((origin.attempt, origin.dedupe_key()), (2, &b"order 5"[..]));
        assert_eq!(origin.partition, None, "who reads all partitions names none");
    }
    let plain = RequestHead::new(CALL, &address, 5_000, 500);
    let origin = origin_of(&owned(plain.headers(Dialect::Native)));
    assert_eq!((origin.kind, origin.attempt, origin.dedupe_key()), (Kind::Unary, 0, CALL));
}

#[test]
fn control_records_name_a_call_and_are_never_taken_for_requests_or_events() {
    for kind in [ControlKind::Cancel, ControlKind::Credit(32)] {
        let headers = control_headers(CALL, kind);
        let asked = read_request(headers.iter().map(|(name, value)| (name.as_bytes(), Some(&**value))));
        assert_eq!(asked, Asked::Control(Control { id: CALL.into(), kind }));
    }
    for headers in [
        &[("rpc-kind", &b"cancel"[..])][..],
        &[("rpc-id", CALL), ("rpc-kind", b"credit")],
        &[("rpc-id", CALL), ("rpc-kind", b"credit"), ("rpc-credit", b"many")],
    ] {
        assert_eq!(read(headers), Asked::Unanswerable);
    }
}

#[test]
fn spring_is_told_from_nest_by_its_partition_or_its_binary_id() {
    let uuid = unhex("9d25be571c1c4a4e9c5a6f1a3c1f0b7e");
    let dialect = |id: &[u8], partition: Option<&[u8]>| {
        let mut headers = vec![("kafka_correlationId", id), ("kafka_replyTopic", b"r")];
        headers.extend(partition.map(|partition| ("kafka_replyPartition", partition)));
        origin(&headers).dialect
    };
    assert_eq!(dialect(CALL, Some(b"12")), Dialect::Nest);
    assert_eq!(dialect(CALL, Some(&[0, 0, 0, 12])), Dialect::Spring);
    assert_eq!(dialect(&uuid, None), Dialect::Spring);
    assert_eq!(dialect(b"cfeecf1581f947d82bb60", None), Dialect::Nest);
}

#[test]
fn capabilities_are_words_between_commas() {
    for bits in 0..8 {
        let [cancel, credit, dedupe] = [1, 2, 4].map(|bit| bits & bit != 0);
        let able = Capabilities { cancel, credit, dedupe };
        assert_eq!(Capabilities::read(able.text().as_bytes()), able);
    }
    let read = Capabilities::read(b"flying,credit,cancelled");
    assert_eq!(read, Capabilities { credit: true, ..Capabilities::default() });
}

proptest! {
    #[test]
    fn any_headers_are_read_without_panic(headers: Vec<(prop::sample::Index, Option<Vec<u8>>)>) {
        let names = [ID, REPLY_TOPIC, REPLY_PARTITION, DEADLINE, TIMEOUT, STATUS, ERROR, KAFKA_ID, KAFKA_REPLY_TOPIC,
            KAFKA_REPLY_PARTITION, NEST_ERROR, QUARKUS_ID, QUARKUS_REPLY_TOPIC, QUARKUS_REPLY_PARTITION, KIND, CREDIT, ATTEMPT, IDEMPOTENCY, SEQUENCE,
            RESPONDER, CAPABILITIES, "other"];
        let headers = || headers.iter().map(|(name, value)| (name.get(&names).as_bytes(), value.as_deref()));
        if let Asked::Request(origin) = read_request(headers()) {
            origin.left(i64::MIN, None, None);
            origin.left(i64::MAX, None, None);
            let _ = ReplyHead::error(&origin, 0, 1, "x").headers();
        }
        read_reply(headers());
    }
}
