//! The harness: polls a future so many times, drops it, and looks at what is left.
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use milena::broker::{Api, Broker, Fault};
use milena::{Client, ErrorCode};

use crate::{alive, builder, until, within};

/// The future under test, as the library made it. Every public future can be sent to another thread.
pub(crate) type Dropped<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a future is dropped: on a cluster of two nodes with topic `t` of two partitions, one at each node.
pub(crate) struct Stage<X> {
    pub(crate) broker: Broker,
    pub(crate) client: Client,
    /// What the future belongs to.
    pub(crate) own: X,
}

/// Above every time limit of the library but those of idle connections and old metadata.
const NEVER: Duration = Duration::from_secs(200);

/// When it is dropped, once it was polled so many times.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    /// At once.
    Pending,
    /// When it was woken: what it waited for may be in its hands already.
    Woken,
}

/// Polls a future of a new stage 0, 1, 2, ... times and drops it, until it ends by itself or nothing wakes it any more. Each time `check`
/// gets the stage, and the outcome if there is one. When it has returned, `own` and the client are dropped: nothing may be left.
///
/// Returns how many await points there are.
pub(crate) async fn drop_at_each_await<X, T>(
    name: &str,
    make: impl AsyncFn(&Broker, &Client) -> X,
    future: impl for<'a> Fn(&'a mut Stage<X>) -> Dropped<'a, T>,
    check: impl AsyncFn(&mut Stage<X>, Option<T>),
) -> usize {
    let before = alive();
    for polls in 0.. {
        let mut last = false;
        for when in [When::Pending, When::Woken] {
            let broker = Broker::builder().nodes(2).in_memory().start().await.unwrap();
            broker.create_topic("t", 2).unwrap();
            let of_the_broker = alive();
            let client = within(builder(&broker).build()).await.unwrap();
            let own = within(make(&broker, &client)).await;
            let mut stage = Stage { broker, client, own };

            let (outcome, polled) = poll_times(future(&mut stage), polls, when).await;
            last = outcome.is_some() || polled < polls;
            within(check(&mut stage, outcome)).await;

            let Stage { broker, client, own } = stage;
            drop((own, client));
            let what = format!("{name}, {when:?} after {polls} polls: ");
            until(&format!("{what}no connection is left"), || broker.connections() == 0).await;
            until(&format!("{what}no task is left"), || alive() == of_the_broker).await;
            drop(broker);
            until(&format!("{what}the broker ends"), || alive() == before).await;
        }
        if last {
            let points = polls.saturating_sub(1);
            println!("{name}: dropped at {points} await points");
            return points;
        }
    }
    0
}

/// The outcome, if the future ended, and how often it was polled.
async fn poll_times<T>(mut future: Dropped<'_, T>, times: usize, when: When) -> (Option<T>, usize) {
    let mut polls = 0;
    let polled = poll_fn(|cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if polls == times && when == When::Pending => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    let outcome = tokio::time::timeout(NEVER, polled).await.unwrap_or_default();
    (outcome, polls)
}

/// What may happen to a request, once: each leads a future along another way.
pub(crate) fn faults(api: Api) -> [Vec<Fault>; 6] {
    let once = || Fault::on(api).times(1);
    [
        vec![],
        vec![once().delay(Duration::from_secs(1))],
        vec![once().hang()],
        vec![once().drop_answer()],
        vec![once().cut()],
        vec![once().error(ErrorCode::NOT_LEADER_OR_FOLLOWER)],
    ]
}

/// Has the faults strike from now on.
pub(crate) fn add(broker: &Broker, faults: &[Fault]) {
    faults.iter().for_each(|fault| broker.faults().add(fault.clone()));
}
