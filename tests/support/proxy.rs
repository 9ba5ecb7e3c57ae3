//! A man in the middle, over in-memory pipes: it hands every frame that a node sends to a function that may change it.
use milena::broker::Network;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

/// Gets the API key and version of the request, and the answer with its length prefix; what it leaves is sent on.
pub type Tamper = dyn Fn(i16, i16, &mut Vec<u8>) + Send + Sync;

/// Connects to a node of an embedded broker through the man in the middle.
pub async fn connect(
    network: Network,
    host: String,
    port: u16,
    tamper: Arc<Tamper>,
) -> io::Result<DuplexStream> {
    let (node_reader, node_writer) = tokio::io::split(network.connect(&host, port)?);
    let (near, far) = tokio::io::duplex(1 << 20);
    let (client_reader, client_writer) = tokio::io::split(far);
    let asked = Arc::new(Mutex::new(HashMap::new()));
    tokio::spawn(requests(client_reader, node_writer, asked.clone()));
    tokio::spawn(answers(node_reader, client_writer, asked, tamper));
    Ok(near)
}

type Asked = Arc<Mutex<HashMap<i32, (i16, i16)>>>;

async fn requests(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    asked: Asked,
) -> io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let correlation = i32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]);
        asked.lock().unwrap().insert(correlation, (number(4), number(6)));
        to.write_all(&frame).await?;
    }
}

async fn answers(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    asked: Asked,
    tamper: Arc<Tamper>,
) -> io::Result<()> {
    loop {
        let mut frame = frame(&mut from).await?;
        let correlation = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        // A node may be told to answer what nobody asked.
        let asked = asked.lock().unwrap().remove(&correlation);
        if let Some((api_key, version)) = asked {
            tamper(api_key, version, &mut frame);
        }
        to.write_all(&frame).await?;
    }
}

/// A frame with its length prefix.
async fn frame(from: &mut ReadHalf<DuplexStream>) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = length.to_be_bytes().to_vec();
    from.take(u64::from(length)).read_to_end(&mut frame).await?;
    Ok(frame)
}
