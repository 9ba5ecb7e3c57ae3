//! Other people's clients as programs, each with an environment of its own under cargo's target folder, made at the first use from
//! what stands in tests/partners.
use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::kafka::target_dir;

/// A program and its first arguments.
pub type Program = (PathBuf, Vec<String>);

/// The program that `install` makes, once for each name. None, and a word on stderr, if its runtime is not here, or it could not be
/// made and this is not CI.
pub fn program(
    name: &str,
    runtime: [&str; 2],
    install: impl FnOnce() -> io::Result<Program>,
) -> Option<Program> {
    static PROGRAMS: Mutex<Option<HashMap<String, Option<Program>>>> = Mutex::new(None);
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    let programs = programs.get_or_insert_default();
    let program = programs.entry(name.to_owned()).or_insert_with(|| prepare(name, runtime, install));
    if program.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(io::stderr(), "{test}: skipped: no {name}");
    }
    program.clone()
}

fn prepare(
    name: &str,
    [runtime, version]: [&str; 2],
    install: impl FnOnce() -> io::Result<Program>,
) -> Option<Program> {
    let quiet = Command::new(runtime).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !quiet.is_ok_and(|status| status.success()) {
        let _ = writeln!(io::stderr(), "no {runtime}: {name} takes part in no test");
        return None;
    }
    match install() {
        Ok(program) => Some(program),
        Err(error) => {
            let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            assert!(!is_ci, "{name} could not be made ready, and CI must not skip: {error}");
            let _ = writeln!(io::stderr(), "{name} could not be made ready: {error}");
            None
        }
    }
}

/// A folder of tests/partners, from wherever in the workspace this is compiled.
pub fn folder(name: &str) -> PathBuf {
    let mut places =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|place| place.join("tests/partners"));
    places.find(|place| place.is_dir()).expect("tests/partners").join(name)
}

/// The folder that this command fills, named after what it is made from. It is made once, and appears whole or not at all.
pub fn made(
    sources: &[&Path],
    release: &str,
    command: impl FnOnce(&Path) -> io::Result<Command>,
) -> io::Result<PathBuf> {
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
    let made = command(&part).and_then(|mut command| run(&mut command));
    if let Err(error) = made {
        fs::remove_dir_all(&part)?;
        return Err(error);
    }
    // Another process may have been quicker; what it made is as good.
    fs::rename(&part, &folder).or_else(|error| {
        fs::remove_dir_all(&part)?;
        if folder.is_dir() { Ok(()) } else { Err(error) }
    })?;
    Ok(folder)
}

/// Runs a command to its end; what it said is the error if it fails.
pub fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Err(io::Error::other(said.concat()))
}
