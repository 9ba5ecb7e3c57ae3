//! Reading, and asking where.
use std::collections::BTreeMap;

use futures_core::Stream;
use milena::{Consumer, ConsumerHandle, ConsumerRecord, Offset, TopicPartition};

use crate::*;

/// Records in each of the two partitions, five in a batch.
const RECORDS: i64 = 25;

fn fill(broker: &Broker) {
    for batch in 0..RECORDS / 5 {
        let record = || Record::value("five at a time").timestamp(1000 + batch);
        for partition in [0, 1] {
            broker.append("t", partition, &[record(), record(), record(), record(), record()]).unwrap();
        }
    }
}

/// Which record of a partition comes next.
#[derive(Default)]
struct Seen(BTreeMap<i32, i64>);

impl Seen {
    fn see(&mut self, record: &ConsumerRecord) {
        let next = self.0.entry(record.partition()).or_insert(0);
        assert_eq!(record.offset(), *next, "partition {}", record.partition());
        *next += 1;
    }

    async fn all(&mut self, consumer: &mut Consumer) {
        while self.0.values().sum::<i64>() < 2 * RECORDS {
            let batch = consumer.next().await.unwrap().unwrap();
            batch.records().for_each(|record| self.see(&record));
        }
    }
}

struct Own {
    consumer: Option<Consumer>,
    handle: ConsumerHandle,
}

impl Own {
    fn consumer(&mut self) -> &mut Consumer {
        self.consumer.as_mut().unwrap()
    }
}

/// A consumer of both partitions, in small pieces, of which nothing is fetched yet.
async fn reading(broker: &Broker, client: &Client, faults: &[Fault]) -> Own {
    fill(broker);
    add(broker, faults);
    let consumer = client.consumer().topics(["t"]).max_partition_fetch_bytes(300).build().await.unwrap();
    Own { handle: consumer.handle(), consumer: Some(consumer) }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_built_without_waiting() {
    let points = drop_at_each_await(
        "milena::ConsumerBuilder::build",
        async |_, _| (),
        |stage| Box::pin(stage.client.consumer().topics(["t"]).build()),
        async |_, built| drop(built.map(Result::unwrap)),
    );
    assert_eq!(points.await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_next_loses_and_repeats_nothing() {
    for faults in faults(Api::FETCH).into_iter().chain(faults(Api::LIST_OFFSETS)) {
        let points = drop_at_each_await(
            "milena::Consumer::next",
            async |broker, client| reading(broker, client, &faults).await,
            |stage| Box::pin(stage.own.consumer().next()),
            async |stage, batch| {
                let mut seen = Seen::default();
                if let Some(batch) = batch {
                    batch.unwrap().unwrap().records().for_each(|record| seen.see(&record));
                }
                seen.all(stage.own.consumer()).await;
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_back_what_it_has_not_handed_out() {
    let points = drop_at_each_await(
        "milena::RecordStream",
        async |broker, client| reading(broker, client, &[]).await,
        |stage| {
            Box::pin(async {
                let mut stream = std::pin::pin!(stage.own.consumer().stream());
                std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await
            })
        },
        async |stage, record| {
            let mut seen = Seen::default();
            record.iter().flatten().for_each(|record| seen.see(record.as_ref().unwrap()));
            seen.all(stage.own.consumer()).await;
        },
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_consumer() {
    for faults in faults(Api::FETCH) {
        let before = std::cell::Cell::new(0);
        let points = drop_at_each_await(
            "milena::Consumer::close",
            async |broker, client| {
                before.set(broker.connections());
                let mut own = reading(broker, client, &faults).await;
                let _ = own.consumer().next().await;
                own
            },
            |stage| Box::pin(stage.own.consumer.take().unwrap().close()),
            async |stage, _| {
                assert!(stage.own.handle.position(("t", 0)).await.unwrap_err().is_closed());
                // One more at most, on which the nodes are told.
                until("no fetch is left", || stage.broker.connections() <= before.get() + 1).await;
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_position() {
    for faults in faults(Api::LIST_OFFSETS) {
        let points = drop_at_each_await(
            "milena::ConsumerHandle::position",
            async |broker, client| {
                fill(broker);
                add(broker, &faults);
                let consumer = client.consumer().assign_at([(("t", 1), Offset::End)]).build().await.unwrap();
                Own { handle: consumer.handle(), consumer: Some(consumer) }
            },
            |stage| Box::pin(stage.own.handle.position(("t", 1))),
            async |stage, position| {
                let right = |position: &Result<i64>| match position {
                    Ok(offset) => *offset == RECORDS,
                    Err(error) => error.is_timeout(),
                };
                assert!(position.as_ref().is_none_or(right), "{position:?}");
                assert_eq!(again(async || stage.own.handle.position(("t", 1)).await).await, RECORDS);
            },
        );
        assert!(points.await > 0);
    }
}

/// One of the three calls that ask the leaders, with what it has to find.
async fn asks<T: PartialEq + std::fmt::Debug>(
    name: &str,
    call: impl for<'a> Fn(&'a ConsumerHandle) -> dropped::Dropped<'a, Result<BTreeMap<TopicPartition, T>>>,
    found: T,
) {
    for faults in faults(Api::LIST_OFFSETS) {
        let points = drop_at_each_await(
            name,
            async |broker, client| {
                fill(broker);
                add(broker, &faults);
                client.consumer().build().await.unwrap()
            },
            |stage| call(&stage.own),
            async |stage, _| {
                let offsets = again(async || call(&stage.own).await).await;
                assert!(offsets.len() == 2 && offsets.values().all(|offset| *offset == found), "{offsets:?}");
            },
        );
        assert!(points.await > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_beginnings() {
    let name = "milena::ConsumerHandle::beginning_offsets";
    asks(name, |handle| Box::pin(handle.beginning_offsets([("t", 0), ("t", 1)])), 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_ends() {
    let name = "milena::ConsumerHandle::end_offsets";
    asks(name, |handle| Box::pin(handle.end_offsets([("t", 0), ("t", 1)])), RECORDS).await;
}

#[tokio::test(start_paused = true)]
async fn a_look_at_times() {
    let name = "milena::ConsumerHandle::offsets_for_times";
    let at = |partition| (("t", partition), 1002);
    asks(name, |handle| Box::pin(handle.offsets_for_times([at(0), at(1)])), Some(10)).await;
}
