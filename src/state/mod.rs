//! Decisions: machines without async, clock, socket, channel or randomness of their own.
//!
//! Every machine has the same four kinds of methods.
//!
//! | kind | form | meaning |
//! | --- | --- | --- |
//! | inputs | `handle_response(now, ticket, ..)`, `handle_disconnect(now, ..)`, `handle_metadata(now, &Cluster)`, `handle_deadline(now)` | facts from outside |
//! | commands | plain verbs with `now`: `append`, `flush`, `seek`, `close` | the application's will |
//! | outputs | `poll_request(now)`, `poll_event()`, `next_deadline()` | what the shell must do |
//! | looks | `&self` getters | no effect |
//!
//! After any input or command: drain the requests, then the events, then read the deadline. A ticket names a request and
//! gets exactly one response, disconnect or expiry. Illegal input from a node is an `Err` that names the rule broken;
//! illegal use by our own shell is an assertion.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))] // tests may read a clock to begin with

pub(crate) mod backoff;
pub(crate) mod connection;
pub(crate) mod consumer;
pub(crate) mod group;
pub(crate) mod in_flight;
pub(crate) mod membership;
pub(crate) mod metadata;
pub(crate) mod producer;
pub(crate) mod reply;
