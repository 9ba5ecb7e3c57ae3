//! Whose client it is.
use std::fs;
use std::io;
use std::process::Command;

use crate::support::program::{Program, folder, made, program, run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partner {
    Nest11,
    Nest12,
    Spring,
}

impl Partner {
    pub(crate) const ALL: [Self; 3] = [Self::Nest11, Self::Nest12, Self::Spring];

    pub(crate) fn is_nest(self) -> bool {
        self != Self::Spring
    }

    /// Starts as this partner, a JVM with these options and its own arguments still to come. None, and a word on stderr, if what it runs with is not here, or could not be
    /// brought and this is not CI.
    pub(crate) fn program(self, jvm: &[&str]) -> Option<Program> {
        let runtime = if self.is_nest() { ["npm", "--version"] } else { ["javac", "-version"] };
        program(&format!("{self:?}"), runtime, || match self {
            Self::Nest11 => nest("11"),
            Self::Nest12 => nest("12"),
            Self::Spring => spring(jvm),
        })
    }
}

/// The packages that the lock file names, without the scripts that packages would run.
fn nest(version: &str) -> io::Result<Program> {
    let home = folder("nestjs");
    let files = ["package.json", "package-lock.json"].map(|name| home.join(version).join(name));
    let packages = made(&files.each_ref().map(|file| &**file), version, |into| {
        for file in &files {
            fs::copy(file, into.join(file.file_name().expect("a name")))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]).current_dir(into);
        Ok(npm)
    })?;
    let modules = format!("NODE_PATH={}", packages.join("node_modules").display());
    let script = home.join("partner.js").display().to_string();
    Ok(("env".into(), vec![modules, "NO_COLOR=1".into(), "node".into(), script]))
}

fn spring(jvm: &[&str]) -> io::Result<Program> {
    let (pom, source) = (folder("spring").join("pom.xml"), folder("spring").join("Partner.java"));
    let made = made(&[&pom, &source], "", |into| {
        let jars = into.join("jars");
        let mut mvn = Command::new("mvn");
        mvn.args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"]);
        mvn.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", jars.display()));
        run(mvn.arg("-f").arg(&pom))?;
        let mut javac = Command::new("javac");
        javac.arg("-cp").arg(format!("{}/*", jars.display())).arg("-d").arg(into).arg(&source);
        Ok(javac)
    })?;
    let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".to_owned();
    let path = format!("{}:{}/*", made.display(), made.join("jars").display());
    let mut args: Vec<_> = jvm.iter().copied().map(String::from).collect();
    args.extend([quiet, "-XX:+UseSerialGC".into(), "-Xmx256m".into(), "-cp".into(), path, "Partner".into()]);
    Ok(("java".into(), args))
}
