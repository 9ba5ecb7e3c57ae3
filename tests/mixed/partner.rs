//! Who can be a member: milena and other people's clients, each with an environment of its own under cargo's target folder, made
//! at the first use from what stands in tests/partners.
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::Manner;
use crate::support::kafka::Cluster;
use crate::support::program::{Program, folder, made, program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partner {
    Milena,
    Java,
    Librdkafka,
    FranzGo,
    KafkaPython,
}

/// The test that is a member of its own, started as a process.
const MILENA: [&str; 4] =
    ["--exact", "milena::is_a_member_when_started_as_a_process", "--ignored", "--nocapture"];

impl Partner {
    /// Whether it has this protocol and this assignor.
    pub(crate) fn knows(self, manner: Manner) -> bool {
        match self {
            Self::Milena => manner.classic,
            Self::Java => true,
            Self::Librdkafka => manner.assignor != "sticky",
            // Its server-side assignors are chosen by its own names.
            Self::FranzGo => true,
            Self::KafkaPython => manner.classic,
        }
    }

    /// Starts as this partner's member, its arguments still to come. None, and a word on stderr, if what it runs with is not here, or
    /// could not be brought and this is not CI.
    pub(crate) fn program(self, kafka: &Cluster) -> Option<Program> {
        let runtime = match self {
            Self::Milena => {
                let own = std::env::current_exe().expect("the path of this test");
                return Some((own, MILENA.map(String::from).into()));
            }
            Self::Java => ["javac", "-version"],
            Self::FranzGo => ["go", "version"],
            Self::Librdkafka | Self::KafkaPython => ["python3", "--version"],
        };
        let name = match self {
            Self::Java => format!("Java of Kafka {}", kafka.release().version),
            _ => format!("{self:?}"),
        };
        program(&name, runtime, || self.install(kafka))
    }

    fn install(self, kafka: &Cluster) -> io::Result<Program> {
        match self {
            Self::Milena => Err(io::ErrorKind::InvalidInput.into()),
            Self::Java => {
                let source = folder("java").join("Member.java");
                let classes = made(&[&source], &kafka.release().version, |into| {
                    let mut javac = Command::new("javac");
                    javac.arg("-cp").arg(kafka.release().class_path()).arg("-d").arg(into).arg(&source);
                    Ok(javac)
                })?;
                let mut args = kafka.release().java_args("Member");
                let path = args.iter().position(|arg| arg == "-cp").expect("a class path") + 1;
                args[path] = format!("{}:{}", classes.display(), args[path]);
                Ok(("java".into(), args))
            }
            Self::FranzGo => {
                let source = folder("franz-go");
                let files = ["main.go", "go.mod", "go.sum"].map(|name| source.join(name));
                let built = made(&files.each_ref().map(PathBuf::as_path), "", |into| {
                    let mut go = Command::new("go");
                    go.env("CGO_ENABLED", "0")
                        .env("GOTOOLCHAIN", "local")
                        .env("GOFLAGS", "-mod=readonly -buildvcs=false");
                    go.args(["build", "-o"]).arg(into.join("member")).arg(".").current_dir(&source);
                    Ok(go)
                })?;
                Ok((built.join("member"), vec![]))
            }
            Self::Librdkafka => python(&folder("librdkafka")),
            Self::KafkaPython => python(&folder("kafka-python")),
        }
    }
}

/// What the requirements name goes into a folder of its own, which the interpreter looks into first.
fn python(folder: &Path) -> io::Result<Program> {
    let requirements = folder.join("requirements.txt");
    let packages = made(&[&requirements], "", |into| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        pip.arg(into).arg("-r").arg(&requirements);
        Ok(pip)
    })?;
    let run = format!("PYTHONPATH={}", packages.display());
    let script = folder.join("member.py").display().to_string();
    Ok(("env".into(), vec![run, "python3".into(), "-u".into(), script]))
}
