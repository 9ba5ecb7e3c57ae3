//! Records as JSON, one object a line: topic, partition, offset, timestamp, key, value, headers.
//!
//! A byte string is a JSON string where it is UTF-8, `{"base64": ".."}` where it is not, and null where it is null.
use serde_json::Value;
use std::io::{self, Write};

/// What a line says about a record to be written; what it leaves out is `None`, what it does not say is null.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Reads one line. `offset` is allowed and ignored, so that what was read can be written again; other fields are errors,
/// because a misspelt one would lose data.
pub(crate) fn parse(line: &[u8]) -> Result<Line, String> {
    let Value::Object(fields) = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?
    else {
        return Err("not a JSON object".to_owned());
    };
    let mut record = Line::default();
    for (name, field) in fields {
        let wrong = |wanted: &str| format!("field {name}: {wanted} expected");
        match name.as_str() {
            "topic" => {
                let Value::String(topic) = field else { return Err(wrong("a string")) };
                record.topic = Some(topic);
            }
            "partition" => {
                let partition = field.as_i64().and_then(|number| number.try_into().ok());
                record.partition = Some(partition.ok_or_else(|| wrong("a partition"))?);
            }
            "timestamp" => {
                record.timestamp = Some(field.as_i64().ok_or_else(|| wrong("milliseconds since 1970"))?)
            }
            "offset" => {}
            "key" => record.key = bytes(field).map_err(&wrong)?,
            "value" => record.value = bytes(field).map_err(&wrong)?,
            "headers" => {
                const PAIRS: &str = "a list of [key, value]";
                let Value::Array(pairs) = field else { return Err(wrong(PAIRS)) };
                for pair in pairs {
                    let Value::Array(pair) = pair else { return Err(wrong(PAIRS)) };
                    let Ok([key, value]) = <[Value; 2]>::try_from(pair) else { return Err(wrong(PAIRS)) };
                    let key = bytes(key).map_err(&wrong)?.ok_or_else(|| wrong("a key that is not null"))?;
                    record.headers.push((key, bytes(value).map_err(&wrong)?));
                }
            }
            _ => return Err(format!("unknown field {name}")),
        }
    }
    Ok(record)
}

fn bytes(value: Value) -> Result<Option<Vec<u8>>, &'static str> {
    const WANTED: &str = r#"a string, null or {"base64": ".."}"#;
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.into_bytes())),
        Value::Object(fields) => match (fields.len(), fields.get("base64")) {
            (1, Some(Value::String(text))) => decode(text).map(Some).ok_or("valid base64"),
            _ => Err(WANTED),
        },
        _ => Err(WANTED),
    }
}

/// Where a record that was read lies.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

/// Writes one line with its end.
pub(crate) fn write<'a>(
    out: &mut impl Write,
    place: Place<'_>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> io::Result<()> {
    let Place { topic, partition, offset, timestamp } = place;
    out.write_all(br#"{"topic":"#)?;
    serde_json::to_writer(&mut *out, topic)?;
    write!(out, r#","partition":{partition},"offset":{offset},"timestamp":{timestamp},"key":"#)?;
    write_bytes(out, key)?;
    out.write_all(br#","value":"#)?;
    write_bytes(out, value)?;
    out.write_all(br#","headers":["#)?;
    for (at, (key, value)) in headers.enumerate() {
        out.write_all(if at == 0 { b"[" } else { b",[" })?;
        write_bytes(out, Some(key))?;
        out.write_all(b",")?;
        write_bytes(out, value)?;
        out.write_all(b"]")?;
    }
    out.write_all(b"]}\n")
}

/// Writes one line about partitions.
pub(crate) fn write_event(
    out: &mut impl Write,
    event: &str,
    partitions: &[milena::TopicPartition],
) -> io::Result<()> {
    let partitions: Vec<_> = partitions.iter().map(|of| (of.topic(), of.partition())).collect();
    let line = serde_json::json!({ "event": event, "partitions": partitions });
    writeln!(out, "{line}")
}

/// A byte string as a value.
pub(crate) fn value(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => serde_json::json!({ "base64": encode(bytes) }),
    }
}

fn write_bytes(out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.write_all(b"null"),
        Some((_, Ok(text))) => Ok(serde_json::to_writer(out, text)?),
        Some((bytes, Err(_))) => write!(out, r#"{{"base64":"{}"}}"#, encode(bytes)),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

/// Standard base64 with its padding; `None` for anything else.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let padding = text.iter().rev().take_while(|sign| **sign == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut left) = (0u32, 0);
    for sign in &text[..text.len() - padding] {
        bits = bits << 6 | ALPHABET.iter().position(|other| other == sign)? as u32;
        left += 6;
        if left >= 8 {
            left -= 8;
            bytes.push((bits >> left) as u8);
        }
    }
    // The bits that are left belong to no byte and are zero.
    (bits & ((1 << left) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\xfc", "//79/A=="),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).as_deref(), Some(bytes));
        }
        for wrong in ["Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9-", "Zm 9"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_comes_back() {
        let mut out = Vec::new();
        let place = Place { topic: "a\"b", partition: 3, offset: 7, timestamp: 9 };
        let headers = [(&b"k"[..], Some(&b"v"[..])), (b"k", None), (b"\xff", Some(b""))];
        write(&mut out, place, None, Some(b"\x00\xff"), headers.into_iter()).unwrap();
        assert_eq!(
            String::from_utf8(out.clone()).unwrap(),
            r#"{"topic":"a\"b","partition":3,"offset":7,"timestamp":9,"key":null,"value":{"base64":"AP8="},"headers":[["k","v"],["k",null],[{"base64":"/w=="},""]]}"#
                .to_owned()
                + "\n"
        );
        let line = parse(&out).unwrap();
        assert_eq!((line.topic.as_deref(), line.partition, line.timestamp), (Some("a\"b"), Some(3), Some(9)));
        assert_eq!((line.key, line.value.as_deref()), (None, Some(&b"\x00\xff"[..])));
        let (vec, none) = (|bytes: &[u8]| bytes.to_vec(), None);
        assert_eq!(
            line.headers,
            [(vec(b"k"), Some(vec(b"v"))), (vec(b"k"), none), (vec(b"\xff"), Some(vec(b"")))]
        );
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, part) in [
            ("x", "not JSON"),
            ("[]", "not a JSON object"),
            (r#"{"vlaue":"a"}"#, "unknown field vlaue"),
            (r#"{"value":1}"#, "field value: a string"),
            (r#"{"value":{"base64":"a"}}"#, "valid base64"),
            (r#"{"headers":{"a":"b"}}"#, "a list of [key, value]"),
            (r#"{"headers":[["a"]]}"#, "a list of [key, value]"),
            (r#"{"headers":[[null,"b"]]}"#, "not null"),
            (r#"{"partition":"1"}"#, "a partition"),
            (r#"{"partition":4294967296}"#, "a partition"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
