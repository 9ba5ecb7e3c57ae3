//! Longer explanations than the page of one item holds.

#[doc = include_str!("getting_started.md")]
pub mod getting_started {}

#[doc = include_str!("producing.md")]
pub mod producing {}

#[doc = include_str!("consuming.md")]
pub mod consuming {}

#[doc = include_str!("request_reply.md")]
pub mod request_reply {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("architecture.md")]
pub mod architecture {
    #[doc = include_str!("architecture_codecs.md")]
    pub mod codecs {}
}
