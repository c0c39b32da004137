//! Tables for the console: what the workers have, completed by what control knows.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use admin::{CommandError, Difference, Show, Table, View};
use events::time::Instant;
use jiff::{Timestamp, tz::TimeZone};
use pool::snapshot::{
    Backend, Counters, DatabaseRow, Lists, PeerPoolRow, PeerRow, PoolRow, Snapshot, UserRow,
};
use settings::{
    CONSOLE_DATABASE, Changes, Config, Database, DatabaseChange, Membership, PoolMode, Row,
    SettingChange,
};
use tokio::sync::oneshot;

use crate::pooler::Pooler;
use crate::worker::WorkerMail;

impl Pooler {
    /// Draws a table.
    pub(crate) async fn show(self: &Rc<Self>, show: Show) -> Result<Table, CommandError> {
        let differences = match show {
            Show::ConfigDiff => difference_rows(self.differences()?),
            _ => Vec::new(),
        };
        let ask = if show.lists_connections() {
            WorkerMail::Snapshot
        } else {
            WorkerMail::Summary
        };
        let parts = self.parts(ask).await;
        let mut totals = BTreeMap::new();
        for (database, counters) in parts.iter().flat_map(|part| &part.totals) {
            let sum: &mut Counters = totals.entry(database.clone()).or_default();
            *sum += *counters;
        }
        let averages = self.history.borrow().averages(&totals, Instant::now());
        let rows: Vec<Row> = self.setup().config.settings.rows().collect();
        // Thousands of rows take their time: control has others to attend to.
        let drawn = tokio::task::spawn_blocking(move || {
            let mut snapshot = put_together(parts);
            snapshot.averages = averages;
            let zone = TimeZone::system();
            show.table(&View {
                snapshot: &snapshot,
                settings: &rows,
                differences: &differences,
                local_time: &|time| local_time(time, &zone),
            })
        });
        // Its thread is gone only when the process ends.
        drawn.await.map_err(|_| CommandError::Canceled)
    }

    /// What the workers answer to `ask`, completed by what control knows.
    pub(crate) async fn whole(&self, ask: fn(oneshot::Sender<Snapshot>) -> WorkerMail) -> Snapshot {
        put_together(self.parts(ask).await)
    }

    async fn parts(&self, ask: fn(oneshot::Sender<Snapshot>) -> WorkerMail) -> Vec<Snapshot> {
        let mut parts = self.process.ask_workers(ask).await;
        parts.push(self.own_part());
        parts
    }

    /// What all pools counted since the start, by database.
    pub(crate) async fn totals(&self) -> BTreeMap<String, Counters> {
        let mut totals: BTreeMap<String, Counters> = BTreeMap::new();
        for part in self.process.ask_workers(WorkerMail::Totals).await {
            for (database, counters) in part {
                *totals.entry(database).or_default() += counters;
            }
        }
        totals
    }

    /// What no worker knows.
    fn own_part(&self) -> Snapshot {
        let setup = self.setup();
        let resolver = &self.process.shared.resolver;
        let (dns_hosts, dns_zones) = (resolver.hosts(), resolver.zones());
        Snapshot {
            state: self.rest.get(),
            databases: self.database_rows(&setup.config),
            users: self.user_rows(),
            peers: peer_rows(&setup.config),
            peer_pools: self.peer_pool_rows(&setup.config),
            lists: Lists {
                peer_pools: setup.config.peers.len(),
                login_clients: self.process.logins.load(Ordering::Relaxed) as usize,
                dns_names: dns_hosts.len(),
                dns_zones: dns_zones.len(),
                dns_queries: resolver.queries(),
                ..Lists::default()
            },
            dns_hosts,
            dns_zones,
            ..Snapshot::default()
        }
    }

    fn peer_pool_rows(&self, config: &Config) -> Vec<PeerPoolRow> {
        let row = |&id: &u16| {
            let counts = self.process.peers.counts(id);
            PeerPoolRow {
                id: u32::from(id),
                cl_active_cancel_req: counts.active as usize,
                cl_waiting_cancel_req: (counts.waiting + counts.connecting) as usize,
                sv_active_cancel: counts.active as usize,
                sv_login: counts.connecting as usize,
            }
        };
        config.peers.keys().map(row).collect()
    }

