//! Frames out of a byte stream: few reads, one exactly sized buffer for each frame, no trust in a claimed length.
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use tokio::io::AsyncReadExt;

use crate::error::{Error, ErrorKind};
use crate::network::connector::Stream;
use crate::protocol::frame;

/// Small answers are read from here, several with one system call; the beginning of a large one is copied from it.
const STAGE: usize = 8 * 1024;
/// What a peer gets reserved on its mere word.
const ON_CREDIT: usize = 128 * 1024;
/// How much more than it has proved a peer gets reserved.
const TRUST: usize = 4;

#[derive(Debug)]
pub(crate) struct FrameReader {
    limit: usize,
    stage: Vec<u8>,
    /// Where the unread part of the stage begins.
    at: usize,
    /// A frame too large for the stage, and its length.
    body: Option<(Vec<u8>, usize)>,
    /// The longest frame that arrived whole: an equally long one is reserved at once.
    proven: usize,
    received: u64,
}

impl FrameReader {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, stage: Vec::with_capacity(STAGE), at: 0, body: None, proven: 0, received: 0 }
    }

    /// Another limit for the frames to come.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// All bytes read so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The next frame without its length; `None` at the end of the stream between two frames.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Box<dyn Stream>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some((mut body, len)) = self.body.take() {
                if body.len() == len {
                    self.proven = self.proven.max(len);
                    return Poll::Ready(Ok(Some(body.into())));
                }
                self.grow(&mut body, len);
                let room = body.capacity().min(len) - body.len();
                let read = poll_read(cx, stream, &mut body, room);
                let cut_off =
                    format!("the connection ended after {} of {len} bytes of an answer", body.len());
                self.body = Some((body, len));
                match ready!(read)? {
                    0 => return Poll::Ready(Err(Error::new(ErrorKind::Connect, cut_off))),
                    read => self.received += read as u64,
                }
                continue;
            }
            let staged = &self.stage[self.at..];
            if let Some((prefix, rest)) = staged.split_first_chunk() {
                let len = frame::length(*prefix, self.limit)?;
                if let Some(whole) = rest.get(..len) {
                    let whole = Bytes::copy_from_slice(whole);
                    self.at += 4 + len;
                    return Poll::Ready(Ok(Some(whole)));
                }
                if 4 + len > STAGE {
                    let mut body = Vec::with_capacity(len.min(ON_CREDIT.max(self.proven)));
                    body.extend_from_slice(rest);
                    self.body = Some((body, len));
                    self.stage.clear();
                    self.at = 0;
                    continue;
                }
            }
            let staged = staged.len();
            if self.at > 0 {
                self.stage.drain(..self.at);
                self.at = 0;
            }
            match ready!(poll_read(cx, stream, &mut self.stage, STAGE - staged))? {
                0 if staged == 0 => return Poll::Ready(Ok(None)),
                0 => {
                    let cut_off = format!("the connection ended after {staged} bytes of an answer");
                    return Poll::Ready(Err(Error::new(ErrorKind::Connect, cut_off)));
                }
                read => self.received += read as u64,
            }
        }
    }

    fn grow(&self, body: &mut Vec<u8>, len: usize) {
        if body.len() == body.capacity() {
            let allowed = (body.len() * TRUST).max(ON_CREDIT).min(len);
            body.reserve_exact(allowed - body.len());
        }
    }
}

fn poll_read(
    cx: &mut Context<'_>,
    stream: &mut Box<dyn Stream>,
    into: &mut Vec<u8>,
    room: usize,
) -> Poll<Result<usize, Error>> {
    let mut into = into.limit(room);
    // The future keeps nothing between two polls, so a new one each time loses nothing.
    let read = pin!(stream.read_buf(&mut into));
    read.poll(cx).map_err(|error| Error::new(ErrorKind::Connect, "reading failed").caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;

    async fn next(reader: &mut FrameReader, stream: &mut Box<dyn Stream>) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| reader.poll_frame(cx, stream)).await
    }

    fn frame(len: usize) -> Vec<u8> {
        let body: Vec<u8> = (0..len).map(|at| (at * 31) as u8).collect();
        [&(len as u32).to_be_bytes()[..], &body].concat()
    }

    #[tokio::test]
    async fn frames_of_every_size_come_back_however_they_are_cut() {
        for chunk in [1, 7, 4096, 1 << 20] {
            let lengths = [4, 5, STAGE - 4, STAGE - 3, 40_000, 4, 300_000, 300_000];
            let wire: Vec<u8> = lengths.iter().flat_map(|len| frame(*len)).collect();
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            let mut stream: Box<dyn Stream> = Box::new(ours);
            let mut reader = FrameReader::new(1 << 20);
            let total = wire.len();
            let send = async move {
                for part in wire.chunks(chunk) {
                    theirs.write_all(part).await.unwrap();
                }
            };
            let receive = async {
                for len in lengths {
                    let body = next(&mut reader, &mut stream).await.unwrap().unwrap();
                    assert_eq!(body, frame(len)[4..]);
                }
                assert!(next(&mut reader, &mut stream).await.unwrap().is_none());
            };
            tokio::join!(send, receive);
            assert_eq!(reader.received(), total as u64);
        }
    }

    #[tokio::test]
    async fn a_claimed_length_is_not_reserved_before_bytes_arrive() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut stream: Box<dyn Stream> = Box::new(ours);
        let mut reader = FrameReader::new(100 << 20);
        theirs.write_all(&(90u32 << 20).to_be_bytes()).await.unwrap();
        theirs.write_all(&vec![0; 200_000]).await.unwrap();
        poll_fn(|cx| {
            assert!(reader.poll_frame(cx, &mut stream).is_pending());
            Poll::Ready(())
        })
        .await;
        let (body, _) = reader.body.as_ref().unwrap();
        assert_eq!(body.len(), 200_000);
        assert!(body.capacity() <= TRUST * 200_000, "{}", body.capacity());
        drop(theirs);
        let error = next(&mut reader, &mut stream).await.unwrap_err();
        assert!(error.to_string().contains("200000 of 94371840"), "{error}");
    }

    #[tokio::test]
    async fn an_end_within_a_prefix_is_an_error() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(&[0, 0]).await.unwrap();
        drop(theirs);
        let error =
            next(&mut FrameReader::new(100), &mut (Box::new(ours) as Box<dyn Stream>)).await.unwrap_err();
        assert!(error.to_string().contains("after 2 bytes"), "{error}");
    }
}
