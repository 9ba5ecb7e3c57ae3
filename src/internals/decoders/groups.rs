//! What members of a group tell each other.
use bytes::Bytes;

use super::ensure;
use crate::assignor::{
    Assignor, CooperativeStickyAssignor, Group, RangeAssignor, RoundRobinAssignor, StickyAssignor,
};
use crate::protocol::consumer_protocol::{Assignment, NEWEST, Subscription, TopicNumbers};

pub(super) fn subscription(input: &Bytes) -> bool {
    Subscription::decode(input).is_ok()
}

pub(super) fn assignment(input: &Bytes) -> bool {
    Assignment::decode(input).is_ok()
}

/// What was read is the same when it is written and read again, but for its order.
pub(super) fn assignment_again(input: &Bytes) -> Result<(), String> {
    let read = Assignment::decode(input).map_err(|error| error.to_string())?;
    let bytes = read.encode(NEWEST);
    let again = Assignment::decode(&bytes).map_err(|error| format!("written and read again: {error}"))?;
    ensure!(again.user_data == read.user_data, "other user data");
    ensure!(sorted(&again.partitions) == sorted(&read.partitions), "other partitions");
    Ok(())
}

fn sorted<'a>(topics: &TopicNumbers<'a>) -> Vec<(&'a str, i32)> {
    let partitions =
        topics.iter().flat_map(|(topic, numbers)| numbers.iter().map(move |number| (*topic, number)));
    let mut sorted: Vec<_> = partitions.collect();
    sorted.sort_unstable();
    sorted
}

/// The same; and whoever leads a group with such a member gives each partition to one subscriber.
pub(super) fn subscription_again(input: &Bytes) -> Result<(), String> {
    let read = Subscription::decode(input).map_err(|error| error.to_string())?;
    let bytes = read.encode(NEWEST);
    let again = Subscription::decode(&bytes).map_err(|error| format!("written and read again: {error}"))?;
    ensure!(
        (again.user_data, again.generation, again.rack) == (read.user_data, read.generation, read.rack),
        "{again:?} instead of {read:?}"
    );
    ensure!(sorted(&again.owned) == sorted(&read.owned), "other owned partitions");

    let mut group = Group::builder();
    for (topic, partitions) in [("t1", 3), ("t2", 7)] {
        group.topic(topic, partitions);
    }
    let mut member = group.member("hostile").generation(read.generation);
    for topic in &read.topics {
        member = member.subscribe(topic);
    }
    for (topic, numbers) in &read.owned {
        member = member.own(topic, numbers.iter());
    }
    if let Some(rack) = read.rack {
        member = member.rack(rack);
    }
    if let Some(user_data) = read.user_data {
        member.user_data(Bytes::copy_from_slice(user_data));
    }
    group.member("honest").subscribe("t1").subscribe("t2").own("t1", [0, 1]).generation(9);
    let group = group.build().map_err(|error| error.to_string())?;
    let cooperative = CooperativeStickyAssignor::default();
    let assignors: [&dyn Assignor; 3] = [&RangeAssignor, &RoundRobinAssignor, &StickyAssignor::default()];
    for plan in
        assignors.map(|assignor| assignor.assign(&group)).into_iter().chain([cooperative.plan(&group)])
    {
        let mut owned = Vec::new();
        for (at, member) in group.members().iter().enumerate() {
            for (topic, numbers) in plan.partitions(at).iter() {
                ensure!(member.topics.contains(&(topic as u32)), "a topic that it does not subscribe to");
                owned.extend(numbers.iter().map(|number| (topic, *number)));
            }
        }
        owned.sort_unstable();
        let topics = group.topics().iter().enumerate();
        let all = topics.flat_map(|(topic, of)| (0..of.partitions).map(move |number| (topic, number)));
        ensure!(owned.into_iter().eq(all), "not every partition has one owner");
    }
    Ok(())
}
