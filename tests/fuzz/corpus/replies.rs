//! Headers of requests and replies in all dialects, as the decoders take them.
const ID: &[u8] = b"0000000000000001fc5f4b4a0b1d2e33";

fn headers(headers: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in headers {
        out.push(key.len() as u8);
        out.extend(key.as_bytes());
        out.push(value.map_or(255, |value| value.len() as u8));
        out.extend(value.unwrap_or_default());
    }
    out
}

pub fn dialects() -> Vec<Vec<u8>> {
    let native: &[(&str, Option<&[u8]>)] = &[
        ("rpc-id", Some(ID)),
        ("rpc-reply-topic", Some(b"replies")),
        ("rpc-reply-partition", Some(b"3")),
        ("rpc-deadline", Some(b"1700000000000")),
        ("rpc-timeout", Some(b"5000")),
    ];
    let kafka: &[(&str, Option<&[u8]>)] = &[
        ("kafka_correlationId", Some(ID)),
        ("kafka_replyTopic", Some(b"sum.reply")),
        ("kafka_replyPartition", Some(b"12")),
        ("kafka_replyPartition", Some(&[0, 0, 0, 12])),
    ];
    let quarkus: &[(&str, Option<&[u8]>)] = &[
        ("REPLY_CORRELATION_ID", Some(ID)),
        ("REPLY_TOPIC", Some(b"replies")),
        ("REPLY_PARTITION", Some(&[0, 0, 0, 3])),
    ];
    let answers: &[&[(&str, Option<&[u8]>)]] = &[
        &[("rpc-id", Some(ID)), ("rpc-status", Some(b"0")), ("rpc-end", Some(b""))],
        &[("rpc-id", Some(ID)), ("rpc-status", Some(b"13")), ("rpc-error", Some(b"no")), ("rpc-end", None)],
        &[
            ("kafka_correlationId", Some(ID)),
            ("kafka_nest-err", Some(b"{}")),
            ("kafka_nest-is-disposed", Some(&[0])),
        ],
        &[("REPLY_CORRELATION_ID", Some(ID)), ("REPLY_ERROR", Some(b"no"))],
    ];
    let mut all: Vec<Vec<u8>> =
        [native, kafka, quarkus].into_iter().chain(answers.iter().copied()).map(headers).collect();
    all.push([headers(native), headers(kafka), headers(quarkus)].concat());
    all
}

/// Ids of the calls that the decoder knows of, taken from the sequence of one requester: see the decoder.
pub fn ids() -> Vec<Vec<u8>> {
    milena::internals::decoders::reply_ids()
}
