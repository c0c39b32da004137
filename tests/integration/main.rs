//! Conversations with a real PostgreSQL, and with scripted peers; a module a topic.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod backend_pid;
mod cancel;
mod clients;
mod config;
mod console;
mod container;
mod copy;
mod deaths;
mod deployment;
mod differential;
mod dns;
mod drivers;
mod fairness;
mod handover;
mod limits;
mod metrics;
mod parameters;
mod peers;
mod pooling;
mod programs;
mod protocol;
mod reload;
mod replication;
mod sends;
mod shutdown;
mod statements;
mod streams;
mod support;
mod takeover;
mod timeouts;
mod tls;
mod versions;
