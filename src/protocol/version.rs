//! Which versions of which API a node offers, and which of them to use.
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::primitives::{Cursor, Malformed};
use crate::protocol::request::{Request, api_name};

/// Key of the API that tells the versions of all.
pub(crate) const API_VERSIONS_KEY: i16 = 18;

/// What one node offered when the connection to it was opened.
///
/// The highest version that both sides know is used: Kafka 4 names Produce 0 to 2 among its versions and refuses them,
/// and which features are on is told by the finalized features, not by the list of APIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ApiVersions {
    address: Option<Arc<str>>,
    /// (key, lowest, highest), in order of the key.
    ranges: Vec<(i16, i16, i16)>,
    /// Finalized features: (name, highest level in force).
    features: Vec<(Box<str>, i16)>,
    /// -1 where unknown.
    features_epoch: i64,
}

impl ApiVersions {
    /// The ranges as (key, lowest, highest).
    pub(crate) fn of(address: Arc<str>, mut ranges: Vec<(i16, i16, i16)>) -> Self {
        ranges.sort_unstable();
        Self { address: Some(address), ranges, features: Vec::new(), features_epoch: -1 }
    }

    /// The highest version that both sides know.
    pub(crate) fn choose<R: Request>(&self) -> Result<i16, Error> {
        self.choose_at_most::<R>(i16::MAX)
    }

    /// The highest version that both sides know and that is not above `most`.
    pub(crate) fn choose_at_most<R: Request>(&self, most: i16) -> Result<i16, Error> {
        let (our_min, our_max) = (R::RANGE.0, R::RANGE.1.min(most));
        let unsupported = |what: String| {
            let error = Error::new(ErrorKind::Unsupported, what).in_api(R::NAME);
            match &self.address {
                Some(address) => error.at_address(&**address),
                None => error,
            }
        };
        let Some((min, max)) = self.range(R::KEY) else {
            return Err(unsupported(format!("the node does not offer {}", R::NAME)));
        };
        let version = max.min(our_max);
        if version < min || version < our_min {
            return Err(unsupported(format!(
                "no common version of {}: the node offers {min} to {max}, milena needs {our_min} to {our_max}",
                R::NAME
            )));
        }
        Ok(version)
    }

    /// Lowest and highest version the node offers, as it said.
    pub(crate) fn range(&self, key: i16) -> Option<(i16, i16)> {
        let at = self.ranges.binary_search_by_key(&key, |range| range.0).ok()?;
        self.ranges.get(at).map(|range| (range.1, range.2))
    }

    /// The level in force of a finalized feature, such as `group.version`.
    #[allow(dead_code)] // transactions will ask whether `transaction.version` is on (KIP-890)
    pub(crate) fn feature(&self, name: &str) -> Option<i16> {
        self.features.iter().find(|feature| &*feature.0 == name).map(|feature| feature.1)
    }
}

/// What came back when a node was asked for its versions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Negotiation {
    /// The versions.
    Done(ApiVersions),
    /// The node does not know the version of the question; ask again in this one.
    AskIn(i16),
    /// The node refused.
    Refused(ErrorCode),
}

/// Reads the answer to an ApiVersions request that was sent in `asked`.
///
/// This is read before the peer has proved anything: nothing is reserved that the bytes at hand cannot fill. A node
/// that does not know the version answers error 35 in the shape of version 0, and some say it in a shape of their own,
/// so the code is read first and decides.
pub(crate) fn decode(asked: i16, body: &[u8], address: &Arc<str>) -> Result<Negotiation, Malformed> {
    let mut cursor = Cursor::new(body);
    let code = ErrorCode::from(cursor.i16()?);
    if code == ErrorCode::UNSUPPORTED_VERSION && asked > 0 {
        // Version 0 is what everybody knows; a better one is a matter of luck.
        let known = ranges(&mut cursor, false).unwrap_or_default();
        let most = known.iter().find(|range| range.0 == API_VERSIONS_KEY).map_or(0, |range| range.2);
        return Ok(Negotiation::AskIn(most.clamp(0, asked - 1)));
    }
    if !code.is_none() {
        return Ok(Negotiation::Refused(code));
    }
    let flexible = asked >= 3;
    let mut versions = ApiVersions::of(address.clone(), ranges(&mut cursor, flexible)?);
    if asked >= 1 {
        cursor.i32()?; // throttle time: nothing to throttle yet
    }
    if flexible {
        for _ in 0..cursor.uvarint()? {
            let tag = cursor.uvarint()?;
            let len = cursor.uvarint()? as usize;
            let mut field = Cursor::new(cursor.bytes(len)?);
            match tag {
                1 => versions.features_epoch = field.i64()?,
                2 => versions.features = finalized(&mut field)?,
                _ => {}
            }
        }
    }
    if !cursor.is_empty() {
        return Err(cursor.malformed("bytes after the end of the answer"));
    }
    Ok(Negotiation::Done(versions))
}

