//! Of each topic a run of partitions to each subscriber.
use std::collections::{BTreeMap, BTreeSet};

use super::partitions::Partitions;
use super::{Assignor, Group, GroupAssignment, GroupTopic};

/// `range`: of each topic every subscriber gets a run of partitions, the first ones one more where they do not divide.
///
/// Topics with the same number of partitions and the same subscribers are assigned alike: equal keys of theirs meet in one member. Loads
/// may differ by one for each topic. Static members come first, by instance id (KIP-345).
///
/// Where members and replicas name racks, and not every partition has a replica in each, partitions go first to members in one of
/// their racks, as far as the runs' lengths allow; topics that are alike stay so (KIP-881).
///
/// ```
/// use milena::assignor::{Assignor, Group, RangeAssignor};
///
/// let mut group = Group::builder();
/// group.topic("clicks", 3);
/// group.topic("orders", 3);
/// group.member("a").subscribe("clicks").subscribe("orders");
/// group.member("b").subscribe("clicks").subscribe("orders");
/// let assignment = RangeAssignor.assign(&group.build()?);
/// assert_eq!(assignment.partitions(0).iter().collect::<Vec<_>>(), [(0, &[0, 1][..]), (1, &[0, 1][..])]);
/// assert_eq!(assignment.partitions(1).iter().collect::<Vec<_>>(), [(0, &[2][..]), (1, &[2][..])]);
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, group: &Group) -> GroupAssignment {
        let order = group.static_first();
        let mut seats = vec![0; order.len()];
        for (seat, member) in order.iter().enumerate() {
            seats[*member as usize] = seat;
        }
        let subscribers = group.subscribers().into_iter().map(|mut members| {
            members.sort_unstable_by_key(|member| seats[*member as usize]);
            members
        });
        let mut topics: Vec<Ranges<'_>> = subscribers
            .zip(group.topics())
            .map(|(members, topic)| Ranges::new(group, topic, members))
            .collect();
        match_racks(&mut topics);
        let mut given = vec![Partitions::default(); order.len()];
        for (topic, ranges) in topics.iter_mut().enumerate() {
            (0..ranges.members.len()).for_each(|seat| ranges.fill(seat, |_| true));
            for (seat, member) in ranges.members.iter().enumerate() {
                ranges.taken[seat].sort_unstable();
                given[*member as usize].extend(topic, ranges.taken[seat].iter().copied());
            }
        }
        given.into()
    }
}

/// One topic while it is assigned.
struct Ranges<'a> {
    group: &'a Group,
    topic: &'a GroupTopic,
    /// The subscribers, static ones first.
    members: Vec<u32>,
    /// What each has taken.
    taken: Vec<Vec<i32>>,
    /// What nobody has taken yet, in order.
    free: Vec<i32>,
    /// Everyone's share, and how many may have one more.
    share: usize,
    longer: usize,
    by_rack: bool,
}

impl<'a> Ranges<'a> {
    fn new(group: &'a Group, topic: &'a GroupTopic, members: Vec<u32>) -> Self {
        let (partitions, count) = (topic.partitions as usize, members.len().max(1));
        let free = if members.is_empty() { vec![] } else { (0..topic.partitions).collect() };
        let taken = vec![vec![]; members.len()];
        let (share, longer) = (partitions / count, partitions % count);
        let by_rack = racks_matter(group, [topic], &members);
        Self { group, topic, members, taken, free, share, longer, by_rack }
    }

    fn room(&self, seat: usize) -> usize {
        (self.share + usize::from(self.longer > 0)).saturating_sub(self.taken[seat].len())
    }

    fn matches(&self, seat: usize, partition: i32) -> bool {
        !self.by_rack || in_rack(self.group, self.topic, partition, self.members[seat])
    }

    fn take(&mut self, seat: usize, partitions: impl IntoIterator<Item = i32>) {
        let before = self.taken[seat].len();
        self.taken[seat].extend(partitions);
        let after = self.taken[seat].len();
        self.longer -= usize::from(before <= self.share && self.share < after);
    }

    /// Fills a subscriber's share with what is free and wanted.
    fn fill(&mut self, seat: usize, wanted: impl Fn(i32) -> bool) {
        let mut room = self.room(seat);
        let mut taken = Vec::with_capacity(room);
        self.free.retain(|partition| {
            let takes = room > 0 && wanted(*partition);
            room -= usize::from(takes);
            taken.extend(takes.then_some(*partition));
            !takes
        });
        self.take(seat, taken);
    }
}

/// Whether a member is in one of the racks of a partition, or in none at all.
pub(super) fn in_rack(group: &Group, topic: &GroupTopic, partition: i32, member: u32) -> bool {
    let racks = topic.racks.get(partition as usize).map_or(&[][..], |racks| racks);
    group.members()[member as usize].rack.as_ref().is_none_or(|rack| racks.contains(rack))
}

/// Whether racks can tell members apart: some member is in a rack that has replicas, and not every partition has one in each rack.
pub(super) fn racks_matter<'a>(
    group: &Group,
    topics: impl IntoIterator<Item = &'a GroupTopic> + Clone,
    members: &[u32],
) -> bool {
    let all: BTreeSet<&str> = topics
        .clone()
        .into_iter()
        .flat_map(|topic| topic.racks.iter().flatten())
        .map(|rack| &**rack)
        .collect();
    let meet = members.iter().filter_map(|member| group.members()[*member as usize].rack.as_ref());
    let everywhere = |topic: &GroupTopic| {
        topic.racks.len() == topic.partitions as usize
            && topic.racks.iter().all(|racks| racks.len() == all.len())
    };
    !all.is_empty()
        && meet.into_iter().any(|rack| all.contains(&**rack))
        && !topics.into_iter().all(everywhere)
}

/// Gives out what matches racks: in topics that are alike whole rows, one partition of each with the same number.
fn match_racks(topics: &mut [Ranges<'_>]) {
    let mut alike: BTreeMap<(&[u32], i32), Vec<usize>> = BTreeMap::new();
    let seats: Vec<Vec<u32>> = topics.iter().map(|topic| topic.members.clone()).collect();
    for (place, topic) in topics.iter().enumerate() {
        alike.entry((&seats[place], topic.topic.partitions)).or_default().push(place);
    }
    for ((members, partitions), places) in alike {
        if !places.iter().any(|place| topics[*place].by_rack) {
            continue;
        }
        if let [place] = places[..] {
            for (seat, member) in members.iter().enumerate() {
                let (group, topic, member) = (topics[place].group, topics[place].topic, *member);
                topics[place].fill(seat, |partition| in_rack(group, topic, partition, member));
            }
            continue;
        }
        for partition in 0..partitions {
            let fits = |seat: &usize| {
                places
                    .iter()
                    .all(|place| topics[*place].room(*seat) > 0 && topics[*place].matches(*seat, partition))
            };
            let Some(seat) = (0..members.len()).find(fits) else { continue };
            for place in &places {
                topics[*place].take(seat, [partition]);
                topics[*place].free.retain(|free| *free != partition);
            }
        }
    }
}
