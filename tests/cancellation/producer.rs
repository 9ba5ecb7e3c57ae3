//! Sending, and waiting for what became of it.
use std::time::Duration;

use milena::{Delivery, Producer, ProducerTopic};

use crate::*;

/// Longer than anything here takes: batches leave because something else wants it.
const LINGER: Duration = Duration::from_secs(50);
/// Room for two batches.
const ROOM: usize = 4096;

struct Own {
    producer: Producer,
    topic: ProducerTopic,
    deliveries: Vec<Delivery>,
    /// Partition and offset of what was delivered.
    places: Vec<(i32, i64)>,
}

impl Own {
    fn new(producer: Producer) -> Self {
        Self { topic: producer.topic("t"), producer, deliveries: Vec::new(), places: Vec::new() }
    }
}

async fn empty(_: &Broker, client: &Client) -> Own {
    Own::new(client.producer().build().await.unwrap())
}

/// Ten records in two batches that linger.
async fn lingering(_: &Broker, client: &Client) -> Own {
    let mut own = Own::new(client.producer().linger(LINGER).build().await.unwrap());
    for at in 0..10 {
        own.deliveries.push(own.topic.send(Record::value("lingers").partition(at % 2)).await.unwrap());
    }
    own
}

/// No room is left until a node has answered, which takes its time.
async fn full(broker: &Broker, client: &Client) -> Own {
    let producer = client.producer().batch_size(ROOM / 2).buffer_memory(ROOM).linger(LINGER);
    let mut own = Own::new(producer.build().await.unwrap());
    broker.faults().add(Fault::on(Api::PRODUCE).times(2).delay(Duration::from_secs(1)));
    own.deliveries.push(own.topic.send(Record::value("first").partition(0)).await.unwrap());
    for partition in [0, 1] {
        let fill = || own.topic.try_send(Record::value(&[b'x'; 100]).partition(partition));
        own.deliveries.extend(std::iter::from_fn(|| fill().ok()));
    }
    own
}

/// The topic has grown by a partition that the producer does not know yet.
async fn grown(broker: &Broker, client: &Client) -> Own {
    let mut own = empty(broker, client).await;
    own.deliveries.push(own.topic.send(Record::value("first").partition(0)).await.unwrap());
    broker.create_partitions("t", 3).unwrap();
    own
}

/// Every record that was taken is in the log exactly once, and nothing else is.
async fn written_once(stage: &mut Stage<Own>) {
    let places = &mut stage.own.places;
    for delivery in stage.own.deliveries.drain(..) {
        let written = delivery.await.unwrap();
        places.push((written.partition, written.offset.unwrap()));
    }
    places.sort_unstable();
    let mut log = Vec::new();
    for partition in 0..3 {
        let end = stage.broker.log("t", partition).map_or(0, |log| log.end_offset());
        log.extend((0..end).map(|offset| (partition, offset)));
    }
    assert_eq!(*places, log);
    let metrics = stage.own.producer.metrics();
    assert_eq!((metrics.buffered_bytes, metrics.waiting_sends, metrics.in_flight), (0, 0, 0));
}

/// A send that was dropped has taken nothing; one that ended is delivered. The next one works, and has all the room there is.
async fn sent_or_not(stage: &mut Stage<Own>, sent: Option<Result<Delivery>>) {
    let next = stage.own.topic.send(Record::value("next").partition(0)).await;
    stage.own.deliveries.extend(sent.into_iter().chain([next]).map(Result::unwrap));
    stage.own.producer.flush().await.unwrap();
    written_once(stage).await;
    let large = stage.own.topic.try_send(Record::value(&[b'x'; ROOM - 200]).partition(0));
    drop(large.expect("there is less room than before"));
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_built_without_waiting() {
    let points = drop_at_each_await(
        "milena::ProducerBuilder::build",
        async |_, _| (),
        |stage| Box::pin(stage.client.producer().build()),
        async |_, built| drop(built.map(Result::unwrap)),
    );
    assert_eq!(points.await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_send_by_name() {
    for faults in faults(Api::METADATA) {
        let make = async |broker: &Broker, client: &Client| {
            add(broker, &faults);
            empty(broker, client).await
        };
        let points = drop_at_each_await(
            "milena::Producer::send",
            make,
            |stage| Box::pin(stage.own.producer.send("t", Record::value("sent").partition(1))),
            sent_or_not,
        );
        assert!(points.await > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_for_room_or_for_its_partition() {
    let points = drop_at_each_await(
        "milena::ProducerTopic::send",
        full,
        |stage| Box::pin(stage.own.topic.send(Record::value("sent").partition(1))),
        sent_or_not,
    );
    assert!(points.await > 0);
    let points = drop_at_each_await(
        "milena::ProducerTopic::send",
        grown,
        |stage| Box::pin(stage.own.topic.send(Record::value("sent").partition(2))),
        sent_or_not,
    );
    assert!(points.await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_flush() {
    for faults in faults(Api::PRODUCE) {
        let make = async |broker: &Broker, client: &Client| {
            add(broker, &faults);
            lingering(broker, client).await
        };
        let points = drop_at_each_await(
            "milena::Producer::flush",
            make,
            |stage| Box::pin(stage.own.producer.flush()),
            async |stage, ended| {
                if ended.is_some() {
                    assert_eq!(stage.own.producer.metrics().records_written, 10);
                }
                // The batches leave all the same, and flushing again ends.
                stage.own.producer.flush().await.unwrap();
                written_once(stage).await;
                sent_or_not(stage, None).await;
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_producer() {
    for faults in faults(Api::PRODUCE) {
        let make = async |broker: &Broker, client: &Client| {
            add(broker, &faults);
            lingering(broker, client).await
        };
        let points = drop_at_each_await(
            "milena::Producer::close",
            make,
            |stage| Box::pin(stage.own.producer.close()),
            async |stage, ended| {
                // Closing goes on by itself.
                written_once(stage).await;
                match stage.own.topic.try_send(Record::value("late").partition(0)) {
                    Ok(taken) if ended.is_none() => stage.own.deliveries.push(taken),
                    refused => assert!(refused.unwrap_err().is_closed()),
                }
                stage.own.producer.close().await.unwrap();
                written_once(stage).await;
            },
        );
        assert!(points.await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery() {
    for faults in faults(Api::PRODUCE) {
        let make = async |broker: &Broker, client: &Client| {
            add(broker, &faults);
            let mut own = lingering(broker, client).await;
            own.deliveries.drain(..).for_each(drop);
            (own.topic.send(Record::value("waits").partition(0)).await.ok(), own)
        };
        let points = drop_at_each_await(
            "milena::Delivery",
            make,
            |stage| Box::pin(stage.own.0.take().unwrap()),
            async |stage, _| {
                let own = &mut stage.own.1;
                own.producer.flush().await.unwrap();
                let ends = [0, 1].map(|partition| stage.broker.log("t", partition).unwrap().end_offset());
                assert_eq!(ends, [6, 5]);
                let metrics = own.producer.metrics();
                assert_eq!((metrics.records_written, metrics.buffered_bytes), (11, 0));
            },
        );
        assert!(points.await > 0);
    }
}
