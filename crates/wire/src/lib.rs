//! PostgreSQL's protocol as values: bytes in, decisions and bytes out.
//!
//! Nothing here waits, reads a clock, or panics on what a peer sends.
//! Source: PostgreSQL manual, chapter "Frontend/Backend Protocol" (version 3).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used
    )
)]

pub mod authentication;
pub mod backend;
pub mod binary;
pub mod cancel;
pub mod error;
pub mod extended;
pub mod frame;
pub mod frontend;
pub mod params;
pub mod pipeline;
pub mod startup;
pub mod statements;

#[cfg(test)]
extern crate self as wire;

#[cfg(test)]
mod corpus;

pub use cancel::CancelKey;
pub use error::{ErrorFields, Severity, SqlState};
pub use frame::{FrameHeader, ProtocolError, Scanner};
pub use params::{ParamNames, Params};
pub use pipeline::{Pipeline, TxStatus};
pub use startup::{FirstPacket, Replication, Startup};
