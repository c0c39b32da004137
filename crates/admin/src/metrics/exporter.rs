//! The metrics of PgBouncer's exporter, under its names.

use pool::PoolKey;
use pool::labels::{Labels, OTHERS};
use pool::snapshot::{ClientState, Counters, DatabaseRow, PoolRow};

use super::family::{Family, counter, gauge};
use super::{Figures, timestamp};
use crate::show::VERSION;

/// A metric over rows of `R`: the end of its name, its help, its number.
type Metric<R> = (&'static str, &'static str, fn(&R) -> f64);

const POOLS: [Metric<PoolRow>; 11] = [
    (
        "client_active_connections",
        "Clients with a server, and idle ones",
        |row| row.cl_active as f64,
    ),
    (
        "client_active_cancel_connections",
        "Cancel requests on their way to a server",
        |row| row.cl_active_cancel_req as f64,
    ),
    (
        "client_waiting_connections",
        "Clients in line for a server",
        |row| row.cl_waiting as f64,
    ),
    (
        "client_waiting_cancel_connections",
        "Cancel requests in line",
        |row| row.cl_waiting_cancel_req as f64,
    ),
    (
        "server_active_connections",
        "Servers lent to a client",
        |row| row.sv_active as f64,
    ),
    (
        "server_active_cancel_connections",
        "Server connections that carry a cancel request",
        |row| row.sv_active_cancel as f64,
    ),
    (
        "server_being_canceled_connections",
        "Servers that a cancel request may still hit",
        |row| row.sv_being_canceled as f64,
    ),
    (
        "server_idle_connections",
        "Servers ready to be lent",
        |row| row.sv_idle as f64,
    ),
    (
        "server_used_connections",
        "Servers to be probed before they are lent",
        |row| row.sv_used as f64,
    ),
    (
        "server_testing_connections",
        "Servers running a probe or the reset query",
        |row| row.sv_tested as f64,
    ),
    (
        "server_login_connections",
        "Servers connecting or logging in",
        |row| row.sv_login as f64,
    ),
];

const DATABASES: [Metric<DatabaseRow>; 6] = [
    ("pool_size", "Most servers in each pool", |row| {
        f64::from(row.pool_size)
    }),
    (
        "reserve_pool",
        "Servers that a pool may open on top when clients wait for long",
        |row| f64::from(row.reserve_pool_size),
    ),
    (
        "max_connections",
        "Most servers over all pools of the database; 0 for no limit",
        |row| f64::from(row.max_connections),
    ),
    (
        "current_connections",
        "Servers connected or connecting, in all pools of the database",
        |row| row.current_connections as f64,
    ),
    ("paused", "1 if the database is paused, else 0", |row| {
        f64::from(u8::from(row.paused))
    }),
    ("disabled", "1 if the database is disabled, else 0", |row| {
        f64::from(u8::from(row.disabled))
    }),
];

const TRAFFIC: [Metric<Counters>; 11] = [
    ("queries_pooled_total", "Queries", |it| {
        it.query_count as f64
    }),
    (
        "queries_duration_seconds_total",
        "Time that queries took, their wait for a server included",
        |it| seconds(it.query_time),
    ),
    (
        "received_bytes_total",
        "Bytes received from clients",
        |it| it.bytes_received as f64,
    ),
    ("sent_bytes_total", "Bytes sent to clients", |it| {
        it.bytes_sent as f64
    }),
    (
        "client_wait_seconds_total",
        "Time that clients waited for a server",
        |it| seconds(it.wait_time),
    ),
    ("sql_transactions_pooled_total", "Transactions", |it| {
        it.xact_count as f64
    }),
    (
        "server_in_transaction_seconds_total",
        "Time that transactions took, their wait for a server included",
        |it| seconds(it.xact_time),
    ),
    (
        "client_parses_total",
        "Named prepared statements that clients made",
        |it| it.client_parse_count as f64,
    ),
    (
        "server_parses_total",
        "Prepared statements made on servers for clients",
        |it| it.server_parse_count as f64,
    ),
    (
        "binds_total",
        "Bindings of named prepared statements",
        |it| it.bind_count as f64,
    ),
    (
        "server_assignments_total",
        "Times that a client was given a server",
        |it| it.server_assignment_count as f64,
    ),
];

fn seconds(micros: u64) -> f64 {
    micros as f64 * 1e-6
}

pub(super) fn families(figures: &Figures<'_>, labels: &mut Labels) -> Vec<Family> {
    let mut families = process(figures);
    families.extend(vitals(figures));
    families.push(client_connections(figures, labels));
    families.extend(databases(figures, labels));
    families.extend(pools(figures, labels));
    families.extend(traffic("pgbouncer_stats_totals_", figures, labels));
    if figures.settings.metrics_old_names {
        families.extend(traffic("pgbouncer_stats_", figures, labels));
    }
    families
}

