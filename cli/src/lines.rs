//! Standard input, line by line, without ever blocking the runtime.
use std::io::{self, Read};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Read ahead at once; most lines are much shorter.
const BLOCK: usize = 64 << 10;
/// Blocks that wait to be taken: enough to keep the reader busy, little enough to stay in the cache.
const AHEAD: usize = 4;
/// No record can be larger than a frame of Kafka; what is longer than this is no line.
const LONGEST: usize = 256 << 20;

/// Whole lines, in the order read.
pub(crate) struct Lines {
    blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl Lines {
    /// Starts a thread that reads until the end of the input. Must be called on the runtime.
    pub(crate) fn read(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, blocks) = mpsc::channel(AHEAD);
        let runtime = Handle::current();
        std::thread::Builder::new().name("input".to_owned()).spawn(move || {
            let mut reader = Reader { input, rest: Vec::new() };
            // Room first: what has been read can then always be handed over.
            while let Ok(room) = runtime.block_on(sender.reserve()) {
                match reader.block() {
                    Ok(Some(block)) => room.send(Ok(block)),
                    Ok(None) => return,
                    Err(error) => return room.send(Err(error)),
                }
            }
        })?;
        Ok(Self { blocks })
    }

    /// The next lines, each with its end except perhaps the last of all; `None` at the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.blocks.recv().await.transpose()
    }

    /// What has been read already, without waiting for more.
    pub(crate) fn try_next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.blocks.try_recv().ok().transpose()
    }
}

struct Reader<R> {
    input: R,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
}

impl<R: Read> Reader<R> {
    fn block(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let start = self.rest.len();
            if start > LONGEST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line longer than 256 MiB"));
            }
            self.rest.resize(start + BLOCK, 0);
            let len = match self.input.read(&mut self.rest[start..]) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.rest.truncate(start);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.rest.truncate(start + len);
            if len == 0 {
                let last = std::mem::take(&mut self.rest);
                return Ok(Some(last).filter(|last| !last.is_empty()));
            }
            if let Some(end) = self.rest[start..].iter().rposition(|byte| *byte == b'\n') {
                let after = self.rest.split_off(start + end + 1);
                return Ok(Some(std::mem::replace(&mut self.rest, after)));
            }
        }
    }
}

/// The lines of a block, without their ends.
pub(crate) fn split(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slow(&'static [u8]);

    impl Read for Slow {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(3);
            out[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[tokio::test]
    async fn lines_stay_whole_however_they_arrive() {
        for (input, wanted) in [
            (&b"one\ntwo\n\nthree four five\nsix"[..], &["one", "two", "", "three four five", "six"][..]),
            (b"\n\n", &["", ""]),
            (b"", &[]),
            (b"x", &["x"]),
        ] {
            let (mut lines, mut read) = (Lines::read(Slow(input)).unwrap(), Vec::new());
            while let Some(block) = lines.next().await.unwrap() {
                read.extend(split(&block).map(|line| String::from_utf8(line.to_vec()).unwrap()));
            }
            assert_eq!(read, wanted);
        }
    }
}
