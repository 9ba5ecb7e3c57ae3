//! A member of a group: what happens to it, what it commits.
use std::collections::BTreeMap;

use milena::{Consumer, ConsumerEvent, ConsumerHandle};

use crate::*;

const RECORDS: i64 = 10;

struct Own {
    consumer: Consumer,
    handle: ConsumerHandle,
    /// Which record of a partition comes next, once it was told to be assigned.
    next: BTreeMap<i32, i64>,
}

async fn member(broker: &Broker, client: &Client, faults: &[Fault]) -> Own {
    for partition in [0, 1] {
        for _ in 0..RECORDS {
            broker.append("t", partition, &[Record::value("one at a time")]).unwrap();
        }
    }
    add(broker, faults);
    let consumer = client.consumer().group("g").topics(["t"]).build().await.unwrap();
    Own { handle: consumer.handle(), consumer, next: BTreeMap::new() }
}

impl Own {
    fn see(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                for partition in partitions {
                    let before = self.next.insert(partition.partition(), 0);
                    assert_eq!(before, None, "told twice");
                }
            }
            ConsumerEvent::Batch(batch) => {
                let next = self.next.get_mut(&batch.partition()).expect("told before its records come");
                assert_eq!(batch.iter().next().unwrap().offset(), *next);
                *next = batch.next_offset();
            }
            event => panic!("{event:?}"),
        }
    }

    async fn all(&mut self) {
        while self.next.values().sum::<i64>() < 2 * RECORDS {
            let event = self.consumer.next_event().await.unwrap().unwrap();
            self.see(event);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_neither_lost_nor_told_twice() {
    let apis = [Api::FIND_COORDINATOR, Api::JOIN_GROUP, Api::SYNC_GROUP, Api::OFFSET_FETCH];
    for faults in apis.into_iter().flat_map(faults) {
        let points = drop_at_each_await(
            "milena::Consumer::next_event",
            async |broker, client| member(broker, client, &faults).await,
            |stage| Box::pin(stage.own.consumer.next_event()),
            async |stage, event| {
                if let Some(event) = event {
                    stage.own.see(event.unwrap().unwrap());
                }
                stage.own.all().await;
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_goes_on_without_anybody() {
    for faults in faults(Api::OFFSET_COMMIT) {
        let points = drop_at_each_await(
            "milena::Commit",
            async |broker, client| {
                let mut own = member(broker, client, &[]).await;
                own.all().await;
                add(broker, &faults);
                own
            },
            |stage| Box::pin(stage.own.consumer.commit()),
            async |stage, outcome| {
                let fits =
                    |outcome: &Result<()>| outcome.as_ref().err().is_none_or(|error| error.is_timeout());
                assert!(outcome.as_ref().is_none_or(fits), "{outcome:?}");
                loop {
                    let offsets =
                        again(async || stage.own.handle.committed([("t", 0), ("t", 1)]).await).await;
                    if offsets.values().flatten().filter(|committed| committed.offset == RECORDS).count() == 2
                    {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_at_what_is_committed() {
    for faults in [Api::FIND_COORDINATOR, Api::OFFSET_FETCH].into_iter().flat_map(faults) {
        let points = drop_at_each_await(
            "milena::ConsumerHandle::committed",
            async |broker, client| {
                let mut own = member(broker, client, &[]).await;
                own.all().await;
                own.consumer.commit().await.unwrap();
                add(broker, &faults);
                own
            },
            |stage| Box::pin(stage.own.handle.committed([("t", 0)])),
            async |stage, _| {
                let offsets = again(async || stage.own.handle.committed([("t", 0)]).await).await;
                assert!(offsets.into_values().flatten().all(|committed| committed.offset == RECORDS));
            },
        );
        assert!(points.await > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_member() {
    for faults in [Api::OFFSET_COMMIT, Api::LEAVE_GROUP].into_iter().flat_map(faults) {
        let points = drop_at_each_await(
            "milena::Consumer::close",
            async |broker, client| {
                let mut own = member(broker, client, &[]).await;
                own.all().await;
                add(broker, &faults);
                Some(own)
            },
            |stage| Box::pin(stage.own.take().unwrap().consumer.close()),
            async |stage, _| {
                // Whoever comes next has them when the session of the one that may not have left ends.
                let mut own = member(&stage.broker, &stage.client, &[]).await;
                let event = own.consumer.next_event().await.unwrap().unwrap();
                assert!(matches!(&event, ConsumerEvent::Assigned(both) if both.len() == 2), "{event:?}");
            },
        );
        assert!(points.await > 0);
    }
}