    fn database_rows(&self, config: &Config) -> Vec<DatabaseRow> {
        let shared = &self.process.shared;
        let in_use = shared.databases();
        let pools = shared.pools();
        let find = |name: &str| in_use.iter().find(|database| &*database.name == name);
        let autos = in_use
            .iter()
            .filter(|database| database.auto && database.clients.load(Ordering::Relaxed) > 0);
        let autos: Vec<_> = autos.map(|database| database.config.load_full()).collect();
        let mut rows: Vec<DatabaseRow> = config
            .databases
            .values()
            .chain(&autos)
            .map(|entry| {
                let mut row = database_row(config, entry);
                if let Some(database) = find(&entry.name) {
                    row.paused = database.paused.load(Ordering::Relaxed);
                    row.disabled = database.disabled.load(Ordering::Relaxed);
                    let mut own = pools.iter().filter(|pool| *pool.key.database == row.name);
                    if own.any(|pool| pool.failing().is_some()) {
                        row.backend = Backend::Down;
                    }
                    row.current_client_connections =
                        database.clients.load(Ordering::Relaxed) as usize;
                }
                row
            })
            .collect();
        rows.push(console_database(config));
        rows
    }

    fn user_rows(&self) -> Vec<UserRow> {
        let setup = self.setup();
        let listed = setup.userlist.iter().map(|(name, _)| name.to_owned());
        let defined = setup.config.users.keys().cloned();
        let clients = self.process.clients_by_user();
        let seen = clients.iter().map(|(name, _)| name.to_string());
        let names: std::collections::BTreeSet<String> = listed.chain(defined).chain(seen).collect();
        let settings = &setup.config.settings;
        let row = |name: String| {
            let user = setup.config.user(&name);
            let count = clients.iter().find(|(user, _)| **user == *name);
            let servers = self
                .process
                .shared
                .limits(|limits| limits.user_servers(&name));
            UserRow {
                pool_size: user.and_then(|user| user.pool_size),
                reserve_pool_size: user.and_then(|user| user.reserve_pool_size),
                pool_mode: user.and_then(|user| user.pool_mode),
                max_user_connections: user
                    .and_then(|user| user.max_user_connections)
                    .unwrap_or(settings.max_user_connections),
                current_connections: servers as usize,
                max_user_client_connections: user
                    .and_then(|user| user.max_user_client_connections)
                    .unwrap_or(settings.max_user_client_connections),
                current_client_connections: count.map_or(0, |(_, count)| *count as usize),
                name,
            }
        };
        names.into_iter().map(row).collect()
    }
}

/// One snapshot of those that workers and control gave.
fn put_together(parts: Vec<Snapshot>) -> Snapshot {
    let mut snapshot = Snapshot::merge(parts);
    let lists = &mut snapshot.lists;
    lists.login_clients = lists.login_clients.saturating_sub(lists.waiting_logins);
    snapshot.pools.push(console_pool(consoles(&snapshot)));
    snapshot
        .pools
        .sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
    count_connections(&mut snapshot);
    snapshot
}

fn database_row(config: &Config, entry: &Database) -> DatabaseRow {
    let settings = &config.settings;
    let hosts: Vec<String> = entry.hosts.iter().map(ToString::to_string).collect();
    DatabaseRow {
        name: entry.name.clone(),
        host: (!hosts.is_empty()).then(|| hosts.join(",")),
        port: entry.port,
        database: entry.dbname().to_owned(),
        force_user: entry.user.clone(),
        pool_size: entry.pool_size.unwrap_or(settings.default_pool_size),
        min_pool_size: entry.min_pool_size.unwrap_or(settings.min_pool_size),
        reserve_pool_size: entry
            .reserve_pool_size
            .unwrap_or(settings.reserve_pool_size),
        server_lifetime: entry.server_lifetime.unwrap_or(settings.server_lifetime),
        pool_mode: entry.pool_mode,
        load_balance_hosts: (entry.hosts.len() > 1).then_some(entry.load_balance_hosts),
        max_connections: entry
            .max_db_connections
            .unwrap_or(settings.max_db_connections),
        current_connections: 0,
        max_client_connections: entry
            .max_db_client_connections
            .unwrap_or(settings.max_db_client_connections),
        current_client_connections: 0,
        paused: false,
        disabled: false,
        backend: Backend::Unknown,
    }
}

