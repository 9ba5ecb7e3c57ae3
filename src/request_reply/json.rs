//! JSON as the value of a message, by serde.
use bytes::Bytes;
use serde::de::value::{Error as TextError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::ser::Serialize;

use super::message::{CodecError, Decode, Encode};
use crate::error::{Error, ErrorKind, Result};

/// A value that travels as JSON; feature `json`.
///
/// A null value is JSON's `null`, in both directions: `Json<Option<T>>` reads it and writes it. Text that is no JSON is
/// read as a string, if a string is wanted: NestJS sends strings without quotes. It also keeps the quotes of those it is sent, so
/// answer it with a plain `String`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # broker.create_topic("sum", 1)?;
/// # let client = milena::Client::connect(&broker.address()).await?;
/// use milena::{Json, json};
///
/// let adder = client
///     .responder("adders")
///     .on_request("sum", async |Json(numbers): Json<Vec<i64>>| Json(numbers.iter().sum::<i64>()));
/// let adder = adder.start().await?;
///
/// let requester = client.requester().build().await?;
/// let sum: i64 = requester.request("sum", &json(&[1, 2, 3])?).await?.json()?;
/// assert_eq!(sum, 6);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Json<T>(pub T);

impl<T: Serialize> Encode for Json<T> {
    fn encode(self) -> Result<Option<Bytes>, CodecError> {
        let text = serde_json::to_vec(&self.0)?;
        Ok((text != b"null").then(|| text.into()))
    }
}

impl<T: DeserializeOwned> Decode for Json<T> {
    fn decode(value: Option<&[u8]>) -> Result<Self, CodecError> {
        let value = value.unwrap_or(b"null");
        let error = match serde_json::from_slice(value) {
            Ok(read) => return Ok(Self(read)),
            Err(error) => error,
        };
        let bare = std::str::from_utf8(value).ok().filter(|text| !text.starts_with(['{', '[', '"']));
        let string = bare.filter(|&text| text != "null").and_then(|text| {
            let text: StrDeserializer<'_, TextError> = text.into_deserializer();
            T::deserialize(text).ok()
        });
        string.map(Self).ok_or_else(|| error.into())
    }
}

/// The value as JSON, for the request of a call or the value of a record; feature `json`. [`Json`] shows it at work.
///
/// # Errors
/// [`ErrorKind::Message`]: the value cannot be written as JSON, for instance a map whose keys are no strings.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| {
        Error::new(ErrorKind::Message, "the value cannot be written as JSON").caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
        Json::decode(Some(text.as_bytes())).ok().map(|Json(read)| read)
    }

    #[test]
    fn strings_of_nest_have_no_quotes() {
        for (text, string) in [("plain", "plain"), ("\"quoted\"", "quoted"), ("42", "42"), ("", "")] {
            assert_eq!(read::<String>(text).as_deref(), Some(string), "{text}");
        }
        assert_eq!(read::<i32>("42"), Some(42));
        assert_eq!(read::<Option<String>>("null"), Some(None));
        for text in ["plain", "[1", "\"1\"", "", "{}"] {
            assert_eq!(read::<i32>(text), None, "{text}");
        }
        for text in ["{\"a\":1}", "[\"a\"]", "\"open"] {
            assert_eq!(read::<String>(text), None, "{text}");
        }
        assert!(Json::<String>::decode(Some(&[0xff])).is_err());
    }

    #[test]
    fn null_is_a_null_value() {
        assert_eq!(Json(None::<u8>).encode().unwrap(), None);
        assert_eq!(Json(Some(1)).encode().unwrap().unwrap(), "1");
        assert_eq!(Json::<Option<u8>>::decode(None).unwrap(), Json(None));
        assert!(Json::<String>::decode(None).is_err());
    }

    #[test]
    fn what_is_no_json_has_an_error_of_its_kind() {
        let error = json(&std::collections::HashMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Message);
    }
}
