//! Topics spread over members, as evenly as loads and moves allow: the sum of the squares of what each member has of each topic is the least.
//!
//! Exact, and so for groups of usual size only; in larger ones topics are as even as [dealing](super::deal) makes them.
use super::plan::Plan;

/// Topics times members, and partitions, beyond which the last bit of evenness is not worth the time.
const MOST_PAIRS: usize = 1 << 11;
const MOST_PARTITIONS: usize = 1 << 12;

/// What a move costs, and a square of a member's load: more than any ring of what comes after it.
const MOVE: i128 = 1 << 40;
const LOAD: i128 = 1 << 80;

struct Spread {
    topics: usize,
    members: usize,
    /// How many of a topic a member has, and validly owns: by topic and member.
    has: Vec<i128>,
    own: Vec<i128>,
    loads: Vec<i128>,
    /// Topic and member, for each subscription.
    pairs: Vec<(usize, usize)>,
}

/// From which node to which; topics first, then members, then one that takes a partition from one member for another.
type Arc = (usize, usize);

impl Spread {
    fn pair(&self, topic: usize, member: usize) -> usize {
        topic * self.members + member
    }

    /// What it costs to pass one partition along an arc; none where there is none to pass.
    fn cost(&self, (from, to): Arc) -> Option<i128> {
        let sink = self.topics + self.members;
        if to == sink {
            return Some(LOAD * (2 * self.loads[from - self.topics] + 1));
        }
        if from == sink {
            let load = self.loads[to - self.topics];
            return (load > 0).then_some(-LOAD * (2 * load - 1));
        }
        let gives = from >= self.topics;
        let (topic, member) = if gives { (to, from - self.topics) } else { (from, to - self.topics) };
        let (has, own) = (self.has[self.pair(topic, member)], self.own[self.pair(topic, member)]);
        match gives {
            false => Some(2 * has + 1 + if has < own { 0 } else { MOVE }),
            true => (has > 0).then_some(1 - 2 * has - if has <= own { 0 } else { MOVE }),
        }
    }

    /// A ring along which passing one partition on saves something (Bellman and Ford).
    fn saving(&self, arcs: &[Arc]) -> Option<Vec<Arc>> {
        let nodes = self.topics + self.members + 1;
        let (mut distance, mut came) = (vec![0i128; nodes], vec![usize::MAX; nodes]);
        let costs: Vec<(Arc, i128)> = arcs.iter().filter_map(|arc| Some((*arc, self.cost(*arc)?))).collect();
        let mut last = None;
        for _ in 0..nodes {
            last = None;
            for ((from, to), cost) in &costs {
                if distance[*from] + cost < distance[*to] {
                    (distance[*to], came[*to], last) = (distance[*from] + cost, *from, Some(*to));
                }
            }
            last?;
        }
        // Changed once more than there are nodes: that far back lies a ring.
        let mut node = last?;
        (0..nodes).for_each(|_| node = came[node]);
        let (first, mut ring) = (node, Vec::new());
        loop {
            ring.push((came[node], node));
            node = came[node];
            if node == first {
                return Some(ring);
            }
        }
    }

    fn pass(&mut self, ring: &[Arc]) {
        for (from, to) in ring {
            if *from < self.topics {
                let (topic, member) = (*from, *to - self.topics);
                let pair = self.pair(topic, member);
                (self.has[pair], self.loads[member]) = (self.has[pair] + 1, self.loads[member] + 1);
            } else if *to < self.topics {
                let (topic, member) = (*to, *from - self.topics);
                let pair = self.pair(topic, member);
                (self.has[pair], self.loads[member]) = (self.has[pair] - 1, self.loads[member] - 1);
            }
        }
    }
}

impl Plan<'_> {
    /// Evens out what each member has of each topic. `dealt` are the partitions given out, each with who claimed it.
    pub(super) fn spread(&mut self, subscriptions: &[&[u32]], dealt: &mut [Vec<(u32, u32)>]) {
        let (topics, members) = (self.bases.len() - 1, subscriptions.len());
        if topics * members > MOST_PAIRS || self.owners.len() > MOST_PARTITIONS || self.classes.by_rack() {
            return;
        }
        let newest = self.claims.newest(self.bases);
        let zeros = || vec![0; topics * members];
        let mut spread =
            Spread { topics, members, has: zeros(), own: zeros(), loads: vec![0; members], pairs: vec![] };
        for (member, subscribed) in subscriptions.iter().enumerate() {
            spread.pairs.extend(subscribed.iter().map(|topic| (*topic as usize, member)));
        }
        for (topic, ends) in self.bases.windows(2).enumerate() {
            let owners = self.owners[ends[0]..ends[1]].iter().zip(&newest[ends[0]..ends[1]]);
            for (owner, claimant) in owners.map(|(owner, claimant)| (*owner as usize, *claimant as usize)) {
                if owner < members {
                    let pair = spread.pair(topic, owner);
                    (spread.has[pair], spread.loads[owner]) = (spread.has[pair] + 1, spread.loads[owner] + 1);
                }
                if claimant < members && subscriptions[claimant].binary_search(&(topic as u32)).is_ok() {
                    let pair = spread.pair(topic, claimant);
                    spread.own[pair] += 1;
                }
            }
        }
        let sink = topics + members;
        let mut arcs: Vec<Arc> = Vec::new();
        for (topic, member) in &spread.pairs {
            arcs.extend([(*topic, topics + member), (topics + member, *topic)]);
        }
        arcs.extend((topics..sink).flat_map(|member| [(member, sink), (sink, member)]));
        let before = spread.has.clone();
        while let Some(ring) = spread.saving(&arcs) {
            spread.pass(&ring);
        }
        for topic in 0..topics {
            let row = topic * members..(topic + 1) * members;
            if spread.has[row.clone()] != before[row.clone()] {
                self.give_anew(topic, &newest, &mut spread.has[row]);
            }
        }
        dealt.iter_mut().for_each(Vec::clear);
        self.loads.fill(0);
        for (partition, (owner, claimant)) in self.owners.iter().zip(newest).enumerate() {
            match dealt.get_mut(*owner as usize) {
                Some(_) if *owner == claimant => self.loads[*owner as usize] += 1,
                Some(dealt) => dealt.push((partition as u32, claimant)),
                None => {}
            }
        }
    }

    /// Gives out a topic by how much of it each member is to have: first what it owns, then the rest in turn.
    fn give_anew(&mut self, topic: usize, newest: &[u32], wanted: &mut [i128]) {
        let range = self.bases[topic]..self.bases[topic + 1];
        let mut rest = Vec::new();
        for (owner, claimant) in self.owners[range.clone()].iter_mut().zip(&newest[range]) {
            match wanted.get_mut(*claimant as usize).filter(|wanted| **wanted > 0) {
                Some(wanted) => {
                    *wanted -= 1;
                    *owner = *claimant;
                }
                None => rest.push(owner),
            }
        }
        let mut turn = 0;
        for owner in rest {
            let hungry = |member: &usize| wanted[*member] > 0;
            let Some(member) = (turn..wanted.len()).find(hungry).or((0..turn).find(hungry)) else { break };
            wanted[member] -= 1;
            *owner = member as u32;
            turn = member + 1;
        }
    }
}
