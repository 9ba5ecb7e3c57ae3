//! One request, and the answers of several groups.
use std::collections::BTreeSet;
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use super::call::Call;
use super::inbox::Rule;
use super::many::{Many, as_a_call};
use super::reply::{Reply, refused};
use super::requester::Requester;
use crate::consumer::ConsumerRecord;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::state::reply::answerers::Answerer;
use crate::state::reply::dialect::{Kind, read_reply};
use crate::state::reply::gather::{Gathering, group_of};

/// What replies may take together.
const MAX_BYTES: usize = 16 << 20;

impl Requester {
    /// A call that is answered by several groups of responders, each of which reads the topic.
    ///
    /// It ends when [all expected groups](GatherCall::expect) have answered, [so many](GatherCall::count), or
    /// [enough](GatherCall::until); else at its deadline, with what has come until then. Of each group the first answer counts; of
    /// responders that do not say who they are (those that are not milena's), every record.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("offers", 1)?;
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// # let responder = client.responder("north").on_request("offers", async |_: milena::Request| "12");
    /// # let responder = responder.start().await?;
    /// use std::time::Duration;
    ///
    /// let requester = client.requester().build().await?;
    /// let offers = requester.gather("offers", "a lamp").expect(["north", "south"]).timeout(Duration::from_millis(500));
    /// let offers = offers.await?;
    /// assert!(!offers.complete);
    /// assert_eq!(offers.missing, ["south"]);
    /// assert_eq!(offers.replies[0].group(), Some("north"));
    /// # Ok(()) }
    /// ```
    pub fn gather<'a, V: AsRef<[u8]> + ?Sized>(&'a self, topic: &'a str, value: &'a V) -> GatherCall<'a> {
        let call = self.request_record(topic, Record::value(value));
        GatherCall { call, expected: BTreeSet::new(), count: None, until: None, max_bytes: MAX_BYTES }
    }
}

type Enough<'a> = Box<dyn FnMut(&[GroupReply]) -> bool + Send + 'a>;

/// A call to several groups that waits to be awaited; made by [`Requester::gather`].
#[must_use = "a call sends nothing until it is awaited"]
pub struct GatherCall<'a> {
    call: Call<'a>,
    expected: BTreeSet<String>,
    count: Option<usize>,
    until: Option<Enough<'a>>,
    max_bytes: usize,
}

as_a_call!(GatherCall);

impl<'a> GatherCall<'a> {
    /// Names the groups that are to answer: the call ends when all have, and tells who has not. Default: none is known.
    pub fn expect<G: Into<String>>(mut self, groups: impl IntoIterator<Item = G>) -> Self {
        self.expected = groups.into_iter().map(Into::into).collect();
        self
    }

    /// Ends the call after so many answers, errors included. Default: no limit.
    pub fn count(mut self, answers: usize) -> Self {
        self.count = Some(answers);
        self
    }

    /// Ends the call once this says that the answers so far are enough; it is asked after each. Default: never.
    pub fn until(mut self, enough: impl FnMut(&[GroupReply]) -> bool + Send + 'a) -> Self {
        self.until = Some(Box::new(enough));
        self
    }

    /// Sets how many bytes the answers may have together; with more, the call ends with
    /// [`Status::RESOURCE_EXHAUSTED`](crate::Status::RESOURCE_EXHAUSTED). Default: 16 MiB.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    async fn run(mut self) -> Result<Gathered> {
        let mut many = Many::begin(self.call, Kind::Unary, || Rule::Gather(self.max_bytes)).await?;
        let mut gathering = Gathering::default();
        let mut replies = Vec::new();
        let by_time = self.expected.is_empty() && self.count.is_none() && self.until.is_none();
        let complete = loop {
            let expected = !self.expected.is_empty() && gathering.missing(&self.expected).next().is_none();
            let enough = |until: &mut Enough<'_>| !replies.is_empty() && until(&replies);
            if expected
                || self.count.is_some_and(|count| replies.len() >= count)
                || self.until.as_mut().is_some_and(enough)
            {
                many.finish();
                break true;
            }
            loop {
                match std::future::poll_fn(|cx| many.inbox.poll_next(cx)).await {
                    Some(Ok(record)) => {
                        let head = read_reply(record.headers());
                        if gathering.handle_reply(&head, (record.partition(), record.offset())) {
                            let reply = GroupReply::new(record);
                            many.heard(reply.answerer);
                            replies.push(reply);
                            break;
                        }
                    }
                    Some(Err(error)) => {
                        let timeout = error.is_timeout();
                        let error = many.failed(error);
                        // Of a request that may never have been written, silence says nothing.
                        if !timeout || replies.is_empty() && many.is_unsure() {
                            return Err(error);
                        }
                        let missing = gathering.missing(&self.expected).cloned().collect();
                        return Ok(Gathered { replies, missing, complete: by_time });
                    }
                    None => return Err(Error::closed("requester")),
                }
            }
        };
        let missing = gathering.missing(&self.expected).cloned().collect();
        Ok(Gathered { replies, missing, complete })
    }
}

/// Sends the request, and gathers the answers.
///
/// # Errors
/// As for a [`Call`]; but a deadline that passes is none, if the request is known to be written, nor is an error of a responder, which is
/// its answer.
///
/// Cancel safe: dropping the future ends the call.
impl<'a> IntoFuture for GatherCall<'a> {
    type Output = Result<Gathered>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Gathered>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for GatherCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherCall").field("call", &self.call).finish_non_exhaustive()
    }
}

/// What became of a call to several groups.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gathered {
    /// The answers, in the order in which they came.
    pub replies: Vec<GroupReply>,
    /// The expected groups that did not answer.
    pub missing: Vec<String>,
    /// Whether the call ended by what it was to end by: false if the deadline came before.
    pub complete: bool,
}

/// The answer of one group.
#[derive(Debug)]
#[non_exhaustive]
pub struct GroupReply {
    /// Who answered, group and instance, if it said so.
    pub responder: Option<String>,
    /// The reply, or the error that the responder answered.
    pub outcome: Result<Reply>,
    answerer: Answerer,
}

impl GroupReply {
    fn new(record: ConsumerRecord) -> Self {
        let head = read_reply(record.headers());
        let responder = head.responder.map(|name| String::from_utf8_lossy(name).into_owned());
        let answerer = Answerer::of(&head);
        let error = head.error.map(|(status, message)| refused(&record, status, message));
        let outcome = match error {
            Some(error) => Err(error),
            None => Ok(Reply::new(record, answerer)),
        };
        Self { responder, outcome, answerer }
    }

    /// The group that answered, if its responder said so.
    pub fn group(&self) -> Option<&str> {
        let name = self.responder.as_deref()?;
        name.get(..group_of(name.as_bytes()).len())
    }
}
