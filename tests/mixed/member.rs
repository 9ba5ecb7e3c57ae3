//! One member, as a process.
use std::sync::Arc;

use crate::event::{Event, Line};
use crate::history::{History, now};
use crate::partner::Partner;
use crate::support::process::Process;
use crate::support::program::Program;

pub(crate) struct Member {
    pub(crate) partner: Partner,
    pub(crate) name: String,
    index: usize,
    process: Process,
    history: Arc<History>,
}

impl Member {
    pub(crate) fn start(
        partner: Partner,
        program: Program,
        args: &[(&str, String)],
        history: &Arc<History>,
    ) -> Self {
        let index = history.introduce();
        let name = format!("{partner:?}-{index}");
        let own = [("name", name.clone())];
        let args: Vec<_> = own.iter().chain(args).map(|(key, value)| format!("{key}={value}")).collect();
        let hear = {
            let history = history.clone();
            move |text: &str| {
                let line = Line::parse(index, text).map(|line| {
                    line.unwrap_or_else(|what| Line { at: now(), member: index, event: Event::Trouble(what) })
                });
                line.into_iter().for_each(|line| history.tell(line));
            }
        };
        let process = match partner {
            // Its own arguments are those of a test runner.
            Partner::Milena => {
                let variable = Some((crate::milena::ARGUMENTS, args.join("\n")));
                Process::start(&name, program, &[], variable, hear)
            }
            _ => Process::start(&name, program, &args, None, hear),
        };
        Self { partner, name, index, process, history: history.clone() }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Asks it to leave, and does not wait until it has.
    pub(crate) fn ask_to_leave(&mut self) {
        self.process.ask_to_end();
    }

    /// SIGKILL: it leaves no word.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
        self.history.tell(Line { at: now(), member: self.index, event: Event::Killed });
    }

    /// SIGSTOP. If it is for longer than a session, nothing that it has is its own any more.
    pub(crate) fn stop(&self, beyond_session: bool) {
        if beyond_session {
            self.history.tell(Line { at: now(), member: self.index, event: Event::Halted });
        }
        self.process.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.process.signal("CONT");
    }

    /// What it has complained of on stderr, if it has ended by itself.
    pub(crate) fn gone(&mut self) -> Option<String> {
        self.process.gone()
    }

    pub(crate) fn complaints(&self) -> String {
        self.process.complaints()
    }
}
