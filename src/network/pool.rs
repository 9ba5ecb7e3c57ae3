//! Connections by node and purpose, each opened when it is first needed.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::network::call::Purpose;
use crate::network::link::{Address, Leave, Link, Shared, Submission, now, run};
use crate::network::task::TaskSet;

#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) shared: Arc<Shared>,
    tasks: TaskSet,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    addresses: HashMap<i32, Address>,
    links: HashMap<(i32, Purpose), Arc<Link>>,
    /// Those that take no new requests and end when the old ones are done, unless they are ended before.
    leaving: Vec<Weak<Link>>,
    closed: bool,
}

impl Inner {
    /// Takes out the links that are to end now: those of one purpose, or all.
    fn take(&mut self, purpose: Option<Purpose>) -> Vec<Arc<Link>> {
        let taken = |this: Purpose| purpose.is_none_or(|purpose| this == purpose);
        let links = self.links.extract_if(|(_, this), _| taken(*this)).map(|(_, link)| link);
        let leaving = self.leaving.iter().filter_map(Weak::upgrade).filter(|link| taken(link.purpose));
        links.chain(leaving).collect()
    }
}

impl Pool {
    pub(crate) fn new(shared: Arc<Shared>, tasks: TaskSet) -> Self {
        Self { shared, tasks, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nodes there are and where they listen. Connections to nodes that are gone or have moved take no new requests
    /// and end when the old ones are done.
    pub(crate) fn update(&self, addresses: HashMap<i32, Address>) {
        let mut inner = self.lock();
        if inner.addresses == addresses {
            return;
        }
        // A bootstrap connection to what turns out to be a known node goes on as that node's.
        let seeds: Vec<_> = inner.links.keys().copied().filter(|(node, _)| *node < 0).collect();
        for (seed, purpose) in seeds {
            let Some(link) = inner.links.get(&(seed, purpose)) else { continue };
            let same = |(id, address): &(&i32, &Address)| **id >= 0 && **address == link.address;
            let node = addresses.iter().find(same).map(|(id, _)| *id);
            if let Some(node) = node.filter(|node| !inner.links.contains_key(&(*node, purpose)))
                && let Some(link) = inner.links.remove(&(seed, purpose))
            {
                inner.links.insert((node, purpose), link);
            }
        }
        // The others have served when the nodes are known.
        let known = addresses.keys().any(|node| *node >= 0);
        let gone: Vec<_> = inner
            .links
            .extract_if(|(node, _), link| (known && *node < 0) || addresses.get(node) != Some(&link.address))
            .map(|(_, link)| link)
            .collect();
        inner.addresses = addresses;
        inner.leaving.retain(|link| link.strong_count() > 0);
        inner.leaving.extend(gone.iter().map(Arc::downgrade));
        drop(inner);
        gone.iter().for_each(|link| link.leave(Leave::WhenDone));
    }

    /// The nodes that requests can go to.
    pub(crate) fn nodes(&self) -> Vec<i32> {
        self.lock().addresses.keys().copied().collect()
    }

    /// Whether there is a standing connection.
    pub(crate) fn is_connected(&self, node: i32, purpose: Purpose) -> bool {
        let link = self.lock().links.get(&(node, purpose)).cloned();
        link.is_some_and(|link| link.is_connected())
    }

    fn link(&self, node: i32, purpose: Purpose) -> Result<Arc<Link>> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Error::closed("the client"));
        }
        if let Some(link) = inner.links.get(&(node, purpose)) {
            return Ok(link.clone());
        }
        let Some(address) = inner.addresses.get(&node).cloned() else {
            let message = format!("node {node} is not in the cluster as far as is known");
            return Err(Error::new(ErrorKind::Connect, message));
        };
        // Readers come and go, and each has its number: what they left behind goes now. A link in somebody's hands is
        // about to be used, and must not get a twin that would overtake it.
        let now = now();
        inner.links.retain(|_, link| Arc::strong_count(link) > 1 || !link.is_idle(now));
        let link = Link::new(address, purpose, self.shared.clone());
        inner.links.insert((node, purpose), link.clone());
        Ok(link)
    }

    /// Queues it for the node's connection; a failure to do so is told to it.
    pub(crate) fn submit(&self, node: i32, purpose: Purpose, submission: Submission) {
        match self.link(node, purpose) {
            Ok(link) => {
                if link.submit(submission) {
                    self.tasks.spawn(run(link));
                }
            }
            Err(error) => {
                if !error.is_closed() {
                    self.shared.node_lost.notify_one();
                }
                submission.fail(error);
            }
        }
    }

    /// Sends nothing more on a connection until then.
    pub(crate) fn throttle(&self, node: i32, purpose: Purpose, until: Instant) {
        let link = self.lock().links.get(&(node, purpose)).cloned();
        if let Some(link) = link {
            link.mute(until);
        }
    }

    /// Ends the connections of a purpose that has no user any more.
    pub(crate) fn release(&self, purpose: Purpose) {
        let gone = self.lock().take(Some(purpose));
        gone.iter().for_each(|link| link.leave(Leave::Now));
    }

    /// Ends all connections: what is under way fails.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let gone = inner.take(None);
        drop(inner);
        gone.iter().for_each(|link| link.leave(Leave::Now));
    }

    /// Waits until the tasks of all connections have ended.
    pub(crate) async fn join(&self) {
        self.tasks.close().await;
    }
}
