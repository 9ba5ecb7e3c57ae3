//! One JVM and its life. A small shell stands between: it holds a pipe to this process, and when the pipe closes, for
//! whatever reason this process ended, it kills the JVM.
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::release::Release;

/// Starts the command, tells its process id, ends when it ends, and kills it when standard input closes.
const KEEPER: &str = r#"
log=$1; shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- & node=$!
( while read -r _ <&3; do :; done; kill -KILL $node ) >/dev/null 2>&1 & watch=$!
echo $node
exec >/dev/null
wait $node; code=$?
kill $watch 2>/dev/null
exit $code
"#;

pub struct Node {
    pub id: i32,
    pub port: u16,
    /// The class to run: a broker, or ZooKeeper.
    pub class: &'static str,
    pub dir: PathBuf,
    process: Mutex<Option<Process>>,
}

struct Process {
    keeper: Child,
    pid: u32,
}

impl Node {
    pub fn new(id: i32, port: u16, class: &'static str, dir: PathBuf) -> Self {
        Self { id, port, class, dir, process: Mutex::default() }
    }

    /// The settings the node is started with.
    pub fn settings(&self) -> PathBuf {
        self.dir.join("node.properties")
    }

    pub fn start(&self, release: &Release) -> io::Result<()> {
        let mut process = self.lock();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(self.dir.join("log"))
            .arg("java")
            .args(release.java_args(self.class))
            .arg(self.settings())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(said) = keeper.stdout.take() {
            BufReader::new(said).read_line(&mut line)?;
        }
        let pid = line.trim().parse().map_err(|_| io::Error::other(format!("no process id: {line:?}")))?;
        *process = Some(Process { keeper, pid });
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|process| process.pid)
    }

    pub fn is_running(&self) -> bool {
        self.lock().as_mut().is_some_and(|process| matches!(process.keeper.try_wait(), Ok(None)))
    }

    /// The node's log, if it has ended by itself.
    pub fn gone(&self) -> Option<String> {
        let gone = self.lock().as_mut().is_none_or(|process| !matches!(process.keeper.try_wait(), Ok(None)));
        gone.then(|| fs::read_to_string(self.dir.join("log")).unwrap_or_default())
    }

    pub fn kill(&self) {
        self.signal("KILL");
        if let Some(mut process) = self.lock().take() {
            let _ = process.keeper.wait();
        }
    }

    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
        }
    }

    /// What the node has logged so far.
    pub fn log(&self) -> io::Result<File> {
        File::open(self.dir.join("log"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}
