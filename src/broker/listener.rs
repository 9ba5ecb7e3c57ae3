//! The shell around the cluster: sockets, in-memory pipes, the clock. The only tasks of the broker are spawned here.
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::cluster::{Cluster, ConnectionId, Output};
use super::config::Config;
use super::fault::Faults;

/// What is read from a connection at a time, at least.
const READ_AHEAD: usize = 64 * 1024;
/// Bytes an in-memory pipe holds in each direction: as a socket's buffers do.
const PIPE: usize = 64 * 1024;
/// How long an accept loop rests after an error, most likely a lack of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(10);

/// What all tasks of one broker share.
pub(super) struct Shell {
    core: Mutex<Core>,
    /// Rung when the earliest deadline came nearer.
    timer: Notify,
    tasks: Mutex<Tasks>,
    runtime: Handle,
    max_request: usize,
}

struct Core {
    cluster: Cluster,
    wakers: BTreeMap<ConnectionId, Arc<Notify>>,
    /// What the timer task sleeps until.
    armed: Option<Instant>,
}

#[derive(Default)]
struct Tasks {
    stopped: bool,
    connections: JoinSet<()>,
    /// By node; absent while it is stopped or not bound.
    acceptors: BTreeMap<i32, JoinHandle<()>>,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shell {
    pub(super) fn new(config: Config, faults: Faults) -> Arc<Self> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let max_request = config.max_request_bytes;
        let cluster = Cluster::new(config, faults, now(), i64::try_from(unix).unwrap_or(0));
        let shell = Arc::new(Self {
            core: Mutex::new(Core { cluster, wakers: BTreeMap::new(), armed: None }),
            timer: Notify::new(),
            tasks: Mutex::default(),
            runtime: Handle::current(),
            max_request,
        });
        shell.spawn(run_timer(shell.clone()));
        shell
    }

    /// Runs something on the cluster, then wakes whoever got output and the timer, if it has to rise earlier.
    pub(super) fn with<T>(&self, run: impl FnOnce(&mut Cluster, Instant) -> T) -> T {
        let now = now();
        let mut core = lock(&self.core);
        let result = run(&mut core.cluster, now);
        self.after(&mut core);
        result
    }

    fn after(&self, core: &mut Core) {
        for node in core.cluster.take_stopped() {
            if let Some(acceptor) = lock(&self.tasks).acceptors.get(&node) {
                acceptor.abort();
            }
        }
        for id in core.cluster.take_ready() {
            if let Some(waker) = core.wakers.get(&id) {
                waker.notify_one();
            }
        }
        if let Some(deadline) = core.cluster.next_deadline()
            && core.armed.is_none_or(|armed| deadline < armed)
        {
            core.armed = Some(deadline);
            self.timer.notify_one();
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.connections.try_join_next().is_some() {}
        if !tasks.stopped {
            tasks.connections.spawn_on(task, &self.runtime);
        }
    }

    /// Binds a node's listener: a free port for port 0.
    pub(super) async fn listen(self: &Arc<Self>, node: i32, port: u16) -> io::Result<u16> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let mut tasks = lock(&self.tasks);
        if !tasks.stopped {
            let acceptor = self.runtime.spawn(accept(self.clone(), node, listener));
            tasks.acceptors.insert(node, acceptor);
        }
        Ok(port)
    }

    /// Closes a node's listener and waits until its port is free. Dropped, it can be called again.
    pub(super) async fn unlisten(&self, node: i32) {
        let ended = poll_fn(|cx| {
            let mut tasks = lock(&self.tasks);
            if let Some(acceptor) = tasks.acceptors.get_mut(&node) {
                acceptor.abort();
                let _ = ready!(Pin::new(acceptor).poll(cx));
                tasks.acceptors.remove(&node);
            }
            Poll::Ready(())
        });
        ended.await;
    }

