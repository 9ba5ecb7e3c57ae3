//! Whole lives of groups: members join, leave, are killed, shut out and come back, with calls in flight all the time.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use rand::prelude::*;
use uuid::Uuid;

use super::{HomeClaims, Strategy};
use crate::assignor::{Assignor, Group};
use crate::state::metadata::{Cluster, Topic};

type Pinned = Arc<Mutex<BTreeMap<String, BTreeSet<i32>>>>;

/// A process, in the group or not.
struct Process {
    claims: HomeClaims,
    in_flight: Pinned,
    topics: Vec<&'static str>,
    instance: Option<String>,
    /// As the coordinator knows it; `None`: it is not a member.
    member_id: Option<String>,
    owned: BTreeMap<String, Vec<i32>>,
    generation: Option<i32>,
    /// It has been a member since it had its homes.
    stayed: bool,
}

impl Process {
    fn new(topics: &[&'static str], instance: Option<String>) -> Self {
        let in_flight = Pinned::default();
        let pins = in_flight.clone();
        let claims = HomeClaims::new(Strategy::ReplySticky, Arc::new(move || pins.lock().unwrap().clone()));
        Self {
            claims,
            in_flight,
            topics: topics.to_vec(),
            instance,
            member_id: None,
            owned: BTreeMap::new(),
            generation: None,
            stayed: false,
        }
    }

    fn owned(&self) -> Vec<(&str, &[i32])> {
        self.owned.iter().map(|(topic, numbers)| (&**topic, &numbers[..])).collect()
    }

    fn home(&self, topic: &str) -> Option<i32> {
        self.claims.homes().get(topic).copied().flatten()
    }

    /// Calls begin, at the homes, and end.
    fn call(&self, rng: &mut StdRng) {
        let mut in_flight = self.in_flight.lock().unwrap();
        for numbers in in_flight.values_mut() {
            numbers.retain(|_| rng.random_bool(0.5));
        }
        for (topic, home) in self.claims.homes() {
            // Who has none shares another's.
            let partition = home.unwrap_or(0);
            if rng.random_bool(0.5) {
                in_flight.entry(topic).or_default().insert(partition);
            }
        }
    }

    fn kick(&mut self) {
        (self.member_id, self.generation, self.stayed) = (None, None, false);
        self.owned.clear();
    }
}

struct World {
    rng: StdRng,
    processes: Vec<Process>,
    partitions: BTreeMap<&'static str, i32>,
    ids: BTreeMap<&'static str, Uuid>,
    generation: i32,
    names: u32,
}

/// What one round came to.
#[derive(Debug, Default)]
struct Round {
    /// Somebody gave something up, so that another round follows.
    revoked: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let partitions = BTreeMap::from([("a", rng.random_range(1..7)), ("b", rng.random_range(1..7))]);
        let ids = BTreeMap::from([("a", Uuid::from_u128(1)), ("b", Uuid::from_u128(2))]);
        Self { rng, processes: Vec::new(), partitions, ids, generation: 0, names: 0 }
    }

    fn cluster(&self) -> Arc<Cluster> {
        let topics = self.ids.iter().map(|(name, id)| {
            let topic = Topic {
                name: (*name).into(),
                id: *id,
                error: 0.into(),
                internal: false,
                partitions: Vec::new(),
            };
            ((*name).into(), Arc::new(topic))
        });
        Arc::new(Cluster { topics: topics.collect(), ..Cluster::default() })
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("{:04}-{}", self.rng.random_range(0..10_000), self.names)
    }

    fn join(&mut self, process: usize) {
        let name = self.name();
        self.processes[process].member_id = Some(name);
    }

