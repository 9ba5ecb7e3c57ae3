//! Why a batch cannot be read or written.
use crate::error::{Error, ErrorKind};
use crate::protocol::primitives::Malformed;

/// What is wrong with a batch. Where it lies (topic, partition, offset) is added by who knows it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("record {at} of the batch: {cause}")]
    Record { at: usize, cause: Malformed },
    #[error("wrong checksum: the batch says {stored:08x}, its bytes give {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("unknown codec {0}")]
    UnknownCodec(u8),
    #[error("the batch is compressed with {codec}, and this build lacks the cargo feature `{codec}`")]
    MissingFeature { codec: &'static str },
    #[error("the batch inflates to more than the limit of {limit} bytes")]
    TooLarge { limit: usize },
    #[cfg_attr(
        not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
        allow(dead_code)
    )]
    #[error("{codec}: {cause}")]
    Codec { codec: &'static str, cause: String },
}

impl BatchError {
    #[cfg_attr(
        not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
        allow(dead_code)
    )]
    pub(super) fn codec(codec: &'static str, cause: impl std::fmt::Display) -> Self {
        Self::Codec { codec, cause: cause.to_string() }
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        let kind = match error {
            BatchError::MissingFeature { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Corrupt,
        };
        Error::new(kind, error.to_string())
    }
}
