//! The fault proxy does what its faults say, between a client and a node that answers every byte with the same byte.
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::fault_proxy::{FaultProxy, Hold, LinkFault, Way};

/// Something must not happen for so long.
const QUIET: Duration = Duration::from_millis(150);

/// Something must happen within this time.
const SOON: Duration = Duration::from_secs(20);

const HOLD: Hold = Hold { requests: true, answers: true, old_only: false, carrying: None, late: false };

/// A proxy before an echoing node, and what the node receives, connection after connection.
struct Bench {
    proxy: FaultProxy,
    port: u16,
    received: mpsc::Receiver<Vec<u8>>,
}

impl Bench {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = listener.local_addr().unwrap().port();
        let (tell, received) = mpsc::channel(1000);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut bytes = [0; 64 << 10];
                    while let Ok(length) = stream.read(&mut bytes).await
                        && length > 0
                    {
                        let _ = tell.try_send(bytes[..length].to_vec());
                        let _ = stream.write_all(&bytes[..length]).await;
                    }
                });
            }
        });
        let port = crate::support::kafka::free_ports(1).unwrap()[0];
        Self { proxy: FaultProxy::start([(node, port)], 1).await.unwrap(), port, received }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    fn strike(&self, fault: LinkFault) -> crate::fault_proxy::Struck {
        self.proxy.strike(0, fault)
    }
}

/// Sends these bytes and waits until they are back.
async fn echo(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    tokio::time::timeout(SOON, stream.read_exact(&mut back)).await??;
    assert_eq!(back, bytes);
    Ok(())
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(QUIET, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn without_a_fault_all_bytes_pass() {
    let bench = Bench::new().await;
    let mut stream = bench.connect().await;
    echo(&mut stream, &vec![7; 300_000]).await.unwrap();
    assert_eq!(bench.proxy.passed().links, 1);
}

#[tokio::test]
async fn a_cut_resets_what_stands_and_nothing_later() {
    let bench = Bench::new().await;
    let mut stream = bench.connect().await;
    echo(&mut stream, b"before").await.unwrap();
    bench.strike(LinkFault::Cut);
    let error = tokio::time::timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    echo(&mut bench.connect().await, b"after").await.unwrap();
    assert_eq!(bench.proxy.passed().resets, 1);
}

#[tokio::test]
async fn a_link_is_cut_after_so_many_bytes() {
    let bench = Bench::new().await;
    let mut stream = bench.connect().await;
    echo(&mut stream, b"before").await.unwrap();
    let struck = bench.strike(LinkFault::CutAfter { way: Way::Answers, bytes: 3 });
    stream.write_all(b"frame").await.unwrap();
    let mut back = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut back)).await.unwrap();
    assert!(end.is_err() && b"fra".starts_with(&back), "{end:?} {back:?}"); // a reset may overtake bytes
    bench.proxy.lift(struck);
    echo(&mut bench.connect().await, b"after").await.unwrap();
}

#[tokio::test]
async fn delay_throttle_and_slices_keep_bytes_and_their_order() {
    let bench = Bench::new().await;
    let bytes: Vec<u8> = (0..20_000u32).map(|number| number as u8).collect();
    let way = Way::Requests;
    let by = Duration::from_millis(100);
    for (fault, least) in [
        (LinkFault::Delay { way, by, jitter: by }, by),
        (LinkFault::Throttle { way, bytes: 100_000 }, by),
        (LinkFault::Slice { way, bytes: 7 }, Duration::ZERO),
    ] {
        let struck = bench.strike(fault);
        let begun = Instant::now();
        echo(&mut bench.connect().await, &bytes).await.unwrap();
        assert!(begun.elapsed() >= least, "{fault:?} took {:?}", begun.elapsed());
        bench.proxy.lift(struck);
    }
}

