//! The options of a producer.
use std::sync::Arc;
use std::time::Duration;

use super::Producer;
use crate::client::Core;
use crate::client::config::value;
use crate::error::{Error, ErrorKind, Result};
use crate::partitioner::{Choice, ConsistentRandomPartitioner, Partitioner};
use crate::record::batch::HEADER_LEN;
use crate::record::{Compression, compression};
use crate::state::backoff::Backoff;
use crate::state::producer::{MAX_IN_FLIGHT_IDEMPOTENT, Settings};

/// What has to happen before a record counts as written (Kafka's `acks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// `0`: the request was handed to the socket. Records can be lost without an error, and no offset is known.
    None,
    /// `1`: the leader has appended it. Records can be lost when the leader fails.
    Leader,
    /// `all`, the default: all in-sync replicas have appended it.
    #[default]
    All,
}

impl Acks {
    pub(super) fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// The options, checked.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) acks: Acks,
    idempotent: bool,
    linger: Duration,
    batch_size: usize,
    pub(super) buffer_memory: usize,
    max_request_size: usize,
    pub(super) compression: Compression,
    pub(super) level: Option<i32>,
    delivery_timeout: Duration,
    pub(super) request_timeout: Duration,
    max_in_flight: usize,
    pub(super) max_block: Duration,
    pub(super) partitioner: Choice,
    backoff: Backoff,
}

impl Options {
    /// Bytes of the largest batch, which has one record.
    pub(super) fn largest_batch(&self) -> usize {
        self.max_request_size.min(self.buffer_memory)
    }

    /// Bytes at which a batch is full.
    pub(super) fn batch_limit(&self) -> usize {
        self.batch_size.clamp(HEADER_LEN + 1, self.largest_batch().max(HEADER_LEN + 1))
    }

    /// Whether batches are open so shortly that not every record needs the exact time.
    pub(super) fn shares_clock(&self) -> bool {
        self.linger <= Duration::from_millis(10)
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            acks: self.acks.code(),
            idempotent: self.idempotent,
            linger: self.linger,
            max_request_size: self.max_request_size,
            compression: self.compression,
            level: self.level,
            delivery_timeout: self.delivery_timeout,
            request_timeout: self.request_timeout,
            max_in_flight: self.max_in_flight,
            backoff: self.backoff,
        }
    }
}

/// Makes a [`Producer`]. Every option has the default of Kafka 4; checked once, in [`ProducerBuilder::build`].
///
/// ```
/// use std::time::Duration;
/// use milena::{Client, Compression};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # let client = Client::connect(&broker.address()).await?;
/// let options = client.producer().linger(Duration::from_millis(20)).compression(Compression::Lz4);
/// let producer = options.set("delivery.timeout.ms", "30000")?.build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProducerBuilder {
    core: Arc<Core>,
    options: Options,
    /// `None`: as the acknowledgements allow.
    idempotence: Option<bool>,
}

impl ProducerBuilder {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let config = core.config();
        let options = Options {
            acks: Acks::All,
            idempotent: true,
            linger: Duration::from_millis(5),
            batch_size: 16 * 1024,
            buffer_memory: 32 * 1024 * 1024,
            max_request_size: 1024 * 1024,
            compression: Compression::None,
            level: None,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: config.request_timeout,
            max_in_flight: 5,
            max_block: Duration::from_secs(60),
            partitioner: Choice::default(),
            backoff: config.retry_backoff,
        };
        Self { core, options, idempotence: None }
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// When a record counts as written. Default: [`Acks::All`]. Kafka: `acks`.
    ///
    /// Anything else turns idempotence off, as in Java.
    pub fn acks(self, acks: Acks) -> Self {
        self.with(|options| options.acks = acks)
    }

