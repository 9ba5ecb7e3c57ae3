//! The options of a consumer in a group.
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::builder::ConsumerBuilder;
use crate::assignor::{
    Assignor, CooperativeStickyAssignor, RangeAssignor, RoundRobinAssignor, StickyAssignor,
};
use crate::client::Core;
use crate::client::config::value;
use crate::error::{Error, ErrorKind, Result};
use crate::state::group::{Group, GroupProtocol, Pattern, Settings};
use crate::state::membership::{Membership, Settings as Habits};

/// What [`ConsumerBuilder`] was told about a group.
#[derive(Clone)]
pub(crate) struct GroupOptions {
    pub(crate) id: Option<Arc<str>>,
    pub(super) pattern: Option<Pattern>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    max_poll_interval: Duration,
    pub(crate) rebalance_timeout: Option<Duration>,
    pub(crate) assignors: Vec<Arc<dyn Assignor>>,
    auto_commit: bool,
    auto_commit_interval: Duration,
    auto_store: bool,
    hold_revoked: bool,
    protocol: GroupProtocol,
    remote_assignor: Option<Arc<str>>,
    pub(super) regex: Option<Arc<str>>,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            id: None,
            pattern: None,
            instance: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            rebalance_timeout: None,
            assignors: vec![Arc::new(RangeAssignor), Arc::new(CooperativeStickyAssignor::default())],
            auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            auto_store: true,
            hold_revoked: false,
            protocol: GroupProtocol::Classic,
            remote_assignor: None,
            regex: None,
        }
    }
}

/// Kafka refuses longer ids.
const LONGEST_INSTANCE_ID: usize = 249;

/// Options of consumers in a group.
impl ConsumerBuilder {
    /// Reads as a member of this group (`group.id`): each partition of the topics is read by one member, from where the group stands.
    /// Needs [`ConsumerBuilder::topics`] or [`ConsumerBuilder::topics_matching`].
    pub fn group(mut self, id: impl Into<Arc<str>>) -> Self {
        self.group.id = Some(id.into());
        self
    }

    /// Reads, in a group, all topics whose names satisfy this, those to come included, Kafka's own excluded. (Java takes a regular
    /// expression; with any crate for these that is `move |name| regex.is_match(name)`.) All members should ask for the same.
    ///
    /// The names of all topics are looked at as often as metadata is refreshed, see
    /// [`ClientBuilder::metadata_max_age`](crate::ClientBuilder::metadata_max_age). It runs on the consumer's task and must be quick.
    pub fn topics_matching(mut self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.group.pattern = Some(Arc::new(matches));
        self
    }