/// Sessions at the console, listed or counted.
fn consoles(snapshot: &Snapshot) -> usize {
    let listed = snapshot.clients.iter();
    let listed =
        listed.filter(|client| client.socket.database.as_deref() == Some(CONSOLE_DATABASE));
    let counted = snapshot.client_counts.iter();
    let counted = counted.filter(|(([database, ..], _), _)| **database == *CONSOLE_DATABASE);
    listed.count() + counted.map(|(_, count)| count).sum::<usize>()
}

/// The console shows itself as a database, too.
fn console_database(config: &Config) -> DatabaseRow {
    let mut entry = Database::new(CONSOLE_DATABASE);
    entry.user = Some(CONSOLE_DATABASE.to_owned());
    entry.port = config.settings.listen_port;
    entry.pool_size = Some(2);
    entry.reserve_pool_size = Some(0);
    entry.min_pool_size = Some(0);
    entry.pool_mode = Some(PoolMode::Statement);
    database_row(config, &entry)
}

fn console_pool(clients: usize) -> PoolRow {
    PoolRow {
        database: CONSOLE_DATABASE.to_owned(),
        user: CONSOLE_DATABASE.to_owned(),
        cl_active: clients,
        cl_waiting: 0,
        cl_active_cancel_req: 0,
        cl_waiting_cancel_req: 0,
        sv_active: 0,
        sv_active_cancel: 0,
        sv_being_canceled: 0,
        sv_idle: 0,
        sv_used: 0,
        sv_tested: 0,
        sv_login: 0,
        maxwait: Duration::ZERO,
        pool_mode: PoolMode::Statement,
        load_balance_hosts: None,
        pool_size: None,
        reserve_pool_size: 0,
    }
}

/// Servers of each database, as the pools have them: whose server has logged in, is up.
fn count_connections(snapshot: &mut Snapshot) {
    for row in &mut snapshot.databases {
        let pools = snapshot.pools.iter();
        let own = pools.filter(|pool| pool.database == row.name);
        let mut logged_in = 0;
        row.current_connections = 0;
        for pool in own {
            row.current_connections += pool.servers();
            logged_in += pool.servers() - pool.sv_login;
        }
        if logged_in > 0 {
            row.backend = Backend::Up;
        }
    }
}

/// Takes effect by this, as far as the running process lets it.
const RELOAD: &str = "RELOAD";
const RESTART: &str = "restart";

/// What stands for an entry, whose words may be secret.
const DEFINED: &str = "defined";

fn difference_rows(changes: Changes) -> Vec<Difference> {
    let setting = |takes| {
        move |change: SettingChange| Difference {
            section: "pgbouncer",
            key: change.name.to_owned(),
            running: change.old,
            file: change.new,
            takes,
        }
    };
    let entry = |section, key: String, became: Membership| Difference {
        section,
        key,
        running: (became != Membership::Added).then(|| DEFINED.to_owned()),
        file: match became {
            Membership::Added => Some(DEFINED.to_owned()),
            Membership::Changed => Some("changed".to_owned()),
            Membership::Removed => None,
        },
        takes: RELOAD,
    };
    let database = |(name, change): (String, DatabaseChange)| {
        let became = match change {
            DatabaseChange::Added => Membership::Added,
            DatabaseChange::Removed => Membership::Removed,
            DatabaseChange::Reconnect | DatabaseChange::Adjusted => Membership::Changed,
        };
        entry("databases", name, became)
    };
    let now = changes.settings.into_iter().map(setting(RELOAD));
    let at_boot = changes.at_boot.into_iter().map(setting(RESTART));
    let users = changes.users.into_iter();
    let peers = changes.peers.into_iter();
    now.chain(at_boot)
        .chain(changes.databases.into_iter().map(database))
        .chain(users.map(|(name, became)| entry("users", name, became)))
        .chain(peers.map(|(id, became)| entry("peers", id.to_string(), became)))
        .collect()
}

fn peer_rows(config: &Config) -> Vec<PeerRow> {
    let size = config.settings.default_pool_size;
    let row = |peer: &settings::Peer| PeerRow {
        id: u32::from(peer.id),
        host: peer.host.to_string(),
        port: peer.port,
        pool_size: peer.pool_size.unwrap_or(size),
    };
    config.peers.values().map(row).collect()
}

/// `2026-01-31 12:00:00 CET`.
fn local_time(time: SystemTime, zone: &TimeZone) -> String {
    match Timestamp::try_from(time) {
        Ok(timestamp) => timestamp
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string(),
        Err(_) => String::new(),
    }
}