#[tokio::test]
async fn a_black_hole_swallows_until_its_end_and_then_resets() {
    let bench = Bench::new().await;
    let mut stream = bench.connect().await;
    echo(&mut stream, b"before").await.unwrap();
    let struck = bench.strike(LinkFault::Hold(HOLD));
    stream.write_all(b"lost").await.unwrap();
    assert!(is_silent(&mut stream).await);
    bench.proxy.lift(struck);
    assert!(tokio::time::timeout(SOON, stream.read_u8()).await.unwrap().is_err());
    let Bench { proxy: _proxy, mut received, .. } = bench;
    assert_eq!(received.recv().await.unwrap(), b"before");
    assert!(received.try_recv().is_err());
}

#[tokio::test]
async fn answers_are_held_while_requests_are_carried_out() {
    let mut bench = Bench::new().await;
    let mut stream = bench.connect().await;
    let struck = bench.strike(LinkFault::Hold(Hold { requests: false, late: true, ..HOLD }));
    stream.write_all(b"asked").await.unwrap();
    assert_eq!(bench.received.recv().await.unwrap(), b"asked");
    assert!(is_silent(&mut stream).await);
    bench.proxy.lift(struck);
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"asked");
}

#[tokio::test]
async fn held_requests_arrive_late_although_their_client_has_gone() {
    let mut bench = Bench::new().await;
    let mut stream = bench.connect().await;
    echo(&mut stream, b"before").await.unwrap();
    assert_eq!(bench.received.recv().await.unwrap(), b"before");
    let struck = bench.strike(LinkFault::Hold(Hold { answers: false, old_only: true, late: true, ..HOLD }));
    stream.write_all(b"late").await.unwrap();
    assert!(is_silent(&mut stream).await);
    drop(stream);
    // A connection that is made later is not held.
    echo(&mut bench.connect().await, b"new").await.unwrap();
    assert_eq!(bench.received.recv().await.unwrap(), b"new");
    bench.proxy.lift(struck);
    assert_eq!(bench.received.recv().await.unwrap(), b"late");
    assert_eq!(bench.proxy.passed().late_bytes, 4);
}

#[tokio::test]
async fn links_are_held_that_have_carried_a_certain_request() {
    let bench = Bench::new().await;
    let (mut fetches, mut produces) = (bench.connect().await, bench.connect().await);
    // Length, API key and two bytes more, twice, in pieces that end anywhere.
    for piece in [&[0, 0, 0][..], &[4, 0, 18, 9, 9, 0, 0, 0, 4, 0], &[1, 9, 9]] {
        echo(&mut fetches, piece).await.unwrap();
    }
    echo(&mut produces, &[0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 1 << 6]).await.unwrap();
    let struck = bench.strike(LinkFault::Hold(Hold { old_only: true, carrying: Some(1), ..HOLD }));
    fetches.write_all(b"unheard").await.unwrap();
    assert!(is_silent(&mut fetches).await);
    echo(&mut produces, b"others pass").await.unwrap();
    // One that carries it later is new.
    echo(&mut bench.connect().await, &[0, 0, 0, 4, 0, 1, 9, 9]).await.unwrap();
    bench.proxy.lift(struck);
    assert!(tokio::time::timeout(SOON, fetches.read_u8()).await.unwrap().is_err());
    echo(&mut produces, b"still there").await.unwrap();
}

#[tokio::test]
async fn connections_are_refused_until_the_fault_is_lifted() {
    let bench = Bench::new().await;
    let mut stream = bench.connect().await;
    echo(&mut stream, b"before").await.unwrap();
    let struck = bench.strike(LinkFault::Refuse);
    assert!(tokio::time::timeout(SOON, stream.read_u8()).await.unwrap().is_err());
    let connect = || TcpStream::connect(("127.0.0.1", bench.port));
    let wait_for = async |open: bool| {
        while connect().await.is_ok() != open {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, wait_for(false)).await.unwrap();
    assert_eq!(connect().await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    bench.proxy.lift(struck);
    tokio::time::timeout(SOON, wait_for(true)).await.unwrap();
    echo(&mut bench.connect().await, b"after").await.unwrap();
}
