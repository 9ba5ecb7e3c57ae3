//! A program that talks in lines, as a process. A small shell stands between: when this test ends for whatever reason, the program is
//! told to end, and if it does not, it is killed.
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::program::Program;

/// Starts the program with this shell's standard input, passed on line by line, and its output, where its first line tells its process
/// id; ends when it ends.
const KEEPER: &str = r#"
exec 3<&0
lines=$1; shift
mkfifo "$lines"
sh -c 'echo "pid $$"; exec "$@"' program "$@" <"$lines" 3<&- & program=$!
exec >/dev/null
( cat <&3 >"$lines"; kill -CONT $program; sleep 30; kill -KILL $program ) 2>&1 & watch=$!
exec 3<&-
wait $program; code=$?
rm -f "$lines"
kill $watch 2>/dev/null
exit $code
"#;

pub struct Process {
    pub pid: u32,
    keeper: Child,
    stdin: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
    complaints: PathBuf,
}

impl Process {
    /// Starts it, and hands every line that it says to `hear`.
    pub fn start(
        name: &str,
        (program, first): Program,
        args: &[String],
        variable: Option<(&str, String)>,
        mut hear: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        fs::create_dir_all(&place).expect("a folder");
        let complaints = place.join(format!("{}-{number}-{name}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(complaints.with_extension("lines"));
        command.arg(program).args(first).args(args).envs(variable);
        let log = File::create(&complaints).expect("a file");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut said = BufReader::new(keeper.stdout.take().expect("a pipe"));
        let mut first = String::new();
        said.read_line(&mut first).expect("a line");
        let pid = first.trim().strip_prefix("pid ").and_then(|pid| pid.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("{name} told no process id: {first:?}"));
        let listener = std::thread::spawn(move || {
            said.lines().map_while(Result::ok).for_each(|line| hear(&line));
        });
        let stdin = keeper.stdin.take();
        Self { pid, keeper, stdin, listener: Some(listener), complaints }
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("an open standard input");
        writeln!(stdin, "{line}").expect("a program that reads");
    }

    /// Closes its standard input, and does not wait until it has ended.
    pub fn ask_to_end(&mut self) {
        self.stdin = None;
    }

    /// SIGKILL: it leaves no word.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.keeper.wait();
    }

    pub fn signal(&self, name: &str) {
        // It may have ended meanwhile, of which kill would complain.
        let pid = self.pid.to_string();
        let _ = Command::new("kill").args([&format!("-{name}"), &pid]).stderr(Stdio::null()).status();
    }

    /// What it has complained of on stderr, if it has ended by itself.
    pub fn gone(&mut self) -> Option<String> {
        let ended = !matches!(self.keeper.try_wait(), Ok(None));
        ended.then(|| self.complaints())
    }

    pub fn complaints(&self) -> String {
        let all = fs::read_to_string(&self.complaints).unwrap_or_default();
        let lines: Vec<_> = all.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.keeper.try_wait(), Ok(None)) {
            self.kill();
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