    /// Which protocol it is a member by (`group.protocol`). Default [`GroupProtocol::Classic`], as Java's.
    ///
    /// With [`GroupProtocol::Consumer`] (KIP-848) the coordinator assigns, so that [`ConsumerBuilder::assignors`] is not used, and how long
    /// it waits for a sign of life and how often it wants one are options of the group (`consumer.session.timeout.ms`,
    /// `consumer.heartbeat.interval.ms`), so that [`ConsumerBuilder::session_timeout`] and [`ConsumerBuilder::heartbeat_interval`] are not
    /// used either. Members of both protocols can be in a group at the same time, which is how a group moves to it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// use milena::GroupProtocol;
    ///
    /// let builder = client.consumer().group("billing").group_protocol(GroupProtocol::Consumer).topics(["orders"]);
    /// # drop(builder);
    /// # Ok(()) }
    /// ```
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.group.protocol = protocol;
        self
    }

    /// How the coordinator divides the partitions (`group.remote.assignor`): `uniform` or `range`, or another that was added to the nodes.
    /// What most members ask for is done. Only with [`GroupProtocol::Consumer`]. Default: the group's, which is `uniform`.
    pub fn group_remote_assignor(mut self, name: impl Into<Arc<str>>) -> Self {
        self.group.remote_assignor = Some(name.into());
        self
    }

    /// Reads all topics whose whole names match this regular expression (of Google's RE2), those to come included: the coordinator finds
    /// them. Only with [`GroupProtocol::Consumer`], and nodes from Kafka 4.0 on; elsewhere use [`ConsumerBuilder::topics_matching`].
    pub fn topics_regex(mut self, regex: impl Into<Arc<str>>) -> Self {
        self.group.regex = Some(regex.into());
        self
    }

    /// Makes it a static member (`group.instance.id`, KIP-345): it keeps its partitions while it restarts, for up to
    /// `session_timeout`, since closing it does not leave the group. No two members may have the same one; the older is shut out with
    /// `FENCED_INSTANCE_ID`. Default: none.
    pub fn group_instance_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.group.instance = Some(id.into());
        self
    }

    /// How long the coordinator waits for a sign of life before it gives the partitions to others (`session.timeout.ms`). Default 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.group.session_timeout = timeout;
        self
    }

    /// How often it gets one (`heartbeat.interval.ms`), whatever the application does meanwhile. Default 3 s; at most a third of
    /// `session_timeout` is advised.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.group.heartbeat_interval = interval;
        self
    }

    /// How long the application may work between two calls before its partitions go to others (`max.poll.interval.ms`); it joins again
    /// with the next call. The time in which a call waits for records does not count. Default 5 minutes.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.group.max_poll_interval = interval;
        self
    }

    /// How long members may take to give up partitions and join when the group rebalances (`rebalance.timeout.ms` of Kafka Connect; a
    /// Java consumer's is its `max.poll.interval.ms`). Default: `max_poll_interval`.
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.group.rebalance_timeout = Some(timeout);
        self
    }

    /// How the partitions are divided (`partition.assignment.strategy`): the first of these that all members know. Default
    /// [`RangeAssignor`], then [`CooperativeStickyAssignor`], as Java's.
    ///
    /// If all of them can do with it, which [`RangeAssignor`] cannot, members keep what stays theirs while the group rebalances
    /// (KIP-429); otherwise they give up everything first. So [`CooperativeStickyAssignor`] alone disturbs a group least; since it is in the
    /// default list, members can be moved there one after the other.
    ///
    /// ```
    /// # async fn f(client: milena::Client) -> milena::Result<()> {
    /// use milena::assignor::CooperativeStickyAssignor;
    /// use std::sync::Arc;
    ///
    /// let consumer = client.consumer().group("billing").topics(["orders"]);
    /// let consumer = consumer.assignors([Arc::new(CooperativeStickyAssignor::default()) as _]).build().await?;
    /// # Ok(()) }
    /// ```
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Arc<dyn Assignor>>) -> Self {
        self.group.assignors = assignors.into_iter().collect();
        self
    }

    /// Whether what the application is done with is committed by itself (`enable.auto.commit`): every `auto_commit_interval`, before a
    /// partition is given up, and by [`Consumer::close`](super::Consumer::close). Default true.
    pub fn enable_auto_commit(mut self, enable: bool) -> Self {
        self.group.auto_commit = enable;
        self
    }

    /// How often that is (`auto.commit.interval.ms`). Default 5 s. After a crash so much is read again.
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.group.auto_commit_interval = interval;
        self
    }

    /// Whether a batch counts as finished when the next is asked for (librdkafka's `enable.auto.offset.store`, which counts it so when it
    /// is handed out). Default true. With false only [`ConsumerHandle::finish`](super::ConsumerHandle::finish) says so: for
    /// applications that work on several batches at a time.
    pub fn enable_auto_offset_store(mut self, enable: bool) -> Self {
        self.group.auto_store = enable;
        self
    }

    /// Keeps what is to be given up until [`ConsumerHandle::release`](super::ConsumerHandle::release), while reading goes on.
    pub(crate) fn hold_revoked(mut self) -> Self {
        self.group.hold_revoked = true;
        self
    }

    /// Divides partitions so that those that stay are read through a rebalance.
    pub(crate) fn cooperative(self) -> Self {
        self.assignors([Arc::new(CooperativeStickyAssignor::default()) as _])
    }

    pub(crate) fn commit_interval(&self) -> Duration {
        self.group.auto_commit_interval
    }
}

