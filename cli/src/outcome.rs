//! How a command ends: done, failed with a reason, interrupted, or unread.
use std::io;
use std::process::ExitCode;
use tokio::sync::watch;

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why not all was done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With the reason.
    Failed(String),
    /// By the user, with what had been done until then.
    Interrupted(String),
    /// Whoever read standard output has gone.
    Unread,
}

impl Failure {
    /// Tells the reason on stderr; the exit codes are those of the shell for a signal: 130 (SIGINT), 141 (SIGPIPE).
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Failed(reason) => {
                eprintln!("milena: {reason}");
                ExitCode::from(1)
            }
            Self::Interrupted(done) => {
                eprintln!("milena: interrupted: {done}");
                ExitCode::from(130)
            }
            Self::Unread => ExitCode::from(141),
        }
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.to_owned())
    }
}

impl From<milena::Error> for Failure {
    fn from(error: milena::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The user's wish to stop: ctrl-c, or the signal that ends a process. The first asks for a clean end, the second
/// does not wait for it.
#[derive(Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Must be called on the runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let (asked, interrupt) = watch::channel(false);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            signals.next().await;
            // Nobody may be left who cares; the second signal counts all the same.
            let _ = asked.send(true);
            signals.next().await;
            std::process::exit(130);
        });
        Ok(Self(interrupt))
    }

    /// Whether it has come.
    pub(crate) fn came(&self) -> bool {
        *self.0.borrow()
    }

    /// Asks something of the cluster, unless it comes first.
    pub(crate) async fn or(mut self, work: impl Future<Output = Outcome>) -> Outcome {
        tokio::select! {
            outcome = work => outcome,
            () = self.wait() => Err(Failure::Interrupted("what was asked of the cluster may still be done".to_owned())),
        }
    }

    /// Resolves when it comes, and at once from then on. Cancel safe.
    pub(crate) async fn wait(&mut self) {
        if self.0.wait_for(|came| *came).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
