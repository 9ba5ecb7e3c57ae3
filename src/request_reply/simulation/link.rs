//! The network of one process: it can freeze, as when the process is stopped by a signal or its packets vanish.
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::broker::Network;
use crate::network::connector::Connector;

#[derive(Debug, Clone, Default)]
pub(super) struct Link(Arc<Mutex<Gate>>);

#[derive(Debug, Default)]
struct Gate {
    frozen: bool,
    waiting: Vec<Waker>,
}

impl Link {
    pub(super) fn freeze(&self) {
        self.0.lock().unwrap().frozen = true;
    }

    pub(super) fn thaw(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.frozen = false;
        gate.waiting.drain(..).for_each(Waker::wake);
    }

    pub(super) fn connector(&self, network: Network) -> Connector {
        let link = self.clone();
        Connector::new(move |host: String, port| {
            let (stream, link) = (network.connect(&host, port), link.clone());
            async move { Ok::<_, io::Error>(Frozen { stream: stream?, link }) }
        })
    }

    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut gate = self.0.lock().unwrap();
        if gate.frozen {
            gate.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

struct Frozen {
    stream: DuplexStream,
    link: Link,
}

impl AsyncRead for Frozen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.link.poll_open(cx));
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Frozen {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.link.poll_open(cx));
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.link.poll_open(cx));
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
