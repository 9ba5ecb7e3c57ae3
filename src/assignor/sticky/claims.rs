//! Who holds what, as far as it is beyond doubt.
use std::borrow::Cow;
use std::cmp::Ordering;

use super::super::{Group, GroupAssignment, Partitions};

/// Nobody.
pub(in crate::assignor) const NONE: u32 = u32::MAX;

/// Marks a claim of more than one member, of whom the other bits name one.
const SEVERAL: u32 = 1 << 31;

/// Marks a claim that does not count, or is given up: the partition is to be given out.
pub(super) const FREE: u32 = 1 << 30;

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

    /// Who claims each partition in the newest generation: one, [`SEVERAL`], or [`NONE`].
    pub(in crate::assignor) fn newest(&self, bases: &[usize]) -> Vec<u32> {
        let mut newest = vec![NONE; bases[bases.len() - 1]];
        for (member, partitions) in self.partitions.iter().enumerate() {
            let generation = self.generations[member];
            for (topic, numbers) in partitions.iter() {
                for number in numbers {
                    let claimant = &mut newest[bases[topic] + *number as usize];
                    if *claimant == NONE {
                        *claimant = member as u32;
                        continue;
                    }
                    match generation.cmp(&self.generations[(*claimant & !SEVERAL) as usize]) {
                        Ordering::Greater => *claimant = member as u32,
                        Ordering::Equal => *claimant |= SEVERAL,
                        Ordering::Less => {}
                    }
                }
            }
        }
        newest
    }

    /// Whether a partition may be handed out to a member in a cooperative round: unless another claims it in a newer generation than this
    /// one does, or at all if this one does not.
    #[inline]
    pub(in crate::assignor) fn is_free_for(
        &self,
        newest: u32,
        member: u32,
        partition: usize,
        bases: &[usize],
    ) -> bool {
        match newest {
            NONE => true,
            _ if newest & SEVERAL == 0 => newest & !FREE == member,
            _ => self.is_among(newest & !(SEVERAL | FREE), member, partition, bases),
        }
    }

    /// Whether a member is one of the several that claim a partition in the newest generation.
    #[cold]
    fn is_among(&self, several: u32, member: u32, partition: usize, bases: &[usize]) -> bool {
        let topic = bases.partition_point(|base| *base <= partition) - 1;
        let number = (partition - bases[topic]) as i32;
        let generation = |member: u32| self.generations[member as usize];
        let mut claimed = self.partitions[member as usize].iter();
        generation(several) == generation(member)
            && claimed.any(|(of, numbers)| of == topic && numbers.binary_search(&number).is_ok())
    }
}

impl Group {
    /// Takes out of an assignment what must not be handed out in this cooperative round: a partition that another member claims in a newer
    /// generation than the one it is planned for does, or at all if that one does not.
    ///
    /// For cooperative assignors. What a member still holds it gives up when it finds it missing; in the next round it can be handed out.
    ///
    /// ```
    /// use milena::assignor::{Assignor, Group, RangeAssignor};
    ///
    /// let mut group = Group::builder();
    /// group.topic("orders", 2);
    /// group.member("a").subscribe("orders").own("orders", [0, 1]).generation(7);
    /// group.member("b").subscribe("orders");
    /// let group = group.build()?;
    ///
    /// let mut assignment = RangeAssignor.assign(&group);
    /// group.withhold(&mut assignment);
    /// let [a, b] = [0, 1].map(|member| assignment.partitions(member));
    /// assert_eq!((a.len(), b.len()), (1, 0), "a has to give up orders-1 before b may have it");
    /// # Ok::<(), milena::Error>(())
    /// ```
    pub fn withhold(&self, assignment: &mut GroupAssignment) {
        let (claims, bases) = (Claims::of_subscriptions(self), bases(self));
        let newest = claims.newest(&bases);
        for (member, planned) in assignment.partitions.iter_mut().enumerate() {
            let mut handed_out = Partitions::default();
            for (topic, numbers) in planned.iter() {
                let free = numbers.iter().copied().filter(|number| {
                    let place = || Some(bases.get(topic)? + usize::try_from(*number).ok()?);
                    let claimed = place().and_then(|place| Some((place, *newest.get(place)?)));
                    claimed.is_none_or(|(place, newest)| {
                        claims.is_free_for(newest, member as u32, place, &bases)
                    })
                });
                handed_out.extend(topic, free);
            }
            *planned = handed_out;
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
