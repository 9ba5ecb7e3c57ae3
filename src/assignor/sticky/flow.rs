//! Flow through a network, as much as there is room for, at the least cost.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const END: u32 = u32::MAX;

/// Room of an edge that nothing bounds.
pub(super) const ANY: i32 = i32::MAX;

/// Nodes and directed edges; the edge back, along which flow is taken away again, has the number of its edge with the last bit flipped.
#[derive(Debug)]
pub(super) struct Network {
    first: Vec<u32>,
    edges: Vec<Edge>,
    /// Keeps what an edge costs in all, `cost + potential of its start - potential of its end`, from falling below zero.
    pub(super) potential: Vec<i64>,
    depth: Vec<u32>,
    at: Vec<u32>,
}

#[derive(Debug)]
struct Edge {
    to: u32,
    next: u32,
    room: i32,
    cost: i64,
}

impl Network {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            first: vec![END; nodes],
            edges: Vec::new(),
            potential: vec![0; nodes],
            depth: vec![END; nodes],
            at: vec![END; nodes],
        }
    }

    /// An edge with room for `room` more and `used` in it already. Returns its number.
    pub(super) fn edge(&mut self, from: usize, to: usize, room: i32, used: i32, cost: i64) -> usize {
        let number = self.edges.len();
        for (from, to, room, cost) in [(from, to, room, cost), (to, from, used, -cost)] {
            self.edges.push(Edge { to: to as u32, next: self.first[from], room, cost });
            self.first[from] = self.edges.len() as u32 - 1;
        }
        number
    }

    /// What flows through an edge.
    pub(super) fn used(&self, edge: usize) -> i32 {
        self.edges[edge ^ 1].room
    }

    pub(super) fn widen(&mut self, edge: usize, room: i32) {
        self.edges[edge].room += room;
    }

    /// Whether more could flow to a node than does, after [`fill`](Self::fill).
    pub(super) fn reached(&self, node: usize) -> bool {
        self.depth[node] != END
    }

    /// Sends as much as there is room for, whatever it costs. Returns how much that is.
    pub(super) fn fill(&mut self, source: usize, sink: usize) -> i64 {
        let mut sent = 0;
        while self.layer(source, sink) {
            sent += self.block(source, sink);
        }
        sent
    }

    /// Sends as much as there is room for along the cheapest ways: no other flow as large is cheaper.
    ///
    /// The flow that is there already must be the cheapest of its kind, and `potential` must show it.
    pub(super) fn fill_cheapest(&mut self, source: usize, sink: usize) {
        // Within one distance all cheapest ways are filled at once; there are few distances.
        while self.measure(source, sink) {
            self.fill(source, sink);
        }
    }

    /// Dijkstra: moves the potentials so that all cheapest ways to the sink cost nothing. False if there is none.
    fn measure(&mut self, source: usize, sink: usize) -> bool {
        let mut distance = vec![i64::MAX; self.first.len()];
        let mut heap = BinaryHeap::from([Reverse((0, source as u32))]);
        distance[source] = 0;
        while let Some(Reverse((so_far, node))) = heap.pop() {
            if node as usize == sink {
                break;
            }
            if so_far > distance[node as usize] {
                continue;
            }
            let mut next = self.first[node as usize];
            while let Some(edge) = self.edges.get(next as usize) {
                let (to, cost) = (edge.to as usize, self.reduced(node as usize, edge));
                if edge.room > 0 && so_far + cost < distance[to] {
                    distance[to] = so_far + cost;
                    heap.push(Reverse((distance[to], edge.to)));
                }
                next = edge.next;
            }
        }
        let far = distance[sink];
        if far == i64::MAX {
            return false;
        }
        for (potential, distance) in self.potential.iter_mut().zip(distance) {
            *potential += distance.min(far);
        }
        true
    }

    #[inline]
    fn reduced(&self, from: usize, edge: &Edge) -> i64 {
        edge.cost + self.potential[from] - self.potential[edge.to as usize]
    }

    /// The depth of each node that can be reached for nothing, as far as the sink is away. False if the sink is not among them.
    fn layer(&mut self, source: usize, sink: usize) -> bool {
        self.depth.fill(END);
        self.depth[source] = 0;
        let mut queue = VecDeque::from([source as u32]);
        while let Some(node) = queue.pop_front() {
            if self.depth[sink] != END && self.depth[node as usize] + 1 >= self.depth[sink] {
                break;
            }
            let mut next = self.first[node as usize];
            while let Some(edge) = self.edges.get(next as usize) {
                let to = edge.to as usize;
                if edge.room > 0 && self.depth[to] == END && self.reduced(node as usize, edge) == 0 {
                    self.depth[to] = self.depth[node as usize] + 1;
                    queue.push_back(edge.to);
                }
                next = edge.next;
            }
        }
        self.depth[sink] != END
    }

    /// Fills all ways of the least depth.
    fn block(&mut self, source: usize, sink: usize) -> i64 {
        self.at.copy_from_slice(&self.first);
        let (mut path, mut sent): (Vec<u32>, i64) = (Vec::new(), 0);
        loop {
            let node = path.last().map_or(source, |edge| self.edges[*edge as usize].to as usize);
            if node == sink {
                let room = path.iter().map(|edge| self.edges[*edge as usize].room).min().unwrap_or(0);
                for edge in &path {
                    self.edges[*edge as usize].room -= room;
                    let back = &mut self.edges[*edge as usize ^ 1].room;
                    *back = back.saturating_add(room);
                }
                sent += i64::from(room);
                let full = path.iter().position(|edge| self.edges[*edge as usize].room == 0);
                path.truncate(full.unwrap_or(0));
                continue;
            }
            let mut next = self.at[node];
            while let Some(edge) = self.edges.get(next as usize) {
                let deeper = self.depth[edge.to as usize] == self.depth[node] + 1;
                if edge.room > 0 && deeper && self.reduced(node, edge) == 0 {
                    break;
                }
                next = edge.next;
            }
            self.at[node] = next;
            if next != END {
                path.push(next);
                continue;
            }
            // A dead end: nobody comes here again.
            self.depth[node] = END - 1;
            if path.pop().is_none() {
                return sent;
            }
        }
    }
}
