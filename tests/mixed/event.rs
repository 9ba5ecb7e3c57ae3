//! What members tell, a line each, in the language of tests/partners/README.md.
use serde_json::Value;

use crate::support::kafka::Partition;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
    Lost(Vec<Partition>),
    Records(Partition, Vec<i64>),
    Committed(Vec<(Partition, i64)>),
    Trouble(String),
    Closed,
    /// Noted by the test when it is dead by SIGKILL; the coordinator learns of it later.
    Killed,
    /// Noted by the test before it sends SIGSTOP, for longer than a session lasts: what it has is not its own any more, which it
    /// learns later.
    Halted,
}

/// An event, by which member (its place in the list of all), and when (microseconds since 1970).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: u64,
    pub(crate) member: usize,
    pub(crate) event: Event,
}

impl Line {
    /// None for what is no line of a member: a test runner's greeting.
    pub(crate) fn parse(member: usize, text: &str) -> Option<Result<Self, String>> {
        let text = text.trim();
        text.starts_with('{').then(|| {
            let wrong = || format!("not a member's line: {text}");
            let line: Value = serde_json::from_str(text).map_err(|_| wrong())?;
            let at = line["at"].as_u64().ok_or_else(wrong)?;
            let event = event(&line).ok_or_else(wrong)?;
            Ok(Self { at, member, event })
        })
    }
}

fn event(line: &Value) -> Option<Event> {
    let partitions = || line["partitions"].as_array()?.iter().map(partition).collect::<Option<Vec<_>>>();
    Some(match line["event"].as_str()? {
        "assigned" => Event::Assigned(partitions()?),
        "revoked" => Event::Revoked(partitions()?),
        "lost" => Event::Lost(partitions()?),
        "records" => {
            let offsets = line["offsets"].as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?;
            Event::Records(partition(&line["partition"])?, offsets)
        }
        "committed" => {
            let offsets = line["offsets"].as_array()?.iter();
            Event::Committed(
                offsets.map(|entry| Some((partition(entry)?, entry[2].as_i64()?))).collect::<Option<_>>()?,
            )
        }
        "trouble" => Event::Trouble(line["what"].as_str()?.to_owned()),
        "closed" => Event::Closed,
        _ => return None,
    })
}

fn partition(entry: &Value) -> Option<Partition> {
    Some((entry[0].as_str()?.to_owned(), i32::try_from(entry[1].as_i64()?).ok()?))
}