impl GroupOptions {
    /// Sets an option by Kafka's name; false: it is none of these.
    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<bool> {
        match key {
            "group.id" => self.id = Some(text.into()),
            "group.instance.id" => self.instance = Some(text.into()),
            "session.timeout.ms" => self.session_timeout = value::millis(key, text)?,
            "heartbeat.interval.ms" => self.heartbeat_interval = value::millis(key, text)?,
            "max.poll.interval.ms" => self.max_poll_interval = value::millis(key, text)?,
            "rebalance.timeout.ms" => self.rebalance_timeout = Some(value::millis(key, text)?),
            "enable.auto.commit" => self.auto_commit = value::boolean(key, text)?,
            "auto.commit.interval.ms" => self.auto_commit_interval = value::millis(key, text)?,
            "enable.auto.offset.store" => self.auto_store = value::boolean(key, text)?,
            "group.protocol" => {
                let words = [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)];
                self.protocol = value::one_of(key, text, &words)?;
            }
            "group.remote.assignor" => self.remote_assignor = Some(text.into()),
            "partition.assignment.strategy" => {
                self.assignors = text.split(',').map(|name| assignor(name.trim())).collect::<Result<_>>()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What is wrong with them, taken together.
    pub(crate) fn check(&self, topics: bool, partitions: bool) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::Config, message));
        let Some(id) = &self.id else {
            return match self.pattern.is_some() || self.regex.is_some() {
                true => invalid("topics_matching and topics_regex need a group"),
                false => Ok(()),
            };
        };
        let classic = self.protocol == GroupProtocol::Classic;
        if classic && (self.regex.is_some() || self.remote_assignor.is_some()) {
            return invalid("topics_regex and group_remote_assignor need GroupProtocol::Consumer");
        }
        let shortest = Duration::from_millis(1);
        let rebalance = self.rebalance_timeout.unwrap_or(self.max_poll_interval);
        if id.is_empty() {
            return invalid("the group id is empty");
        }
        if partitions {
            return invalid("the group assigns partitions: name topics instead");
        }
        if [topics, self.pattern.is_some(), self.regex.is_some()].iter().filter(|asked| **asked).count() != 1
        {
            return invalid("a consumer in a group reads either named topics or those that match");
        }
        if let Some(instance) = &self.instance {
            let legal = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '_' | '-');
            if instance.is_empty() || instance.len() > LONGEST_INSTANCE_ID || !instance.chars().all(legal) {
                return invalid("group_instance_id must be 1 to 249 letters, digits, `.`, `_` and `-`");
            }
        }
        if self.heartbeat_interval < shortest || self.heartbeat_interval >= self.session_timeout {
            return invalid("heartbeat_interval must be above zero and below session_timeout");
        }
        if self.max_poll_interval < shortest || rebalance < shortest || self.auto_commit_interval < shortest {
            return invalid(
                "max_poll_interval, rebalance_timeout and auto_commit_interval must be above zero",
            );
        }
        let limits = [self.session_timeout, self.max_poll_interval, rebalance];
        if limits.iter().any(|limit| limit.as_millis() > i32::MAX as u128) {
            return invalid("session_timeout, max_poll_interval and rebalance_timeout are below 24 days");
        }
        let names: std::collections::BTreeSet<_> =
            self.assignors.iter().map(|assignor| assignor.name()).collect();
        if names.is_empty() || names.len() < self.assignors.len() || names.contains("") {
            return invalid("assignors must have a name each, and there must be one");
        }
        Ok(())
    }

    /// Those of the member they describe, if any.
    pub(crate) fn settings(&self, core: &Core, rack: &str) -> Option<Settings> {
        let config = core.config();
        Some(Settings {
            group: self.id.clone()?,
            instance: self.instance.clone(),
            session_timeout: self.session_timeout,
            heartbeat_interval: self.heartbeat_interval,
            rebalance_timeout: self.rebalance_timeout.unwrap_or(self.max_poll_interval),
            max_poll_interval: self.max_poll_interval,
            request_timeout: config.request_timeout,
            backoff: config.retry_backoff,
            assignors: self.assignors.clone(),
            rack: (!rack.is_empty()).then(|| rack.into()),
            protocol: self.protocol,
            remote_assignor: self.remote_assignor.clone(),
            regex: self.regex.clone(),
        })
    }

    /// The membership they describe, if any.
    pub(super) fn membership(self, now: Instant, core: &Core, rack: &str) -> Option<Membership> {
        let settings = self.settings(core, rack)?;
        let habits = Habits {
            auto_commit: self.auto_commit.then_some(self.auto_commit_interval),
            auto_store: self.auto_store,
            hold_revoked: self.hold_revoked,
            // What is left is for the last commit and the way to the coordinator.
            revoke_within: settings.rebalance_timeout * 3 / 4,
            commit_within: settings.request_timeout,
        };
        Some(Membership::new(Group::new(now, settings, rand::random()), habits))
    }
}

/// A built-in assignor by the name that members agree on, or by the name of Java's class.
fn assignor(name: &str) -> Result<Arc<dyn Assignor>> {
    let (_, class) = name.rsplit_once('.').unwrap_or(("", name));
    Ok(match class {
        "range" | "RangeAssignor" => Arc::new(RangeAssignor),
        "roundrobin" | "RoundRobinAssignor" => Arc::new(RoundRobinAssignor),
        "sticky" | "StickyAssignor" => Arc::new(StickyAssignor::default()),
        "cooperative-sticky" | "CooperativeStickyAssignor" => Arc::new(CooperativeStickyAssignor::default()),
        _ => {
            let message = format!("partition.assignment.strategy: there is no assignor `{name}`");
            return Err(Error::new(ErrorKind::Config, message));
        }
    })
}
