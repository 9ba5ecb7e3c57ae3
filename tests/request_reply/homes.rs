//! Groups that choose reply partitions: who comes, goes, is killed or shut out moves nobody, and no call waits for it.
use std::collections::{BTreeMap, BTreeSet};

use milena::{ErrorCode, ReplyAllocator, ReplyGroup};

use crate::*;

const SECOND: Duration = Duration::from_secs(1);
const GROUP: &str = "callers";

/// Callers, each with a client of its own, and a responder.
struct Scene {
    stage: Stage,
    _adder: Responder,
    calls: AtomicUsize,
}

impl Scene {
    async fn new(partitions: i32) -> Self {
        let stage = Stage::in_memory(1).await;
        stage.broker.create_topic("homes", partitions).unwrap();
        stage.broker.create_topic("sum.reply", partitions).unwrap();
        let adder = stage.adder().await;
        Self { stage, _adder: adder, calls: AtomicUsize::new(0) }
    }

    fn broker(&self) -> &Broker {
        &self.stage.broker
    }

    async fn client(&self, name: &str) -> Client {
        let network = self.broker().network();
        let connector = Connector::new(move |host: String, port| {
            let connected = network.connect(&host, port);
            async { connected }
        });
        let client = Client::builder().bootstrap(&self.broker().address()).unwrap().client_id(name);
        client.connector(connector).build().await.unwrap()
    }

    /// A caller in the group, once it has been given its partition.
    async fn caller(&self, name: &str) -> Requester {
        let caller = self.build(name, ReplyGroup::new(GROUP).session_timeout(10 * SECOND).share(false)).await;
        caller.unwrap()
    }

    async fn build(&self, name: &str, group: ReplyGroup) -> milena::Result<Requester> {
        let requester = self.client(name).await.requester().reply_topic("homes");
        requester.allocator(ReplyAllocator::group(group)).build().await
    }

    /// The lowest partition that the group has given to each caller, once it is at rest with these callers.
    async fn settled(&self, group: &str, callers: usize) -> BTreeMap<String, Option<i32>> {
        let mut homes = BTreeMap::new();
        until("a group at rest", || {
            let Some(view) = self.broker().group(group) else { return false };
            homes = view
                .members()
                .iter()
                .map(|member| {
                    let numbers = member.assignment().iter().map(TopicPartition::partition);
                    (member.client_id().to_owned(), numbers.min())
                })
                .collect();
            view.state() == "Stable" && view.members().len() == callers
        })
        .await;
        homes
    }

    /// The partition that a request names. It is answered.
    async fn named(&self, caller: &Requester) -> i32 {
        let number = self.calls.fetch_add(1, SeqCst).to_string();
        assert_eq!(caller.request("sum", &number).await.unwrap().text(), number);
        let records =
            (0..4).flat_map(|partition| self.broker().log("sum", partition).unwrap().records().unwrap());
        let request = records.into_iter().find(|record| record.value() == Some(number.as_bytes())).unwrap();
        let named = request.headers().find(|(name, _)| name == b"kafka_replyPartition");
        std::str::from_utf8(named.unwrap().1.unwrap()).unwrap().parse().unwrap()
    }

    fn generation(&self) -> i32 {
        self.broker().group(GROUP).map_or(0, |group| group.generation())
    }
}

