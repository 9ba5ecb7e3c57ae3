//! Request-reply: which call a reply belongs to, how requests and replies are labelled, what a responder has finished.
//!
//! Nothing here knows a consumer group. A call names the partition it wants its reply on; whoever reads that partition
//! hands each record to the [`router`], which knows whose it is.

pub(crate) mod answerers;
pub(crate) mod correlation;
pub(crate) mod dedupe;
pub(crate) mod dialect;
pub(crate) mod gather;
pub(crate) mod home_claims;
pub(crate) mod homes;
pub(crate) mod intake;
pub(crate) mod lost;
pub(crate) mod router;
pub(crate) mod stream;
pub(crate) mod trace;
pub(crate) mod tracker;
