//! What holds for one pool or one client, once user, database and global settings are weighed.
//!
//! `None` is "no limit" or "never" throughout, whatever number the ini file says that with.

use std::time::Duration;

use crate::choices::{LoadBalanceHosts, PoolMode, StatementErrors};
use crate::config::Config;
use crate::database::Database;
use crate::settings::Settings;
use crate::values::CheckQuery;

/// What a pool of servers is run by.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    /// When a server goes back to the pool.
    pub pool_mode: PoolMode,
    /// Most servers, but for the reserve.
    pub pool_size: Option<u32>,
    /// Servers kept ready, at most pool_size.
    pub min_pool_size: u32,
    /// Servers on top of pool_size once a client has waited for reserve_pool_timeout.
    pub reserve_pool_size: u32,
    /// How long that is; `None` keeps the reserve shut.
    pub reserve_pool_timeout: Option<Duration>,
    /// Most servers of the database, over all users.
    pub max_db_connections: Option<u32>,
    /// Most servers of the user, over all databases.
    pub max_user_connections: Option<u32>,
    /// Age at which an unused server is closed; zero means after one use.
    pub server_lifetime: Duration,
    /// When an idle server is closed.
    pub server_idle_timeout: Option<Duration>,
    /// Longest time that connecting and logging in may take.
    pub server_connect_timeout: Option<Duration>,
    /// Pause after a failed login to a server.
    pub server_login_retry: Duration,
    /// Query that cleans a released server, if this pool mode asks for it.
    pub reset_query: Option<String>,
    /// How prepared statements are pooled; `None`: they belong to their session.
    pub prepared_statements: Option<StatementSettings>,
    /// How a server that was idle for long is probed.
    pub check_query: CheckQuery,
    /// How long that is; zero means always.
    pub server_check_delay: Duration,
    /// Whether session clients are parted from a server that must go.
    pub server_fast_close: bool,
    /// Whether idle servers take turns.
    pub server_round_robin: bool,
    /// Which of several hosts comes next.
    pub load_balance_hosts: LoadBalanceHosts,
    /// Longest time a query may run or wait.
    pub query_timeout: Option<Duration>,
    /// Longest time a transaction may idle.
    pub idle_transaction_timeout: Option<Duration>,
    /// Longest time a transaction may take.
    pub transaction_timeout: Option<Duration>,
    /// When a pool without clients and servers is forgotten.
    pub pool_idle_timeout: Option<Duration>,
}

/// How prepared statements are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementSettings {
    /// Most of them on one server.
    pub per_server: u32,
    /// Most bytes of all of them.
    pub memory: Option<usize>,
    /// What is said of a name that is taken or unknown.
    pub errors: StatementErrors,
}

impl StatementSettings {
    /// Without limits: for a client that still has names when statements are no longer pooled.
    pub const UNLIMITED: Self = Self {
        per_server: u32::MAX,
        memory: None,
        errors: StatementErrors::PgBouncer,
    };
}

/// What a client is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientSettings {
    /// Longest wait for a server.
    pub query_wait_timeout: Option<Duration>,
    /// When a waiting client is told so.
    pub query_wait_notify: Option<Duration>,
    /// Longest silence without a server.
    pub client_idle_timeout: Option<Duration>,
    /// Longest login.
    pub client_login_timeout: Option<Duration>,
    /// Most clients of this user, over all databases.
    pub max_user_client_connections: Option<u32>,
    /// Most clients of this database.
    pub max_db_client_connections: Option<u32>,
}

impl Settings {
    /// How prepared statements are pooled where sessions do not keep their servers.
    fn statement_settings(&self) -> Option<StatementSettings> {
        Some(StatementSettings {
            per_server: limit(self.max_prepared_statements)?,
            memory: limit(self.prepared_statement_memory).map(|bytes| bytes as usize),
            errors: self.prepared_statement_errors,
        })
    }
}

impl Config {
    /// What the pool of `database` and `pool_user`, the user its servers log in as, is run by.
    pub fn pool_settings(&self, database: &Database, pool_user: &str) -> PoolSettings {
        let global = &self.settings;
        let user = self.user(pool_user);

        let pool_mode = user
            .and_then(|user| user.pool_mode)
            .or(database.pool_mode)
            .unwrap_or(global.pool_mode);
        let pool_size = user
            .and_then(|user| user.pool_size)
            .or(database.pool_size)
            .unwrap_or(global.default_pool_size);
        let pool_size = limit(pool_size);
        let min_pool_size = database.min_pool_size.unwrap_or(global.min_pool_size);
        let resets = pool_mode == PoolMode::Session || global.server_reset_query_always;

        PoolSettings {
            pool_mode,
            pool_size,
            min_pool_size: min_pool_size.min(pool_size.unwrap_or(u32::MAX)),
            reserve_pool_size: user
                .and_then(|user| user.reserve_pool_size)
                .or(database.reserve_pool_size)
                .unwrap_or(global.reserve_pool_size),
            reserve_pool_timeout: timeout(global.reserve_pool_timeout),
            max_db_connections: database
                .max_db_connections
                .or(limit(global.max_db_connections)),
            max_user_connections: user
                .and_then(|user| user.max_user_connections)
                .or(limit(global.max_user_connections)),
            server_lifetime: database.server_lifetime.unwrap_or(global.server_lifetime),
            server_idle_timeout: timeout(global.server_idle_timeout),
            server_connect_timeout: timeout(global.server_connect_timeout),
            server_login_retry: global.server_login_retry,
            reset_query: global.server_reset_query.clone().filter(|_| resets),
            prepared_statements: (pool_mode != PoolMode::Session)
                .then(|| global.statement_settings())
                .flatten(),
            check_query: global.server_check_query.clone(),
            server_check_delay: global.server_check_delay,
            server_fast_close: global.server_fast_close,
            server_round_robin: global.server_round_robin,
            load_balance_hosts: database.load_balance_hosts,
            query_timeout: user
                .and_then(|user| user.query_timeout)
                .or(timeout(global.query_timeout)),
            idle_transaction_timeout: user
                .and_then(|user| user.idle_transaction_timeout)
                .or(timeout(global.idle_transaction_timeout)),
            transaction_timeout: user
                .and_then(|user| user.transaction_timeout)
                .or(timeout(global.transaction_timeout)),
            pool_idle_timeout: timeout(global.pool_idle_timeout),
        }
    }

    /// What a client of `database` who logged in as `login` is held to.
    pub fn client_settings(&self, database: &Database, login: &str) -> ClientSettings {
        let global = &self.settings;
        let user = self.user(login);

        let query_wait_timeout = user
            .and_then(|user| user.query_wait_timeout)
            .or(database.query_wait_timeout)
            .unwrap_or(global.query_wait_timeout);

        ClientSettings {
            query_wait_timeout: timeout(query_wait_timeout),
            query_wait_notify: timeout(global.query_wait_notify),
            client_idle_timeout: user
                .and_then(|user| user.client_idle_timeout)
                .or(timeout(global.client_idle_timeout)),
            client_login_timeout: timeout(global.client_login_timeout),
            max_user_client_connections: user
                .and_then(|user| user.max_user_client_connections)
                .or(limit(global.max_user_client_connections)),
            max_db_client_connections: database
                .max_db_client_connections
                .or(limit(global.max_db_client_connections)),
        }
    }
}

/// 0 means no limit.
fn limit(number: u32) -> Option<u32> {
    (number > 0).then_some(number)
}

/// 0 means never.
fn timeout(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests;