    /// A pipe to the node at this address.
    pub(super) fn connect(self: &Arc<Self>, host: &str, port: u16) -> io::Result<DuplexStream> {
        let at = |cluster: &mut Cluster, _| {
            let node = cluster.nodes.values().find(|node| node.up && node.host == host && node.port == port);
            node.map(|node| node.id)
        };
        let Some(node) = self.with(at) else {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("no node at {host}:{port}"),
            ));
        };
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.spawn(serve(self.clone(), node, ours));
        Ok(theirs)
    }

    /// Stops all tasks without waiting for them.
    pub(super) fn abort(&self) {
        let mut tasks = lock(&self.tasks);
        tasks.stopped = true;
        tasks.connections.abort_all();
        for acceptor in tasks.acceptors.values() {
            acceptor.abort();
        }
    }

    /// Stops all tasks and waits until they are gone.
    pub(super) async fn stop(&self) {
        self.abort();
        let (mut connections, acceptors) = {
            let mut tasks = lock(&self.tasks);
            (std::mem::take(&mut tasks.connections), std::mem::take(&mut tasks.acceptors))
        };
        connections.shutdown().await;
        for acceptor in acceptors.into_values() {
            let _ = acceptor.await;
        }
    }

    fn handle(&self, id: ConnectionId, frame: Bytes) -> Vec<Output> {
        self.with(|cluster, now| {
            cluster.handle(now, id, frame);
            outputs(cluster, id)
        })
    }
}

fn outputs(cluster: &mut Cluster, id: ConnectionId) -> Vec<Output> {
    std::iter::from_fn(|| cluster.poll_output(id)).collect()
}

async fn run_timer(shell: Arc<Shell>) {
    loop {
        let armed = lock(&shell.core).armed;
        let due = async {
            match armed {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                let now = now();
                let mut core = lock(&shell.core);
                core.armed = None;
                core.cluster.handle_deadline(now);
                shell.after(&mut core);
            }
            () = shell.timer.notified() => {}
        }
    }
}

async fn accept(shell: Arc<Shell>, node: i32, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                shell.spawn(serve(shell.clone(), node, stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

/// Takes a connection out of the cluster when its task ends, however it ends.
struct Registered {
    shell: Arc<Shell>,
    id: ConnectionId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut core = lock(&self.shell.core);
        core.wakers.remove(&self.id);
        core.cluster.disconnect(self.id);
    }
}

async fn serve(shell: Arc<Shell>, node: i32, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let waker = Arc::new(Notify::new());
    let id = {
        let mut core = lock(&shell.core);
        let Some(id) = core.cluster.connect(node) else { return };
        core.wakers.insert(id, waker.clone());
        id
    };
    let registered = Registered { shell, id };
    // An error means that the peer is gone or sent what is no frame; either way it learns by the connection's end.
    let _ = converse(&registered.shell, id, &waker, stream).await;
}

async fn converse(
    shell: &Shell,
    id: ConnectionId,
    waker: &Notify,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(READ_AHEAD);
    let mut pending = Vec::new();
    loop {
        for output in pending.drain(..) {
            match output {
                Output::Send(bytes) => writer.write_all(&bytes).await?,
                Output::Close => return writer.shutdown().await,
            }
        }
        let accepts = shell.with(|cluster, _| cluster.accepts(id));
        if accepts && let Some(frame) = next_frame(&mut buffer, shell.max_request)? {
            pending = shell.handle(id, frame);
            continue;
        }
        tokio::select! {
            () = waker.notified() => pending = shell.with(|cluster, _| outputs(cluster, id)),
            read = reader.read_buf(&mut buffer), if accepts => {
                if read? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// The next complete frame, without its length prefix.
pub(crate) fn next_frame(buffer: &mut BytesMut, limit: usize) -> io::Result<Option<Bytes>> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        buffer.reserve(READ_AHEAD);
        return Ok(None);
    };
    let length = usize::try_from(i32::from_be_bytes(*prefix)).ok().filter(|length| *length <= limit);
    let length = length.ok_or_else(|| io::Error::other("not a frame, or one that is too large"))?;
    if buffer.len() < 4 + length {
        buffer.reserve((4 + length - buffer.len()).min(READ_AHEAD.max(buffer.len())));
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}
