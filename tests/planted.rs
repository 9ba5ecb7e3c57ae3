//! Planted bugs: each patch in `testdata/planted/` breaks the client in a way that clients have been broken, and the simulation must find it
//! within the number of seeds that the patch names. A checker that catches nothing is none.
//!
//! All of them: `cargo test --test planted -- --ignored --nocapture`, some with `MILENA_PLANTED=name,name`. A plain `cargo test` tries one,
//! another one each day.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a copy of the library needs to be tested by itself.
const COPIED: &[&str] = &["Cargo.lock", "README.md", "benches", "src", "testdata/seeds.txt"];

/// What runs the seeds of producers and consumers by themselves, those of groups, and those of calls.
const ALONE: &str = "simulation::runner::whatever_goes_wrong_every_promise_is_kept";
const GROUPS: &str = "simulation::runner::whatever_happens_to_a_group_every_promise_is_kept";
const CALLS: &str =
    "request_reply::simulation::runner::whatever_befalls_a_caller_its_calls_end_as_the_log_says";

/// Seeds that must be without a finding before anything is planted.
const CONTROL: u64 = 40;

/// One bug: a patch with a few lines in front of it that say what it is and what has to see it.
struct Planted {
    name: String,
    path: PathBuf,
    what: String,
    caught_by: Vec<String>,
    within: u64,
    /// Which simulation has to see it.
    simulation: &'static str,
}

impl Planted {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{}: no line `{name}`", path.display())).trim().to_owned()
        };
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            what: field("what:"),
            caught_by: field("caught by:").split('|').map(str::to_owned).collect(),
            within: field("within:").parse().unwrap(),
            simulation: match text.lines().next() {
                Some("in: groups") => GROUPS,
                Some("in: calls") => CALLS,
                _ => ALONE,
            },
            path,
        }
    }

    /// Plants it and runs the simulation; the finding, with the number of seeds it took.
    fn try_out(&self, garden: &Garden) -> Result<(u64, String), String> {
        garden.patch(&self.path, false)?;
        let run = garden.simulate(self.within, self.simulation);
        garden.patch(&self.path, true)?;
        let (seed, finding) = run?.ok_or(format!("nothing found in {} seeds", self.within))?;
        let named = self.caught_by.iter().any(|name| finding.contains(&format!("{name}:")));
        match named {
            true => Ok((seed + 1, finding)),
            false => Err(format!("seed {seed} found something else than {:?}: {finding}", self.caught_by)),
        }
    }
}

/// A copy of the library in which bugs are planted.
struct Garden(PathBuf);

impl Garden {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let garden = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
        for name in COPIED {
            let _ = fs::remove_dir_all(garden.join(name));
            copy(&root.join(name), &garden.join(name));
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let members = ["members = [\"cli\", \"bench/peers\"]", "default-members = [\".\", \"cli\"]"];
        assert!(members.iter().all(|line| manifest.contains(line)), "the members of the workspace changed");
        let alone = manifest.replace(members[0], "members = []").replace(members[1], "");
        fs::write(garden.join("Cargo.toml"), alone).unwrap();
        Self(garden)
    }

    fn patch(&self, patch: &Path, back: bool) -> Result<(), String> {
        let mut command = Command::new("git");
        command.args(["apply", "--whitespace=nowarn"]).args(back.then_some("--reverse"));
        // A repository around it would make git look for the files from its own top.
        command.arg(patch).current_dir(&self.0).env("GIT_CEILING_DIRECTORIES", self.0.parent().unwrap());
        let output = command.output().map_err(|error| format!("git: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("the patch does not apply: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// The lowest seed with a finding, if there is one.
    fn simulate(&self, seeds: u64, simulation: &str) -> Result<Option<(u64, String)>, String> {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO"))
            .args(["test", "--offline", "--lib", "--", "--exact"])
            .arg(simulation)
            .current_dir(&self.0)
            // The dependencies are those of the library itself, and compiled already.
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap())
            .env("MILENA_SIMULATION_SEED", "0")
            .env("MILENA_SIMULATION_SEEDS", seeds.to_string())
            .env("CI", "true")
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        if status.success() {
            return Ok(None);
        }
        let line = stdout.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(": "));
        match line.and_then(|(seed, finding)| Some((seed.parse().ok()?, finding.to_owned()))) {
            Some(found) => Ok(Some(found)),
            None => Err(format!("the simulation did not run:\n{stdout}\n{stderr}")),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap().flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

fn all() -> Vec<Planted> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/planted");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(Planted::read).collect()
}

fn try_out(planted: &[Planted], control: bool) {
    let garden = Garden::new();
    if control {
        for simulation in [ALONE, GROUPS, CALLS] {
            let found = garden.simulate(CONTROL, simulation).unwrap();
            assert_eq!(found, None, "there is a finding without a planted bug");
        }
    }
    let mut escaped = Vec::new();
    for bug in planted {
        match bug.try_out(&garden) {
            Ok((seeds, finding)) => {
                let finding: String = finding.chars().take(90).collect();
                println!("{:32} {seeds:5} seeds  {finding}", bug.name);
            }
            Err(why) => {
                println!("{:32} ESCAPED: {}", bug.name, why.lines().next().unwrap_or_default());
                escaped.push(format!("{} ({}): {why}", bug.name, bug.what));
            }
        }
    }
    assert!(escaped.is_empty(), "{} of {} escaped:\n{}", escaped.len(), planted.len(), escaped.join("\n"));
}

#[test]
#[ignore = "minutes: compiles the library once for each bug"]
fn every_planted_bug_is_caught() {
    let mut planted = all();
    assert!(planted.len() >= 12);
    if let Ok(names) = std::env::var("MILENA_PLANTED") {
        planted.retain(|bug| names.split(',').any(|name| name == bug.name));
        assert!(!planted.is_empty(), "no planted bug is named in {names}");
    }
    try_out(&planted, true);
}

#[test]
fn every_patch_fits_the_code() {
    for bug in all() {
        let check = Command::new("git").args(["apply", "--check"]).arg(&bug.path).output().unwrap();
        assert!(check.status.success(), "{}: {}", bug.name, String::from_utf8_lossy(&check.stderr));
    }
}

#[test]
fn the_planted_bug_of_the_day_is_caught() {
    let planted = all();
    let day = Duration::from_secs(24 * 60 * 60);
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / day.as_secs();
    let at = today as usize % planted.len();
    try_out(&planted[at..=at], false);
}
