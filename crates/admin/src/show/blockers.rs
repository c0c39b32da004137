//! SHOW BLOCKERS: who holds the servers of each pool, those first for whom others wait longest.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use pool::snapshot::{LeaseRow, LeaseState, PoolRow, SocketRow};

use super::View;
use super::sockets::{host, port};
use crate::table::{Column, Table, fit, int4, int4_or_null, text};

/// A server that is lent, and to whom.
struct Line<'a> {
    server: &'a SocketRow,
    lease: &'a LeaseRow,
    client: &'a SocketRow,
    /// How many wait for a server of its pool, and how long the first of them.
    waiting: (usize, Duration),
}

impl Line<'_> {
    /// Where it stands: first the pool whose clients wait longest, in it the oldest transaction.
    fn rank(&self) -> impl Ord + use<> {
        let pool = (self.server.database.clone(), self.server.user.clone());
        let (_, longest) = self.waiting;
        (
            Reverse(longest),
            pool,
            Reverse(self.lease.xact),
            self.server.id,
        )
    }
}

fn columns<'a>() -> [Column<Line<'a>>; 14] {
    [
        text("database", |line| or_empty(line.server.database.as_deref())),
        text("user", |line| or_empty(line.server.user.as_deref())),
        int4("waiting", |line| fit(line.waiting.0)),
        int4("maxwait", |line| fit(line.waiting.1.as_secs())),
        text("state", |line| word(line.lease.state).to_owned()),
        int4("state_age", |line| fit(line.lease.since.as_secs())),
        int4_or_null("xact_age", |line| Some(fit(line.lease.xact?.as_secs()))),
        int4("id", |line| fit(line.client.id)),
        text("client_user", |line| or_empty(line.client.user.as_deref())),
        text("addr", |line| host(line.client.addr)),
        int4("port", |line| port(line.client.addr)),
        text("application_name", |line| {
            line.client.application_name.to_string()
        }),
        int4("server_id", |line| fit(line.server.id)),
        int4("remote_pid", |line| fit(line.server.remote_pid)),
    ]
}

fn or_empty(name: Option<&str>) -> String {
    name.unwrap_or_default().to_owned()
}

pub(super) fn table(view: &View<'_>) -> Table {
    let snapshot = view.snapshot;
    let clients = snapshot.clients.iter().map(|client| &client.socket);
    let clients: HashMap<u64, &SocketRow> = clients.map(|socket| (socket.id, socket)).collect();
    let pools = snapshot.pools.iter().map(|pool| (key(pool), pool));
    let pools: HashMap<(&str, &str), &PoolRow> = pools.collect();
    let lines = snapshot.servers.iter().filter_map(|row| {
        let server = &row.socket;
        let pool = pools.get(&(server.database.as_deref()?, server.user.as_deref()?));
        Some(Line {
            server,
            lease: row.lease.as_ref()?,
            client: clients.get(&server.link?)?,
            waiting: pool.map_or((0, Duration::ZERO), |pool| (pool.cl_waiting, pool.maxwait)),
        })
    });
    let mut lines: Vec<Line<'_>> = lines.collect();
    lines.sort_by_key(Line::rank);
    Table::of(&columns(), lines)
}

fn key(pool: &PoolRow) -> (&str, &str) {
    (&pool.database, &pool.user)
}

/// As pg_stat_activity has it.
fn word(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Active => "active",
        LeaseState::IdleInTransaction => "idle in transaction",
        LeaseState::IdleInFailedTransaction => "idle in transaction (aborted)",
        LeaseState::Idle => "idle",
    }
}
