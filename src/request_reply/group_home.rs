//! A membership that only chooses homes: nothing is fetched for it, nothing committed, no offset looked up.
//!
//! What it loses is not used less: new calls go on to the home that was given last, until the group names another.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::home::{Home, Homes};
use super::reply_group::ReplyGroup;
use crate::client::Core;
use crate::consumer::{follow, number, submit};
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::Purpose;
use crate::network::task::TaskSet;
use crate::protocol::error_code::ErrorCode;
use crate::state::group::{Answer, Event, Group, Pattern, Ticket};
use crate::state::reply::home_claims::{HomeClaims, Pins, Strategy};

/// How long one that closes waits for its farewell to be answered.
const FAREWELL: Duration = Duration::from_secs(5);

type Topics = BTreeSet<Arc<str>>;

/// A member of a group that chooses homes. Dropping it ends it at once; its coordinator learns of that when the session ends.
pub(super) struct GroupHome {
    homes: watch::Receiver<Homes>,
    /// Why it is no member at the moment.
    trouble: watch::Receiver<Option<Error>>,
    /// `None`: it is to leave.
    topics: watch::Sender<Option<Topics>>,
    share: bool,
    tasks: TaskSet,
}

impl GroupHome {
    /// Joins when the first topic is [wanted](Self::want).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that make no sense.
    pub(super) fn start(core: &Arc<Core>, group: ReplyGroup, strategy: Strategy, pins: Pins) -> Result<Self> {
        let (mut options, claims) = (group.options, Arc::new(HomeClaims::new(strategy, pins)));
        options.assignors = vec![claims.clone()];
        // Every member gives up what it has at once.
        options.rebalance_timeout = Some(options.session_timeout);
        options.check(true, false)?;
        let nameless = || Error::new(ErrorKind::Config, "a group needs an id");
        let settings = options.settings(core, "").ok_or_else(nameless)?;
        let tasks = core.tasks().child();
        let (send_homes, homes) = watch::channel(Homes::new());
        let (send_trouble, trouble) = watch::channel(None);
        let (topics, wanted) = watch::channel(Some(Topics::new()));
        let driver = Driver {
            core: core.clone(),
            number: number(),
            group: Group::new(now(), settings, rand::random()),
            claims,
            // A leader of NestJS gives every topic of its own to everybody; to refuse that would be to join again for ever.
            all: (strategy == Strategy::Nest).then(|| Arc::new(|_: &str| true) as Pattern),
            arrived: Arc::default(),
            interest: Topics::new(),
            homes: send_homes,
            trouble: send_trouble,
            failures: 0,
            again: None,
        };
        tasks.spawn(driver.run(wanted));
        Ok(Self { homes, trouble, topics, share: group.share, tasks })
    }

    /// Where new calls point; a topic that is not there has no home yet.
    pub(super) fn homes(&self) -> watch::Receiver<Homes> {
        self.homes.clone()
    }

    /// Has a home chosen for these reply topics, too.
    pub(super) fn want<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let mut topics = topics.into_iter();
        self.topics.send_if_modified(|wanted| {
            let wanted = wanted.as_mut();
            wanted.is_some_and(|wanted| {
                topics.by_ref().fold(false, |new, topic| wanted.insert(topic.into()) | new)
            })
        });
    }

    /// Waits until that is chosen, if its member does not share a partition meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Starved`] if there are more members than partitions; [`ErrorKind::Timeout`]; or what keeps it from being a member, if that does
    /// not pass by itself.
    ///
    /// Cancel safe: the choice goes on.
    pub(super) async fn chosen(&self, topic: &str, limit: Duration) -> Result<()> {
        if self.share {
            return Ok(());
        }
        let (mut homes, mut trouble) = (self.homes.clone(), self.trouble.clone());
        let closed = || Error::closed("the group of the requester");
        tokio::select! {
            biased;
            homes = homes.wait_for(|homes| homes.contains_key(topic)) => {
                match homes.map_err(|_| closed())?.get(topic) {
                    Some(Home::Partition(_)) => Ok(()),
                    _ => {
                        let what = "the group has more requesters than the reply topic has partitions";
                        Err(Error::new(ErrorKind::Starved, what).on_topic(topic))
                    }
                }
            }
            error = trouble.wait_for(Option::is_some) => {
                Err(error.ok().and_then(|error| error.clone()).unwrap_or_else(closed))
            }
            () = tokio::time::sleep(limit) => {
                Err(Error::new(ErrorKind::Timeout, "the group chose no reply partition in time").on_topic(topic))
            }
        }
    }

    /// Leaves the group, so that others need not wait for its session to end. A static member is expected back and does not leave.
    ///
    /// Cancel safe: it leaves all the same.
    pub(super) async fn close(&self) {
        self.topics.send_replace(None);
        self.tasks.close().await;
    }
}

