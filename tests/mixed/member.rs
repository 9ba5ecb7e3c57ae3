//! One member, as a process. A small shell stands between: when this test ends for whatever reason, the member is told to leave,
//! and if it does not, it is killed.
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::event::{Event, Line};
use crate::history::{History, now};
use crate::partner::Partner;

/// Starts the member with this shell's standard input and output, where its first line tells its process id, and ends when it ends.
const KEEPER: &str = r#"
exec 3<&0
sh -c 'echo "pid $$"; exec "$@"' member "$@" <&3 3<&- & member=$!
( read -r _ <&3; kill -CONT $member; sleep 30; kill -KILL $member ) >/dev/null 2>&1 & watch=$!
exec >/dev/null 3<&-
wait $member; code=$?
kill $watch 2>/dev/null
exit $code
"#;

pub(crate) struct Member {
    pub(crate) partner: Partner,
    pub(crate) name: String,
    index: usize,
    pid: u32,
    keeper: Child,
    stdin: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
    history: Arc<History>,
    complaints: PathBuf,
}

impl Member {
    pub(crate) fn start(
        partner: Partner,
        (program, program_args): (PathBuf, Vec<String>),
        args: &[(&str, String)],
        history: &Arc<History>,
    ) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let index = history.introduce();
        let name = format!("{partner:?}-{index}");
        let complaints = Path::new(env!("CARGO_TARGET_TMPDIR")).join("members");
        fs::create_dir_all(&complaints).expect("a folder");
        let complaints = complaints.join(format!("{}-{number}-{name}", std::process::id()));
        let args: Vec<_> = args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(program).args(program_args);
        match partner {
            // Its own arguments are those of a test runner.
            Partner::Milena => {
                command.env(crate::milena::ARGUMENTS, format!("name={name}\n{}", args.join("\n")))
            }
            _ => command.arg(format!("name={name}")).args(args),
        };
        let log = File::create(&complaints).expect("a file");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut said = BufReader::new(keeper.stdout.take().expect("a pipe"));
        let mut first = String::new();
        said.read_line(&mut first).expect("a line");
        let pid = first.trim().strip_prefix("pid ").and_then(|pid| pid.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("{name} told no process id: {first:?}"));
        let listener = std::thread::spawn({
            let history = history.clone();
            move || {
                for text in said.lines().map_while(Result::ok) {
                    let line = Line::parse(index, &text).map(|line| {
                        line.unwrap_or_else(|what| Line {
                            at: now(),
                            member: index,
                            event: Event::Trouble(what),
                        })
                    });
                    line.into_iter().for_each(|line| history.tell(line));
                }
            }
        });
        let (stdin, listener) = (keeper.stdin.take(), Some(listener));
        Self { partner, name, index, pid, keeper, stdin, listener, history: history.clone(), complaints }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Asks it to leave, and does not wait until it has.
    pub(crate) fn ask_to_leave(&mut self) {
        self.stdin = None;
    }

    /// SIGKILL: it leaves no word.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.keeper.wait();
        self.history.tell(Line { at: now(), member: self.index, event: Event::Killed });
    }

    /// SIGSTOP. If it is for longer than a session, nothing that it has is its own any more.
    pub(crate) fn stop(&self, beyond_session: bool) {
        if beyond_session {
            self.history.tell(Line { at: now(), member: self.index, event: Event::Halted });
        }
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    /// What it has complained of on stderr, if it has ended by itself.
    pub(crate) fn gone(&mut self) -> Option<String> {
        let ended = !matches!(self.keeper.try_wait(), Ok(None));
        ended.then(|| self.complaints())
    }

    pub(crate) fn complaints(&self) -> String {
        let all = fs::read_to_string(&self.complaints).unwrap_or_default();
        let lines: Vec<_> = all.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([format!("-{name}"), self.pid.to_string()]).status();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if matches!(self.keeper.try_wait(), Ok(None)) {
            self.signal("KILL");
            let _ = self.keeper.wait();
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