    /// JoinGroup and SyncGroup of all members. `lossy`: some do not get the answer to SyncGroup.
    fn round(&mut self, lossy: bool) -> Round {
        let cluster = self.cluster();
        self.generation += 1;
        let members: Vec<usize> =
            (0..self.processes.len()).filter(|at| self.processes[*at].member_id.is_some()).collect();
        let (Some(first), mut order) = (members.choose(&mut self.rng).copied(), members.clone()) else {
            return Round::default();
        };
        let mut other = order.clone();
        other.shuffle(&mut self.rng);
        let build = |order: &[usize]| {
            let mut group = Group::builder();
            for (topic, count) in &self.partitions {
                group.topic(topic, *count);
            }
            for at in order {
                let process = &self.processes[*at];
                process.claims.handle_metadata(&cluster);
                let owned = process.owned();
                let data = process.claims.user_data(&process.topics, &owned, process.generation);
                let mut entry = group.member(process.member_id.clone().unwrap());
                for topic in &process.topics {
                    entry = entry.subscribe(topic);
                }
                for (topic, numbers) in owned {
                    entry = entry.own(topic, numbers.iter().copied());
                }
                if let Some(instance) = &process.instance {
                    entry = entry.instance_id(&**instance);
                }
                entry.generation(process.generation).user_data(data.unwrap());
            }
            group.build().unwrap()
        };
        order.shuffle(&mut StdRng::seed_from_u64(self.generation as u64));
        let group = build(&order);
        assert_eq!(group, build(&other), "the same group, whatever came first");
        let assignment = self.processes[first].claims.assign(&group);
        for at in &other {
            assert_eq!(assignment, self.processes[*at].claims.assign(&group), "whoever leads");
        }
        let before: Vec<_> = self.processes.iter().map(|process| process.owned.clone()).collect();
        let mut round = Round::default();
        let mut owners: BTreeMap<(String, i32), usize> = BTreeMap::new();
        for at in members {
            let place = group.member(self.processes[at].member_id.as_deref().unwrap()).unwrap();
            let given: BTreeMap<String, Vec<i32>> = assignment
                .partitions(place)
                .iter()
                .map(|(topic, numbers)| (group.topics()[topic].name.to_string(), numbers.to_vec()))
                .collect();
            for (topic, numbers) in &given {
                assert!(self.processes[at].topics.contains(&&**topic), "{topic} is not subscribed to");
                for number in numbers {
                    assert!(owners.insert((topic.clone(), *number), at).is_none(), "two owners in one round");
                    // Nobody reads it who is only now told to give it up.
                    let holds = |owned: &BTreeMap<String, Vec<i32>>| {
                        owned.get(topic).is_some_and(|numbers| numbers.contains(number))
                    };
                    let held = before.iter().enumerate().any(|(other, owned)| other != at && holds(owned));
                    assert!(lossy || !held, "{topic}-{number} is given and revoked in one round");
                }
            }
            if lossy && self.rng.random_bool(0.2) {
                continue;
            }
            let process = &mut self.processes[at];
            let by_topic: Vec<(&str, &[i32])> =
                given.iter().map(|(topic, numbers)| (&**topic, &numbers[..])).collect();
            let user_data = assignment.user_data(place).map(|data| &data[..]);
            process.claims.on_assignment(&by_topic, user_data, self.generation);
            process.generation = Some(self.generation);
            let gone = |(topic, numbers): (&String, &Vec<i32>)| {
                numbers.iter().any(|number| !given.get(topic).is_some_and(|given| given.contains(number)))
            };
            round.revoked |= process.owned.iter().any(gone);
            process.owned = given;
            process.stayed = true;
        }
        round
    }

    /// Rounds until nothing more is given up, at most two; then what has to hold.
    fn settle(&mut self, context: &str) {
        let before: Vec<_> = self
            .processes
            .iter()
            .map(|process| {
                (
                    process.stayed,
                    process.topics.clone().into_iter().map(|topic| process.home(topic)).collect::<Vec<_>>(),
                )
            })
            .collect();
        // Those that come back to a home that nobody took meanwhile keep it.
        let taken: BTreeMap<&str, BTreeSet<i32>> = self
            .partitions
            .keys()
            .map(|topic| {
                let members =
                    self.processes.iter().filter(|process| process.stayed && process.member_id.is_some());
                (*topic, members.filter_map(|process| process.home(topic)).collect())
            })
            .collect();
        let rounds = (0..3).take_while(|_| self.round(false).revoked).count() + 1;
        assert!(rounds <= 2, "{context}: {rounds} rounds");
        for (process, (stayed, homes)) in self.processes.iter().zip(before) {
            if process.member_id.is_none() {
                continue;
            }
            for (topic, before) in process.topics.iter().zip(homes) {
                let Some(home) = before else { continue };
                let rivals = self.processes.iter().filter(|other| {
                    !std::ptr::eq(*other, process)
                        && other.member_id.is_some()
                        && other.home(topic) == Some(home)
                });
                if stayed || !taken[topic].contains(&home) && rivals.count() == 0 {
                    assert_eq!(process.home(topic), Some(home), "{context}: the home in {topic} moved");
                }
                let Some(now) = process.home(topic) else { continue };
                let owned = &process.owned[*topic];
                assert!(owned.contains(&now), "{context}");
                if stayed {
                    let in_flight = process.in_flight.lock().unwrap();
                    let pins = in_flight.get(*topic).into_iter().flatten().filter(|pin| **pin == home);
                    assert!(pins.into_iter().all(|pin| owned.contains(pin)), "{context}: a pin moved");
                }
            }
        }
        for (topic, partitions) in &self.partitions {
            let members: Vec<&Process> = self
                .processes
                .iter()
                .filter(|process| process.member_id.is_some() && process.topics.contains(topic))
                .collect();
            let homes: BTreeSet<i32> = members.iter().filter_map(|process| process.home(topic)).collect();
            let given: usize =
                members.iter().filter_map(|process| process.owned.get(*topic)).map(Vec::len).sum();
            let served = members.iter().filter(|process| process.home(topic).is_some()).count();
            assert_eq!(homes.len(), served, "{context}: homes of {topic} are distinct");
            let room = *partitions as usize - (given - served);
            assert_eq!(
                served,
                members.len().min(room),
                "{context}: as many as can be have a home in {topic}"
            );
            assert!(
                members.iter().all(|process| process.claims.homes().contains_key(*topic)),
                "{context}: told"
            );
        }
        let homes: Vec<_> = self.processes.iter().map(|process| process.claims.homes()).collect();
        assert!(!self.round(false).revoked, "{context}: it is settled");
        assert_eq!(homes, self.processes.iter().map(|process| process.claims.homes()).collect::<Vec<_>>());
    }

