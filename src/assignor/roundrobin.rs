//! All partitions dealt in turn.
use super::{Assignor, Group, GroupAssignment};

/// `roundrobin`: all partitions, by topic and number, are dealt to the members in turn; who does not subscribe is passed over.
///
/// Static members come first, by instance id, so that they keep their turn when they restart (KIP-345). With equal subscriptions
/// loads differ by one at most. Nothing is kept on purpose when the group changes.
///
/// ```
/// use milena::assignor::{Assignor, Group, RoundRobinAssignor};
///
/// let mut group = Group::builder();
/// group.topic("orders", 3);
/// group.member("a").subscribe("orders");
/// group.member("b").subscribe("orders");
/// let assignment = RoundRobinAssignor.assign(&group.build()?);
/// assert_eq!(assignment.partitions(0).iter().collect::<Vec<_>>(), [(0, &[0, 2][..])]);
/// assert_eq!(assignment.partitions(1).iter().collect::<Vec<_>>(), [(0, &[1][..])]);
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, group: &Group) -> GroupAssignment {
        let order = group.static_first();
        let mut seats = vec![0; order.len()];
        for (seat, member) in order.iter().enumerate() {
            seats[*member as usize] = seat;
        }
        let mut assignment = GroupAssignment::new(order.len());
        let mut turn = 0;
        for (topic, subscribers) in group.subscribers().into_iter().enumerate() {
            let mut seated: Vec<usize> = subscribers.iter().map(|member| seats[*member as usize]).collect();
            seated.sort_unstable();
            let mut next = seated.partition_point(|seat| *seat < turn);
            for partition in 0..group.topics()[topic].partitions {
                next = if next < seated.len() { next } else { 0 };
                let Some(seat) = seated.get(next) else { break };
                assignment.partitions_mut(order[*seat] as usize).push(topic, partition);
                (turn, next) = (seat + 1, next + 1);
            }
        }
        assignment
    }
}
