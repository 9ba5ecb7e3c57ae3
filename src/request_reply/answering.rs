//! One request, from its handler to the acknowledgement of its answer; one event, to the end of its handler.
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Inner;
use super::answer_stream::AnswerStream;
use super::handler::{Handler, Outcome, Run};
use super::running::Line;
use super::serve::Serving;
use super::writer::Writer;
use super::{Answer, Answers, Event, Refusal, Request, dead_letter};
use crate::error::Result;
use crate::state::reply::dedupe::Found;
use crate::state::reply::dialect::{Control, Dialect, Origin};
use crate::state::reply::intake::Ticket;

/// How much longer than the first the last pauses between retries become.
const LONGEST_PAUSE: u32 = 64;

impl Serving {
    /// A caller says something about a request of its own.
    pub(super) fn control(&self, control: &Control) {
        self.output.running.control(control);
    }

    /// Handles an event; its handler may have begun.
    pub(super) async fn handle(&self, request: Request, run: Option<Run>) {
        let Some(handler) =
            self.config.handlers.get(request.topic()).and_then(|handlers| handlers.event.as_ref())
        else {
            return;
        };
        if let Err(refusal) = self.execute(handler, &request, run).await {
            tracing::warn!(?refusal, group = %self.config.group, "an event could not be handled");
            self.bury(&request, &refusal).await;
        }
    }

