//! `milena groups`: which there are, who is in them, how far they are behind.
use crate::consume::start;
use crate::options::{Connection, Format};
use crate::outcome::{Interrupt, Outcome};
use clap::Subcommand;
use milena::{Client, CommittedOffset, IsolationLevel, Offset, TopicPartition};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Options of `milena groups`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print id, state and type of all groups
    List {
        #[command(flatten)]
        connection: Connection,
        /// What a line is
        #[arg(short, long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the members of a group and what each reads
    Describe {
        #[command(flatten)]
        one: One,
    },
    /// Print where a group stands in each partition, and how many offsets that is behind the end
    Lag {
        #[command(flatten)]
        one: One,
    },
    /// Change where a group stands; it must not have members
    Offsets {
        #[command(subcommand)]
        command: Offsets,
    },
    /// Delete groups, with what they have committed; they must not have members
    Delete {
        #[command(flatten)]
        connection: Connection,
        /// A group; may be repeated
        #[arg(short, long = "group", value_name = "GROUP", required = true)]
        groups: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Offsets {
    /// Have a group go on elsewhere
    Reset {
        #[command(flatten)]
        place: Place,
        /// Where: an offset, beginning, end, or @TIMESTAMP in milliseconds since 1970
        #[arg(long, value_name = "PLACE", value_parser = start)]
        to: Offset,
        /// Prints what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Have a group begin anew, as its members' auto.offset.reset says
    Delete {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
struct One {
    #[command(flatten)]
    connection: Connection,
    /// The group
    #[arg(short, long, value_name = "GROUP")]
    group: String,
    /// What a line is
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(clap::Args)]
struct Place {
    #[command(flatten)]
    one: One,
    /// A topic [default: all in which the group has committed something]; may be repeated
    #[arg(short, long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// A partition of each topic [default: all]; may be repeated
    #[arg(short, long = "partition", value_name = "NUMBER", value_delimiter = ',')]
    partitions: Vec<i32>,
}

pub(crate) async fn run(args: Args, interrupt: Interrupt) -> Outcome {
    interrupt.or(execute(args.command)).await
}

async fn execute(command: Command) -> Outcome {
    match command {
        Command::List { connection, format } => {
            let groups = connection.client().await?.admin().list_groups().await?;
            let lines = groups.iter().map(|group| match format {
                Format::Text => [&*group.id, &group.state, &group.group_type].join(" ").trim_end().to_owned(),
                Format::Json => json!({ "group": group.id, "state": group.state, "type": group.group_type,
                    "protocol_type": group.protocol_type })
                .to_string(),
            });
            print(lines)
        }
        Command::Describe { one } => describe(&one).await,
        Command::Lag { one } => lag(&one).await,
        Command::Offsets { command: Offsets::Reset { place, to, dry_run } } => {
            reset(&place, to, dry_run).await
        }
        Command::Offsets { command: Offsets::Delete { place } } => {
            let client = place.one.connection.client().await?;
            let partitions = place.partitions(&client).await?;
            client.admin().delete_group_offsets(&place.one.group, &partitions).await?;
            place.one.connection.tell(|| format!("deleted the offsets of {} partitions", partitions.len()));
            Ok(())
        }
        Command::Delete { connection, groups } => {
            connection.client().await?.admin().delete_groups(&groups).await?;
            connection.tell(|| format!("deleted {}", groups.join(", ")));
            Ok(())
        }
    }
}

fn print(lines: impl Iterator<Item = String>) -> Outcome {
    let text: String = lines.map(|line| line + "\n").collect();
    Ok(io::stdout().write_all(text.as_bytes())?)
}

async fn describe(one: &One) -> Outcome {
    let group = one.connection.client().await?.admin().describe_group(&one.group).await?;
    if let Format::Json = one.format {
        let members = group.members.iter().map(|member| {
            let list = |partitions: &Vec<TopicPartition>| {
                partitions.iter().map(|of| json!([of.topic(), of.partition()])).collect::<Vec<_>>()
            };
            json!({ "member": member.id, "instance": member.instance_id, "client": member.client_id,
                "host": member.host, "assignment": list(&member.assignment),
                "target": member.target_assignment.as_ref().map(list) })
        });
        let line = json!({ "group": group.id, "state": group.state, "type": group.group_type,
            "assignor": group.assignor, "members": members.collect::<Vec<_>>() });
        return print([line.to_string()].into_iter());
    }
    let head = format!(
        "{} state={} type={} assignor={} members={}",
        group.id,
        group.state,
        group.group_type,
        group.assignor,
        group.members.len()
    );
    let members = group.members.iter().map(|member| {
        let instance = member.instance_id.as_ref().map(|id| format!(" instance={id}")).unwrap_or_default();
        let names = |partitions: &[TopicPartition]| {
            partitions.iter().map(TopicPartition::to_string).collect::<Vec<_>>().join(",")
        };
        let target = member.target_assignment.as_ref().filter(|target| **target != member.assignment);
        let target = target.map(|target| format!(" and will read {}", names(target))).unwrap_or_default();
        format!(
            "  member {} client={} host={}{instance} reads {}{target}",
            member.id,
            member.client_id,
            member.host,
            names(&member.assignment)
        )
    });
    print([head].into_iter().chain(members))
}

async fn lag(one: &One) -> Outcome {
    let client = one.connection.client().await?;
    let admin = client.admin();
    let offsets = admin.group_offsets(&one.group).await?;
    let group = match admin.describe_group(&one.group).await {
        Ok(group) => group.members,
        // Of a group that nobody is in there may be offsets all the same; without any there is nothing.
        Err(_) if !offsets.is_empty() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut readers: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
    for member in &group {
        readers.extend(member.assignment.iter().map(|partition| (partition, &*member.id)));
    }
    let mut partitions: Vec<TopicPartition> =
        offsets.keys().chain(readers.keys().copied()).cloned().collect();
    partitions.sort_unstable();
    partitions.dedup();
    let ends = ends(&client, &partitions).await?;
    let lines = partitions.iter().map(|partition| {
        let committed = offsets.get(partition).map(|committed| committed.offset);
        let end = ends.get(partition).copied();
        let lag = committed.zip(end).map(|(committed, end)| (end - committed).max(0));
        let reader = readers.get(partition).copied();
        if let Format::Json = one.format {
            return json!({ "topic": partition.topic(), "partition": partition.partition(), "committed": committed,
                "end": end, "lag": lag, "member": reader })
            .to_string();
        }
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (committed, end, lag) = (number(committed), number(end), number(lag));
        format!("{partition} committed={committed} end={end} lag={lag} member={}", reader.unwrap_or("-"))
    });
    print(lines)
}

async fn ends(client: &Client, partitions: &[TopicPartition]) -> Outcome<BTreeMap<TopicPartition, i64>> {
    let reader = client.consumer().isolation_level(IsolationLevel::ReadUncommitted).build().await?;
    Ok(reader.end_offsets(partitions).await?)
}

async fn reset(place: &Place, to: Offset, dry_run: bool) -> Outcome {
    let client = place.one.connection.client().await?;
    let partitions = place.partitions(&client).await?;
    let reader = client.consumer().build().await?;
    let (first, last) =
        (reader.beginning_offsets(&partitions).await?, reader.end_offsets(&partitions).await?);
    let times = match to {
        Offset::Timestamp(at) => {
            reader.offsets_for_times(partitions.iter().map(|partition| (partition, at))).await?
        }
        _ => BTreeMap::new(),
    };
    let mut places: BTreeMap<TopicPartition, CommittedOffset> = BTreeMap::new();
    for partition in &partitions {
        let missing = || format!("{partition}: its offsets are not known");
        let (first, last) = first.get(partition).zip(last.get(partition)).ok_or_else(missing)?;
        let offset = match to {
            Offset::At(offset) if (*first..=*last).contains(&offset) => offset,
            Offset::At(offset) => {
                return Err(format!("{partition} has offsets from {first} to {last}, but no {offset}").into());
            }
            Offset::Beginning => *first,
            Offset::Timestamp(_) => times.get(partition).copied().flatten().unwrap_or(*last),
            _ => *last,
        };
        places.insert(partition.clone(), offset.into());
    }
    if !dry_run {
        client.admin().alter_group_offsets(&place.one.group, places.clone()).await?;
    }
    print(places.iter().map(|(partition, committed)| {
        match place.one.format {
            Format::Text => format!("{partition} {}", committed.offset),
            Format::Json => json!({ "topic": partition.topic(), "partition": partition.partition(),
            "offset": committed.offset })
            .to_string(),
        }
    }))
}

impl Place {
    /// Those that were named, or all in which the group stands somewhere.
    async fn partitions(&self, client: &Client) -> Outcome<Vec<TopicPartition>> {
        let mut partitions: Vec<TopicPartition> = Vec::new();
        if self.topics.is_empty() {
            partitions.extend(client.admin().group_offsets(&self.one.group).await?.into_keys());
        } else {
            for topic in client.admin().describe_topics(&self.topics).await? {
                let numbers = topic.partitions.iter().map(|partition| partition.partition);
                partitions.extend(numbers.map(|number| TopicPartition::new(topic.name.clone(), number)));
            }
        }
        if let Some(missing) = self
            .partitions
            .iter()
            .find(|wanted| !partitions.iter().any(|there| there.partition() == **wanted))
        {
            return Err(format!("there is no partition {missing}").into());
        }
        partitions.retain(|there| self.partitions.is_empty() || self.partitions.contains(&there.partition()));
        if partitions.is_empty() {
            return Err(format!("the group {} has committed nothing: name a topic", self.one.group).into());
        }
        Ok(partitions)
    }
}
