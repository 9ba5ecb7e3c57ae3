//! A Kafka release: its jars, brought by Maven into `target/kafka/<version>`, and what differs between releases.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

const POM: &str = include_str!("pom.xml");

/// Pinned: Maven's own default version of the plug-in is old.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// Small and quick to start; a test wants neither throughput nor a warm compiler.
const JVM: [&str; 5] =
    ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"];

const LOG4J2: &str = "rootLogger.level=WARN\nrootLogger.appenderRef.e.ref=E\n\
    appender.e.type=Console\nappender.e.name=E\nappender.e.target=SYSTEM_ERR\n\
    appender.e.layout.type=PatternLayout\nappender.e.layout.pattern=%d{ABSOLUTE} %p %m (%c{1})%n\n";

const RELOAD4J: &str = "log4j.rootLogger=WARN, E\nlog4j.appender.E=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.E.target=System.err\nlog4j.appender.E.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.E.layout.ConversionPattern=%d{ABSOLUTE} %p %m (%c{1})%n\n";

/// What Kafka's own start script gives a node.
const SHIPPED_JVM: [&str; 5] =
    ["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true"];

#[derive(Clone, Debug)]
pub struct Release {
    pub version: String,
    /// With Kafka's own settings and a compiler that gets warm, for a bench.
    pub is_as_shipped: bool,
    jars: PathBuf,
}

impl Release {
    /// Brings the jars if they are not there yet.
    pub fn get(version: &str) -> io::Result<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let home = target_dir().join("kafka");
        let release = Self { version: version.to_owned(), is_as_shipped: false, jars: home.join(version) };
        if !release.jars.is_dir() {
            release.fetch(&home)?;
        }
        let (name, text) = release.logging();
        fs::write(home.join(name), text)?;
        Ok(release)
    }

    /// A JVM of this release that runs `class`, with this working directory's streams still to be set.
    pub fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        java.args(self.java_args(class)).stdin(Stdio::null());
        java
    }

    pub fn java_args(&self, class: &str) -> Vec<String> {
        let file = self.jars.with_file_name(self.logging().0);
        let logging = match self.is_newer_than(3) {
            true => format!("-Dlog4j2.configurationFile={}", file.display()),
            false => format!("-Dlog4j.configuration=file:{}", file.display()),
        };
        let jvm = if self.is_as_shipped { SHIPPED_JVM } else { JVM };
        let mut args: Vec<String> = jvm.map(String::from).into();
        args.extend([logging, "-cp".into(), self.class_path(), class.into()]);
        args
    }

    /// All its jars.
    pub fn class_path(&self) -> String {
        format!("{}/*", self.jars.display())
    }

    /// The full name of one of Kafka's command line tools, which moved about between releases.
    pub fn tool(&self, name: &str) -> String {
        let package = match (name, self.is_newer_than(3), self.is_newer_than(2)) {
            ("StorageTool", ..) => "kafka.tools",
            ("ConfigCommand", ..) => "kafka.admin",
            ("AclCommand" | "TopicCommand" | "ConsumerGroupCommand", _, false) => "kafka.admin",
            ("AclCommand", false, _) => "kafka.admin",
            ("ConsumerGroupCommand", ..) => "org.apache.kafka.tools.consumer.group",
            ("ConsoleConsumer", true, _) => "org.apache.kafka.tools.consumer",
            ("GetOffsetShell" | "TopicCommand", _, true) => "org.apache.kafka.tools",
            (_, true, _) => "org.apache.kafka.tools",
            (_, false, _) => "kafka.tools",
        };
        format!("{package}.{name}")
    }

    /// 2.8 still needs a ZooKeeper beside it.
    pub fn needs_zookeeper(&self) -> bool {
        !self.is_newer_than(2)
    }

    pub fn is_newer_than(&self, major: u32) -> bool {
        self.version
            .split('.')
            .next()
            .and_then(|first| first.parse().ok())
            .is_some_and(|own: u32| own > major)
    }

    fn logging(&self) -> (&'static str, &'static str) {
        if self.is_newer_than(3) { ("log4j2.properties", LOG4J2) } else { ("log4j.properties", RELOAD4J) }
    }

    fn fetch(&self, home: &Path) -> io::Result<()> {
        let part = home.join(format!("{}.{}", self.version, std::process::id()));
        fs::create_dir_all(&part)?;
        let pom = part.join("pom.xml");
        fs::write(&pom, POM)?;
        let profile = if self.is_newer_than(3) { "log4j2" } else { "reload4j" };
        let output = Command::new("mvn")
            .args(["-q", "-B", "-P", profile, COPY, "-DincludeScope=runtime"])
            .arg(format!("-Dk={}", self.version))
            .arg(format!("-DoutputDirectory={}", part.display()))
            .arg("-f")
            .arg(&pom)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(io::Error::other(format!("mvn could not bring Kafka {}: {said}", self.version)));
        }
        fs::remove_file(pom)?;
        // Another process may have been quicker; its jars are as good.
        fs::rename(&part, &self.jars).or_else(|error| {
            fs::remove_dir_all(&part)?;
            if self.jars.is_dir() { Ok(()) } else { Err(error) }
        })
    }
}

/// Cargo's target directory.
pub fn target_dir() -> &'static Path {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp)
}
