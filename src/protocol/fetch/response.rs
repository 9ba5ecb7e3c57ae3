//! The Fetch response, versions 4 to 18, read in place.
use bytes::Bytes;
use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;
use crate::protocol::primitives::{Cursor, Malformed, share};

/// The answer to a Fetch request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FetchResponse {
    pub(crate) throttle_ms: i32,
    /// An error of the whole request, such as a lost session.
    pub(crate) error: ErrorCode,
    /// 0: the node keeps no session.
    pub(crate) session_id: i32,
    pub(crate) topics: Vec<TopicData>,
    /// Where the leaders named in the partitions live (KIP-951).
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A topic in the answer, named by name up to version 12 and by id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicData {
    pub(crate) name: Bytes,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<PartitionData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionData {
    pub(crate) partition: i32,
    pub(crate) error: ErrorCode,
    pub(crate) high_watermark: i64,
    /// -1 where the node does not tell it.
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    /// The last epoch and its end offset that both sides share, if the log was truncated below the asked offset.
    pub(crate) diverging: Option<(i32, i64)>,
    /// The leader and its epoch, where the asked node is not the leader or knows a newer epoch.
    pub(crate) leader: Option<(i32, i32)>,
    pub(crate) aborted: Vec<Aborted>,
    /// A replica to read from instead (KIP-392).
    pub(crate) preferred_replica: Option<i32>,
    /// A slice of the response; the last batch in it may be cut off.
    pub(crate) records: Bytes,
}

/// An aborted transaction that reaches into the answered records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) node: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
}

/// Bytes of the smallest possible elements, so that a count is never believed beyond what the rest can hold.
const MIN_TOPIC: usize = 3;
const MIN_PARTITION: usize = 4 + 2 + 8 + 8 + 1 + 1;
const MIN_ABORTED: usize = 16;
const MIN_ENDPOINT: usize = 4 + 1 + 4 + 1 + 1;

struct Reader<'a> {
    whole: &'a Bytes,
    cursor: Cursor<'a>,
    version: i16,
}

impl FetchResponse {
    /// Reads all of `body`; bytes that are left over are an error.
    pub(crate) fn decode(body: &Bytes, version: i16) -> Result<Self, Malformed> {
        let mut reader = Reader { whole: body, cursor: Cursor::new(body), version };
        let response = reader.response()?;
        if !reader.cursor.is_empty() {
            return Err(reader.cursor.malformed("bytes after the end of a fetch response"));
        }
        Ok(response)
    }
}

