//! The server that the tests of stores start.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

#[path = "../../../store/tests/support/mod.rs"]
mod support;

#[path = "../../../store/tests/postgres/server.rs"]
mod server;

pub use server::{PASSWORD, Server};