/// Answers for the task; bounded by the requests under way, of which the machine has a handful.
#[derive(Default)]
struct Arrived {
    list: Mutex<Vec<(Ticket, Result<Answer>)>>,
    wake: Notify,
}

struct Driver {
    core: Arc<Core>,
    number: u32,
    group: Group,
    claims: Arc<HomeClaims>,
    /// Topics that a leader may give without being asked.
    all: Option<Pattern>,
    arrived: Arc<Arrived>,
    interest: Topics,
    homes: watch::Sender<Homes>,
    trouble: watch::Sender<Option<Error>>,
    /// How often it could not be a member, and when it tries again.
    failures: u32,
    again: Option<Instant>,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Driver {
    async fn run(mut self, mut topics: watch::Receiver<Option<Topics>>) {
        let (mut cluster, mut client_closed) = (self.core.watch_cluster(), self.core.watch_closed());
        let arrived = self.arrived.clone();
        cluster.mark_changed();
        topics.mark_changed();
        let mut end = None;
        loop {
            let deadline = self.turn().into_iter().chain(self.again).chain(end).min();
            if self.group.is_gone() || end.is_some_and(|end| end <= now()) {
                return;
            }
            tokio::select! {
                () = arrived.wake.notified() => {}
                _ = client_closed.wait_for(|closed| *closed) => return,
                changed = cluster.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = cluster.borrow_and_update().clone();
                    self.claims.handle_metadata(&snapshot);
                    self.group.handle_metadata(now(), &snapshot);
                }
                changed = topics.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = topics.borrow_and_update().clone();
                    match wanted {
                        Some(wanted) => self.subscribe(wanted),
                        None => {
                            end = Some(now() + FAREWELL);
                            self.group.close(now(), 0, BTreeMap::new());
                        }
                    }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => {
                    self.group.handle_deadline(now());
                    if self.again.take_if(|at| *at <= now()).is_some() && end.is_none() {
                        let wanted = topics.borrow().clone();
                        self.subscribe(wanted.unwrap_or_default());
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, topics: Topics) {
        self.again = None;
        self.group.subscribe(now(), topics, self.all.clone());
        // Nobody reads for it, so that nobody can be away.
        self.group.asked(now(), true);
    }

    /// Takes in what arrived, sends and tells what follows. When to come again at the latest.
    fn turn(&mut self) -> Option<Instant> {
        let now = now();
        let arrived = std::mem::take(&mut *self.arrived.list.lock().unwrap_or_else(PoisonError::into_inner));
        for (ticket, answer) in arrived {
            self.group.handle_response(now, ticket, answer);
        }
        let mut topics_changed = false;
        loop {
            while let Some(request) = self.group.poll_request(now) {
                let arrived = self.arrived.clone();
                submit(&self.core, self.number, now, request, move |ticket, answer| {
                    arrived.list.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, answer));
                    arrived.wake.notify_one();
                });
            }
            let Some(event) = self.group.poll_event() else { break };
            match event {
                // Nothing depends on owning a partition.
                Event::Revoke(_) => self.group.revoked(),
                Event::Failed(error) => self.failed(now, error),
                Event::Topics => topics_changed = true,
                Event::Refresh => self.core.refresh(),
                Event::Warned(error) => {
                    tracing::warn!(target: "milena::request_reply", group = &**self.group.id(), %error, "choosing reply partitions");
                }
                Event::Assigned(_) | Event::Lost(_) | Event::Committed { .. } | Event::Offset(..) => {}
            }
        }
        if topics_changed {
            follow(&self.core, &mut self.interest, self.group.topics());
        }
        if self.group.is_stable() {
            self.failures = 0;
            self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        }
        let homes = self.claims.homes().into_iter();
        let homes = homes.map(|(topic, home)| (topic, home.map_or(Home::Starved, Home::Partition))).collect();
        self.homes.send_if_modified(|known| {
            let changed = *known != homes;
            if changed {
                tracing::info!(target: "milena::request_reply", group = &**self.group.id(), ?homes, "reply partitions");
                *known = homes;
            }
            changed
        });
        self.group.next_deadline()
    }

    /// Calls go on as before; to be a member is tried again, but by one who was replaced.
    fn failed(&mut self, now: Instant, error: Error) {
        tracing::warn!(target: "milena::request_reply", group = &**self.group.id(), %error, "no member of the group");
        self.failures = self.failures.saturating_add(1);
        if error.code() != Some(ErrorCode::FENCED_INSTANCE_ID) {
            let backoff = self.core.config().retry_backoff;
            self.again = Some(now + backoff.after(self.failures, &mut rand::rng()));
        }
        self.trouble.send_replace(Some(error));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.core.release(Purpose::Rebalance(self.number));
        follow(&self.core, &mut self.interest, Topics::new());
    }
}