impl Reader<'_> {
    fn response(&mut self) -> Result<FetchResponse, Malformed> {
        let mut response = FetchResponse { throttle_ms: self.cursor.i32()?, ..Default::default() };
        if self.version >= 7 {
            response.error = ErrorCode::from(self.cursor.i16()?);
            response.session_id = self.cursor.i32()?;
        }
        let count = self.count(MIN_TOPIC)?;
        response.topics.reserve_exact(count);
        for _ in 0..count {
            response.topics.push(self.topic()?);
        }
        self.tags(|reader, tag| {
            if tag == 0 && reader.version >= 16 {
                let count = reader.count(MIN_ENDPOINT)?;
                for _ in 0..count {
                    response.endpoints.push(reader.endpoint()?);
                }
                return Ok(true);
            }
            Ok(false)
        })?;
        Ok(response)
    }

    fn topic(&mut self) -> Result<TopicData, Malformed> {
        let (mut name, mut id) = (Bytes::new(), Uuid::nil());
        if self.version >= 13 {
            id = self.cursor.uuid()?;
        } else {
            name = self.nullable_bytes()?.ok_or(self.cursor.malformed("topic without a name"))?;
        }
        let count = self.count(MIN_PARTITION)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(self.partition()?);
        }
        self.tags(|_, _| Ok(false))?;
        Ok(TopicData { name, id, partitions })
    }

    fn partition(&mut self) -> Result<PartitionData, Malformed> {
        let mut data = PartitionData {
            partition: self.cursor.i32()?,
            error: ErrorCode::from(self.cursor.i16()?),
            high_watermark: self.cursor.i64()?,
            last_stable_offset: self.cursor.i64()?,
            log_start_offset: if self.version >= 5 { self.cursor.i64()? } else { -1 },
            diverging: None,
            leader: None,
            aborted: Vec::new(),
            preferred_replica: None,
            records: Bytes::new(),
        };
        for _ in 0..self.count(MIN_ABORTED)? {
            let aborted = Aborted { producer_id: self.cursor.i64()?, first_offset: self.cursor.i64()? };
            data.aborted.push(aborted);
            self.tags(|_, _| Ok(false))?;
        }
        if self.version >= 11 {
            data.preferred_replica = Some(self.cursor.i32()?).filter(|node| *node >= 0);
        }
        data.records =
            if self.version >= 12 { self.nullable_bytes()? } else { self.long_bytes()? }.unwrap_or_default();
        self.tags(|reader, tag| {
            match tag {
                0 => {
                    let (epoch, end_offset) = (reader.cursor.i32()?, reader.cursor.i64()?);
                    data.diverging = (epoch >= 0 || end_offset >= 0).then_some((epoch, end_offset));
                }
                1 => {
                    let (leader, epoch) = (reader.cursor.i32()?, reader.cursor.i32()?);
                    data.leader = (leader >= 0).then_some((leader, epoch));
                }
                _ => return Ok(false),
            }
            reader.tags(|_, _| Ok(false)).map(|()| true)
        })?;
        Ok(data)
    }

    fn endpoint(&mut self) -> Result<Endpoint, Malformed> {
        let node = self.cursor.i32()?;
        let host = self.text()?.ok_or(self.cursor.malformed("endpoint without a host"))?;
        let port =
            u16::try_from(self.cursor.i32()?).map_err(|_| self.cursor.malformed("port above 65535"))?;
        let rack = self.text()?;
        self.tags(|_, _| Ok(false))?;
        Ok(Endpoint { node, host, port, rack })
    }

    fn text(&mut self) -> Result<Option<String>, Malformed> {
        let Some(bytes) = self.nullable_bytes()? else {
            return Ok(None);
        };
        let text =
            std::str::from_utf8(&bytes).map_err(|_| self.cursor.malformed("text that is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }

    /// A count of elements of at least `element` bytes each; a null array counts as empty.
    fn count(&mut self, element: usize) -> Result<usize, Malformed> {
        let count = if self.version >= 12 {
            i64::from(self.cursor.uvarint()?) - 1
        } else {
            i64::from(self.cursor.i32()?)
        };
        self.cursor.count(if count == -1 { 0 } else { count }, element)
    }

    /// A string, or bytes of a flexible version.
    fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        let len = if self.version >= 12 {
            i64::from(self.cursor.uvarint()?) - 1
        } else {
            i64::from(self.cursor.i16()?)
        };
        self.slice(len)
    }

    /// Bytes of a version that is not flexible.
    fn long_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        let len = i64::from(self.cursor.i32()?);
        self.slice(len)
    }

    fn slice(&mut self, len: i64) -> Result<Option<Bytes>, Malformed> {
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| self.cursor.malformed("negative length"))?;
        let part = self.cursor.bytes(len)?;
        Ok(Some(share(self.whole, part)))
    }

    /// Tagged fields of a flexible version. `field` says whether it knows the tag; whatever it leaves is skipped.
    fn tags(
        &mut self,
        mut field: impl FnMut(&mut Self, u32) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        if self.version < 12 {
            return Ok(());
        }
        let count = self.cursor.uvarint()?;
        let count = self.cursor.count(i64::from(count), 2)?;
        for _ in 0..count {
            let tag = self.cursor.uvarint()?;
            let size = self.cursor.uvarint()? as usize;
            let mut rest = self.cursor;
            let value = rest.bytes(size)?;
            // The value is read by itself, so that it cannot reach beyond its own size.
            self.cursor = Cursor::new(value);
            let known = field(self, tag)?;
            if known && !self.cursor.is_empty() {
                return Err(self.cursor.malformed("bytes after the end of a tagged field"));
            }
            self.cursor = rest;
        }
        Ok(())
    }
}
