//! An actor, as a process.
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::actor::ARGUMENTS;
use crate::book::Book;
use crate::links::Links;
use crate::now;

/// A start takes well below a second; a machine with much else to do was seen to need many.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
    ready: Arc<(Mutex<Option<u64>>, Condvar)>,
    book: Arc<Book>,
    began: u64,
    /// If they are its own.
    pub(crate) links: Option<Links>,
}

impl Process {
    pub(crate) fn start(name: &str, args: &[(&str, String)], book: &Arc<Book>) -> Self {
        let lines: Vec<_> = args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let began = now();
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "actor::is_an_actor_when_started_as_a_process", "--ignored", "--nocapture"])
            .env(ARGUMENTS, format!("name={name}\n{}", lines.join("\n")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let ready = Arc::new((Mutex::new(None), Condvar::new()));
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (told, noted, by) = (ready.clone(), book.clone(), name.to_owned());
        let listener = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match line.split_once(' ') {
                    Some(("ready", at)) => {
                        *told.0.lock().unwrap() = at.parse().ok();
                        told.1.notify_all();
                    }
                    Some(("call", call)) => noted.call(&by, call),
                    Some(("closed", counts)) => noted.closed(&by, counts),
                    _ => {}
                }
            }
        });
        let stdin = child.stdin.take();
        Self {
            name: name.to_owned(),
            child,
            stdin,
            listener: Some(listener),
            ready,
            book: book.clone(),
            began,
            links: None,
        }
    }

    /// Waits until it works; the microseconds that this took from its start.
    pub(crate) fn wait_until_ready(&self) -> u64 {
        let (ready, changed) = &*self.ready;
        let ready = ready.lock().unwrap();
        let (ready, _) = changed.wait_timeout_while(ready, PATIENCE, |ready| ready.is_none()).unwrap();
        ready.unwrap_or_else(|| panic!("{} is not ready after {PATIENCE:?}", self.name)) - self.began
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill");
        assert!(sent.success(), "{}: not signalled", self.name);
    }

    pub(crate) fn stop(&self) {
        self.book.hangs(&self.name);
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
        self.book.is_back(&self.name);
    }

    /// It calls so many times a second from now on.
    pub(crate) fn call_at(&mut self, rate: u64) {
        let stdin = self.stdin.as_mut().expect("an open standard input");
        writeln!(stdin, "{rate}").expect("a process that reads");
    }

    pub(crate) fn links(&self) -> &Links {
        self.links.as_ref().expect("links of its own")
    }

    /// Bytes that it holds in memory now.
    pub(crate) fn memory(&self) -> u64 {
        let pid = self.child.id().to_string();
        let told = Command::new("ps").args(["-o", "rss=", "-p", &pid]).output().expect("ps").stdout;
        String::from_utf8_lossy(&told).trim().parse::<u64>().expect("kilobytes") << 10
    }

    /// Tells it to end, and lets it.
    pub(crate) fn tell_to_leave(&mut self) {
        self.stdin = None;
    }

    /// Leaves in an orderly way.
    pub(crate) fn leave(mut self) {
        self.tell_to_leave();
        let status = self.child.wait().expect("a child");
        self.listen_to_the_end();
        self.book.must_have_closed(&self.name, status.success());
    }

    pub(crate) fn kill(mut self) {
        self.book.died(&self.name);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.listen_to_the_end();
    }

    fn listen_to_the_end(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of a test that failed; one that has ended is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