    /// Handles a request; its handler may have begun. Its caller is heard from this call on, even before the future is polled.
    pub(super) fn answer(
        self: &Arc<Self>,
        request: Request,
        origin: Origin,
        ticket: Ticket,
        run: Option<Run>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let serving = self.clone();
        // The others have no way to say anything.
        let line = (origin.dialect == Dialect::Native).then(|| self.output.running.enter(&origin.id));
        async move {
            let cancelled = async {
                match &line {
                    Some(line) => line.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = serving.respond(request, &origin, line.as_ref(), ticket, run) => {}
                () = cancelled => serving.count(|metrics| metrics.cancelled += 1),
            }
        }
    }

    async fn respond(
        &self,
        request: Request,
        origin: &Origin,
        line: Option<&Line>,
        ticket: Ticket,
        run: Option<Run>,
    ) {
        let Some(handler) =
            self.config.handlers.get(request.topic()).and_then(|handlers| handlers.request.as_ref())
        else {
            return;
        };
        let mut writer = Writer::new(self, origin, request.deadline.map(Instant::from_std), ticket);
        let mut claim = match self.claim(&request, origin).await {
            Claimed::Run(claim) => claim,
            Claimed::Served => return,
            Claimed::Known(stored) => {
                let items = AnswerStream::replay(stored.items.clone(), stored.end.clone());
                let sent = writer.many(items, line, &mut None).await;
                return self.settled(origin, sent.map(drop));
            }
        };
        let sent = match self.execute(handler, &request, run).await {
            Ok(Answers(Inner::One(answer))) => {
                if let Some(claim) = claim.take() {
                    claim.keep(|kept| kept.push(&answer), None);
                }
                writer.one(&answer).await
            }
            Ok(Answers(Inner::Many(items))) => {
                let mut kept = claim.as_ref().map(|_| Kept::default());
                match writer.many(items, line, &mut kept).await {
                    Ok(refusal) => {
                        if let Some((claim, kept)) = claim.take().zip(kept) {
                            claim.keep(|all| *all = kept, refusal.as_ref());
                        }
                        if let Some(refusal) = &refusal {
                            self.failed(&request, refusal).await;
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Err(refusal) => {
                if let Some(claim) = claim.take() {
                    claim.keep(|_| {}, Some(&refusal));
                }
                let (sent, ()) = tokio::join!(writer.refuse(&refusal), self.failed(&request, &refusal));
                sent
            }
        };
        self.settled(origin, sent);
    }

    /// Runs a handler, and again if it says that this may help.
    async fn execute(&self, handler: &Handler, request: &Request, run: Option<Run>) -> Outcome {
        let options = &self.config.output;
        let mut pause = options.backoff;
        let mut run = run.unwrap_or_else(|| handler(request.clone()));
        for _ in 0..options.retries {
            let outcome = run.end().await;
            let late =
                || request.deadline.is_some_and(|deadline| Instant::now().into_std() + pause >= deadline);
            if !matches!(&outcome, Err(refusal) if refusal.is_retriable()) || late() {
                return outcome;
            }
            self.count(|metrics| metrics.retried += 1);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(options.backoff * LONGEST_PAUSE);
            run = handler(request.clone());
        }
        run.end().await
    }

    /// Deals with an error that is more than an answer.
    async fn failed(&self, request: &Request, refusal: &Refusal) {
        if !refusal.is_answer() {
            self.bury(request, refusal).await;
        }
    }

    /// Writes a dead letter, if these are wanted.
    async fn bury(&self, event: &Event, refusal: &Refusal) {
        if refusal.is_panic() {
            self.count(|metrics| metrics.panicked += 1);
        }
        let Some(topic) = &self.config.output.dead_letters else { return };
        match dead_letter::bury(self.producer(), topic, &self.config.group, event, refusal).await {
            Ok(()) => self.count(|metrics| metrics.dead_letters += 1),
            Err(error) => {
                tracing::error!(%error, ?event, "a dead letter could not be written");
                self.count(|metrics| metrics.lost += 1);
            }
        }
    }

    pub(super) fn settled(&self, origin: &Origin, sent: Result<()>) {
        let Err(error) = sent else { return self.count(|metrics| metrics.answered += 1) };
        tracing::warn!(%error, group = %self.config.group, "a reply could not be written");
        let routable = self.is_routable(origin);
        self.count(|metrics| match routable {
            true => metrics.lost += 1,
            false => metrics.unroutable += 1,
        });
    }

    /// Finds out whether the request was executed before, and waits for it if it runs.
    async fn claim(&self, request: &Request, origin: &Origin) -> Claimed<'_> {
        // Topics have no zero byte in their names.
        let key = || [request.topic().as_bytes(), b"\0", origin.dedupe_key()].concat().into_boxed_slice();
        let Some(key) = self.output.window().is_some().then(key) else { return Claimed::Run(None) };
        loop {
            let (mut done, mut found) = (None, None);
            if let Some(mut window) = self.output.window() {
                found = Some(window.begin(Instant::now().into_std(), &key, || {
                    let (sender, over) = watch::channel(());
                    done = Some(sender);
                    Turn { caller: Arc::new(origin.clone()), over }
                }));
            }
            match found {
                None | Some(Found::New) => {
                    return Claimed::Run(Some(Claim { serving: self, key, answer: None, _done: done }));
                }
                Some(Found::Done(stored)) => {
                    self.count(|metrics| metrics.deduplicated += 1);
                    return Claimed::Known(stored);
                }
                Some(Found::Running(turn)) if turn.serves(origin) => {
                    self.count(|metrics| metrics.deduplicated += 1);
                    return Claimed::Served;
                }
                // It ends when the sender is dropped.
                Some(Found::Running(mut turn)) => _ = turn.over.changed().await,
            }
        }
    }
}

enum Claimed<'a> {
    /// The handler runs; with a claim if others may wait for its answer.
    Run(Option<Claim<'a>>),
    /// The answer of the one that runs will do.
    Served,
    Known(Stored),
}

/// The request that runs, as those see it that wait for its answer.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    caller: Arc<Origin>,
    over: watch::Receiver<()>,
}

impl Turn {
    /// Whether its answer goes where this one's would go.
    fn serves(&self, origin: &Origin) -> bool {
        let address = |origin: &Origin| (origin.id.clone(), origin.topic.clone(), origin.partition);
        address(&self.caller) == address(origin)
    }
}

/// What was answered, for those that ask again.
pub(super) type Stored = Arc<Kept>;

/// Copies: an answer may share the memory of something much larger.
#[derive(Debug, Default)]
pub(super) struct Kept {
    items: Vec<Answer>,
    end: Option<Refusal>,
    pub(super) size: usize,
}

/// Room that an answer takes beside its bytes.
const ITEM_OVERHEAD: usize = 128;

impl Kept {
    pub(super) fn push(&mut self, answer: &Answer) {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        self.size += ITEM_OVERHEAD
            + answer.value.as_ref().map_or(0, Bytes::len)
            + answer.key.as_ref().map_or(0, Bytes::len)
            + answer
                .headers
                .iter()
                .map(|(name, value)| 2 * ITEM_OVERHEAD + name.len() + value.len())
                .sum::<usize>();
        self.items.push(Answer {
            value: answer.value.as_ref().map(copy),
            key: answer.key.as_ref().map(copy),
            headers: answer.headers.iter().map(|(name, value)| (copy(name), copy(value))).collect(),
        });
    }
}

/// The right to run, and the duty to say what came of it; dropped without an answer, the next one runs.
struct Claim<'a> {
    serving: &'a Serving,
    key: Box<[u8]>,
    answer: Option<(Stored, usize)>,
    /// Behind the answer: those that wait look for it when this is dropped.
    _done: Option<watch::Sender<()>>,
}

impl Claim<'_> {
    /// Ends it with an answer, unless that is one that must not be given again.
    fn keep(mut self, fill: impl FnOnce(&mut Kept), end: Option<&Refusal>) {
        let mut kept = Kept::default();
        fill(&mut kept);
        if end.is_some_and(|refusal| !refusal.is_answer()) {
            return;
        }
        kept.size += end.map_or(0, |refusal| refusal.message().len());
        kept.end = end.cloned();
        let size = kept.size;
        self.answer = Some((Arc::new(kept), size));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(mut window) = self.serving.output.window() {
            window.finish(Instant::now().into_std(), &self.key, self.answer.take());
        }
    }
}
