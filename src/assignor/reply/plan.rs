//! The plan of a leader, topic by topic.
use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::wire::{self, Given, Hold, TopicId};
use super::{Spread, weight};
use crate::assignor::{Group, GroupAssignment};

/// What one member claims.
#[derive(Clone, Copy)]
struct Claimed {
    partition: i32,
    member: usize,
    generation: i32,
    hold: Hold,
}

/// What every member gets: partitions, and in its bytes its homes. `id` tells which topic now has a name; zero: not known.
pub(crate) fn plan(group: &Group, id: impl Fn(&str) -> TopicId, spread: Spread) -> GroupAssignment {
    let mut assignment = GroupAssignment::new(group.members().len());
    let mut told: Vec<Vec<Given<'_>>> = vec![Vec::new(); group.members().len()];
    let mut rank = vec![0; group.members().len()];
    for (place, member) in group.static_first().into_iter().enumerate() {
        rank[member as usize] = place;
    }
    let (claims, mut subscribers) = (claims(group, id), group.subscribers());
    for (at, claims) in claims.into_iter().enumerate() {
        let topic = &group.topics()[at];
        if topic.partitions <= 0 {
            // Not known yet, or gone: who has a home keeps it until more is known.
            continue;
        }
        subscribers[at].sort_unstable_by_key(|member| rank[*member as usize]);
        let members = subscribers[at].iter().map(|member| *member as usize).collect();
        let mut plan = Topic::new(group, &topic.name, members, topic.partitions);
        plan.settle(&claims, &rank);
        plan.home();
        plan.spread(spread, &assignment);
        for (place, seat) in plan.seats.iter().enumerate() {
            let numbers = seat.pinned.iter().chain(&seat.spare).copied();
            let mut numbers: Vec<i32> =
                numbers.filter(|number| !plan.is_withheld(seat, *number, &claims)).collect();
            numbers.sort_unstable();
            assignment.partitions_mut(seat.member).extend(at, numbers);
            let has = |number: &i32| seat.pinned.contains(number) || seat.spare.contains(number);
            let lost = seat.lost.iter().copied().filter(|number| !has(number)).collect();
            let home = seat.home;
            debug_assert!(plan.seats[..place].iter().all(|other| home.is_none() || other.home != home));
            told[seat.member].push(Given { topic: &topic.name, home, starved: home.is_none(), lost });
        }
    }
    for (member, told) in told.iter().enumerate() {
        assignment.set_user_data(member, wire::encode_given(told));
    }
    assignment
}

/// The claims to each topic that count: of those who subscribe to it, to what is there. Of several by one member to one partition the strongest.
fn claims(group: &Group, id: impl Fn(&str) -> TopicId) -> Vec<Vec<Claimed>> {
    let mut claims: Vec<Vec<Claimed>> = vec![Vec::new(); group.topics().len()];
    for (at, member) in group.members().iter().enumerate() {
        let mut claim = |topic: usize, partition: i32, generation: i32, hold: Hold| {
            let exists = (0..group.topics()[topic].partitions).contains(&partition);
            if exists && member.topics.binary_search(&(topic as u32)).is_ok() {
                claims[topic].push(Claimed { partition, member: at, generation: generation.max(-1), hold });
            }
        };
        match member.user_data.as_deref().and_then(wire::decode_claims) {
            Some(said) => {
                for of in said {
                    let Some(topic) = group.topic(of.topic) else { continue };
                    let (then, now) = (of.id, id(of.topic));
                    let another = then != now && then != TopicId::default() && now != TopicId::default();
                    let of = of.claims.iter().filter(|_| !another);
                    of.for_each(|of| claim(topic, of.partition, of.generation, of.hold));
                }
            }
            // It is none of ours: what it owns has no meaning beyond that.
            None => {
                for (topic, numbers) in member.owned.iter() {
                    let generation = member.generation.unwrap_or(-1);
                    numbers.iter().for_each(|number| claim(topic, *number, generation, Hold::Spare));
                }
            }
        }
    }
    for claims in &mut claims {
        claims.sort_unstable_by_key(|of| (of.partition, of.member, Reverse((of.generation, of.hold))));
        claims.dedup_by_key(|of| (of.partition, of.member));
    }
    claims
}

/// A subscriber, and what it gets of the topic.
#[derive(Default)]
struct Seat {
    member: usize,
    home: Option<i32>,
    /// How good a claim the home has so far.
    best: Option<(Hold, i32)>,
    pinned: BTreeSet<i32>,
    spare: BTreeSet<i32>,
    lost: Vec<i32>,
}

impl Seat {
    fn count(&self) -> usize {
        self.pinned.len() + self.spare.len()
    }
}

/// One topic while it is planned.
struct Topic<'a> {
    group: &'a Group,
    name: &'a str,
    partitions: i32,
    /// In the order in which they are served.
    seats: Vec<Seat>,
    free: BTreeSet<i32>,
}

impl<'a> Topic<'a> {
    fn new(group: &'a Group, name: &'a str, members: Vec<usize>, partitions: i32) -> Self {
        let seats = members.into_iter().map(|member| Seat { member, ..Seat::default() }).collect();
        Self { group, name, partitions, seats, free: (0..partitions).collect() }
    }