    /// Whether a record that is sent twice is written once, and the order of a partition holds with several batches in
    /// flight. Default: on, with `acks=all`. Kafka: `enable.idempotence` (KIP-98, KIP-360).
    ///
    /// To ask for it with other acknowledgements is an error. Without it a partition has one batch in flight, so that its
    /// order holds all the same; Java lets five overtake each other.
    pub fn idempotence(mut self, on: bool) -> Self {
        self.idempotence = Some(on);
        self
    }

    /// How long an open batch waits for more records. Default: 5 ms, as in Java since Kafka 4 (librdkafka: 5 ms). Kafka: `linger.ms`.
    ///
    /// With zero a batch is sent as soon as its node has room for a request; what comes meanwhile is gathered.
    pub fn linger(self, linger: Duration) -> Self {
        self.with(|options| options.linger = linger)
    }

    /// Bytes at which a batch is full, before compression. Default: 16 KiB. Kafka: `batch.size`.
    ///
    /// A batch takes memory as it grows. A larger record has a batch of its own.
    pub fn batch_size(self, bytes: usize) -> Self {
        self.with(|options| options.batch_size = bytes)
    }

    /// Bytes that batches may take until they are settled. Default: 32 MiB. Kafka: `buffer.memory`.
    ///
    /// When they are used up, `send` waits and `try_send` fails.
    pub fn buffer_memory(self, bytes: usize) -> Self {
        self.with(|options| options.buffer_memory = bytes)
    }

    /// Bytes of batches in one request, and of the largest record. Default: 1 MiB. Kafka: `max.request.size`.
    ///
    /// It should not be above the `max.message.bytes` of the topics.
    pub fn max_request_size(self, bytes: usize) -> Self {
        self.with(|options| options.max_request_size = bytes)
    }

    /// How batches are compressed. Default: not at all. Kafka: `compression.type`.
    ///
    /// A batch that does not get smaller is sent as it is.
    pub fn compression(self, codec: Compression) -> Self {
        self.with(|options| options.compression = codec)
    }

    /// How hard the codec tries, on its own scale. Default: the codec's. Kafka: `compression.gzip.level` and so on (KIP-390).
    pub fn compression_level(self, level: i32) -> Self {
        self.with(|options| options.level = Some(level))
    }

