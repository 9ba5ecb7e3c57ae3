//! `milena assign`: who would read what in a group, without any cluster.
use crate::lines::{self, Lines};
use crate::outcome::{Failure, Interrupt, Outcome};
use milena::assignor::{
    Assignor, CooperativeStickyAssignor, Group, GroupAssignment, GroupBuilder, Partitions, RangeAssignor,
    RoundRobinAssignor, StickyAssignor,
};
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::time::Instant;

/// What a line of the input and of the output is.
const LINES: &str = r#"Each line of standard input is a group:
  {"id":1,"topics":{"t":6},"members":[{"id":"m","topics":["t"],"owned":[["t",0]],"generation":5,"rack":null,"instance":null}],
   "racks":{"t":[["r1","r2"],["r2"]]}}
with the number of partitions of each topic, what members claim to own and of which generation, and the racks of each partition's replicas.
Only topics, members and their ids and topics are needed. Each line of standard output is its assignment:
  {"id":1,"assignment":{"m":[["t",0]]},"ns":850}
where ns is the least time that the assignor took for the group in memory; or {"id":1,"error":".."}, and the command ends with an error."#;

/// Options of `milena assign`.
#[derive(clap::Args)]
#[command(after_help = LINES)]
pub(crate) struct Args {
    /// The assignor
    #[arg(short, long, value_enum)]
    strategy: Strategy,
    /// Prints what one cooperative round hands out: without what other members have to give up first
    #[arg(long)]
    round: bool,
    /// Calls the assignor so many times and prints the times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: Option<u32>,
    /// Sticky ones avoid racks without a replica before they avoid moves, as Java does
    #[arg(long)]
    racks_before_moves: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Strategy {
    Range,
    #[value(name = "roundrobin")]
    RoundRobin,
    Sticky,
    CooperativeSticky,
}

pub(crate) async fn run(args: Args, mut interrupt: Interrupt) -> Outcome {
    let mut input = Lines::read(io::stdin())?;
    let (mut number, mut wrong) = (0, None);
    loop {
        let block = tokio::select! {
            () = interrupt.wait() => {
                return Err(Failure::Interrupted(format!("{number} groups were assigned")));
            }
            block = input.next() => block?,
        };
        let Some(block) = block else { break };
        let mut out = Vec::new();
        for line in lines::split(&block).filter(|line| !line.trim_ascii().is_empty()) {
            number += 1;
            if let Err(reason) = args.answer(line, &mut out)? {
                wrong = wrong.or(Some(format!("group {number}: {reason}")));
            }
        }
        io::stdout().write_all(&out)?;
    }
    wrong.map_or(Ok(()), |reason| Err(Failure::Failed(reason)))
}

impl Args {
    /// Writes a line for a group, and tells what is wrong with it.
    fn answer(&self, line: &[u8], out: &mut Vec<u8>) -> io::Result<Result<(), String>> {
        let described: Result<Value, String> =
            serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"));
        let id = described.as_ref().ok().and_then(|group| group.get("id")).cloned().unwrap_or(Value::Null);
        write!(out, r#"{{"id":{id}"#)?;
        let group = match described.and_then(|described| self.group(&described)) {
            Ok(group) => group,
            Err(reason) => {
                writeln!(out, r#","error":{}}}"#, Value::from(reason.as_str()))?;
                return Ok(Err(reason));
            }
        };
        let (assignment, times) = self.assign(&group);
        write!(out, r#","assignment":{{"#)?;
        for (at, member) in group.members().iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(out, "{comma}{}:", Value::from(member.member_id.as_str()))?;
            write_partitions(out, &group, assignment.partitions(at))?;
        }
        write!(out, r#"}},"ns":{}"#, times.iter().min().copied().unwrap_or_default())?;
        if self.repeat.is_some() {
            write!(out, r#","times":{}"#, Value::from(times))?;
        }
        writeln!(out, "}}")?;
        Ok(Ok(()))
    }

    fn assignor(&self) -> Box<dyn Assignor> {
        let (mut sticky, mut cooperative) = (StickyAssignor::default(), CooperativeStickyAssignor::default());
        if self.racks_before_moves {
            (sticky, cooperative) = (sticky.racks_before_moves(), cooperative.racks_before_moves());
        }
        match self.strategy {
            Strategy::Range => Box::new(RangeAssignor),
            Strategy::RoundRobin => Box::new(RoundRobinAssignor),
            Strategy::Sticky => Box::new(sticky),
            Strategy::CooperativeSticky => Box::new(cooperative),
        }
    }

    /// Assigns a group as often as wanted, with the nanoseconds of each time.
    fn assign(&self, group: &Group) -> (GroupAssignment, Vec<u64>) {
        let mut cooperative = CooperativeStickyAssignor::default();
        if self.racks_before_moves {
            cooperative = cooperative.racks_before_moves();
        }
        let assignor = self.assignor();
        let once = || match (self.strategy, self.round) {
            (Strategy::CooperativeSticky, false) => cooperative.plan(group),
            (Strategy::CooperativeSticky, true) => cooperative.assign(group),
            (_, round) => {
                let mut assignment = assignor.assign(group);
                if round {
                    group.withhold(&mut assignment);
                }
                assignment
            }
        };
        let mut times = Vec::new();
        loop {
            let start = Instant::now();
            let assignment = once();
            times.push(start.elapsed().as_nanos() as u64);
            if times.len() >= self.repeat.unwrap_or(1) as usize {
                return (assignment, times);
            }
        }
    }

    /// The group as its leader would see it: members send what their assignor has them send.
    fn group(&self, described: &Value) -> Result<Group, String> {
        let mut group = Group::builder();
        for (name, partitions) in field(described, "topics", "an object", Value::as_object)? {
            let partitions =
                number(partitions).ok_or(format!("topic {name}: a number of partitions expected"))?;
            group.topic(name, partitions);
        }
        for (name, of_partitions) in described.get("racks").and_then(Value::as_object).into_iter().flatten() {
            let wrong = || format!("racks of topic {name}: a list of racks for each partition expected");
            let partitions =
                described.pointer(&format!("/topics/{}", name.replace('~', "~0").replace('/', "~1")));
            let mut topic = group.topic(name, partitions.and_then(number).unwrap_or(0));
            for (partition, racks) in of_partitions.as_array().ok_or_else(wrong)?.iter().enumerate() {
                let racks = racks.as_array().ok_or_else(wrong)?;
                let racks = racks.iter().map(|rack| rack.as_str().ok_or_else(wrong));
                topic = topic.racks(partition, racks.collect::<Result<Vec<_>, _>>()?);
            }
        }
        let assignor = self.assignor();
        for member in field(described, "members", "a list", Value::as_array)? {
            describe(&mut group, member, &*assignor)?;
        }
        group.build().map_err(|error| error.to_string())
    }
}

fn describe(group: &mut GroupBuilder, described: &Value, assignor: &dyn Assignor) -> Result<(), String> {
    const FIELDS: [&str; 6] = ["id", "topics", "owned", "generation", "rack", "instance"];
    let id = field(described, "id", "a string", Value::as_str)?;
    let wrong = |what: &str| format!("member {id}: {what}");
    let unknown = described.as_object().into_iter().flat_map(Map::keys);
    if let Some(unknown) = unknown.into_iter().find(|field| !FIELDS.contains(&&***field)) {
        return Err(wrong(&format!("unknown field {unknown}")));
    }
    let mut member = group.member(id);
    let mut topics = Vec::new();
    for topic in field(described, "topics", "a list of topics", Value::as_array).map_err(|e| wrong(&e))? {
        topics.push(topic.as_str().ok_or_else(|| wrong("a list of topics expected"))?);
    }
    for topic in &topics {
        member = member.subscribe(topic);
    }
    let given = |name: &str| described.get(name).filter(|value| !value.is_null());
    let mut owned: Vec<(&str, Vec<i32>)> = Vec::new();
    if let Some(list) = given("owned") {
        let pairs = || wrong("field owned: a list of [topic, partition] expected");
        for pair in list.as_array().ok_or_else(pairs)? {
            let [topic, partition] = pair.as_array().map_or(&[][..], |pair| pair) else {
                return Err(pairs());
            };
            let (topic, partition) = topic.as_str().zip(number(partition)).ok_or_else(pairs)?;
            match owned.last_mut() {
                Some((last, partitions)) if *last == topic => partitions.push(partition),
                _ => owned.push((topic, vec![partition])),
            }
        }
    }
    let generation = match given("generation") {
        None => None,
        Some(generation) => {
            Some(number(generation).ok_or_else(|| wrong("field generation: a number expected"))?)
        }
    };
    let text = |name: &str| match given(name) {
        None => Ok(None),
        Some(value) => {
            value.as_str().map(Some).ok_or_else(|| wrong(&format!("field {name}: a string expected")))
        }
    };
    let claims: Vec<(&str, &[i32])> = owned.iter().map(|(topic, numbers)| (*topic, &numbers[..])).collect();
    if let Some(user_data) = assignor.user_data(&topics, &claims, generation) {
        member = member.user_data(user_data);
    }
    for (topic, partitions) in &owned {
        member = member.own(topic, partitions.iter().copied());
    }
    member = member.generation(generation);
    if let Some(rack) = text("rack")? {
        member = member.rack(rack);
    }
    if let Some(instance) = text("instance")? {
        member.instance_id(instance);
    }
    Ok(())
}

fn field<'a, T>(
    of: &'a Value,
    name: &str,
    wanted: &str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<T, String> {
    of.get(name).and_then(read).ok_or_else(|| format!("field {name}: {wanted} expected"))
}

fn number(value: &Value) -> Option<i32> {
    value.as_i64()?.try_into().ok()
}

fn write_partitions(out: &mut Vec<u8>, group: &Group, partitions: &Partitions) -> io::Result<()> {
    let mut comma = "[";
    for (topic, numbers) in partitions.iter() {
        let name = Value::from(&*group.topics()[topic].name).to_string();
        for number in numbers {
            write!(out, "{comma}[{name},{number}]")?;
            comma = ",";
        }
    }
    write!(out, "{}", if comma == "[" { "[]" } else { "]" })
}
