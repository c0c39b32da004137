//! The status page: one page with everything in it, and the JSON that it draws.
//!
//! Whoever reaches the page may read it, so nothing on it is secret.

mod history;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use pool::snapshot::{PoolRow, PoolerState, Snapshot};
use serde::Serialize;
use settings::{CONSOLE_DATABASE, Row, Settings};

use self::history::Sample;
pub use self::history::{History, PERIOD};
use crate::health;
use crate::metrics::Upkeep;
use crate::show::VERSION;

/// The page. It asks for nothing but `status.json`, beside it.
pub const STATUS_PAGE: &str = include_str!("status/page.html");

/// What a browser is told to hold the page to.
pub const STATUS_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// All that the page is drawn from.
pub struct Status<'a> {
    /// A merged summary.
    pub snapshot: &'a Snapshot,
    /// The last minutes.
    pub history: &'a History,
    /// The settings in force, in the order of SHOW CONFIG.
    pub settings: &'a [Row],
    /// What control knows of itself.
    pub upkeep: &'a Upkeep,
    /// What the configuration was warned of.
    pub warnings: &'a [String],
    /// Whether a shutdown is under way.
    pub draining: bool,
    /// Now.
    pub time: SystemTime,
}

/// `status.json`.
#[derive(Serialize)]
struct Page<'a> {
    version: &'static str,
    state: &'static str,
    time: u64,
    clients: usize,
    max_clients: Option<&'a str>,
    pools: Vec<Pool<'a>>,
    period: u64,
    history: Vec<&'a Sample>,
    holders: Vec<Holder<'a>>,
    reload: Reload,
    settings: Vec<Setting<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Pool<'a> {
    database: &'a str,
    user: &'a str,
    mode: String,
    backend: &'static str,
    paused: bool,
    limit: Option<u32>,
    reserve: u32,
    active: usize,
    idle: usize,
    used: usize,
    tested: usize,
    login: usize,
    canceled: usize,
    clients: usize,
    waiting: usize,
    oldest_wait: f64,
}

#[derive(Serialize)]
struct Holder<'a> {
    id: u64,
    database: &'a str,
    user: &'a str,
    application: &'a str,
    held: f64,
}

#[derive(Serialize)]
struct Reload {
    succeeded: bool,
    last_success: u64,
}

#[derive(Serialize)]
struct Setting<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

/// Pools that the page has; one with thousands would be of no use to anybody.
const POOLS: usize = 100;

impl Status<'_> {
    /// The JSON that the page draws.
    pub fn json(&self) -> String {
        let snapshot = self.snapshot;
        let pools = snapshot.pools.iter();
        let mut pools: Vec<_> = pools
            .filter(|row| row.database != CONSOLE_DATABASE)
            .collect();
        if pools.len() > POOLS {
            // Those that matter most.
            pools.sort_by_key(|row| std::cmp::Reverse((row.cl_waiting, row.sv_active)));
            pools.truncate(POOLS);
            pools.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
        }
        let page = Page {
            version: VERSION,
            state: self.state(),
            time: seconds(self.time),
            clients: snapshot.lists.used_clients,
            max_clients: self.public("max_client_conn"),
            pools: pools.into_iter().map(|row| self.pool(row)).collect(),
            period: PERIOD.as_secs(),
            history: self.history.samples().collect(),
            holders: self.holders(),
            reload: Reload {
                succeeded: self.upkeep.reload.succeeded,
                last_success: seconds(self.upkeep.reload.last_success),
            },
            settings: self.changed_settings(),
            warnings: self.warnings,
        };
        // Numbers and texts can always be written.
        serde_json::to_string(&page).unwrap_or_default()
    }

    fn state(&self) -> &'static str {
        match self.snapshot.state {
            _ if self.draining => "draining",
            PoolerState::Active => "active",
            PoolerState::Paused => "paused",
            PoolerState::Suspended => "suspended",
        }
    }

    fn pool<'a>(&self, row: &'a PoolRow) -> Pool<'a> {
        let databases = &self.snapshot.databases;
        let database = databases.iter().find(|it| it.name == row.database);
        Pool {
            database: &row.database,
            user: &row.user,
            mode: row.pool_mode.to_string(),
            backend: health::word(database.map(|it| it.backend).unwrap_or_default()),
            paused: database.is_some_and(|it| it.paused),
            limit: row.pool_size,
            reserve: row.reserve_pool_size,
            active: row.sv_active,
            idle: row.sv_idle,
            used: row.sv_used,
            tested: row.sv_tested,
            login: row.sv_login,
            canceled: row.sv_being_canceled,
            clients: row.cl_active + row.cl_waiting,
            waiting: row.cl_waiting,
            oldest_wait: row.maxwait.as_secs_f64(),
        }
    }

    fn holders(&self) -> Vec<Holder<'_>> {
        let holders = self.snapshot.holders.iter();
        let holder = holders.map(|row| Holder {
            id: row.id,
            database: &row.database,
            user: &row.user,
            application: &row.application_name,
            held: row.held.as_secs_f64(),
        });
        holder.collect()
    }

    /// Settings that differ from their defaults, secrets masked.
    fn changed_settings(&self) -> Vec<Setting<'_>> {
        // The table's texts may say the same in other words.
        let defaults: Vec<Row> = Settings::default().rows().collect();
        let by_default = |row: &Row| {
            let default = defaults.iter().find(|it| it.name == row.name);
            default.is_some_and(|it| it.value == row.value)
        };
        let changed = self.settings.iter().filter(|row| !by_default(row));
        let told = changed.map(|row| Setting {
            name: row.name,
            value: row.public.as_deref(),
        });
        told.collect()
    }

    fn public(&self, name: &str) -> Option<&str> {
        let row = self.settings.iter().find(|row| row.name == name);
        row.and_then(|row| row.public.as_deref())
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}