/// What has no labels.
fn process(figures: &Figures<'_>) -> Vec<Family> {
    let (snapshot, settings) = (figures.snapshot, figures.settings);
    let lists = snapshot.lists;
    let count =
        |name: &str, help, value: usize| gauge(format!("pgbouncer_{name}"), help).of(value as f64);
    let mut version = gauge("pgbouncer_version_info", "What SHOW VERSION says");
    version.add(&[("version", VERSION)], 1.0);
    vec![
        gauge("pgbouncer_up", "1: who answers is up").of(1.0),
        version,
        count("databases", "Databases", snapshot.databases.len()),
        count("users", "Users", snapshot.users.len()),
        count("pools", "Pools", snapshot.pools.len()),
        count(
            "free_clients",
            "Places for clients that are kept ready",
            lists.free_clients,
        ),
        count("used_clients", "Client connections", lists.used_clients),
        count(
            "login_clients",
            "Clients still logging in",
            lists.login_clients,
        ),
        count(
            "free_servers",
            "Places for servers that are kept ready",
            lists.free_servers,
        ),
        count("used_servers", "Server connections", lists.used_servers),
        count(
            "cached_dns_names",
            "Host names in the cache",
            lists.dns_names,
        ),
        count(
            "cached_dns_zones",
            "DNS zones in the cache",
            lists.dns_zones,
        ),
        count(
            "in_flight_dns_queries",
            "DNS questions that wait for an answer",
            lists.dns_queries,
        ),
        count(
            "config_max_client_connections",
            "Client connections allowed in all",
            settings.max_client_conn as usize,
        ),
        count(
            "config_max_user_connections",
            "Server connections allowed to each user; 0 for no limit",
            settings.max_user_connections as usize,
        ),
    ]
}

/// As the exporter tells them of a process whose pid file it is given.
fn vitals(figures: &Figures<'_>) -> [Family; 6] {
    let it = &figures.upkeep.vitals;
    let name = |end: &str| format!("pgbouncer_process_{end}");
    [
        counter(name("cpu_seconds_total"), "CPU time of the process").of(it.cpu_seconds),
        gauge(name("resident_memory_bytes"), "Memory of the process").of(it.resident_bytes as f64),
        gauge(name("virtual_memory_bytes"), "Address space of the process")
            .of(it.virtual_bytes as f64),
        gauge(name("open_fds"), "Open file descriptors").of(it.open_files as f64),
        gauge(name("max_fds"), "Most file descriptors that may be open").of(it.max_files as f64),
        gauge(name("start_time_seconds"), "When the process started").of(timestamp(it.started)),
    ]
}

fn client_connections(figures: &Figures<'_>, labels: &mut Labels) -> Family {
    let help = "Clients by what they are doing";
    let mut family = gauge("pgbouncer_client_connections", help);
    for ((client, state), count) in &figures.snapshot.client_counts {
        let [database, user, application_name] = labels.client(client);
        let labels = [
            ("database", &*database),
            ("user", &*user),
            ("application_name", &*application_name),
            ("state", word(*state)),
        ];
        family.add(&labels, *count as f64);
    }
    family
}

fn word(state: ClientState) -> &'static str {
    match state {
        ClientState::Active => "active",
        ClientState::Idle => "idle",
        ClientState::Waiting => "waiting",
        ClientState::ActiveCancelReq => "active_cancel_req",
        ClientState::WaitingCancelReq => "waiting_cancel_req",
    }
}

fn databases(figures: &Figures<'_>, labels: &mut Labels) -> Vec<Family> {
    let mut families: Vec<Family> = DATABASES
        .map(|(name, help, _)| gauge(format!("pgbouncer_databases_{name}"), help))
        .into();
    for row in &figures.snapshot.databases {
        // Limits of several databases don't add up.
        if *labels.database(&row.name) == *OTHERS {
            continue;
        }
        let port = row.port.to_string();
        let pool_mode = row.pool_mode.map(|mode| mode.to_string());
        let labels = [
            ("name", row.name.as_str()),
            ("host", row.host.as_deref().unwrap_or_default()),
            ("port", &port),
            ("database", &row.database),
            ("force_user", row.force_user.as_deref().unwrap_or_default()),
            ("pool_mode", pool_mode.as_deref().unwrap_or_default()),
        ];
        for (family, (_, _, value)) in families.iter_mut().zip(DATABASES) {
            family.add(&labels, value(row));
        }
    }
    families
}

fn pools(figures: &Figures<'_>, labels: &mut Labels) -> Vec<Family> {
    let mut families: Vec<Family> = POOLS
        .map(|(name, help, _)| gauge(format!("pgbouncer_pools_{name}"), help))
        .into();
    let help = "How long the client first in line has waited, in whole seconds";
    let mut maxwait = gauge("pgbouncer_pools_client_maxwait_seconds", help);
    for row in &figures.snapshot.pools {
        let key = labels.pool(&key(row));
        let labels = [("database", &*key.database), ("user", &*key.user)];
        for (family, (_, _, value)) in families.iter_mut().zip(POOLS) {
            family.add(&labels, value(row));
        }
        maxwait.add_largest(&labels, row.maxwait.as_secs() as f64);
    }
    families.push(maxwait);
    families
}

/// Which pool a row is of.
pub(super) fn key(row: &PoolRow) -> PoolKey {
    PoolKey {
        database: row.database.as_str().into(),
        user: row.user.as_str().into(),
    }
}

fn traffic(prefix: &str, figures: &Figures<'_>, labels: &mut Labels) -> Vec<Family> {
    let mut families: Vec<Family> = TRAFFIC
        .map(|(name, help, _)| counter(format!("{prefix}{name}"), help))
        .into();
    for (database, counters) in &figures.snapshot.totals {
        let database = labels.database(database);
        for (family, (_, _, value)) in families.iter_mut().zip(TRAFFIC) {
            family.add(&[("database", &*database)], value(counters));
        }
    }
    families
}