fn ranges(cursor: &mut Cursor<'_>, flexible: bool) -> Result<Vec<(i16, i16, i16)>, Malformed> {
    let count = if flexible { i64::from(cursor.uvarint()?) - 1 } else { i64::from(cursor.i32()?) };
    let count = cursor.count(count, if flexible { 7 } else { 6 })?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        ranges.push((cursor.i16()?, cursor.i16()?, cursor.i16()?));
        if flexible {
            skip_tags(cursor)?;
        }
    }
    Ok(ranges)
}

fn finalized(cursor: &mut Cursor<'_>) -> Result<Vec<(Box<str>, i16)>, Malformed> {
    let claimed = i64::from(cursor.uvarint()?) - 1;
    let count = cursor.count(claimed, 6)?;
    let mut features = Vec::with_capacity(count);
    for _ in 0..count {
        let len = (cursor.uvarint()? as usize).checked_sub(1).ok_or(cursor.malformed("null feature name"))?;
        let name = String::from_utf8_lossy(cursor.bytes(len)?).into();
        let max = cursor.i16()?;
        cursor.i16()?; // lowest level in force
        skip_tags(cursor)?;
        features.push((name, max));
    }
    Ok(features)
}

fn skip_tags(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    for _ in 0..cursor.uvarint()? {
        cursor.uvarint()?;
        let len = cursor.uvarint()? as usize;
        cursor.bytes(len)?;
    }
    Ok(())
}

/// The name of an API for messages, also of one that milena does not know.
pub(crate) fn name(key: i16) -> &'static str {
    api_name(key).unwrap_or("unknown API")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{FetchRequest, ProduceRequest};
    use proptest::prelude::*;

    fn address() -> Arc<str> {
        "node:9092".into()
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let versions = ApiVersions::of(address(), vec![(1, 4, 99), (0, 0, 9)]);
        assert_eq!(versions.choose::<FetchRequest>().unwrap(), FetchRequest::RANGE.1);
        assert_eq!(versions.choose_at_most::<FetchRequest>(12).unwrap(), 12);
        assert_eq!(versions.choose::<ProduceRequest>().unwrap(), 9);
    }

    #[test]
    fn a_missing_common_version_names_api_and_both_ranges() {
        let versions = ApiVersions::of(address(), vec![(0, 0, 2)]);
        let error = versions.choose::<ProduceRequest>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("offers 0 to 2") && text.contains("needs 3 to 13"), "{text}");
        assert!(text.contains("node:9092") && text.contains("api Produce"), "{text}");
        let error = versions.choose::<FetchRequest>().unwrap_err();
        assert!(error.to_string().contains("does not offer Fetch"), "{error}");
    }

    #[test]
    fn error_35_in_the_shape_of_version_0_names_the_version_to_ask_in() {
        let body = [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3];
        assert_eq!(decode(4, &body, &address()), Ok(Negotiation::AskIn(3)));
        // A peer that repeats itself cannot keep us asking in the same version.
        assert_eq!(decode(3, &body, &address()), Ok(Negotiation::AskIn(2)));
        assert_eq!(decode(0, &body, &address()), Ok(Negotiation::Refused(ErrorCode::UNSUPPORTED_VERSION)));
    }

    #[test]
    fn error_35_in_a_shape_of_its_own_falls_back_to_version_0() {
        // What librdkafka's mock broker answers.
        let body = [0, 0x23, 1, 0, 0x12, 0, 0, 0, 2, 0, 0, 0, 0, 0];
        assert_eq!(decode(3, &body, &address()), Ok(Negotiation::AskIn(0)));
    }

    #[test]
    fn finalized_features_are_kept() {
        let mut body = vec![0, 0, 2, 0, 18, 0, 0, 0, 4, 0, 0, 0, 0, 0, 2];
        body.extend([1, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        let feature = [&[2, 14][..], b"group.version", &[0, 1, 0, 0, 0]].concat();
        body.extend([2, feature.len() as u8]);
        body.extend(feature);
        let Negotiation::Done(versions) = decode(4, &body, &address()).unwrap() else { panic!("not done") };
        assert_eq!(versions.feature("group.version"), Some(1));
        assert_eq!(versions.feature("metadata.version"), None);
        assert_eq!((versions.features_epoch, versions.range(18)), (7, Some((0, 4))));
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(asked in 0i16..5, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(asked, &body, &address());
            let _ = decode(asked, &[&[0, 0], &body[..]].concat(), &address());
        }
    }

    #[test]
    fn a_count_that_lies_is_refused_without_reserving_for_it() {
        assert!(decode(0, &[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0], &address()).is_err());
        assert!(decode(4, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0], &address()).is_err());
    }
}
