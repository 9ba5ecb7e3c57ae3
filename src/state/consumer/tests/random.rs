use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(i32, i64),
    Answer(prop::sample::Index),
    Fail(prop::sample::Index),
    Take,
    TakeAll,
    Pass(u64),
    Lead(i32, i32),
    Metadata,
    Pause(i32),
    Resume(i32),
    Seek(i32, prop::sample::Index),
    Remove(i32),
    Add(i32),
}

const PARTITIONS: i32 = 4;

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    prop_oneof![
        6 => (partition.clone(), 1i64..20).prop_map(|(partition, count)| Step::Append(partition, count)),
        12 => any::<prop::sample::Index>().prop_map(Step::Answer),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        6 => Just(Step::Take),
        2 => Just(Step::TakeAll),
        4 => (1u64..600).prop_map(Step::Pass),
        1 => (partition.clone(), 1i32..=3).prop_map(|(partition, node)| Step::Lead(partition, node)),
        2 => Just(Step::Metadata),
        1 => partition.clone().prop_map(Step::Pause),
        1 => partition.clone().prop_map(Step::Resume),
        1 => (partition.clone(), any::<prop::sample::Index>()).prop_map(|(partition, to)| Step::Seek(partition, to)),
        1 => partition.clone().prop_map(Step::Remove),
        1 => partition.prop_map(Step::Add),
    ]
}

struct Model {
    world: World,
    /// By partition: the offset that must come next, if it is read.
    expected: Vec<Option<i64>>,
    paused: Vec<bool>,
}

impl Model {
    fn take(&mut self) -> bool {
        let Some(next) = self.world.next() else { return false };
        let (partition, offsets, reset) = next.unwrap();
        assert!(reset.is_none() && !self.paused[partition as usize]);
        for offset in offsets {
            assert_eq!(self.expected[partition as usize], Some(offset), "partition {partition}");
            self.expected[partition as usize] = Some(offset + 1);
        }
        true
    }

    fn run(&mut self, step: &Step) {
        let world = &mut self.world;
        match step {
            Step::Append(partition, count) => world.nodes.append(*partition, *count),
            Step::Answer(which) if !world.requests.is_empty() => {
                world.answer_at(which.index(world.requests.len()))
            }
            Step::Fail(which) if !world.requests.is_empty() => {
                world.fail_at(which.index(world.requests.len()))
            }
            Step::Answer(_) | Step::Fail(_) => {}
            Step::Take => drop(self.take()),
            Step::TakeAll => while self.take() {},
            Step::Pass(millis) => world.pass(Duration::from_millis(*millis)),
            Step::Lead(partition, node) => world.nodes.lead(*partition, *node),
            Step::Metadata => world.metadata(),
            Step::Pause(partition) => self.paused[*partition as usize] = world.machine.pause(&tp(*partition)),
            Step::Resume(partition) => {
                world.machine.resume(&tp(*partition));
                self.paused[*partition as usize] = false;
            }
            Step::Seek(partition, to) => {
                let to = to.index(world.nodes.logs[*partition as usize].end as usize + 1) as i64;
                if world.machine.seek(&tp(*partition), Offset::At(to)) {
                    self.expected[*partition as usize] = Some(to);
                }
            }
            Step::Remove(partition) => {
                world.machine.remove(&tp(*partition));
                self.expected[*partition as usize] = None;
                self.paused[*partition as usize] = false;
            }
            Step::Add(partition) => {
                if world.machine.add(world.now, tp(*partition), None) {
                    self.expected[*partition as usize] = Some(0);
                }
            }
        }
        self.world.drain();
        let metrics = self.world.machine.metrics();
        let accounted = metrics.delivered_bytes
            + metrics.skipped_bytes
            + metrics.stale_bytes
            + metrics.cut_bytes
            + metrics.buffered_bytes;
        assert_eq!(metrics.fetched_bytes, accounted, "{metrics:?}");
    }

    /// Everything works from now on: all must come.
    fn settle(&mut self) {
        for partition in 0..PARTITIONS {
            self.run(&Step::Resume(partition));
        }
        for _ in 0..200 {
            self.run(&Step::Metadata);
            // In turn, so that an answer that brings nothing is not the only one that is given.
            for _ in 0..20 {
                if !self.world.requests.is_empty() {
                    self.world.answer_at(0);
                }
                while self.take() {}
                if self.world.requests.iter().all(|request| matches!(request.what, What::Fetch { .. }))
                    && self.done()
                {
                    return;
                }
            }
            self.run(&Step::Pass(300));
            while self.take() {}
        }
        panic!("not all records came: {:?}, {:?}", self.expected, self.world.machine);
    }

    fn done(&self) -> bool {
        let ends = self.world.nodes.logs.iter().map(|log| log.end);
        self.expected.iter().zip(ends).all(|(expected, end)| expected.is_none_or(|expected| expected == end))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_record_comes_once_and_in_order_whatever_happens(
        steps in proptest::collection::vec(step(), 0..200), prefetch in prop_oneof![Just(64usize << 10), Just(1 << 20)],
        partition_max_bytes in prop_oneof![Just(100), Just(1 << 20)],
    ) {
        let settings = Settings { prefetch, partition_max_bytes, ..Settings::default() };
        let world = World::new(3, PARTITIONS, settings);
        let all = PARTITIONS as usize;
        let mut model = Model { world, expected: vec![Some(0); all], paused: vec![false; all] };
        for step in &steps {
            model.run(step);
        }
        model.settle();
    }
}
