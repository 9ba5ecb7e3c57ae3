//! What is needed to wait for a reply in another life of the process.
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::state::reply::correlation::ReplyId;

/// A call that another requester can wait for, for instance after a restart: written down as text before the process ends, and given
/// to [`Requester::resume`](crate::Requester::resume).
///
/// Nothing is kept anywhere but in the token: the reply is read from the log, from where it ended when the request was sent.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # broker.create_topic("upper", 1)?;
/// # let client = milena::Client::connect(&broker.address()).await?;
/// # let responder = client.responder("upper").on_request("upper", async |request: milena::Request| {
/// #     String::from_utf8_lossy(request.value()).to_uppercase()
/// # });
/// # let responder = responder.start().await?;
/// # let requester = client.requester().build().await?;
/// use milena::CallToken;
///
/// let call = requester.request("upper", "abc").send().await?;
/// let written_down = call.token().to_string();
///
/// let another = client.requester().build().await?;
/// let token: CallToken = written_down.parse()?;
/// assert_eq!(another.resume(&token).await?.await?.value(), b"ABC");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallToken {
    pub(super) id: ReplyId,
    /// When it was sent and when it ends, in milliseconds of the wall clock.
    pub(super) sent: i64,
    pub(super) deadline: i64,
    pub(super) topic: String,
    /// Where each partition ended on which the reply may come; -1 if that was not known.
    pub(super) positions: Vec<(i32, i64)>,
}

const VERSION: &str = "milena1";

/// Text without spaces, some hundred bytes long.
impl fmt::Display for CallToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = String::from_utf8_lossy(&self.id);
        write!(f, "{VERSION}:{id}:{}:{}:{}", self.sent, self.deadline, self.topic)?;
        self.positions.iter().try_for_each(|(partition, offset)| write!(f, ":{partition}@{offset}"))
    }
}

impl FromStr for CallToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let rest = text.strip_prefix(VERSION)?.strip_prefix(':')?;
            // Names of topics have no colons.
            let mut parts = rest.split(':');
            let id = parts.next()?.as_bytes().try_into().ok()?;
            let (sent, deadline) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let topic = parts.next().filter(|topic| !topic.is_empty())?.to_owned();
            let position = |part: &str| {
                let (partition, offset) = part.split_once('@')?;
                let partition: i32 = partition.parse().ok().filter(|partition| *partition >= 0)?;
                Some((partition, offset.parse().ok()?))
            };
            let positions: Vec<_> = parts.map(position).collect::<Option<_>>()?;
            (!positions.is_empty()).then_some(Self { id, sent, deadline, topic, positions })
        };
        read().ok_or_else(|| Error::new(ErrorKind::Config, "this is no token of a call"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let positions = vec![(3, 17), (11, -1)];
        let token = CallToken { id: [b'a'; 32], sent: 5, deadline: 9, topic: "t.reply".into(), positions };
        let text = token.to_string();
        assert_eq!(text.parse::<CallToken>().unwrap(), token);
        for end in 0..text.rfind(':').unwrap() - 1 {
            let cut = text[..end].parse::<CallToken>();
            assert!(cut.is_err() || text[..end].contains('@'), "{:?}", &text[..end]);
        }
        for (from, to) in
            [("milena1", "milena2"), ("aa", "a"), ("@17", "@"), (":3@", ":-3@"), ("t.reply", "")]
        {
            assert_eq!(text.replace(from, to).parse::<CallToken>().unwrap_err().kind(), ErrorKind::Config);
        }
    }

    proptest! {
        #[test]
        fn any_text_may_come_as_a_token(text: String) {
            let _ = text.parse::<CallToken>();
            let _ = format!("milena1:{text}").parse::<CallToken>();
        }
    }
}