    /// Steps 1 and 2: who keeps what it claims.
    fn settle(&mut self, claims: &[Claimed], rank: &[usize]) {
        for rivals in claims.chunk_by(|a, b| a.partition == b.partition) {
            let strength = |of: &&Claimed| (of.generation, of.hold > Hold::Spare, Reverse(rank[of.member]));
            let winner = rivals.iter().max_by_key(strength).map(|winner| winner.member);
            for of in rivals {
                let seat = self.seats.binary_search_by_key(&rank[of.member], |seat| rank[seat.member]).ok();
                let Some(seat) = seat.and_then(|seat| self.seats.get_mut(seat)) else { continue };
                let won = winner == Some(of.member);
                match of.hold {
                    Hold::Spare if won => drop(seat.spare.insert(of.partition)),
                    Hold::Spare => {}
                    Hold::Pinned | Hold::Home if won => {
                        seat.pinned.insert(of.partition);
                        if seat.best < Some((of.hold, of.generation)) {
                            (seat.best, seat.home) = (Some((of.hold, of.generation)), Some(of.partition));
                        }
                    }
                    Hold::Pinned | Hold::Home => seat.lost.push(of.partition),
                }
            }
            self.free.remove(&rivals[0].partition);
        }
    }

    /// Step 3: a home for who has none.
    fn home(&mut self) {
        let pinned: usize = self.seats.iter().map(|seat| seat.pinned.len()).sum();
        let homeless = (0..self.seats.len()).filter(|seat| self.seats[*seat].home.is_none());
        let served: Vec<usize> = homeless.take(self.partitions as usize - pinned).collect();
        let settle = |seat: &mut Seat, home: i32| {
            seat.home = Some(home);
            seat.pinned.insert(home);
        };
        for seat in &served {
            if let Some(own) = self.seats[*seat].spare.pop_first() {
                settle(&mut self.seats[*seat], own);
            }
        }
        let homeless: Vec<usize> =
            served.into_iter().filter(|seat| self.seats[*seat].home.is_none()).collect();
        for seat in homeless {
            let key = |number: &&i32| self.weight(seat, **number);
            let chosen = match self.free.iter().max_by_key(key).copied() {
                Some(free) => {
                    self.free.remove(&free);
                    Some(free)
                }
                None => self.take_from_fullest(),
            };
            // As many are served as there are partitions that nobody has pinned.
            if let Some(chosen) = chosen {
                settle(&mut self.seats[seat], chosen);
            }
        }
    }

    /// Step 4: the others, evenly.
    fn spread(&mut self, spread: Spread, before: &GroupAssignment) {
        let keep = match spread {
            Spread::None => self.partitions as usize,
            Spread::All => 0,
            Spread::Reserve(keep) => keep,
        };
        while self.free.len() < keep
            && let Some(number) = self.take_from_fullest()
        {
            self.free.insert(number);
        }
        while self.free.len() > keep
            && let Some(number) = self.free.pop_first()
        {
            let load = |seat: &usize| {
                let seat_of = &self.seats[*seat];
                (
                    seat_of.count(),
                    before.partitions(seat_of.member).len(),
                    Reverse(self.weight(*seat, number)),
                )
            };
            let Some(emptiest) = (0..self.seats.len()).min_by_key(load) else { return };
            self.seats[emptiest].spare.insert(number);
        }
        while let Some(emptiest) = (0..self.seats.len()).min_by_key(|seat| self.seats[*seat].count())
            && let Some(fullest) = self.fullest()
            && self.seats[fullest].count() >= self.seats[emptiest].count() + 2
            && let Some(number) = self.seats[fullest].spare.pop_last()
        {
            self.seats[emptiest].spare.insert(number);
        }
    }

    /// Who has most partitions of those that have spares.
    fn fullest(&self) -> Option<usize> {
        let with_spares = (0..self.seats.len()).filter(|seat| !self.seats[*seat].spare.is_empty());
        with_spares.max_by_key(|seat| (self.seats[*seat].count(), Reverse(*seat)))
    }

    fn take_from_fullest(&mut self) -> Option<i32> {
        let fullest = self.fullest()?;
        self.seats[fullest].spare.pop_last()
    }

    fn weight(&self, seat: usize, number: i32) -> u64 {
        let member = &self.group.members()[self.seats[seat].member];
        let key = member.instance_id.as_ref().unwrap_or(&member.member_id);
        weight(key.as_bytes().iter().chain(&[0]).chain(self.name.as_bytes()), number)
    }

    /// Step 5: whether another member may still hold it, so that it cannot be given before that one has heard of it. What was claimed as
    /// pinned is not touched.
    fn is_withheld(&self, seat: &Seat, number: i32, claims: &[Claimed]) -> bool {
        let from = claims.partition_point(|of| of.partition < number);
        let claims = || claims[from..].iter().take_while(|of| of.partition == number);
        let own = claims().find(|of| of.member == seat.member);
        if own.is_some_and(|own| own.hold > Hold::Spare) {
            return false;
        }
        let since = own.map_or(-1, |own| own.generation);
        claims().any(|of| of.member != seat.member && of.generation >= since)
    }
}
