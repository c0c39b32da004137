//! Metrics of our own.

use pool::labels::Labels;
use pool::meter::{Histogram, Meter, Reasons};
use pool::snapshot::{Backend, PoolRow};
use settings::CONSOLE_DATABASE;

use super::exporter::key;
use super::family::{Family, counter, gauge, histogram};
use super::{Figures, timestamp};

/// What is measured in each pool: name, help, durations.
type Times = (&'static str, &'static str, fn(&Meter) -> &Histogram);

const TIMES: [Times; 4] = [
    (
        "pgusher_client_wait_seconds",
        "From a client's asking for a server to its having it",
        |meter| &meter.wait,
    ),
    (
        "pgusher_transaction_duration_seconds",
        "Transactions, their wait for a server included",
        |meter| &meter.xact,
    ),
    (
        "pgusher_query_duration_seconds",
        "Queries, their wait for a server included",
        |meter| &meter.query,
    ),
    (
        "pgusher_server_connect_duration_seconds",
        "Connecting and logging in to a server",
        |meter| &meter.connect,
    ),
];

/// States of a pool's servers: label, number.
type Seats = (&'static str, fn(&PoolRow) -> usize);

const SEATS: [Seats; 6] = [
    ("active", |row| row.sv_active),
    ("idle", |row| row.sv_idle),
    ("used", |row| row.sv_used),
    ("tested", |row| row.sv_tested),
    ("login", |row| row.sv_login),
    ("being_canceled", |row| row.sv_being_canceled),
];

pub(super) fn families(figures: &Figures<'_>, labels: &mut Labels) -> Vec<Family> {
    let mut families = meters(figures, labels);
    families.extend(seats(figures, labels));
    families.extend(prepared(figures, labels));
    families.push(backends(figures, labels));
    families.extend(reasons(figures));
    families.extend(workers(figures));
    families.extend(upkeep(figures));
    families
}

fn meters(figures: &Figures<'_>, labels: &mut Labels) -> Vec<Family> {
    let mut families: Vec<Family> = TIMES.map(|(name, help, _)| histogram(name, help)).into();
    let mut resets = counter("pgusher_server_resets_total", "Reset queries sent");
    let help = "Servers opened from the reserve";
    let mut reserve = counter("pgusher_reserve_opened_total", help);
    for (pool, meter) in &figures.snapshot.meters {
        let key = labels.pool(pool);
        let labels = [("database", &*key.database), ("user", &*key.user)];
        for (family, (_, _, times)) in families.iter_mut().zip(TIMES) {
            family.add_times(&labels, times(meter));
        }
        resets.add(&labels, meter.resets as f64);
        reserve.add(&labels, meter.reserve_opened as f64);
    }
    families.extend([resets, reserve]);
    families
}

fn seats(figures: &Figures<'_>, labels: &mut Labels) -> Vec<Family> {
    let mut seats = gauge("pgusher_seats", "Servers of a pool by what they are doing");
    let help = "Most servers of a pool, the reserve aside; 0 for no limit";
    let mut limit = gauge("pgusher_seat_limit", help);
    let mut reserve = gauge(
        "pgusher_reserve_seats",
        "Servers taken from the reserve now",
    );
    let help = "Most servers that may be taken from the reserve";
    let mut reserve_limit = gauge("pgusher_reserve_seat_limit", help);
    let mut waiters = gauge("pgusher_waiters", "Clients in line for a server");
    let help = "How long the client first in line has waited";
    let mut oldest = gauge("pgusher_oldest_wait_seconds", help);
    let pools = figures.snapshot.pools.iter();
    for row in pools.filter(|row| row.database != CONSOLE_DATABASE) {
        let key = labels.pool(&key(row));
        let labels = [("database", &*key.database), ("user", &*key.user)];
        let [database, user] = labels;
        for (state, count) in SEATS {
            seats.add(&[database, user, ("state", state)], count(row) as f64);
        }
        let size = row.pool_size.unwrap_or(0);
        let over = match row.pool_size {
            Some(size) => row.servers().saturating_sub(size as usize),
            None => 0,
        };
        limit.add(&labels, f64::from(size));
        reserve.add(&labels, over as f64);
        reserve_limit.add(&labels, f64::from(row.reserve_pool_size));
        waiters.add(&labels, row.cl_waiting as f64);
        oldest.add_largest(&labels, row.maxwait.as_secs_f64());
    }
    vec![seats, limit, reserve, reserve_limit, waiters, oldest]
}

fn prepared(figures: &Figures<'_>, labels: &mut Labels) -> [Family; 2] {
    let help = "Times that a server had the prepared statement that was asked for";
    let mut hits = counter("pgusher_prepared_cache_hits_total", help);
    let help = "Times that it had to be prepared there first";
    let mut misses = counter("pgusher_prepared_cache_misses_total", help);
    for (database, counters) in &figures.snapshot.totals {
        let database = labels.database(database);
        let labels = [("database", &*database)];
        hits.add(&labels, counters.prepared_hit_count as f64);
        misses.add(&labels, counters.server_parse_count as f64);
    }
    [hits, misses]
}

/// Nothing is told of databases that nobody has asked for yet.
fn backends(figures: &Figures<'_>, labels: &mut Labels) -> Family {
    let help = "1 if servers of the database are connected, 0 if the last login failed";
    let mut family = gauge("pgusher_backend_up", help);
    for row in &figures.snapshot.databases {
        let up = match row.backend {
            Backend::Unknown => continue,
            Backend::Up => 1.0,
            Backend::Down => 0.0,
        };
        let database = labels.database(&row.name);
        family.add(&[("database", &*database)], up);
    }
    family
}

fn reasons(figures: &Figures<'_>) -> [Family; 3] {
    let tallies = &figures.snapshot.tallies;
    let told = |name, help, reasons: &Reasons| {
        let mut family = counter(name, help);
        for (reason, count) in reasons {
            family.add(&[("reason", reason)], *count as f64);
        }
        family
    };
    [
        told(
            "pgusher_refused_total",
            "Clients that were not let in",
            &tallies.refusals,
        ),
        told(
            "pgusher_client_disconnects_total",
            "Sessions that ended",
            &tallies.client_ends,
        ),
        told(
            "pgusher_server_closed_total",
            "Servers that were closed, and logins to servers that failed",
            &tallies.server_closes,
        ),
    ]
}

fn workers(figures: &Figures<'_>) -> [Family; 3] {
    let mut clients = gauge("pgusher_worker_clients", "Clients of a worker");
    let mut servers = gauge("pgusher_worker_servers", "Servers of a worker");
    let help = "Time that a worker was at work rather than asleep";
    let mut busy = counter("pgusher_worker_busy_seconds_total", help);
    for worker in &figures.snapshot.workers {
        let number = worker.id.to_string();
        let labels = [("worker", number.as_str())];
        clients.add(&labels, worker.clients as f64);
        servers.add(&labels, worker.servers as f64);
        busy.add(&labels, worker.busy.as_secs_f64());
    }
    [clients, servers, busy]
}

fn upkeep(figures: &Figures<'_>) -> Vec<Family> {
    let upkeep = figures.upkeep;
    let help = "1 if the last RELOAD was followed, or there was none; else 0";
    let success = gauge("pgusher_config_reload_success", help);
    let help = "When a configuration was last taken over";
    let moment = gauge("pgusher_config_reload_success_timestamp_seconds", help);
    let help = "When our certificate runs out, by who sees it";
    let mut expiry = gauge("pgusher_tls_cert_expiry_timestamp_seconds", help);
    for (side, at) in ["clients", "servers"].into_iter().zip(upkeep.certificates) {
        if let Some(at) = at {
            expiry.add(&[("side", side)], timestamp(at));
        }
    }
    let mut build = gauge("pgusher_build_info", "The version of pgusher");
    build.add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    vec![
        success.of(f64::from(u8::from(upkeep.reload.succeeded))),
        moment.of(timestamp(upkeep.reload.last_success)),
        expiry,
        build,
    ]
}
