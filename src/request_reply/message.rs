//! Values of messages: from bytes to what a handler takes, and back.
use std::error::Error as StdError;

use bytes::Bytes;

use super::{Event, Refusal, Request, Status};

/// Why a value is not what it should be.
pub type CodecError = Box<dyn StdError + Send + Sync>;

/// What can be written as the value of a message. Handlers may return it, see [`IntoAnswer`](super::IntoAnswer).
///
/// ```
/// struct Celsius(f64);
///
/// impl milena::Encode for Celsius {
///     fn encode(self) -> Result<Option<bytes::Bytes>, milena::CodecError> {
///         Ok(Some(self.0.to_be_bytes().to_vec().into()))
///     }
/// }
/// ```
pub trait Encode {
    /// The value; `None` is a null value.
    ///
    /// # Errors
    /// It cannot be written: the caller gets [`Status::INTERNAL`].
    fn encode(self) -> Result<Option<Bytes>, CodecError>;
}

/// What can be read from the value of a message. Handlers may take it, and [`Reply::decode`](super::Reply::decode) gives it.
///
/// ```
/// struct Celsius(f64);
///
/// impl milena::Decode for Celsius {
///     fn decode(value: Option<&[u8]>) -> Result<Self, milena::CodecError> {
///         Ok(Self(f64::from_be_bytes(value.unwrap_or_default().try_into()?)))
///     }
/// }
///
/// # fn responder(client: milena::Client) -> milena::ResponderBuilder {
/// client.responder("thermometers").on_request("fahrenheit", async |Celsius(degrees): Celsius| {
///     (degrees * 1.8 + 32.0).to_string()
/// })
/// # }
/// ```
pub trait Decode: Sized {
    /// Reads it; `None` is a null value.
    ///
    /// # Errors
    /// The bytes are something else: the handler is not run, the caller gets [`Status::INVALID_ARGUMENT`], and the record
    /// becomes a dead letter.
    fn decode(value: Option<&[u8]>) -> Result<Self, CodecError>;
}

macro_rules! written_as_they_are {
    ($($type:ty)*) => {$(
        impl Encode for $type {
            fn encode(self) -> Result<Option<Bytes>, CodecError> {
                Ok(Some(self.into()))
            }
        }
    )*};
}

written_as_they_are! { Bytes Vec<u8> String &'static str &'static [u8] }

/// A null value reads as empty.
impl Decode for Vec<u8> {
    fn decode(value: Option<&[u8]>) -> Result<Self, CodecError> {
        Ok(value.unwrap_or_default().to_vec())
    }
}

/// UTF-8. A null value reads as empty.
impl Decode for String {
    fn decode(value: Option<&[u8]>) -> Result<Self, CodecError> {
        Ok(std::str::from_utf8(value.unwrap_or_default())?.to_owned())
    }
}

/// `None` is a null value.
impl<D: Decode> Decode for Option<D> {
    fn decode(value: Option<&[u8]>) -> Result<Self, CodecError> {
        value.map(|value| D::decode(Some(value))).transpose()
    }
}

/// What a handler may take: the [`Request`] or [`Event`] itself, whatever is [decoded](Decode) from its value, or a pair of
/// these.
///
/// ```
/// # fn responder(client: milena::Client) -> milena::ResponderBuilder {
/// client.responder("greeters").on_request("greet", async |(request, name): (milena::Request, String)| {
///     format!("{} says hello to {name}", request.topic())
/// })
/// # }
/// ```
pub trait FromRequest: Sized {
    /// Takes what it needs. What a handler of events takes comes this way, too; it has no deadline.
    ///
    /// # Errors
    /// What the caller is answered; the handler is not run.
    fn from_request(request: Request) -> Result<Self, Refusal>;
}

impl FromRequest for Request {
    fn from_request(request: Request) -> Result<Self, Refusal> {
        Ok(request)
    }
}

impl FromRequest for Event {
    fn from_request(request: Request) -> Result<Self, Refusal> {
        Ok(request.event)
    }
}

impl<D: Decode> FromRequest for D {
    fn from_request(request: Request) -> Result<Self, Refusal> {
        D::decode(request.record().value()).map_err(|error| {
            Refusal::new(Status::INVALID_ARGUMENT, format!("the request cannot be read: {error}")).poison()
        })
    }
}

impl<A: FromRequest, B: FromRequest> FromRequest for (A, B) {
    fn from_request(request: Request) -> Result<Self, Refusal> {
        Ok((A::from_request(request.clone())?, B::from_request(request)?))
    }
}
