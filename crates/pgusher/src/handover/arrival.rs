//! A client that has come over, on its way to a worker.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use events::time::Instant;
use net::stream::Parked;
use pool::server::ParkedServer;
use pool::statements::Statement;
use pool::{ClientId, PoolShared};
use wire::Params;

use super::visits::Visit;
use crate::cancel::Registered;
use crate::process::Counted;

/// All that it is.
pub(crate) struct Arrival {
    pub(crate) id: ClientId,
    pub(crate) socket: Parked,
    pub(crate) user: Arc<str>,
    pub(crate) pool: Arc<PoolShared>,
    pub(crate) params: Arc<Params>,
    pub(crate) statements: Vec<(Box<[u8]>, Arc<Statement>)>,
    pub(crate) held: Vec<u8>,
    pub(crate) connect_time: SystemTime,
    pub(crate) connected: Instant,
    pub(crate) request_time: Instant,
    pub(crate) key: Registered,
    /// The server that it keeps.
    pub(crate) server: Option<Box<ParkedServer>>,
    /// Counts it as a client socket.
    pub(crate) counted: Counted,
    /// Count it among the clients of its database and its user.
    pub(crate) counts: [Counted; 2],
    pub(crate) visit: Visit,
}

/// Shows its number only: the rest is its own.
impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arrival({})", self.id.0)
    }
}
