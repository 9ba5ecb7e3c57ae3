//! Frames into a byte stream: everything that is queued in as few vectored writes as possible, nothing copied.
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::network::connector::Stream;
use crate::protocol::header::Encoded;

/// Slices of one write. The system takes 1024; these lie on the stack, and more would not save a noticeable call.
const SLICES: usize = 64;

/// What is to be written, oldest first. Positions count the bytes of the whole connection.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    chunks: VecDeque<Bytes>,
    queued: u64,
    written: u64,
    unflushed: bool,
}

impl FrameWriter {
    /// Queues a frame; returns where it begins and where it ends.
    pub(crate) fn push(&mut self, frame: Encoded, len: usize) -> (u64, u64) {
        let begin = self.queued;
        self.queued += len as u64;
        self.chunks.push_back(frame.head.freeze());
        self.chunks.extend(frame.tail.into_iter().filter(|chunk| !chunk.is_empty()));
        (begin, self.queued)
    }

    /// How many bytes the stream has taken.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn backlog(&self) -> u64 {
        self.queued - self.written
    }

    /// Writes until nothing is left.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Box<dyn Stream>,
    ) -> Poll<io::Result<()>> {
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.written += written as u64;
            self.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.len() > written {
                chunk.advance(written);
                return;
            }
            written -= chunk.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn frames_arrive_in_order_through_a_narrow_pipe() {
        let (ours, mut theirs) = tokio::io::duplex(7);
        let mut stream: Box<dyn Stream> = Box::new(ours);
        let (mut writer, mut expected) = (FrameWriter::default(), Vec::new());
        for frame in 0..100u8 {
            let head = BytesMut::from(&[frame; 5][..]);
            let tail = vec![Bytes::from(vec![frame; 3]), Bytes::new(), Bytes::from_static(b"end")];
            expected.extend_from_slice(&head);
            tail.iter().for_each(|chunk| expected.extend_from_slice(chunk));
            let encoded = Encoded { api_key: 0, version: 0, head, tail, answered: true };
            assert_eq!(writer.push(encoded, 11), (u64::from(frame) * 11, u64::from(frame) * 11 + 11));
        }
        let mut received = vec![0; expected.len()];
        let write = poll_fn(|cx| writer.poll_write(cx, &mut stream));
        let (written, read) = tokio::join!(write, theirs.read_exact(&mut received));
        written.unwrap();
        read.unwrap();
        assert_eq!(received, expected);
        assert_eq!((writer.written(), writer.backlog(), writer.is_empty()), (1100, 0, true));
    }
}
