//! PostgreSQL, poolers and scripted peers for tests.
//!
//! Four builders, used alike: [`Postgres`] is a real throw-away server, [`Pooler`] the program
//! under test, [`FakeServer`] and [`FakeClient`] speak the protocol byte by byte. Each cleans up
//! after itself, also when the test is killed.
//!
//! Whatever goes wrong in here ends the test: methods panic and say what they were waiting for.
//! Those named `try_…` return the error instead.

mod account;
mod address;
mod binaries;
mod browser;
mod certificates;
mod eventually;
mod fake_client;
mod fake_dns;
mod fake_server;
mod http;
mod inbox;
mod log;
mod message;
mod pooler;
mod port;
mod postgres;
mod process;
mod prometheus;
mod scratch;
mod slapd;
mod start_error;
mod tls;

pub use account::Account;
pub use address::Address;
pub use binaries::client_program;
pub use browser::Browser;
pub use certificates::{Authority, Certificate, Key, Request};
pub use eventually::{PATIENCE, eventually, eventually_async, in_time};
pub use fake_client::FakeClient;
pub use fake_dns::FakeDns;
pub use fake_server::{
    Ask, Chunks, Connection, FakeServer, FakeServerSetup, Gate, Login, Newer, Step, md5_secret,
    quick_scram_secret, scram_secret,
};
pub use http::Page;
pub use message::{
    CancelKey, ErrorFields, Message, Side, Startup, Tx, startup_packet, startup_packet_of,
    transcript,
};
pub use nix::sys::signal::Signal;
pub use pooler::{Console, Exit, Pooler, PoolerSetup, Row};
pub use postgres::{Postgres, PostgresSetup};
pub use prometheus::{Prometheus, promtool};
pub use scratch::Scratch;
pub use slapd::Slapd;
pub use start_error::StartError;
pub use tls::{TlsDoor, TlsTunnel, Visit, request_tls, trusting_tls};
