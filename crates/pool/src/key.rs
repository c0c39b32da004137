//! The names of things: pools, servers, clients, workers.

use std::fmt;
use std::sync::Arc;

/// Which pool: a database entry and the user its servers log in as.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The entry of `[databases]`.
    pub database: Arc<str>,
    /// The user at the server.
    pub user: Arc<str>,
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.database, self.user)
    }
}

/// A pool's number, the same on all workers, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u32);

/// A server's place in its pool on its worker; used again after it closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub usize);

/// A client, all over the process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// A worker thread, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

impl WorkerId {
    /// The worker's bit in a set of workers.
    pub fn bit(self) -> u64 {
        1 << (self.0 & 63)
    }
}

/// Most workers that a process may have: one bit each in a set.
pub const WORKERS_MAX: usize = 64;
