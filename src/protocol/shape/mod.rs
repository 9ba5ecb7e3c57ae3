//! The check that every body passes before `kafka-protocol` decodes it.
//!
//! The decoders of `kafka-protocol` reserve room for as many elements as a count on the wire claims, so that a few
//! bytes could reserve gigabytes or abort the process. This walk follows the shape of the message over the bytes
//! first, allocates nothing, and refuses every length and count that the bytes left cannot hold, malformed tags, and
//! bytes left over. After it a decoder holds at most 128 times the bytes received: an element in memory is larger than
//! its smallest form on the wire. (The worst is a structure of four bytes that has an unknown tagged field: 120.)
//!
//! The shapes are data: `table.txt`. UTF-8, and null where it is not allowed, are left to `kafka-protocol`.
use super::primitives::{Cursor, Malformed};
use std::sync::{LazyLock, OnceLock};

#[cfg(test)]
pub(crate) mod tests;

/// Heap bytes a decoder of `kafka-protocol` may hold for each byte of a body that passed the check.
#[cfg(test)]
#[allow(dead_code, reason = "tests/decoder_memory.rs compiles this module too")]
pub(crate) const AMPLIFICATION: usize = 128;

/// Checks the body (what follows the response header) of an answer.
pub(crate) fn check_response(api_key: i16, version: i16, body: &[u8]) -> Result<(), Malformed> {
    check(&TABLE.responses, api_key, version, body)
}

/// Checks the body (what follows the request header) of a request.
#[cfg(any(test, feature = "broker"))]
pub(crate) fn check_request(api_key: i16, version: i16, body: &[u8]) -> Result<(), Malformed> {
    check(&TABLE.requests, api_key, version, body)
}

fn check(messages: &[Option<Message>], api_key: i16, version: i16, body: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(body);
    let message = usize::try_from(api_key).ok().and_then(|key| messages.get(key)?.as_ref());
    let shape = message
        .and_then(|message| message.shape(version))
        .ok_or(cursor.malformed("unknown API or version"))?;
    shape.walk(&shape.steps, &mut cursor)?;
    if cursor.is_empty() { Ok(()) } else { Err(cursor.malformed("bytes left over")) }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("table.txt")));

/// Both directions of every API, by its key.
#[derive(Default)]
struct Table {
    requests: Vec<Option<Message>>,
    responses: Vec<Option<Message>>,
}

impl Table {
    fn parse(text: &'static str) -> Self {
        let mut table = Self::default();
        // The first paragraph explains the notation.
        for (key, request, response) in text.split("\n\n").skip(1).filter_map(Self::api) {
            for (messages, message) in [(&mut table.requests, request), (&mut table.responses, response)] {
                messages.resize_with(messages.len().max(key + 1), || None);
                messages[key] = Some(message);
            }
        }
        table
    }

    fn api(paragraph: &'static str) -> Option<(usize, Message, Message)> {
        let (title, rest) = paragraph.split_once("\nrequest ")?;
        let (request, response) = rest.split_once("\nresponse ")?;
        let key = title.split(' ').next()?.parse().ok()?;
        Some((key, Message::parse(request)?, Message::parse(response)?))
    }
}

/// One direction of an API: its versions, each with a shape that is made when it is first met.
struct Message {
    lowest: i16,
    /// The first flexible version.
    flexible: i16,
    fields: &'static str,
    shapes: Box<[OnceLock<Option<Shape>>]>,
}

impl Message {
    fn parse(text: &'static str) -> Option<Self> {
        let (head, fields) = text.split_once('\n').unwrap_or((text, ""));
        let (versions, flexible) = head.split_once(" flexible ")?;
        let (lowest, highest) = versions.split_once('-')?;
        let (lowest, highest): (i16, i16) = (lowest.parse().ok()?, highest.parse().ok()?);
        let flexible = flexible.trim_end_matches('+').parse().unwrap_or(i16::MAX);
        Some(Self { lowest, flexible, fields, shapes: (lowest..=highest).map(|_| OnceLock::new()).collect() })
    }

