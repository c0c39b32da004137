//! A lease: a server lent to a client until `pool_mode` says otherwise.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use events::time::Instant;
use thiserror::Error;

use crate::attempts::LoginFailure;
use crate::key::ServerId;
use crate::pool::Pool;
use crate::server::{CloseReason, Server};

/// Why a client did not get a server.
#[derive(Debug, Clone, Error)]
pub enum LeaseError {
    /// `query_wait_timeout` passed.
    #[error("query_wait_timeout")]
    QueryWaitTimeout,
    /// `query_timeout` passed before a server was free.
    #[error("query_timeout")]
    QueryTimeout,
    /// No server can be reached.
    #[error(
        "server login has been failing, cached error: {failure}, for {} s (server_login_retry)",
        .lasted.as_secs()
    )]
    LoginFailing {
        /// What happened last.
        failure: Arc<LoginFailure>,
        /// For how long it has been so.
        lasted: Duration,
    },
    /// The database is no longer in the configuration.
    #[error("database removed")]
    DatabaseRemoved,
    /// The server refused the login.
    #[error("{}", .0.for_client())]
    LoginRefused(Arc<LoginFailure>),
}

impl LeaseError {
    /// The same in words that are always the same: for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::QueryWaitTimeout => "query_wait_timeout",
            Self::QueryTimeout => "query_timeout",
            Self::LoginFailing { .. } => "server login has been failing",
            Self::DatabaseRemoved => "database removed",
            Self::LoginRefused(_) => "server login failed",
        }
    }
}

/// A server, lent. Release it or close it; dropped, it is closed, since nobody knows what it
/// still owes.
#[derive(Debug)]
pub struct Lease {
    server: Rc<Server>,
    place: ServerId,
    pool: Rc<Pool>,
    over: bool,
}

impl Lease {
    pub(crate) fn new(pool: Rc<Pool>, place: ServerId, server: Rc<Server>) -> Self {
        Self {
            server,
            place,
            pool,
            over: false,
        }
    }

    /// The server.
    pub fn server(&self) -> &Rc<Server> {
        &self.server
    }

    /// The pool it comes from.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Gives the server back: to the longest waiter, or to be idle.
    pub fn release(mut self, now: Instant) {
        self.over = true;
        self.pool.release(self.place, &self.server, now);
    }

    /// Another process has the server now, and its client: what is left of it here is forgotten.
    pub fn goes_over(mut self) {
        self.over = true;
        self.pool.went_over(self.place);
    }

    /// The server is of no more use.
    pub fn close(mut self, reason: CloseReason) {
        self.over = true;
        self.pool.close(self.place, reason);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.over {
            self.pool.close(self.place, CloseReason::Unclean);
        }
    }
}
