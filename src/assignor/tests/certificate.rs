//! What a plan must be, found out without any of the code that makes plans.
use std::collections::BTreeMap;

use super::super::Partitions;
use super::Case;

/// A partition by topic and number.
pub(super) type Place = (usize, i32);

/// What a plan costs, in the order of what is avoided first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    pub(super) squares: i64,
    pub(super) moves: i64,
    pub(super) across: i64,
}

/// The claims of a case, resolved by the words of the rule.
pub(super) fn valid_owners(case: &Case) -> BTreeMap<Place, usize> {
    let mut claims: BTreeMap<Place, Vec<(i32, usize)>> = BTreeMap::new();
    for (at, member) in case.members.iter().enumerate() {
        let mut owned = member.owned.clone();
        owned.sort_unstable();
        owned.dedup();
        for (topic, number) in owned {
            if (0..case.topics[topic]).contains(&number) {
                claims.entry((topic, number)).or_default().push((member.generation, at));
            }
        }
    }
    let mut owners = BTreeMap::new();
    for (place, claims) in claims {
        let newest = claims.iter().map(|claim| claim.0).max().unwrap();
        let newest: Vec<usize> =
            claims.iter().filter(|claim| claim.0 == newest).map(|claim| claim.1).collect();
        if let [owner] = newest[..]
            && case.members[owner].topics.contains(&place.0)
        {
            owners.insert(place, owner);
        }
    }
    owners
}

/// The owner of each partition in a plan, or what makes it not valid.
pub(super) fn owners(case: &Case, plan: &[Partitions]) -> Result<BTreeMap<Place, usize>, String> {
    if plan.len() != case.members.len() {
        return Err(format!("{} members in the plan", plan.len()));
    }
    let mut owners = BTreeMap::new();
    for (at, partitions) in plan.iter().enumerate() {
        for place in partitions.iter().flat_map(|(topic, numbers)| numbers.iter().map(move |n| (topic, *n))) {
            if !case.members[at].topics.contains(&place.0) {
                return Err(format!("{at} does not subscribe to {place:?}"));
            }
            if let Some(other) = owners.insert(place, at) {
                return Err(format!("{at} and {other} have {place:?}"));
            }
        }
    }
    for (topic, count) in case.topics.iter().enumerate() {
        if case.members.iter().any(|member| member.topics.contains(&topic)) {
            for number in 0..*count {
                if !owners.contains_key(&(topic, number)) {
                    return Err(format!("nobody has {topic}-{number}"));
                }
            }
        }
    }
    if owners.keys().any(|(topic, number)| !(0..case.topics[*topic]).contains(number)) {
        return Err("partitions that do not exist".to_owned());
    }
    Ok(owners)
}

/// Whether a partition has no replica in the rack of a member.
pub(super) fn across(case: &Case, place: Place, member: usize) -> bool {
    let racks = case.racks.get(place.0).and_then(|racks| racks.get(place.1 as usize));
    case.members[member].rack.is_some_and(|rack| racks.is_none_or(|racks| !racks.contains(&rack)))
}

fn price(
    case: &Case,
    (valid, racks): (&BTreeMap<Place, usize>, bool),
    place: Place,
    member: usize,
) -> (i64, i64) {
    let moves = valid.get(&place).is_some_and(|owner| *owner != member);
    let across = racks && across(case, place, member);
    (i64::from(moves), i64::from(across))
}

pub(super) fn cost(case: &Case, owners: &BTreeMap<Place, usize>) -> Cost {
    let (valid, racks) = (valid_owners(case), case.racks_matter());
    let mut loads = vec![0; case.members.len()];
    let mut cost = Cost { squares: 0, moves: 0, across: 0 };
    for (place, member) in owners {
        let (moves, across) = price(case, (&valid, racks), *place, *member);
        cost.moves += moves;
        cost.across += across;
        loads[*member] += 1i64;
    }
    cost.squares = loads.iter().map(|load| load * load).sum();
    cost
}

