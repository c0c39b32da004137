//! Server connections, and who may use them.
//!
//! [`state::PoolState`] and [`limits::Limits`] decide and never wait; [`Pool`] waits and never
//! decides. A worker's [`Pools`] own its servers; [`shared::Shared`] is what all workers see.

pub mod attempts;
pub mod key;
pub mod labels;
pub mod lease;
pub mod limits;
pub mod locality;
pub mod meter;
pub mod moving;
pub mod own;
pub mod patience;
pub mod pool;
pub mod pools;
pub mod roster;
pub mod server;
pub mod shared;
pub mod snapshot;
pub mod state;
pub mod statements;

mod cancels;
pub mod census;
mod eviction;
mod janitor;
mod line;
mod opening;
mod pace;
pub mod report;
mod stirs;

#[cfg(test)]
mod dice;
#[cfg(test)]
mod model;

pub use key::{ClientId, PoolId, PoolKey, ServerId, WorkerId};
pub use lease::{Lease, LeaseError};
pub use pool::Pool;
pub use pools::Pools;
pub use roster::{ClientEntry, Roster};
pub use server::{CloseReason, Server};
pub use shared::{DatabaseShared, Mail, PoolShared, Reported, Shared};