fn distinct(homes: &BTreeMap<String, Option<i32>>) {
    let different: BTreeSet<i32> = homes.values().map(|home| home.unwrap()).collect();
    assert_eq!(different.len(), homes.len(), "{homes:?}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_goes_or_is_killed_moves_nobody() {
    let scene = Scene::new(8).await;
    let (mut callers, mut known) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..8 {
        let (name, before) = (format!("caller-{number}"), scene.generation());
        let caller = scene.caller(&name).await;
        // It has it in the round in which it comes; the broker lets a first round go before others may join.
        let home = scene.named(&caller).await;
        callers.insert(name.clone(), caller);
        let homes = scene.settled(GROUP, callers.len()).await;
        distinct(&homes);
        assert_eq!(homes[&name], Some(home));
        assert!(known.iter().all(|(name, home)| homes[name] == *home), "{known:?} {homes:?}");
        assert!(scene.generation() <= before + 2, "{before} to {}", scene.generation());
        known = homes;
    }
    // One leaves, one is killed: its partition is given away when its session has ended.
    callers.remove("caller-3").unwrap().close().await;
    drop(callers.remove("caller-5").unwrap());
    let homes = scene.settled(GROUP, 6).await;
    assert!(homes.iter().all(|(name, home)| known[name] == *home), "{known:?} {homes:?}");
    for (name, caller) in &callers {
        assert_eq!(Some(scene.named(caller).await), known[name]);
    }
    for name in ["late-1", "late-2"] {
        callers.insert(name.to_owned(), scene.caller(name).await);
    }
    let homes = scene.settled(GROUP, 8).await;
    distinct(&homes);
    assert!(
        known.iter().all(|(name, home)| homes.get(name).is_none_or(|now| now == home)),
        "{known:?} {homes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_away_for_a_minute_changes_nothing() {
    let scene = Scene::new(4).await;
    let callers = [scene.caller("a").await, scene.caller("b").await, scene.caller("c").await];
    let homes = scene.settled(GROUP, 3).await;
    distinct(&homes);
    for api in [Api::FIND_COORDINATOR, Api::HEARTBEAT, Api::JOIN_GROUP, Api::SYNC_GROUP] {
        scene.broker().faults().add(Fault::on(api).group(GROUP).error(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    }
    for _ in 0..12 {
        tokio::time::sleep(5 * SECOND).await;
        for (caller, home) in callers.iter().zip(homes.values()) {
            assert_eq!(Some(scene.named(caller).await), *home);
        }
    }
    assert!(scene.broker().faults().struck() > 30, "it was asked for again and again, in vain");
    // Their sessions, of ten seconds, are over: they come back as new members.
    scene.broker().faults().clear();
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(scene.settled(GROUP, 3).await, homes);
    for (caller, home) in callers.iter().zip(homes.values()) {
        assert_eq!(Some(scene.named(caller).await), *home);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_shut_out_comes_back_to_its_home() {
    let scene = Scene::new(3).await;
    let callers = [scene.caller("a").await, scene.caller("b").await];
    let homes = scene.settled(GROUP, 2).await;
    for _ in 0..4 {
        scene
            .broker()
            .faults()
            .add(Fault::on(Api::HEARTBEAT).group(GROUP).times(1).error(ErrorCode::UNKNOWN_MEMBER_ID));
        let struck = scene.broker().faults().struck();
        until("a member is shut out", || scene.broker().faults().struck() > struck).await;
        // Until its former self is forgotten there is one member more.
        tokio::time::sleep(30 * SECOND).await;
        assert_eq!(scene.settled(GROUP, 2).await, homes);
        for (caller, home) in callers.iter().zip(homes.values()) {
            assert_eq!(Some(scene.named(caller).await), *home);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_more_callers_than_partitions_some_share_or_are_told() {
    let scene = Scene::new(2).await;
    let (first, second) = (scene.caller("a").await, scene.caller("b").await);
    let error = scene.build("c", ReplyGroup::new(GROUP).share(false)).await.unwrap_err();
    assert_eq!((error.kind(), error.topic()), (ErrorKind::Starved, Some("homes")), "{error}");
    let third = scene.build("d", GROUP.into()).await.unwrap();
    scene.named(&third).await;
    let freed = scene.named(&first).await;
    first.close().await;
    // It is given the partition that became free, and moves there.
    let mut now = scene.named(&third).await;
    for _ in 0..100 {
        if now == freed && scene.broker().group(GROUP).unwrap().owner("homes", freed).is_some() {
            break;
        }
        tokio::time::sleep(SECOND).await;
        now = scene.named(&third).await;
    }
    assert_eq!(now, freed);
    assert_ne!(scene.named(&second).await, freed);
    assert_eq!(scene.broker().group(GROUP).unwrap().owner("homes", freed).unwrap().client_id(), "d");
}

#[tokio::test(start_paused = true)]
async fn a_static_caller_keeps_its_home_over_a_restart() {
    let scene = Scene::new(6).await;
    let group = |name: &str| ReplyGroup::new(GROUP).group_instance_id(name).share(false);
    let other = scene.build("a", group("a")).await.unwrap();
    let caller = scene.build("b", group("b")).await.unwrap();
    let (home, generation) = (scene.named(&caller).await, scene.generation());
    for _ in 0..3 {
        caller.close().await;
        let caller = scene.build("b", group("b")).await.unwrap();
        assert_eq!(scene.named(&caller).await, home);
        caller.close().await;
    }
    assert!(scene.generation() <= generation + 3, "a round for each at the most");
    assert_ne!(scene.named(&other).await, home);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_committed_or_looked_up_for_the_group() {
    let scene = Scene::new(4).await;
    for api in [Api::OFFSET_FETCH, Api::OFFSET_COMMIT] {
        let refused = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        scene.broker().faults().add(Fault::on(api).group(GROUP).error(refused));
    }
    let callers = [scene.caller("a").await, scene.caller("b").await];
    for _ in 0..20 {
        scene.named(&callers[0]).await;
        tokio::time::sleep(SECOND).await;
    }
    for caller in callers {
        caller.close().await;
    }
    assert_eq!(scene.broker().faults().struck(), 0, "nobody asked");
    assert_eq!(scene.broker().group(GROUP).map_or(0, |group| group.members().len()), 0, "both have left");
    assert_eq!(scene.broker().group(GROUP).map_or(0, |group| group.offsets().len()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_may_not_join_shares_or_is_told() {
    let scene = Scene::new(4).await;
    scene
        .broker()
        .faults()
        .add(Fault::on(Api::JOIN_GROUP).group(GROUP).error(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    let sharing = scene.build("a", GROUP.into()).await.unwrap();
    scene.named(&sharing).await;
    let error = scene.build("b", ReplyGroup::new(GROUP).share(false)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED), "{error}");
    // When it may, it is given its own.
    scene.broker().faults().clear();
    let homes = scene.settled(GROUP, 1).await;
    for _ in 0..100 {
        if Some(scene.named(&sharing).await) == homes["a"] {
            return;
        }
        tokio::time::sleep(SECOND).await;
    }
    panic!("it did not move to {homes:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_choose_as_clients_of_nestjs_do() {
    let scene = Scene::new(5).await;
    let build = async |name: &str| {
        let requester = scene.client(name).await.requester().dialect(Dialect::Nest).request_topics(["sum"]);
        let group = ReplyGroup::new("billing").session_timeout(10 * SECOND).share(false);
        requester.allocator(ReplyAllocator::nest_group(group)).build().await.unwrap()
    };
    let mut callers = BTreeMap::new();
    for name in ["a", "b", "c"] {
        callers.insert(name.to_owned(), build(name).await);
    }
    let homes = scene.settled("billing-client", 3).await;
    distinct(&homes);
    let view = scene.broker().group("billing-client").unwrap();
    assert_eq!(view.protocol(), Some("NestReplyPartitionAssigner"));
    for (name, caller) in &callers {
        assert_eq!(Some(scene.named(caller).await), homes[name]);
    }
    callers.remove("a").unwrap().close().await;
    callers.insert("d".to_owned(), build("d").await);
    let now = scene.settled("billing-client", 3).await;
    distinct(&now);
    for (name, caller) in &callers {
        assert_eq!(Some(scene.named(caller).await), now[name]);
        assert!(homes.get(name).is_none_or(|before| now[name] == *before), "{homes:?} {now:?}");
    }
}
