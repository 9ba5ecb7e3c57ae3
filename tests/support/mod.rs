//! What several test binaries share. Each uses a part of it.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "every test binary uses another part of the harness"
)]

pub mod kafka;
pub mod process;
pub mod program;
