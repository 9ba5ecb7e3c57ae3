//! Bytes as they come out of a connection, at either end.
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ensure, messages};
use crate::broker::Faults;
use crate::broker::cluster::{Cluster, Output};
use crate::broker::config::Config;
use crate::broker::listener;
use crate::network::connector::Stream;
use crate::network::reader::FrameReader;
use crate::protocol::primitives::Cursor;

// ---- how many bytes come at a time, then the stream

/// A peer that says all this and hangs up.
struct Peer {
    said: Bytes,
    chunk: usize,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.chunk.min(self.said.len()).min(buffer.remaining());
        buffer.put_slice(&self.said.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The frames, and whether the stream ended behind one.
fn read(said: Bytes, chunk: usize) -> (Vec<Bytes>, bool) {
    let mut stream: Box<dyn Stream> = Box::new(Peer { said, chunk });
    let mut reader = FrameReader::new(1 << 20);
    let (mut frames, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
    loop {
        match reader.poll_frame(&mut context, &mut stream) {
            Poll::Ready(Ok(Some(frame))) => frames.push(frame),
            Poll::Ready(Ok(None)) => return (frames, true),
            Poll::Ready(Err(_)) | Poll::Pending => return (frames, false),
        }
    }
}

pub(super) fn frames(input: &Bytes) -> bool {
    let Some(chunk) = input.first() else { return false };
    let (frames, whole) = read(input.slice(1..), usize::from(*chunk).max(1) * 16);
    whole && !frames.is_empty()
}

pub(super) fn frames_however_cut(input: &Bytes) -> Result<(), String> {
    let stream = input.slice(1..);
    let all = read(stream.clone(), usize::MAX);
    ensure!(all.1, "refused, if it comes at once");
    let again: Vec<u8> =
        all.0.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame].concat()).collect();
    ensure!(again == stream, "bytes that are in no frame");
    ensure!(read(stream, 3) == all, "other frames in pieces of 3 bytes");
    Ok(())
}

// ---- the stream of a client to an embedded broker

const MAX_FRAME: usize = 1 << 20;

/// All requests of a stream, as far as they could be told apart, and all that came back.
fn serve(stream: &Bytes) -> (Vec<Bytes>, Vec<Output>) {
    let now = Instant::now();
    let mut cluster = Cluster::new(Config::default(), Faults::default(), now, 1_700_000_000_000);
    let _ = cluster.create_topic("orders", 2, None);
    let Some(id) = cluster.connect(1) else { return Default::default() };
    let (mut buffer, mut requests, mut outputs) = (BytesMut::from(&stream[..]), Vec::new(), Vec::new());
    while let Ok(Some(frame)) = listener::next_frame(&mut buffer, MAX_FRAME) {
        requests.push(frame.clone());
        cluster.handle(now, id, frame);
        outputs.extend(std::iter::from_fn(|| cluster.poll_output(id)));
        if outputs.last() == Some(&Output::Close) {
            break;
        }
        // A fetch that waits has waited long enough.
        cluster.handle_deadline(now + Duration::from_secs(1 << 32));
    }
    outputs.extend(std::iter::from_fn(|| cluster.poll_output(id)));
    (requests, outputs)
}

pub(super) fn broker(input: &Bytes) -> bool {
    let (requests, outputs) = serve(input);
    !requests.is_empty() && !outputs.contains(&Output::Close)
}

/// What the broker answers, the client understands.
pub(super) fn broker_answers(input: &Bytes) -> Result<(), String> {
    let (requests, outputs) = serve(input);
    let mut asked: HashMap<i32, Vec<(i16, i16)>> = HashMap::new();
    for request in &requests {
        let mut head = Cursor::new(request);
        if let (Ok(key), Ok(version), Ok(correlation)) = (head.i16(), head.i16(), head.i32()) {
            asked.entry(correlation).or_default().push((key, version));
        }
    }
    for output in outputs {
        let Output::Send(answer) = output else { continue };
        let mut head = Cursor::new(&answer);
        let (Ok(length), Ok(correlation)) = (head.i32(), head.i32()) else { return Err("no frame".into()) };
        ensure!(length as usize == answer.len() - 4, "a frame of {length} in {} bytes", answer.len());
        // Error 35 comes in version 0, whatever was asked.
        let versions = asked.get(&correlation).into_iter().flatten();
        let understood = versions.clone().any(|(key, version)| {
            let read = |version| messages::answer_is_understood(*key, version, answer.slice(4..));
            read(*version) || (*key == 18 && read(0))
        });
        ensure!(understood, "an answer to one of {:?} that nobody understands", versions.collect::<Vec<_>>());
    }
    Ok(())
}
