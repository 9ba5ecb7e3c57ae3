//! Partitions of the topics of a group, and what a group's members are given.
use bytes::Bytes;

use super::group::GroupTopic;

/// Partitions, topic by topic; a topic is its place in [`Group::topics`](super::Group::topics).
///
/// All numbers lie in one list, so that a million partitions are a few allocations.
///
/// ```
/// use milena::assignor::Partitions;
///
/// let mut partitions = Partitions::default();
/// partitions.extend(0, [0, 3]);
/// partitions.extend(2, [1]);
/// assert_eq!(partitions.len(), 3);
/// assert_eq!(partitions.iter().collect::<Vec<_>>(), [(0, &[0, 3][..]), (2, &[1][..])]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partitions {
    /// Topic, and where its numbers end.
    topics: Vec<(u32, u32)>,
    numbers: Vec<i32>,
}

impl Partitions {
    pub(super) fn with_capacity(topics: usize, partitions: usize) -> Self {
        Self { topics: Vec::with_capacity(topics), numbers: Vec::with_capacity(partitions) }
    }

    /// Adds one partition. Those of a topic belong together: add them one after the other.
    #[inline]
    pub fn push(&mut self, topic: usize, partition: i32) {
        self.extend(topic, [partition]);
    }

    /// Adds partitions of a topic, if there are any.
    #[inline]
    pub fn extend(&mut self, topic: usize, partitions: impl IntoIterator<Item = i32>) {
        let before = self.numbers.len();
        self.numbers.extend(partitions);
        let end = self.numbers.len() as u32;
        match self.topics.last_mut() {
            _ if before == self.numbers.len() => {}
            Some((last, before)) if *last == topic as u32 => *before = end,
            _ => self.topics.push((topic as u32, end)),
        }
    }

    /// Topics, each with the numbers of its partitions, in the order in which they were added.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut start = 0;
        self.topics.iter().map(move |&(topic, end)| {
            let numbers = &self.numbers[start..end as usize];
            start = end as usize;
            (topic as usize, numbers)
        })
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Sorted, each partition once, those only that exist.
    pub(super) fn existing(self, topics: &[GroupTopic]) -> Self {
        let place: Vec<u32> = (0..topics.len() as u32).collect();
        let counts: Vec<i32> = topics.iter().map(|topic| topic.partitions).collect();
        self.canonical(&place, &counts)
    }

    /// The same for topics that have new places.
    pub(super) fn canonical(self, place: &[u32], counts: &[i32]) -> Self {
        let mut before = None;
        let clean = self.iter().all(|(topic, numbers)| {
            let in_turn = place[topic] as usize == topic && before < Some(topic);
            before = Some(topic);
            let increasing = numbers.windows(2).all(|pair| pair[0] < pair[1]);
            in_turn
                && increasing
                && numbers[0] >= 0
                && numbers.last().is_some_and(|last| *last < counts[topic])
        });
        if clean {
            return self;
        }
        let places = self.iter().flat_map(|(topic, numbers)| {
            let topic = place[topic];
            let existing = 0..counts[topic as usize];
            numbers.iter().filter(move |number| existing.contains(number)).map(move |number| (topic, *number))
        });
        let mut sorted: Vec<(u32, i32)> = places.collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut canonical = Self::with_capacity(self.topics.len(), sorted.len());
        sorted.into_iter().for_each(|(topic, number)| canonical.push(topic as usize, number));
        canonical
    }
}

/// What each member of a group is given: partitions, and bytes for its own assignor.
///
/// A member is its place in [`Group::members`](super::Group::members). A member that is given nothing is told so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupAssignment {
    pub(super) partitions: Vec<Partitions>,
    user_data: Vec<Option<Bytes>>,
}

impl GroupAssignment {
    /// For a group of so many members, without partitions.
    pub fn new(members: usize) -> Self {
        Self::from(vec![Partitions::default(); members])
    }

    /// How many members the group has.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether the group has no members.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// What a member is given.
    ///
    /// # Panics
    ///
    /// If the group has no such member.
    pub fn partitions(&self, member: usize) -> &Partitions {
        &self.partitions[member]
    }

    /// Gives to a member.
    ///
    /// # Panics
    ///
    /// If the group has no such member.
    pub fn partitions_mut(&mut self, member: usize) -> &mut Partitions {
        &mut self.partitions[member]
    }

    /// What the assignor of a member is told, `None` by default.
    pub fn user_data(&self, member: usize) -> Option<&Bytes> {
        self.user_data.get(member)?.as_ref()
    }

    /// Tells the assignor of a member something, see [`Assignor::on_assignment`](super::Assignor::on_assignment).
    ///
    /// # Panics
    ///
    /// If the group has no such member.
    pub fn set_user_data(&mut self, member: usize, user_data: Bytes) {
        self.user_data[member] = Some(user_data);
    }
}

/// One entry for each member of the group.
impl From<Vec<Partitions>> for GroupAssignment {
    fn from(partitions: Vec<Partitions>) -> Self {
        let user_data = vec![None; partitions.len()];
        Self { partitions, user_data }
    }
}
