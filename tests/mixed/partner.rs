//! Who can be a member: milena and other people's clients, each with an environment of its own under cargo's target folder, made
//! at the first use from what stands in tests/partners.
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::scene::Manner;
use crate::support::kafka::{Cluster, target_dir};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(crate) fn program(self, kafka: &Cluster) -> Option<(PathBuf, Vec<String>)> {
        type Program = Option<(PathBuf, Vec<String>)>;
        static PROGRAMS: Mutex<BTreeMap<(Partner, String), Program>> = Mutex::new(BTreeMap::new());
        let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self, kafka.release().version.clone());
        let program = programs.entry(key).or_insert_with(|| self.prepare(kafka));
        if program.is_none() {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(io::stderr(), "{test}: skipped: no {self:?}");
        }
        program.clone()
    }

    fn prepare(self, kafka: &Cluster) -> Option<(PathBuf, Vec<String>)> {
        let (runtime, version) = match self {
            Self::Milena => {
                let own = std::env::current_exe().expect("the path of this test");
                return Some((own, MILENA.map(String::from).into()));
            }
            Self::Java => ("javac", "-version"),
            Self::FranzGo => ("go", "version"),
            Self::Librdkafka | Self::KafkaPython => ("python3", "--version"),
        };
        let quiet = Command::new(runtime).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !quiet.is_ok_and(|status| status.success()) {
            let _ = writeln!(io::stderr(), "no {runtime}: {self:?} takes part in no test");
            return None;
        }
        match self.install(kafka) {
            Ok(program) => Some(program),
            Err(error) => {
                let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
                assert!(!is_ci, "{self:?} could not be made ready, and CI must not skip: {error}");
                let _ = writeln!(io::stderr(), "{self:?} could not be made ready: {error}");
                None
            }
        }
    }

    fn install(self, kafka: &Cluster) -> io::Result<(PathBuf, Vec<String>)> {
        let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/partners").join(name);
        match self {
            Self::Milena => Err(io::ErrorKind::InvalidInput.into()),
            Self::Java => {
                let source = folder("java").join("Member.java");
                let classes = made(&[&source], &kafka.release().version, |into| {
                    let mut javac = Command::new("javac");
                    javac.arg("-cp").arg(kafka.release().class_path()).arg("-d").arg(into).arg(&source);
                    javac
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
                    go
                })?;
                Ok((built.join("member"), vec![]))
            }
            Self::Librdkafka => python(&folder("librdkafka")),
            Self::KafkaPython => python(&folder("kafka-python")),
        }
    }
}

/// What the requirements name goes into a folder of its own, which the interpreter looks into first.
fn python(folder: &Path) -> io::Result<(PathBuf, Vec<String>)> {
    let requirements = folder.join("requirements.txt");
    let packages = made(&[&requirements], "", |into| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        pip.arg(into).arg("-r").arg(&requirements);
        pip
    })?;
    let run = format!("PYTHONPATH={}", packages.display());
    let script = folder.join("member.py").display().to_string();
    Ok(("env".into(), vec![run, "python3".into(), "-u".into(), script]))
}

/// The folder that this command fills, named after what it is made from. It is made once, and appears whole or not at all.
fn made(sources: &[&Path], release: &str, command: impl FnOnce(&Path) -> Command) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    release.hash(&mut hasher);
    for source in sources {
        fs::read(source)?.hash(&mut hasher);
        source.file_name().hash(&mut hasher);
    }
    let home = target_dir().join("partners");
    let folder = home.join(format!("{:016x}", hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    let part = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(&part)?;
    let output = command(&part).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        fs::remove_dir_all(&part)?;
        return Err(io::Error::other(said.concat()));
    }
    // Another process may have been quicker; what it made is as good.
    fs::rename(&part, &folder).or_else(|error| {
        fs::remove_dir_all(&part)?;
        if folder.is_dir() { Ok(()) } else { Err(error) }
    })?;
    Ok(folder)
}
