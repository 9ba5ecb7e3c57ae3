//! Members join one after the other, and leave one after the other, the first one first. Who joins first leads.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::history::now;
use crate::partner::Partner;
use crate::scene::{Scene, TOPICS};
use crate::support::kafka::Partition;

/// What a change of the group cost.
struct Step {
    what: String,
    took: Duration,
    /// Partitions that went from one member to another.
    moved: usize,
    /// The fewest that had to.
    needed: usize,
}

/// How things were before a step.
struct Before {
    owners: BTreeMap<Partition, usize>,
    at: u64,
}

impl Before {
    fn of(scene: &Scene<'_>) -> Self {
        Self { owners: scene.owners(), at: now() }
    }

    /// Partitions that others have now, or nobody.
    fn moved(&self, after: &BTreeMap<Partition, usize>) -> usize {
        self.owners.iter().filter(|(partition, owner)| after.get(partition) != Some(owner)).count()
    }

    /// Members of milena that were told of partitions which they have kept all the time.
    fn disturbed(&self, scene: &Scene<'_>) -> Vec<String> {
        let after = scene.owners();
        let ours = |index: usize| {
            scene.members.iter().any(|member| member.index() == index && member.partner == Partner::Milena)
        };
        let is_kept = |partition: &Partition, owner: usize| {
            [&self.owners, &after].iter().all(|owners| owners.get(partition) == Some(&owner))
        };
        let told = scene.history().lock();
        let lines = told.lines.iter().filter(|line| line.at > self.at && ours(line.member));
        let disturbing = lines.filter(|line| match &line.event {
            Event::Revoked(partitions) | Event::Lost(partitions) | Event::Assigned(partitions) => {
                partitions.iter().any(|partition| is_kept(partition, line.member))
            }
            _ => false,
        });
        disturbing.map(|line| format!("disturbed in what it keeps: {line:?}")).collect()
    }
}

/// Carries it out, and compares the history with all promises. Members without a runtime here are left out. Panics with all that was
/// wrong.
pub(crate) fn take_turns(mut scene: Scene<'_>, order: &[Partner]) {
    let (begun, manner) = (Instant::now(), scene.manner());
    let (mut steps, mut wrong) = (Vec::new(), Vec::new());
    let all: i32 = TOPICS.iter().map(|(_, count)| count).sum();
    for partner in order {
        let before = Before::of(&scene);
        if scene.join(*partner, Duration::ZERO) {
            let what = format!("{partner:?} joins");
            let took = scene.settle(&what);
            let needed = if before.owners.is_empty() { 0 } else { all as usize / scene.members.len() };
            steps.push(Step { what, took, moved: before.moved(&scene.owners()), needed });
            wrong.extend(before.disturbed(&scene).into_iter().filter(|_| manner.is_cooperative()));
        }
    }
    // When the last of ours has left, the others are left to themselves: 1 of 92 such groups never settled.
    let ours = |scene: &Scene<'_>| scene.members.iter().any(|member| member.partner == Partner::Milena);
    while scene.members.len() > 1 && (ours(&scene) || !order.contains(&Partner::Milena)) {
        let before = Before::of(&scene);
        let needed = scene.owned(&scene.members[0]).len();
        let what = format!("{:?} leaves", scene.leave(0).partner);
        let took = scene.settle(&what);
        steps.push(Step { what, took, moved: before.moved(&scene.owners()), needed });
        wrong.extend(before.disturbed(&scene).into_iter().filter(|_| manner.is_cooperative()));
    }
    let outcome = scene.end();
    outcome.assert_good(0);
    // A leader of ours moves as few as can be. While others lead, that is theirs to answer for; and franz-go's eager members claim nothing.
    let leads = order.first() == Some(&Partner::Milena);
    let alone = order.iter().all(|partner| *partner == Partner::Milena);
    if leads && manner.assignor == "cooperative-sticky" || alone && manner.assignor == "sticky" {
        let joins = steps.iter().filter(|step| step.what.ends_with("joins"));
        for Step { what, moved, needed, .. } in joins.filter(|step| step.moved != step.needed) {
            wrong.push(format!("{what}: {moved} partitions moved, and {needed} suffice"));
        }
    }
    let steps: Vec<_> = steps
        .iter()
        .map(|Step { what, took, moved, needed }| {
            format!("{what} {moved}/{needed} in {} ms", took.as_millis())
        })
        .collect();
    println!("{manner:?}, {order:?} in {:.1} s: {}", begun.elapsed().as_secs_f64(), steps.join(", "));
    outcome.print();
    let again = outcome.verdict.again_after_ours;
    if again > 0 {
        wrong.push(format!(
            "{again} records were read again after a member of ours had given them up in good order"
        ));
    }
    outcome.assert_none(&wrong);
}