    fn shape(&self, version: i16) -> Option<&Shape> {
        let slot = self.shapes.get(usize::try_from(version.checked_sub(self.lowest)?).ok()?)?;
        slot.get_or_init(|| Compiler::compile(self.fields, version, version >= self.flexible)).as_ref()
    }
}

/// What one version of a message looks like on the wire.
pub(crate) struct Shape {
    steps: Box<[Step]>,
    flexible: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Bytes that may hold anything: neighbouring fields of fixed size in one.
    Fixed(usize),
    String,
    Bytes,
    /// The next `body` steps, once for each element, of at least `least` bytes each.
    Array {
        body: usize,
        least: usize,
    },
    /// The next `body` steps, if the structure is there.
    Optional {
        body: usize,
    },
    /// Tagged fields; the next `body` steps are the known ones, each a `Tag` and its own steps.
    Tags {
        body: usize,
    },
    Tag {
        tag: u32,
        body: usize,
    },
}

impl Shape {
    fn walk(&self, mut steps: &[Step], cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        while let Some((&step, rest)) = steps.split_first() {
            steps = rest;
            match step {
                Step::Fixed(len) => {
                    cursor.bytes(len)?;
                }
                Step::String | Step::Bytes => {
                    let len = self.length(step, cursor)?;
                    let len = usize::try_from(len).map_err(|_| cursor.malformed("negative length"))?;
                    cursor.bytes(len)?;
                }
                Step::Array { body, least } => {
                    let (element, after) = steps.split_at(body);
                    steps = after;
                    let count = self.length(step, cursor)?;
                    let count = cursor.count(count, least)?;
                    if let [Step::Fixed(len)] = element {
                        cursor.bytes(count * len)?; // `count` says that they are there
                    } else {
                        for _ in 0..count {
                            self.walk(element, cursor)?;
                        }
                    }
                }
                Step::Optional { body } => {
                    let (structure, after) = steps.split_at(body);
                    steps = after;
                    match cursor.i8()? {
                        1 => self.walk(structure, cursor)?,
                        -1 => {}
                        _ => return Err(cursor.malformed("neither present nor absent")),
                    }
                }
                Step::Tags { body } => {
                    let (known, after) = steps.split_at(body);
                    steps = after;
                    self.tags(known, cursor)?;
                }
                Step::Tag { body, .. } => steps = &steps[body..], // met in `tags` only
            }
        }
        Ok(())
    }

    /// The length or count in front of a string, bytes or an array; null counts as empty.
    #[inline]
    fn length(&self, step: Step, cursor: &mut Cursor<'_>) -> Result<i64, Malformed> {
        let len = match step {
            _ if self.flexible => i64::from(cursor.uvarint()?) - 1,
            Step::String => i64::from(cursor.i16()?),
            _ => i64::from(cursor.i32()?),
        };
        Ok(if len == -1 { 0 } else { len })
    }

    fn tags(&self, known: &[Step], cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let count = cursor.uvarint()?;
        let count = cursor.count(i64::from(count), 2)?;
        let mut lowest = 0;
        for _ in 0..count {
            let tag = cursor.uvarint()?;
            if u64::from(tag) < lowest {
                return Err(cursor.malformed("tags not in ascending order"));
            }
            // Kafka's are of 31 bits; `kafka-protocol` reads others as negative and then loses them.
            if tag > i32::MAX as u32 {
                return Err(cursor.malformed("tag above 31 bits"));
            }
            lowest = u64::from(tag) + 1;
            let size = cursor.uvarint()?;
            let mut value = Cursor::new(cursor.bytes(size as usize)?);
            if let Some(steps) = Self::known(known, tag) {
                self.walk(steps, &mut value)?;
                if !value.is_empty() {
                    return Err(cursor.malformed("tagged field shorter than its size"));
                }
            }
        }
        Ok(())
    }

    fn known(mut steps: &[Step], wanted: u32) -> Option<&[Step]> {
        while let Some((&Step::Tag { tag, body }, rest)) = steps.split_first() {
            let (value, rest) = rest.split_at(body);
            if tag == wanted {
                return Some(value);
            }
            steps = rest;
        }
        None
    }
}

