//! Callers and responders as they are, on the embedded broker without sockets, in virtual time: callers come, go, die and hang, nodes and
//! coordinators too, and in the end the log decides what should have become of each call.
//!
//! ```text
//!   scene.rs  what happens      caller.rs, answerer.rs  the processes      link.rs  their network, which can freeze
//!                     book.rs  what became of each call, held against the log
//! ```
//!
//! The seed decides what happens and when. The order in which ready tasks of one instant run is the runtime's: a seed that fails does
//! so again mostly, not always.
mod answerer;
mod book;
mod caller;
mod link;
mod runner;
mod scene;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::admin::NewTopic;
use crate::broker::Broker;
use crate::client::Client;
use crate::client::clock::WallClock;
use book::Book;
use link::Link;

/// The topic of the requests.
const REQUESTS: &str = "sum";
const REPLIES: &str = "replies";
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// What one seed did.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    calls: u64,
    answered: u64,
    timed_out: u64,
    dropped: u64,
    closed: u64,
    events: u64,
    faults: u64,
}

struct World {
    broker: Broker,
    book: Arc<Book>,
    rng: SmallRng,
    since: tokio::time::Instant,
    unix: i64,
    talk: bool,
}

impl World {
    /// A cluster with the two topics, whose reply topic is stamped by the node that appends.
    async fn new(seed: u64, nodes: i32, reply_partitions: i32, talk: bool) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let since = tokio::time::Instant::now();
        let broker = Broker::builder().nodes(nodes).seed(seed).in_memory().start().await.unwrap();
        let book = Arc::new(Book::new(since, unix));
        let world = Self { broker, book, rng: SmallRng::seed_from_u64(seed), since, unix, talk };
        let founder = world.client(&Link::default(), 0).await;
        let replicas = nodes.min(3) as i16;
        let replies = NewTopic::new(REPLIES, reply_partitions, replicas)
            .config("message.timestamp.type", "LogAppendTime");
        let requests = NewTopic::new(REQUESTS, 4, replicas);
        founder.admin().create_topics([replies, requests]).await.unwrap();
        founder.close().await;
        world
    }

    /// A client of its own, as every process has. `skew`: how far its clock is ahead, in milliseconds.
    async fn client(&self, link: &Link, skew: i64) -> Client {
        let clock = WallClock::Simulated { since: self.since, unix: self.unix + skew };
        loop {
            let builder = Client::builder().bootstrap(&self.broker.address()).unwrap().wall_clock(clock);
            // A process that cannot begin is started again.
            match builder.connector(link.connector(self.broker.network())).build().await {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(100 * MILLISECOND).await,
            }
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        self.rng.random_range(low..=high)
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.talk {
            println!("{:>9.3?} {}", self.since.elapsed(), what());
        }
    }
}
