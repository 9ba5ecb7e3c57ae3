//! Who holds what, as far as it is beyond doubt.
use std::borrow::Cow;
use std::cmp::Ordering;

use super::super::{Group, Partitions};
use super::classes::Classes;

/// Nobody.
pub(in crate::assignor) const NONE: u32 = u32::MAX;

/// What each member of a group claims, and of which generation it says that is; -1 if it does not say.
#[derive(Debug)]
pub(in crate::assignor) struct Claims<'a> {
    pub(in crate::assignor) partitions: Vec<Cow<'a, Partitions>>,
    pub(in crate::assignor) generations: Vec<i32>,
}

impl<'a> Claims<'a> {
    /// What the members' subscriptions say.
    pub(in crate::assignor) fn of_subscriptions(group: &'a Group) -> Self {
        let members = group.members().iter();
        Self {
            generations: members.clone().map(|member| member.generation.unwrap_or(-1)).collect(),
            partitions: members.map(|member| Cow::Borrowed(&member.owned)).collect(),
        }
    }

    /// All claims: the member, its generation and the places of the partitions, topic by topic.
    fn iter(&self, bases: &[usize]) -> impl Iterator<Item = (u32, i32, usize, &[i32])> {
        let members = self.partitions.iter().zip(&self.generations).enumerate();
        members.flat_map(move |(member, (partitions, generation))| {
            let topics = partitions.iter();
            topics.map(move |(topic, numbers)| (member as u32, *generation, bases[topic], numbers))
        })
    }

    /// The valid owner of each partition: of all that claim it the only one in the newest generation, if it still subscribes to its topic.
    pub(super) fn owners(&self, bases: &[usize], classes: &Classes) -> Vec<u32> {
        // The top bit marks a partition that several claim in the newest generation so far.
        const DOUBTFUL: u32 = 1 << 31;
        let mut owners = vec![NONE; bases[bases.len() - 1]];
        for (member, generation, base, numbers) in self.iter(bases) {
            for number in numbers {
                let owner = &mut owners[base + *number as usize];
                if *owner == NONE {
                    *owner = member;
                    continue;
                }
                match generation.cmp(&self.generations[(*owner & !DOUBTFUL) as usize]) {
                    Ordering::Greater => *owner = member,
                    Ordering::Equal => *owner |= DOUBTFUL,
                    Ordering::Less => {}
                }
            }
        }
        for (topic, ends) in bases.windows(2).enumerate() {
            let subscribes = classes.subscribes(topic);
            // Who is in doubt, and nobody, are out of reach of the list of members.
            let valid = |member: u32| {
                classes.of_member.get(member as usize).is_some_and(|class| subscribes[*class as usize])
            };
            owners[ends[0]..ends[1]]
                .iter_mut()
                .filter(|owner| !valid(**owner))
                .for_each(|owner| *owner = NONE);
        }
        owners
    }

    /// Takes out of a plan what must not be handed out yet: what another member claims in a newer generation than the one it is planned
    /// for does, or at all if that one does not.
    pub(in crate::assignor) fn withhold(&self, group: &Group, plan: &mut [Partitions]) {
        let bases = bases(group);
        let mut newest = vec![i32::MIN; bases[bases.len() - 1]];
        for (_, generation, base, numbers) in self.iter(&bases) {
            for number in numbers {
                let newest = &mut newest[base + *number as usize];
                *newest = generation.max(*newest);
            }
        }
        for (member, planned) in plan.iter_mut().enumerate() {
            let generation = self.generations[member];
            let own = self.partitions[member].iter().flat_map(|(topic, numbers)| {
                let base = bases[topic];
                numbers.iter().map(move |number| base + *number as usize)
            });
            // Set aside what it claims itself in the newest generation; whatever else is claimed stays back.
            let mut free: Vec<usize> = own.filter(|partition| newest[*partition] <= generation).collect();
            free.iter().for_each(|partition| newest[*partition] = i32::MIN);
            let mut handed = Partitions::with_capacity(planned.iter().count(), planned.len());
            for (topic, numbers) in planned.iter() {
                let known = bases.get(topic).zip(bases.get(topic + 1));
                let Some((base, end)) = known else { continue };
                let handed_out = numbers.iter().copied().filter(|number| {
                    let partition = usize::try_from(*number).unwrap_or(usize::MAX).saturating_add(*base);
                    partition < *end && newest[partition] == i32::MIN
                });
                handed.extend(topic, handed_out);
            }
            free.drain(..).for_each(|partition| newest[partition] = generation);
            *planned = handed;
        }
    }
}

/// Where the partitions of each topic begin when all are counted through, and how many there are.
pub(in crate::assignor) fn bases(group: &Group) -> Vec<usize> {
    let mut bases = vec![0];
    for topic in group.topics() {
        bases.push(bases[bases.len() - 1] + topic.partitions as usize);
    }
    bases
}
