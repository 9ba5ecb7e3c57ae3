//! `milena topics`: list, create, describe and delete.
use crate::options::Connection;
use crate::outcome::{Interrupt, Outcome};
use clap::Subcommand;
use milena::{Client, NewTopic, TopicDescription};
use std::io::{self, Write};

/// Options of `milena topics`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the names of all topics
    List {
        #[command(flatten)]
        connection: Connection,
        /// Kafka's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Create topics
    Create {
        #[command(flatten)]
        connection: Connection,
        /// A topic; may be repeated
        #[arg(short, long = "topic", value_name = "TOPIC", required = true)]
        topics: Vec<String>,
        /// How many partitions [default: as the cluster is set up]
        #[arg(short, long, default_value_t = -1, hide_default_value = true)]
        partitions: i32,
        /// How many nodes hold each partition [default: as the cluster is set up]
        #[arg(short, long, visible_alias = "replication-factor", default_value_t = -1, hide_default_value = true)]
        replication: i16,
        /// An option of the topic by Kafka's name; may be repeated
        #[arg(short, long = "config", value_name = "OPTION=VALUE", value_parser = crate::options::option)]
        configs: Vec<(String, String)>,
    },
    /// Print partitions, leaders, replicas and options
    Describe {
        #[command(flatten)]
        connection: Connection,
        /// A topic [default: all but Kafka's own]; may be repeated
        #[arg(short, long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
    },
    /// Delete topics with all their records
    Delete {
        #[command(flatten)]
        connection: Connection,
        /// A topic; may be repeated
        #[arg(short, long = "topic", value_name = "TOPIC", required = true)]
        topics: Vec<String>,
    },
}

pub(crate) async fn run(args: Args, interrupt: Interrupt) -> Outcome {
    interrupt.or(execute(args.command)).await
}

async fn execute(command: Command) -> Outcome {
    match command {
        Command::List { connection, internal } => {
            let topics = connection.client().await?.admin().list_topics().await?;
            let mut out = String::new();
            for topic in topics.iter().filter(|topic| internal || !topic.internal) {
                out += &format!("{}\n", topic.name);
            }
            Ok(io::stdout().write_all(out.as_bytes())?)
        }
        Command::Create { connection, topics, partitions, replication, configs } => {
            let new = topics.iter().map(|name| {
                let new = NewTopic::new(name, partitions, replication);
                configs.iter().fold(new, |new, (key, value)| new.config(key, value))
            });
            connection.client().await?.admin().create_topics(new.collect::<Vec<_>>()).await?;
            connection.tell(|| format!("created {}", topics.join(", ")));
            Ok(())
        }
        Command::Describe { connection, topics } => {
            let client = connection.client().await?;
            let descriptions = if topics.is_empty() {
                let mut all = client.admin().list_topics().await?;
                all.retain(|topic| !topic.internal);
                all
            } else {
                client.admin().describe_topics(&topics).await?
            };
            for topic in &descriptions {
                let text = describe(&client, topic).await?;
                io::stdout().write_all(text.as_bytes())?;
            }
            Ok(())
        }
        Command::Delete { connection, topics } => {
            connection.client().await?.admin().delete_topics(&topics).await?;
            connection.tell(|| format!("deleted {}", topics.join(", ")));
            Ok(())
        }
    }
}

async fn describe(client: &Client, topic: &TopicDescription) -> Outcome<String> {
    let mut text = format!("{} partitions={} id={}\n", topic.name, topic.partitions.len(), topic.id);
    for config in client.admin().describe_configs(&topic.name).await? {
        if let Some(value) = config.value.filter(|_| config.is_own) {
            text += &format!("  config {}={value}\n", config.name);
        }
    }
    let list = |nodes: &[i32]| nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    for partition in &topic.partitions {
        let leader = partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        let (replicas, in_sync) = (list(&partition.replicas), list(&partition.in_sync));
        text += &format!(
            "  partition {} leader={leader} replicas={replicas} in-sync={in_sync}\n",
            partition.partition
        );
    }
    Ok(text)
}
