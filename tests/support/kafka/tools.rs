//! Kafka's own command line tools on a cluster: the judges of what milena writes, and the writers of what it reads.
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;

use super::Cluster;

impl Cluster {
    /// Runs a tool with these arguments and this standard input, and returns what it printed. Fails the test if the tool fails.
    pub fn tool(&self, name: &str, args: &[&str], input: &[u8]) -> String {
        let run = || -> io::Result<String> {
            let mut java = self.release.java(&self.release.tool(name));
            java.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = java.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input)?;
            }
            let output = child.wait_with_output()?;
            let (said, cried) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            match output.status.success() {
                true => Ok(said.into_owned()),
                false => Err(io::Error::other(format!("{}\n{said}\n{cried}", output.status))),
            }
        };
        run().unwrap_or_else(|error| panic!("{name} {}: {error}", args.join(" ")))
    }

    /// Segment files of a partition on one node, oldest first.
    pub fn segments(&self, node: i32, topic: &str, partition: i32) -> Vec<PathBuf> {
        let folder = self.node(node).dir.join("data").join(format!("{topic}-{partition}"));
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut segments: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        segments.sort();
        segments
    }

    /// What Kafka's strictest reader says of a partition's segments: every batch and, deeply, every record.
    pub fn dump(&self, node: i32, topic: &str, partitions: &[i32]) -> String {
        let files = partitions.iter().flat_map(|partition| self.segments(node, topic, *partition));
        let files: Vec<_> = files.map(|path| path.display().to_string()).collect();
        self.tool(
            "DumpLogSegments",
            &["--deep-iteration", "--print-data-log", "--files", &files.join(",")],
            &[],
        )
    }
}
