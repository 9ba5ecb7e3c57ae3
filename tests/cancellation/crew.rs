//! One of everything that a client makes, and those who wait for it: what closes and drops are tried on.
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use milena::{Consumer, ConsumerHandle, Producer, Requester, Responder, Written};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::*;

/// What goes on when the end comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    Idle,
    /// Records, a fetch, a call and a handler are under way.
    AtWork,
    /// So they are, and no node answers any more.
    Hanging,
}

pub(crate) const STATES: [State; 3] = [State::Idle, State::AtWork, State::Hanging];

pub(crate) struct Crew {
    pub(crate) client: Client,
    pub(crate) producer: Producer,
    pub(crate) consumer: Consumer,
    pub(crate) requester: Requester,
    pub(crate) responder: Responder,
}

/// One of the crew in the midst of what it does: it goes with the future that owns it.
pub(crate) type Held = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Those who wait in tasks of their own.
#[derive(Default)]
pub(crate) struct Waiters {
    deliveries: JoinSet<(String, Result<Written>)>,
    positions: JoinSet<Result<i64>>,
    /// Records sent so far.
    sent: i32,
}

/// One thread with a paused clock, and two threads.
pub(crate) fn runtimes() -> [Runtime; 2] {
    let one = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    [one, Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()]
}

/// Two nodes; `t` is written and read, `asked` is asked.
pub(crate) async fn cluster(builder: BrokerBuilder) -> Broker {
    let broker = builder.nodes(2).start().await.unwrap();
    broker.create_topic("t", 2).unwrap();
    broker.create_topic("asked", 1).unwrap();
    broker
}

impl Crew {
    /// `answer` is how long a handler takes.
    pub(crate) async fn new(client: Client, answer: Duration) -> Self {
        let handler = move |_: milena::Request| tokio::time::sleep(answer);
        let partitions = [("t", 0), ("t", 1), ("nowhere", 0)];
        Self {
            producer: client.producer().linger(Duration::from_secs(1)).build().await.unwrap(),
            consumer: client.consumer().assign(partitions).build().await.unwrap(),
            responder: client.responder("crew").on_request("asked", handler).start().await.unwrap(),
            requester: client.requester().build().await.unwrap(),
            client,
        }
    }

    /// Everybody begins; requests have left when this returns.
    pub(crate) async fn hold(self, broker: &Broker, state: State) -> ([Held; 5], Waiters) {
        let Self { client, producer, mut consumer, requester, responder } = self;
        let mut waiters = Waiters::default();
        if state == State::Idle {
            return (
                [hold(client), hold(producer), hold(consumer), hold(requester), hold(responder)],
                waiters,
            );
        }
        if state == State::Hanging {
            broker.faults().add(Fault::on_any().hang());
        }
        waiters.send(&producer).await;
        waiters.ask(consumer.handle());
        let mut held: [Held; 5] = [
            Box::pin(async move { drop(client.admin().list_topics().await) }),
            Box::pin(async move { drop(producer.flush().await) }),
            Box::pin(async move { while let Ok(Some(_)) = consumer.next().await {} }),
            Box::pin(async move { drop(requester.request("asked", "x").await) }),
            Box::pin(async move { drop(responder.wait().await) }),
        ];
        let begin = poll_fn(|cx| {
            for held in &mut held {
                if held.as_mut().poll(cx).is_ready() {
                    *held = Box::pin(async {});
                }
            }
            Poll::Ready(())
        });
        begin.await;
        turns(50).await;
        (held, waiters)
    }
}

fn hold(what: impl Send + 'static) -> Held {
    Box::pin(async move {
        let _what = what;
        pending().await
    })
}

/// Lets the others go on for a while.
pub(crate) async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Ends without waiting for anything that takes time.
pub(crate) async fn promptly<T>(future: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        outcome = future => outcome,
        // With a paused clock no time passes while somebody has work to do.
        () = until("the end", || false) => unreachable!(),
    }
}

impl Waiters {
    /// Twenty records to both partitions, each with a value of its own.
    pub(crate) async fn send(&mut self, producer: &Producer) {
        for number in self.sent..self.sent + 20 {
            let value = format!("record {number}");
            let delivery = producer.send("t", Record::value(&value).partition(number % 2)).await.unwrap();
            self.deliveries.spawn(async move { (value, delivery.await) });
        }
        self.sent += 20;
    }

    /// For a position that never gets known.
    fn ask(&mut self, consumer: ConsumerHandle) {
        self.positions.spawn(async move { consumer.position(("nowhere", 0)).await });
    }

    /// Everybody is answered, and what they are told is true. The client must be gone: nothing is under way any more. Returns how many
    /// records were acknowledged.
    pub(crate) async fn end(mut self, broker: &Broker) -> usize {
        promptly(async {
            while let Some(position) = self.positions.join_next().await {
                assert!(position.unwrap().unwrap_err().is_closed());
            }
            let mut ends = Vec::new();
            while let Some(end) = self.deliveries.join_next().await {
                ends.push(end.unwrap());
            }
            until("no connection is left", || broker.connections() == 0).await;
            let logs = [0, 1].map(|partition| broker.log("t", partition).unwrap().records().unwrap());
            let acknowledged = ends.iter().filter(|(_, end)| end.is_ok()).count();
            for (value, end) in ends {
                let is_value = |record: &&milena::OwnedRecord| record.value() == Some(value.as_bytes());
                let written = logs.iter().flatten().filter(is_value).count();
                match end {
                    Ok(place) => {
                        let offset = place.offset.unwrap() as usize;
                        assert!(is_value(&&logs[place.partition as usize][offset]), "{value}: {place:?}");
                        assert_eq!(written, 1, "{value}");
                    }
                    Err(error) if error.maybe_written() => assert!(written <= 1, "{value}: {error}"),
                    Err(error) => assert_eq!(written, 0, "{value}: {error}"),
                }
            }
            acknowledged
        })
        .await
    }
}
