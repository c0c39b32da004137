//! pgusher: clients, sessions, the process.
//!
//! An usher leads each client to a seat, a server connection, for as long as a transaction lasts,
//! then leads in the next one.

mod accept;
mod auth_query;
mod cancel;
pub mod cli;
mod client;
mod console;
mod daemon;
mod drain;
mod elders;
mod entrypoint;
mod errand;
mod handover;
mod healthcheck;
mod http;
mod insight;
mod load;
pub mod logging;
mod names;
mod pam;
mod peers;
mod pooler;
mod process;
mod queue;
mod relay;
mod rest;
mod rules;
pub mod run;
mod session;
mod setup;
mod shutdown;
mod signals;
mod source;
mod stage;
mod statements;
mod systemd;
mod takeover;
mod view;
mod vitals;
mod worker;