/// What makes a plan not the best: a ring of members that hand partitions on, perhaps through a change of loads, at a profit.
///
/// `weights` are the prices of a move and of a partition across racks; squares of loads outweigh both.
pub(super) fn improvement(
    case: &Case,
    owners: &BTreeMap<Place, usize>,
    weights: (i64, i64),
) -> Option<String> {
    const SQUARES: i64 = 1 << 40;
    let (valid, racks) = (valid_owners(case), case.racks_matter());
    let sink = case.members.len();
    let mut arcs: BTreeMap<(usize, usize), i64> = BTreeMap::new();
    let mut loads = vec![0i64; sink];
    for (place, from) in owners {
        loads[*from] += 1;
        let weigh = |member| {
            let (moves, across) = price(case, (&valid, racks), *place, member);
            moves * weights.0 + across * weights.1
        };
        for to in (0..sink).filter(|to| to != from && case.members[*to].topics.contains(&place.0)) {
            let profit = weigh(to) - weigh(*from);
            let arc = arcs.entry((*from, to)).or_insert(profit);
            *arc = profit.min(*arc);
        }
    }
    for (member, load) in loads.iter().enumerate() {
        // Through the sink: one member ends with one more, another with one less.
        arcs.insert((member, sink), SQUARES * (2 * load + 1));
        if *load > 0 {
            arcs.insert((sink, member), -SQUARES * (2 * load - 1));
        }
    }
    let mut distance = vec![0i64; sink + 1];
    for round in 0..=sink + 1 {
        let mut changed = None;
        for ((from, to), cost) in &arcs {
            if distance[*from] + cost < distance[*to] {
                distance[*to] = distance[*from] + cost;
                changed = Some((*from, *to));
            }
        }
        changed?;
        if round == sink + 1 {
            return Some(format!("a ring through {changed:?} saves something"));
        }
    }
    None
}

/// The least cost of all plans there are.
pub(super) fn brute_force(case: &Case, racks_first: bool) -> (i64, i64, i64) {
    let mut places: Vec<Place> = Vec::new();
    for (topic, count) in case.topics.iter().enumerate() {
        if case.members.iter().any(|member| member.topics.contains(&topic)) {
            places.extend((0..*count).map(|number| (topic, number)));
        }
    }
    let valid = valid_owners(case);
    let mut best = (i64::MAX, 0, 0);
    let mut loads = vec![0i64; case.members.len()];
    search(case, (&valid, case.racks_matter()), &places, &mut loads, (0, 0), racks_first, &mut best);
    best
}

fn search(
    case: &Case,
    valid: (&BTreeMap<Place, usize>, bool),
    places: &[Place],
    loads: &mut Vec<i64>,
    so_far: (i64, i64),
    racks_first: bool,
    best: &mut (i64, i64, i64),
) {
    let Some((place, rest)) = places.split_first() else {
        let squares = loads.iter().map(|load| load * load).sum();
        let (moves, across) = so_far;
        let found = if racks_first { (squares, across, moves) } else { (squares, moves, across) };
        *best = found.min(*best);
        return;
    };
    for member in 0..loads.len() {
        if case.members[member].topics.contains(&place.0) {
            let (moves, across) = price(case, valid, *place, member);
            loads[member] += 1;
            search(case, valid, rest, loads, (so_far.0 + moves, so_far.1 + across), racks_first, best);
            loads[member] -= 1;
        }
    }
}

/// Whether some ring of hand-overs makes the sum of the squares of what each member has of each topic less, at no other cost.
pub(super) fn can_be_evener(case: &Case, owners: &BTreeMap<Place, usize>) -> bool {
    const MOVE: i64 = 1 << 20;
    const SQUARES: i64 = 1 << 40;
    let valid = valid_owners(case);
    let (topics, members) = (case.topics.len(), case.members.len());
    let (mut has, mut own) = (vec![vec![0i64; members]; topics], vec![vec![0i64; members]; topics]);
    owners.iter().for_each(|((topic, _), member)| has[*topic][*member] += 1);
    valid.iter().for_each(|((topic, _), member)| own[*topic][*member] += 1);
    let mut arcs = Vec::new();
    let sink = topics + members;
    for member in 0..members {
        let load: i64 = has.iter().map(|has| has[member]).sum();
        arcs.push((topics + member, sink, SQUARES * (2 * load + 1)));
        if load > 0 {
            arcs.push((sink, topics + member, -SQUARES * (2 * load - 1)));
        }
        for topic in case.members[member].topics.iter().copied() {
            let (has, own) = (has[topic][member], own[topic][member]);
            arcs.push((topic, topics + member, if has < own { 0 } else { MOVE } + 2 * has + 1));
            if has > 0 {
                arcs.push((topics + member, topic, if has <= own { 0 } else { -MOVE } - (2 * has - 1)));
            }
        }
    }
    let mut distance = vec![0i64; sink + 1];
    let mut relax = || {
        let mut changed = false;
        for (from, to, cost) in &arcs {
            if distance[*from] + cost < distance[*to] {
                distance[*to] = distance[*from] + cost;
                changed = true;
            }
        }
        changed
    };
    (0..=sink + 1).all(|_| relax())
}