    fn step(&mut self) -> &'static str {
        for at in 0..self.processes.len() {
            self.processes[at].call(&mut self.rng);
        }
        let some = (!self.processes.is_empty()).then(|| self.rng.random_range(0..self.processes.len()));
        match (self.rng.random_range(0..10), some) {
            (0..3, _) | (_, None) => {
                let topics: &[&str] = [&["a"][..], &["b"], &["a", "b"]].choose(&mut self.rng).unwrap();
                let instance = self.rng.random_bool(0.3).then(|| format!("pod-{}", self.names));
                self.processes.push(Process::new(topics, instance));
                self.join(self.processes.len() - 1);
                "join"
            }
            (3 | 4, Some(at)) => {
                self.processes.remove(at);
                "leave"
            }
            (5 | 6, Some(at)) if self.processes[at].member_id.is_some() => {
                self.processes[at].kick();
                "shut out"
            }
            (5 | 6, Some(at)) => {
                self.join(at);
                "back"
            }
            (7, _) => {
                let topic = *["a", "b"].choose(&mut self.rng).unwrap();
                *self.partitions.get_mut(topic).unwrap() += 1;
                "growth"
            }
            (8, Some(at)) if self.processes[at].instance.is_some() => {
                // It starts again, without memory, and under a new id.
                let (topics, instance) =
                    (self.processes[at].topics.clone(), self.processes[at].instance.clone());
                self.processes[at] = Process::new(&topics, instance);
                self.join(at);
                "restart"
            }
            _ => "calls",
        }
    }
}

#[test]
fn no_home_moves_whatever_happens_to_the_group() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for number in 0..40 {
            let step = world.step();
            world.settle(&format!("seed {seed}, step {number}: {step}"));
        }
    }
}

/// Some members do not hear what they were given, and rounds are cut short by the next.
#[test]
fn rounds_that_are_cut_short_move_no_home() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for number in 0..40 {
            let step = world.step();
            let homes = |world: &World| -> Vec<_> {
                let stayed = world.processes.iter().map(|process| process.stayed);
                stayed.zip(world.processes.iter().map(|process| process.claims.homes())).collect()
            };
            let before = homes(&world);
            world.round(true);
            for ((stayed, before), (_, after)) in before.iter().zip(homes(&world)) {
                for (topic, home) in before.iter().filter(|(_, home)| *stayed && home.is_some()) {
                    assert_eq!(after[topic], *home, "seed {seed}, step {number}: {step}");
                }
            }
        }
        // Once all have heard, homes differ again.
        for _ in 0..2 {
            world.round(false);
        }
        world.settle(&format!("seed {seed}, at the end"));
    }
}

#[test]
fn a_topic_that_was_made_again_is_another() {
    let mut world = World::new(7);
    world.partitions = BTreeMap::from([("a", 40), ("b", 1)]);
    world.processes.push(Process::new(&["a"], None));
    world.join(0);
    world.round(false);
    let claims = |world: &World| {
        let process = &world.processes[0];
        process.claims.user_data(&["a"], &process.owned(), process.generation).unwrap()
    };
    let before = claims(&world);
    world.ids.insert("a", Uuid::from_u128(9));
    world.round(false);
    let after = claims(&world);
    assert_ne!(before, after);
    let read = crate::assignor::reply::wire::decode_claims(&after).unwrap();
    assert_eq!(read[0].id, *Uuid::from_u128(9).as_bytes());
    assert_eq!(read[0].claims.len(), 1, "of the new topic: {read:?}");
}

#[test]
fn nest_homes_survive_the_loss_of_membership_and_do_not_drift() {
    let claims = HomeClaims::new(Strategy::Nest, Arc::new(BTreeMap::new));
    let said =
        || String::from_utf8(claims.user_data(&["a.reply", "b.reply"], &[], None).unwrap().to_vec()).unwrap();
    assert_eq!(said(), r#"{"previousAssignment":{}}"#);
    claims.on_assignment(&[("a.reply", &[2, 1]), ("b.reply", &[3])], Some(&[]), 1);
    assert_eq!(said(), r#"{"previousAssignment":{"a.reply":1,"b.reply":3}}"#);
    // A leader of NestJS hands out what became free below it.
    claims.on_assignment(&[("a.reply", &[1, 0]), ("b.reply", &[3])], Some(&[]), 2);
    assert_eq!(said(), r#"{"previousAssignment":{"a.reply":1,"b.reply":3}}"#);
    // No partition was left: nothing is claimed, which would be another's.
    claims.on_assignment(&[("a.reply", &[4])], None, 3);
    assert_eq!(said(), r#"{"previousAssignment":{"a.reply":4}}"#);
    assert_eq!(claims.homes(), BTreeMap::from([("a.reply".into(), Some(4)), ("b.reply".into(), None)]));
}
