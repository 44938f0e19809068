//! A gateway server on a real port, tried with good and bad input. No coordinator runs: what only an owner could
//! answer is `unknown` or `unavailable` here, unless the test answers itself.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests, which keep their own time"
)]

mod backend;
mod directory;
mod drain;
mod frames;
mod handshake;
mod kept;
mod library;
mod owners;
mod rest;
mod support;
mod tls;