/// Reads the notation of the table and keeps what one version has.
struct Compiler {
    rest: &'static str,
    version: i16,
    flexible: bool,
    steps: Vec<Step>,
    /// Steps before this one belong to another structure or are bodies: nothing is merged into them.
    closed: usize,
}

impl Compiler {
    fn compile(fields: &'static str, version: i16, flexible: bool) -> Option<Shape> {
        let mut compiler = Self { rest: fields, version, flexible, steps: Vec::new(), closed: 0 };
        compiler.structure()?;
        compiler.rest.is_empty().then(|| Shape { steps: compiler.steps.into(), flexible })
    }

    /// Fields up to the end of their structure; like all below, answers with the fewest bytes these can have.
    fn structure(&mut self) -> Option<usize> {
        let mut least = 0;
        let mut tags = None;
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() || self.rest.starts_with('}') {
                break;
            }
            self.word();
            if self.eat('#') {
                let tag = self.number()?;
                let at = *tags.get_or_insert_with(|| self.push(Step::Tags { body: 0 }));
                let (here, (had, _)) = (self.push(Step::Tag { tag, body: 0 }), self.field()?);
                let body = self.steps.len() - here - 1;
                self.steps[here] = Step::Tag { tag, body };
                self.steps.truncate(if had { self.steps.len() } else { here });
                self.steps[at] = Step::Tags { body: self.steps.len() - at - 1 };
            } else {
                least += self.field()?.1;
            }
        }
        if self.flexible {
            least += 1;
            tags.get_or_insert_with(|| self.push(Step::Tags { body: 0 }));
        } else if let Some(at) = tags {
            self.steps.truncate(at);
        }
        self.closed = self.steps.len();
        Some(least)
    }

    /// What follows a field's name; says whether this version has it, and adds nothing otherwise.
    fn field(&mut self) -> Option<(bool, usize)> {
        let had = self.versions()?;
        if !self.eat(':') {
            return None;
        }
        let (start, closed) = (self.steps.len(), self.closed);
        if had {
            return Some((true, self.kind()?));
        }
        self.closed = start;
        self.kind()?;
        self.steps.truncate(start);
        self.closed = closed;
        Some((false, 0))
    }

    fn versions(&mut self) -> Option<bool> {
        if !self.eat('@') {
            return Some(true);
        }
        let first = self.number()?;
        let last = if self.eat('+') {
            i16::MAX
        } else if self.eat('-') {
            self.number()?
        } else {
            first
        };
        Some((first..=last).contains(&self.version))
    }

    fn kind(&mut self) -> Option<usize> {
        if self.eat('[') {
            let at = self.push(Step::Array { body: 0, least: 0 });
            let least = self.kind()?;
            self.steps[at] = Step::Array { body: self.steps.len() - at - 1, least };
            self.closed = self.steps.len();
            return self.eat(']').then_some(if self.flexible { 1 } else { 4 });
        }
        if self.eat('?') {
            let at = self.push(Step::Optional { body: 0 });
            self.kind()?;
            self.steps[at] = Step::Optional { body: self.steps.len() - at - 1 };
            return Some(1);
        }
        if self.eat('{') {
            let least = self.structure()?;
            return self.eat('}').then_some(least);
        }
        let len = match self.word() {
            "i8" | "bool" => 1,
            "i16" | "u16" => 2,
            "i32" => 4,
            "i64" | "f64" => 8,
            "uuid" => 16,
            "string" => {
                self.push(Step::String);
                return Some(if self.flexible { 1 } else { 2 });
            }
            "bytes" => {
                self.push(Step::Bytes);
                return Some(if self.flexible { 1 } else { 4 });
            }
            _ => return None,
        };
        match self.steps[self.closed..].last_mut() {
            Some(Step::Fixed(before)) => *before += len,
            _ => {
                self.push(Step::Fixed(len));
            }
        }
        Some(len)
    }

    fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    fn eat(&mut self, sign: char) -> bool {
        self.rest.strip_prefix(sign).map(|rest| self.rest = rest).is_some()
    }

    fn word(&mut self) -> &'static str {
        let end = self
            .rest
            .find(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_')
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        let end = self.rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok()
    }
}