    /// How long a delivery may take in all, waiting and repeating included. Default: 120 s. Kafka: `delivery.timeout.ms` (KIP-91).
    pub fn delivery_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.delivery_timeout = timeout)
    }

    /// How long a node may take to answer; then the connection is closed and the request repeated. Default: that of the
    /// client, 30 s. Kafka: `request.timeout.ms`.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.request_timeout = timeout)
    }

    /// Produce requests to one node that wait for an answer. Default: 5, which is the most with idempotence. Kafka:
    /// `max.in.flight.requests.per.connection`.
    pub fn max_in_flight(self, requests: usize) -> Self {
        self.with(|options| options.max_in_flight = requests)
    }

    /// How long `send` waits until a topic or a partition is known. Default: 60 s. Kafka: `max.block.ms`.
    ///
    /// Unlike in Java, the wait for memory is not limited by it.
    pub fn max_block(self, time: Duration) -> Self {
        self.with(|options| options.max_block = time)
    }

    /// Chooses the partition of records that do not name one. Default: [`Murmur2Partitioner`](crate::Murmur2Partitioner), as in
    /// Java. Kafka: `partitioner.class`.
    pub fn partitioner(self, partitioner: impl Partitioner) -> Self {
        self.with(|options| options.partitioner = Choice::Custom(Arc::new(partitioner)))
    }

    /// Waits between attempts: from `first`, doubled up to `max`. Default: that of the client, 100 ms to 1 s. Kafka: `retry.backoff.ms`
    /// and `retry.backoff.max.ms` (KIP-580).
    pub fn retry_backoff(self, first: Duration, max: Duration) -> Self {
        self.with(|options| options.backoff = Backoff { first, max })
    }

    /// Sets an option by Kafka's name, with a value as in a properties file; librdkafka's names are known too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the option is unknown or the value cannot be read.
    pub fn set(self, key: &str, value: &str) -> Result<Self> {
        let backoff = self.options.backoff;
        Ok(match key {
            "acks" | "request.required.acks" => {
                let words = [("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)];
                self.acks(value::one_of(key, value, &words)?)
            }
            "enable.idempotence" => self.idempotence(value::boolean(key, value)?),
            "linger.ms" | "queue.buffering.max.ms" => self.linger(value::millis(key, value)?),
            "batch.size" => self.batch_size(value::integer(key, value)?),
            "buffer.memory" => self.buffer_memory(value::integer(key, value)?),
            "max.request.size" | "message.max.bytes" => self.max_request_size(value::integer(key, value)?),
            "compression.type" | "compression.codec" => self.compression(value.trim().parse()?),
            "compression.gzip.level"
            | "compression.lz4.level"
            | "compression.zstd.level"
            | "compression.level" => self.compression_level(value::integer(key, value)?),
            "delivery.timeout.ms" | "message.timeout.ms" => self.delivery_timeout(value::millis(key, value)?),
            "request.timeout.ms" => self.request_timeout(value::millis(key, value)?),
            "max.in.flight.requests.per.connection" | "max.in.flight" => {
                self.max_in_flight(value::integer(key, value)?)
            }
            "max.block.ms" => self.max_block(value::millis(key, value)?),
            "retry.backoff.ms" => self.retry_backoff(value::millis(key, value)?, backoff.max),
            "retry.backoff.max.ms" => self.retry_backoff(backoff.first, value::millis(key, value)?),
            "partitioner" => {
                match value::one_of(key, value, &[("murmur2_random", true), ("consistent_random", false)])? {
                    true => self.with(|options| options.partitioner = Choice::Murmur2),
                    false => self.partitioner(ConsistentRandomPartitioner),
                }
            }
            _ => return Err(Error::new(ErrorKind::Config, format!("unknown option of a producer: {key}"))),
        })
    }

    /// Checks the options and starts the producer. Nothing is sent yet but the request for a producer id.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if options contradict each other, [`ErrorKind::Unsupported`] if this build lacks the codec.
    ///
    /// Cancel safe.
    pub async fn build(self) -> Result<Producer> {
        let mut options = self.options;
        options.idempotent = self.idempotence.unwrap_or(options.acks == Acks::All);
        // A longer wait for an answer would be of no use.
        options.request_timeout = options.request_timeout.min(options.delivery_timeout);
        check(&options)?;
        compression::available(options.compression)?;
        if self.core.is_closed() {
            return Err(Error::closed("the client"));
        }
        Ok(Producer::start(&self.core, options))
    }
}

fn check(options: &Options) -> Result<()> {
    let error = |message: String| Err(Error::new(ErrorKind::Config, message));
    if options.idempotent && options.acks != Acks::All {
        return error("idempotence (enable.idempotence) needs acks=all".to_owned());
    }
    if options.max_in_flight == 0 {
        return error("max_in_flight must be at least 1".to_owned());
    }
    if options.idempotent && options.max_in_flight > MAX_IN_FLIGHT_IDEMPOTENT {
        return error(format!("with idempotence, max_in_flight is at most {MAX_IN_FLIGHT_IDEMPOTENT}"));
    }
    if options.delivery_timeout <= options.linger {
        return error("delivery_timeout must be longer than linger".to_owned());
    }
    if options.request_timeout.is_zero() {
        return error("request_timeout must be above zero".to_owned());
    }
    if options.backoff.first.is_zero() || options.backoff.first > options.backoff.max {
        return error(
            "retry_backoff: the first wait must be above zero and not above the longest".to_owned(),
        );
    }
    if options.largest_batch() <= HEADER_LEN || options.max_request_size > i32::MAX as usize / 2 {
        return error(format!(
            "max_request_size and buffer_memory must be above {HEADER_LEN} bytes, max_request_size below 1 GiB"
        ));
    }
    Ok(())
}
