//! The servers that the tests of stores start.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses its part, and may fail so"
)]

#[path = "../../../store/tests/support/mod.rs"]
mod support;

#[path = "../../../store/tests/cassandra/server.rs"]
pub mod cassandra;
#[path = "../../../store/tests/postgres/server.rs"]
pub mod postgres;
#[path = "../../../store/tests/redis/server.rs"]
pub mod redis;
