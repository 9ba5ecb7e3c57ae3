//! What all responders understand: the first word of a request names the handler, the rest is its argument.
use serde_json::Value;

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The values of the replies; None: null.
    pub(crate) items: Vec<Option<String>>,
    pub(crate) error: Option<String>,
    /// Nothing came in time.
    pub(crate) lost: bool,
}

impl Outcome {
    pub(crate) fn item(text: impl Into<String>) -> Self {
        Self { items: vec![Some(text.into())], ..Self::default() }
    }

    pub(crate) fn null() -> Self {
        Self { items: vec![None], ..Self::default() }
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self { error: Some(text.into()), ..Self::default() }
    }

    pub(crate) fn lost() -> Self {
        Self { lost: true, ..Self::default() }
    }

    /// What a partner tells of a call. A call that was lost has no other error.
    pub(crate) fn read(event: &Value) -> Self {
        let items = event["items"].as_array().into_iter().flatten();
        let lost = event["lost"] == true;
        Self {
            items: items.map(|item| item.as_str().map(String::from)).collect(),
            error: event["error"].as_str().filter(|_| !lost).map(String::from),
            lost,
        }
    }
}

/// What is to come of call i.
type Expected = fn(usize) -> Outcome;

/// What all understand, and what comes of it: call i has `-i` behind its text.
pub(crate) const ASKED: [(&str, Expected); 4] = [
    ("echo a b", |call| Outcome::item(format!("a b-{call}"))),
    ("upper ab", |call| Outcome::item(format!("AB-{call}"))),
    ("empty x", |_| Outcome::item("")),
    ("slow 20 s", |call| Outcome::item(format!("s-{call}"))),
];
