//! An entry of `[users]`.

use std::time::Duration;

use crate::choices::PoolMode;
use crate::connstr::{Pair, PairError, each_pair};

/// Longest name of a user, in bytes.
pub(crate) const USER_NAME_LEN_MAX: usize = 127;

/// What holds for one user. `None` leaves a value to the database or the global setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// When a server goes back to the pool.
    pub pool_mode: Option<PoolMode>,
    /// Server connections in each pool; 0 means no limit.
    pub pool_size: Option<u32>,
    /// Server connections on top when clients wait too long.
    pub reserve_pool_size: Option<u32>,
    /// Server connections over all databases, never 0.
    pub max_user_connections: Option<u32>,
    /// Client connections over all databases, never 0.
    pub max_user_client_connections: Option<u32>,
    /// Longest time a query may run, never 0.
    pub query_timeout: Option<Duration>,
    /// Longest time a transaction may idle, never 0.
    pub idle_transaction_timeout: Option<Duration>,
    /// Longest time a transaction may take, never 0.
    pub transaction_timeout: Option<Duration>,
    /// Longest silence of a client without a server, never 0.
    pub client_idle_timeout: Option<Duration>,
    /// Longest wait for a server; 0 means forever.
    pub query_wait_timeout: Option<Duration>,
}

impl User {
    /// A user about whom the configuration says nothing but the name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool_mode: None,
            pool_size: None,
            reserve_pool_size: None,
            max_user_connections: None,
            max_user_client_connections: None,
            query_timeout: None,
            idle_transaction_timeout: None,
            transaction_timeout: None,
            client_idle_timeout: None,
            query_wait_timeout: None,
        }
    }

    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, PairError> {
        let mut user = Self::new(name);
        each_pair(text, |pair| user.apply(pair))?;
        Ok(user)
    }

    fn apply(&mut self, pair: &Pair) -> Result<(), PairError> {
        match pair.key.as_str() {
            "pool_mode" => self.pool_mode = pair.choice()?,
            "pool_size" => self.pool_size = pair.size()?,
            "reserve_pool_size" | "reserve_pool" => self.reserve_pool_size = pair.size()?,
            "max_user_connections" => self.max_user_connections = pair.limit()?,
            "max_user_client_connections" => self.max_user_client_connections = pair.limit()?,
            "query_timeout" => self.query_timeout = pair.timeout()?,
            "idle_transaction_timeout" => self.idle_transaction_timeout = pair.timeout()?,
            "transaction_timeout" => self.transaction_timeout = pair.timeout()?,
            "client_idle_timeout" => self.client_idle_timeout = pair.timeout()?,
            "query_wait_timeout" => self.query_wait_timeout = pair.seconds()?,
            unknown => return Err(PairError::unknown(unknown, KEYS)),
        }
        Ok(())
    }
}

/// Every key that [`User::apply`] knows.
pub(crate) const KEYS: &[&str] = &[
    "pool_mode",
    "pool_size",
    "reserve_pool_size",
    "reserve_pool",
    "max_user_connections",
    "max_user_client_connections",
    "query_timeout",
    "idle_transaction_timeout",
    "transaction_timeout",
    "client_idle_timeout",
    "query_wait_timeout",
];
