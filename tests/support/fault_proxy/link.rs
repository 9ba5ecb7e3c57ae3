//! One connection through the proxy: two ways, each with a queue of what was read and has not been written.
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Line;
use super::fault::{Carried, Conditions, Requests, Way};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Chunks of one way that wait: a megabyte. Then reading stops, as a full socket would.
const QUEUE: usize = 64;

/// A throttled way is written in pieces of a twentieth of what passes in a second.
const PIECES_PER_SECOND: usize = 20;

/// How long a node is left alone with requests whose client has gone, so that it carries them out.
const UNHEARD: Duration = Duration::from_secs(2);

/// How a way ends: by itself, or because a fault resets the connection.
#[derive(PartialEq, Eq)]
enum End {
    Over,
    Reset,
}

pub(super) async fn forward(line: &Line, number: u64, mut client: TcpStream, mut node: TcpStream) {
    let end = {
        let (from_client, to_client) = client.split();
        let (from_node, to_node) = node.split();
        let mut conditions = line.conditions.subscribe();
        let link = Link { line, number, carried: Carried::default() };
        let requests = async {
            match link.carry(Way::Requests, from_client, to_node).await {
                End::Over => {
                    tokio::time::sleep(UNHEARD).await;
                    End::Over
                }
                End::Reset => End::Reset,
            }
        };
        tokio::select! {
            _ = conditions.wait_for(|now| now.cuts(number, &link.carried)) => End::Reset,
            end = requests => end,
            end = link.carry(Way::Answers, from_node, to_client) => end,
        }
    };
    if end == End::Reset {
        line.counts.resets.fetch_add(1, Relaxed);
        let _ = client.set_zero_linger().and(node.set_zero_linger());
    }
}

struct Link<'a> {
    line: &'a Line,
    number: u64,
    carried: Carried,
}

impl Link<'_> {
    /// Carries bytes until the reader has ended and all of them are delivered, or until a fault resets the connection.
    async fn carry(&self, way: Way, mut from: ReadHalf<'_>, to: WriteHalf<'_>) -> End {
        let (line, number) = (self.line, self.number);
        let (queue, queued) = mpsc::channel(QUEUE);
        let gone = AtomicBool::new(false);
        let read = async {
            let queue = queue; // dropped at the end of reading, which ends the writing
            let mut requests = Requests::default();
            let mut random =
                StdRng::seed_from_u64(line.seed ^ (number << 1 | u64::from(way == Way::Answers)));
            loop {
                let mut chunk = vec![0; CHUNK];
                match from.read(&mut chunk).await {
                    Ok(length) if length > 0 => chunk.truncate(length),
                    _ => break gone.store(true, Relaxed),
                }
                if way == Way::Requests {
                    requests.follow(&chunk, &self.carried);
                }
                let due = Instant::now() + line.conditions.borrow().delay(way, &mut random);
                if queue.send((due, chunk)).await.is_err() {
                    break;
                }
            }
        };
        let forever = async {
            read.await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            end = self.write(way, queued, to, &gone) => end,
            never = forever => match never {},
        }
    }

    async fn write(
        &self,
        way: Way,
        mut queued: mpsc::Receiver<(Instant, Vec<u8>)>,
        mut to: WriteHalf<'_>,
        gone: &AtomicBool,
    ) -> End {
        let (line, number) = (self.line, self.number);
        let mut conditions = line.conditions.subscribe();
        // The fault that will cut this way, and the bytes until then.
        let mut left = (0, 0);
        while let Some((due, chunk)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let (rate, slice, cut) =
                    match conditions.wait_for(|now| !now.holds(number, way, &self.carried)).await {
                        Ok(now) => look(&now, way),
                        Err(_) => return End::Over,
                    };
                let most = rate.map_or(CHUNK, |rate| rate.div_ceil(PIECES_PER_SECOND));
                let mut piece = rest.len().min(most).min(slice.unwrap_or(CHUNK));
                let mut reset = false;
                if let Some((fault, bytes)) = cut {
                    if left.0 != fault {
                        left = (fault, bytes);
                    }
                    reset = left.1 <= piece;
                    piece = piece.min(left.1);
                    left.1 -= piece;
                }
                // Who does not listen any more still gets everything: an answer is read off the node all the same.
                let _ = to.write_all(&rest[..piece]).await;
                if reset {
                    return End::Reset;
                }
                if gone.load(Relaxed) && way == Way::Requests {
                    line.counts.late.fetch_add(piece as u64, Relaxed);
                }
                rest = &rest[piece..];
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs_f64(piece as f64 / rate as f64)).await;
                } else if slice.is_some() {
                    tokio::task::yield_now().await;
                }
            }
        }
        // A black hole swallows this, too.
        let _ = conditions.wait_for(|now| !now.holds(number, way, &self.carried)).await;
        End::Over
    }
}

type Look = (Option<usize>, Option<usize>, Option<(u64, usize)>);

fn look(now: &Conditions, way: Way) -> Look {
    (now.rate(way), now.slice(way), now.cut_after(way))
}
