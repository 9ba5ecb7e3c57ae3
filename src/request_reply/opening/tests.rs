//! Homes that move while calls are in flight, as an allocator says.
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::broker::Broker;
use crate::client::Client;
use crate::network::connector::Connector;
use crate::record::Record;
use crate::request_reply::home::{Home, Homes};
use crate::request_reply::{PendingCall, ReplyAllocator, Requester};

const LONG: Duration = Duration::from_secs(60);

struct Scene {
    broker: Broker,
    client: Client,
    requester: Requester,
    homes: watch::Sender<Homes>,
}

impl Scene {
    async fn new(home: Option<Home>) -> Self {
        let broker = Broker::builder().in_memory().start().await.unwrap();
        broker.create_topic("requests", 1).unwrap();
        broker.create_topic("replies", 3).unwrap();
        let network = broker.network();
        let connector = Connector::new(move |host: String, port| {
            let connected = network.connect(&host, port);
            async { connected }
        });
        let client = Client::builder().bootstrap(&broker.address()).unwrap().connector(connector);
        let client = client.build().await.unwrap();
        let homes = home.map(|home| ("replies".to_owned(), home)).into_iter().collect();
        let (homes, changes) = watch::channel(homes);
        let build = client.requester().reply_topic("replies").instance_id("me");
        let requester = build.allocator(ReplyAllocator::watched(changes)).build().await.unwrap();
        Self { broker, client, requester, homes }
    }

    fn home(&self) -> i32 {
        let state = self.requester.inner.shared.state();
        state.router.homes().home("replies").unwrap().1.partition().unwrap()
    }

    async fn move_to(&self, partition: i32) {
        self.homes.send_replace(BTreeMap::from([("replies".to_owned(), Home::Partition(partition))]));
        self.until("the move", || self.home() == partition).await;
    }

    async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = std::time::Instant::now() + LONG;
        while !condition() {
            assert!(std::time::Instant::now() < deadline, "{what} did not come about");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn call(&self) -> PendingCall {
        self.requester.request("requests", "?").timeout(LONG).send().await.unwrap()
    }

    /// Answers where the request said.
    async fn answer(&self, call: &PendingCall) {
        let (token, producer) = (call.token(), self.client.producer().build().await.unwrap());
        let reply = Record::value("!").header("rpc-id", &token.id).partition(token.positions[0].0);
        producer.send("replies", reply).await.unwrap().await.unwrap();
    }

    fn read(&self) -> Vec<i32> {
        let mut read: Vec<_> = self.requester.inner.shared.consumer().assignment();
        read.sort_unstable();
        read.iter().map(crate::TopicPartition::partition).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_answered_where_they_pointed_and_new_ones_at_the_new_home() {
    let scene = Scene::new(Some(Home::Partition(0))).await;
    let mut calls = vec![scene.call().await];
    for home in [1, 2, 1] {
        scene.move_to(home).await;
        let call = scene.call().await;
        assert_eq!(call.token().positions[0].0, home);
        calls.push(call);
    }
    assert_eq!((scene.read(), scene.requester.metrics().draining), (vec![0, 1, 2], 2));
    // The last first: nothing depends on order.
    for call in calls.into_iter().rev() {
        scene.answer(&call).await;
        assert_eq!(call.await.unwrap().text(), "!");
    }
    // What nobody awaits a reply on is read no more.
    assert_eq!((scene.read(), scene.requester.metrics().draining), (vec![1], 0));
}

#[tokio::test(start_paused = true)]
async fn a_requester_whose_allocator_says_nothing_or_has_none_left_chooses_itself() {
    let scene = Scene::new(None).await;
    let own = scene.home();
    let call = scene.call().await;
    scene.homes.send_replace(BTreeMap::from([("replies".to_owned(), Home::Starved)]));
    scene.answer(&call).await;
    call.await.unwrap();
    assert_eq!(scene.home(), own);
    let starved = Scene::new(Some(Home::Starved)).await;
    assert_eq!(starved.home(), own);
}

#[tokio::test(start_paused = true)]
async fn a_move_to_a_partition_that_is_not_there_is_tried_until_it_is() {
    let scene = Scene::new(Some(Home::Partition(0))).await;
    scene.homes.send_replace(BTreeMap::from([("replies".to_owned(), Home::Partition(5))]));
    let call = scene.call().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Nothing waits for it.
    assert_eq!((scene.home(), scene.read()), (0, vec![0]));
    scene.client.admin().create_partitions("replies", 6).await.unwrap();
    scene.until("the move", || scene.home() == 5).await;
    scene.answer(&call).await;
    call.await.unwrap();
    assert_eq!(scene.read(), [5]);
}

#[tokio::test(start_paused = true)]
async fn homes_that_move_while_their_topic_is_gone_are_opened_when_it_is_back() {
    let scene = Scene::new(Some(Home::Partition(0))).await;
    let call = scene.call().await;
    scene.broker.delete_topic("replies").unwrap();
    scene.broker.create_topic("replies", 3).unwrap();
    scene.homes.send_replace(BTreeMap::from([("replies".to_owned(), Home::Partition(2))]));
    assert_eq!(call.await.unwrap_err().kind(), crate::ErrorKind::Gone);
    let call = scene.call().await;
    assert_eq!(call.token().positions[0].0, 2);
    scene.answer(&call).await;
    call.await.unwrap();
    assert_eq!(scene.read(), [2]);
}
