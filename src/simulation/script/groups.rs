//! What happens to the members of a group, and to their coordinator.
use std::sync::Arc;

use rand::RngExt as _;

use super::{World, millis, strike};
use crate::broker::{Api, Fault};
use crate::protocol::error_code::ErrorCode;

use super::super::grouping::{GROUP, Grouping};
use super::super::truth::TOPIC;

const MOST_MEMBERS: usize = 8;
const MOST_PARTITIONS: i32 = 10;

/// Another member joins; in the place of a static one that is gone, if there is one.
pub(in super::super) fn join(world: &mut World) {
    let number = world.members.len();
    let used: Vec<Arc<str>> =
        world.members.iter().filter(|member| member.lives()).filter_map(Grouping::instance).collect();
    let instance =
        world.members.iter().filter_map(Grouping::instance).find(|instance| !used.contains(instance));
    let Some(terms) = world.plan.member(&mut world.script.random, number, instance) else { return };
    let client = world.client(world.producers.len() + world.consumers.len() + number);
    let seed = world.script.random.random();
    world.note(format_args!("member {number} joins, instance {:?}", terms.group.instance));
    world.members.push(Grouping::new(world.now, client, terms, world.plan.request_timeout, seed));
}

/// Something happens to a member, to the coordinator, or to the network.
pub(super) fn strike_group(world: &mut World) -> Result<(), String> {
    let now = world.now;
    let random = &mut world.script.random;
    let living: Vec<usize> = (0..world.members.len()).filter(|at| world.members[*at].lives()).collect();
    let one = living.get(random.random_range(0..living.len().max(1))).copied().unwrap_or(0);
    let time = millis(random, 300..14_000);
    match random.random_range(0..16) {
        0 | 1 if living.len() < MOST_MEMBERS => join(world),
        2 if living.len() > 1 => {
            world.note(format_args!("member {one} is closed"));
            world.members[one].close(now);
        }
        3 if living.len() > 1 => {
            world.note(format_args!("member {one} is killed"));
            world.members[one].kill(now, &mut world.network);
        }
        4 | 5 => {
            world.note(format_args!("member {one} stops for {time:?}"));
            world.members[one].stop(now + time);
        }
        6 => {
            world.note(format_args!("member {one} is busy for {time:?}"));
            world.members[one].be_busy(now + time);
        }
        7 => {
            world.note(format_args!("the coordinator moves"));
            world.cluster.move_coordinator(now, GROUP, None);
        }
        8..11 => {
            let fault = fault(&mut world.script.random);
            world.note(format_args!("{fault:?}"));
            world.cluster.faults.add(fault);
            world.script.later.push((now + time, super::Later::Faultless));
        }
        11 if world.plan.partitions < MOST_PARTITIONS && random.random_bool(0.3) => {
            world.plan.partitions += 1;
            world.note(format_args!("there are {} partitions now", world.plan.partitions));
            let _ = world.cluster.grow_topic(TOPIC, world.plan.partitions, false);
            world.truth.update(now, &world.cluster);
        }
        _ => return strike(world),
    }
    Ok(())
}

/// What a coordinator can do to its members.
fn fault(random: &mut rand::rngs::SmallRng) -> Fault {
    let apis = [
        Api::FIND_COORDINATOR,
        Api::JOIN_GROUP,
        Api::SYNC_GROUP,
        Api::HEARTBEAT,
        Api::LEAVE_GROUP,
        Api::OFFSET_COMMIT,
        Api::OFFSET_FETCH,
        Api::CONSUMER_GROUP_HEARTBEAT,
    ];
    let api = apis[random.random_range(0..apis.len())];
    let passing = [
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::NOT_COORDINATOR,
    ];
    let code = match (api, random.random_range(0..6)) {
        (Api::FIND_COORDINATOR, _) => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        (Api::HEARTBEAT | Api::SYNC_GROUP, 0) => ErrorCode::REBALANCE_IN_PROGRESS,
        (Api::HEARTBEAT | Api::CONSUMER_GROUP_HEARTBEAT, 1) => ErrorCode::UNKNOWN_MEMBER_ID,
        (Api::HEARTBEAT, 2) => ErrorCode::ILLEGAL_GENERATION,
        (Api::CONSUMER_GROUP_HEARTBEAT, 2) => ErrorCode::FENCED_MEMBER_EPOCH,
        (Api::OFFSET_FETCH, 0) => ErrorCode::UNSTABLE_OFFSET_COMMIT,
        _ => passing[random.random_range(0..3)],
    };
    let some = match random.random_range(0..7) {
        0 | 1 => Fault::on(api).error(code),
        2 => Fault::on(api).drop_answer(),
        3 => Fault::on(api).cut_after(),
        4 => Fault::on(api).delay(millis(random, 1..5000)),
        5 => Fault::on(api).hang(),
        _ => Fault::on(api).move_coordinator(),
    };
    some.times(random.random_range(1..4)).after(random.random_range(0..3))
}
