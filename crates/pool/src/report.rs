//! What a pool looks like now, as rows of the snapshot.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use events::time::Instant;
use net::PeerAddr;
use settings::LoadBalanceHosts;
use wire::{CancelKey, TxStatus};

use crate::key::{ClientId, PoolKey, ServerId};
use crate::meter::Meter;
use crate::pool::Pool;
use crate::pools::Pools;
use crate::roster::{self, ClientEntry, ClientKind, Rest};
use crate::server::{CloseReason, Server};
use crate::snapshot::{
    ClientRow, ClientState, Counters, Endpoint, LeaseRow, LeaseState, MemoryRow, PoolRow,
    ServerRow, Snapshot, SocketRow, WaiterRow,
};
use crate::state::ServerState;

impl Pools {
    /// Begins to look at everything that this worker has.
    pub fn survey(&self, now: Instant, clock: SystemTime, listen_port: u16) -> Survey {
        let mut snapshot = self.counts(now);
        let mut servers = Vec::new();
        for pool in self.all() {
            pool.waiter_rows(now, &mut snapshot.waiters);
            let state = pool.state.borrow();
            let each = state.servers();
            servers.extend(each.map(|(place, state)| (pool.clone(), place, state)));
        }
        let clients = self.clients();
        // To make room for them time and again would take longer than to gather them.
        snapshot.clients.reserve_exact(clients.len());
        snapshot.servers.reserve_exact(servers.len());
        Survey {
            snapshot,
            servers,
            clients,
            buffered: 0,
            moment: Moment {
                now,
                clock,
                listen_port,
            },
        }
    }

    /// Clients, errands aside.
    pub(crate) fn clients(&self) -> Vec<Rc<ClientEntry>> {
        let mut clients = Vec::with_capacity(self.local.roster.len());
        self.local.roster.for_each(|client| {
            if client.kind != ClientKind::Errand {
                clients.push(client.clone());
            }
        });
        clients
    }

    /// What is counted in pools, and in those that are gone.
    pub(crate) fn counts(&self, now: Instant) -> Snapshot {
        let retired = self.local.retired.borrow();
        let mut snapshot = Snapshot {
            totals: retired.totals.clone(),
            meters: retired.meters.clone(),
            tallies: self.local.tallies.borrow().clone(),
            ..Snapshot::default()
        };
        for pool in self.all() {
            let name = pool.shared.key.database.to_string();
            *snapshot.totals.entry(name).or_default() += *pool.counters.borrow();
            let key = pool.shared.key.clone();
            *snapshot.meters.entry(key).or_default() += *pool.meter.borrow();
            snapshot.lists.used_servers += pool.count_servers();
            snapshot.pools.push(pool.row(now));
        }
        snapshot
    }

    /// Servers of a database, or of all, that are not idle: PAUSE waits for them.
    pub fn busy_servers(&self, database: Option<&str>) -> usize {
        let count = |pool: &Rc<Pool>| {
            let counts = pool.state.borrow().counts();
            counts.leased + counts.tested + counts.being_canceled
        };
        self.concerned(database).iter().map(count).sum()
    }

    /// Servers of a database, or of all, that are closed once they are free: WAIT_CLOSE waits.
    pub fn outdated_servers(&self, database: Option<&str>) -> usize {
        let count = |pool: &Rc<Pool>| {
            let servers = pool.servers.borrow();
            let outdated = servers.iter().flatten().filter(|s| pool.is_outdated(s));
            outdated.count()
        };
        self.concerned(database).iter().map(count).sum()
    }

    fn concerned(&self, database: Option<&str>) -> Vec<Rc<Pool>> {
        let mut pools = self.all();
        pools.retain(|pool| database.is_none_or(|name| &*pool.shared.key.database == name));
        pools
    }

    /// The totals alone, for the averages.
    pub fn totals(&self) -> BTreeMap<String, Counters> {
        let mut totals = self.local.retired.borrow().totals.clone();
        for pool in self.all() {
            let name = pool.shared.key.database.to_string();
            *totals.entry(name).or_default() += *pool.counters.borrow();
        }
        totals
    }
}

/// A snapshot in the making. Thousands of rows take their time, so they are gathered in parts,
/// between which others have their turn; who leaves meanwhile may be in it or not.
#[derive(Debug)]
pub struct Survey {
    snapshot: Snapshot,
    servers: Vec<(Rc<Pool>, ServerId, ServerState)>,
    clients: Vec<Rc<ClientEntry>>,
    /// Bytes that their connections hold, so far.
    buffered: usize,
    moment: Moment,
}

impl Survey {
    /// Gathers up to so many rows more; false if none are left.
    pub fn go_on(&mut self, rows: usize) -> bool {
        for _ in 0..rows {
            if let Some((pool, place, state)) = self.servers.pop() {
                let row = pool.server_row(place, state, self.moment);
                self.buffered += row.as_ref().map_or(0, |row| row.socket.buffered());
                self.snapshot.servers.extend(row);
            } else if let Some(client) = self.clients.pop() {
                let row = client_row(&client, self.moment);
                self.buffered += row.socket.buffered();
                self.snapshot.clients.push(row);
            } else {
                return false;
            }
        }
        true
    }

    /// What was gathered.
    pub fn conclude(mut self) -> Snapshot {
        self.snapshot.lists.used_clients = self.snapshot.clients.len();
        self.snapshot.memory = memory(&self.snapshot, self.buffered);
        self.snapshot
    }
}

/// What pools counted that are gone.
#[derive(Debug, Default)]
pub struct Retired {
    totals: BTreeMap<String, Counters>,
    /// By label: with `auth_type = any` names are the clients' choice.
    meters: BTreeMap<PoolKey, Meter>,
}

/// When a snapshot is taken, and with what it is completed.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now: Instant,
    clock: SystemTime,
    listen_port: u16,
}

impl Moment {
    /// The time of day of an earlier moment.
    fn time(self, at: Instant) -> SystemTime {
        self.clock - self.now.saturating_duration_since(at)
    }
}

impl Pool {
    /// Leaves this pool's counters behind when it goes.
    pub(crate) fn retire(&self) {
        let key = &self.shared.key;
        let label = self.local.shared.labels(|labels| labels.pool(key));
        let mut retired = self.local.retired.borrow_mut();
        let totals = retired.totals.entry(key.database.to_string());
        *totals.or_default() += *self.counters.borrow();
        *retired.meters.entry(label).or_default() += *self.meter.borrow();
    }

    fn count_servers(&self) -> usize {
        self.state.borrow().servers().count() + self.logins.get() + self.owners.logins()
    }

    fn row(&self, now: Instant) -> PoolRow {
        let state = self.state.borrow();
        let counts = state.counts();
        let check_after = self.rules().check_after;
        let used = state
            .idle()
            .filter(|&(_, since)| {
                check_after.is_some_and(|limit| now.saturating_duration_since(since) > limit)
            })
            .count();
        let waiting = state.waiting().len();
        let sessions_waiting = state
            .waiting()
            .filter(|waiter| self.is_session(waiter.client))
            .count();
        let oldest = state.oldest().map(|waiter| waiter.since);
        let at_login = [&self.owners.waiting, &self.newcomers];
        let oldest = at_login
            .iter()
            .filter_map(|line| line.oldest())
            .chain(oldest)
            .min();
        let maxwait = oldest.map(|since| now.saturating_duration_since(since));
        let at_login: usize = at_login.iter().map(|line| line.len()).sum();
        let without_server = sessions_waiting + at_login;
        let settings = self.settings();
        PoolRow {
            database: self.shared.key.database.to_string(),
            user: self.shared.key.user.to_string(),
            cl_active: self.clients.get().saturating_sub(without_server),
            cl_waiting: waiting + at_login,
            cl_active_cancel_req: self.cancels_active.get(),
            cl_waiting_cancel_req: self.cancels_waiting.get(),
            sv_active: counts.leased,
            sv_active_cancel: self.cancels_active.get(),
            sv_being_canceled: counts.being_canceled,
            sv_idle: counts.idle - used,
            sv_used: used,
            sv_tested: counts.tested,
            sv_login: self.logins.get() + self.owners.logins(),
            maxwait: maxwait.unwrap_or(Duration::ZERO),
            pool_mode: settings.pool_mode,
            load_balance_hosts: self.load_balance_hosts(),
            pool_size: settings.pool_size,
            reserve_pool_size: settings.reserve_pool_size,
        }
    }

    fn is_session(&self, client: ClientId) -> bool {
        let entry = self.local.roster.get(client);
        entry.is_some_and(|entry| entry.kind == ClientKind::Session)
    }

    /// Told only where there is a choice.
    fn load_balance_hosts(&self) -> Option<LoadBalanceHosts> {
        let config = self.shared.database.config.load();
        (config.hosts.len() > 1).then_some(config.load_balance_hosts)
    }

    fn server_row(&self, place: ServerId, state: ServerState, moment: Moment) -> Option<ServerRow> {
        let server = self.server(place)?;
        let state = match state {
            ServerState::Idle { since, .. } => {
                let idle = moment.now.saturating_duration_since(since);
                match self.rules().check_after {
                    Some(limit) if idle > limit => crate::snapshot::ServerState::Used,
                    _ => crate::snapshot::ServerState::Idle,
                }
            }
            ServerState::Leased { .. } => crate::snapshot::ServerState::Active,
            ServerState::Resetting | ServerState::Checking => crate::snapshot::ServerState::Tested,
            ServerState::BeingCanceled => crate::snapshot::ServerState::BeingCanceled,
        };
        let socket = self.server_socket(&server, moment);
        let lease = self.lease_row(&server, moment.now);
        Some(ServerRow {
            state,
            socket,
            lease,
        })
    }

    fn lease_row(&self, server: &Server, now: Instant) -> Option<LeaseRow> {
        let client = self.local.roster.get(ClientId(server.link.get()?))?;
        // A relay at work has it borrowed.
        let status = server.io.try_borrow().ok().and_then(|io| {
            let settled = io.pipeline.is_settled();
            settled.then(|| io.pipeline.status())
        });
        let state = match status {
            None => LeaseState::Active,
            Some(TxStatus::Open) => LeaseState::IdleInTransaction,
            Some(TxStatus::Failed) => LeaseState::IdleInFailedTransaction,
            Some(TxStatus::Idle) => LeaseState::Idle,
        };
        let since = match state {
            LeaseState::Active => client.query_start.get().unwrap_or(now),
            _ => server.last_heard.get(),
        };
        let past = |at: Instant| now.saturating_duration_since(at);
        Some(LeaseRow {
            state,
            since: past(since),
            xact: client.xact_start.get().map(past),
        })
    }

    fn waiter_rows(&self, now: Instant, rows: &mut Vec<WaiterRow>) {
        let state = self.state.borrow();
        let in_line = state.waiting().map(|waiter| (waiter.client, waiter.since));
        let at_login = [&self.owners.waiting, &self.newcomers];
        let at_login = at_login.into_iter().flat_map(|line| line.each());
        rows.extend(in_line.chain(at_login).map(|(client, since)| WaiterRow {
            database: self.shared.key.database.to_string(),
            user: self.shared.key.user.to_string(),
            client: client.0,
            waited: now.saturating_duration_since(since),
        }));
    }

    /// Whether a server is closed once it is free.
    pub(crate) fn is_outdated(&self, server: &Server) -> bool {
        let generation = self.shared.database.generation.load(Ordering::Relaxed);
        server.facts.generation != generation || server.doubt.get() == Some(CloseReason::Moved)
    }

    fn server_socket(&self, server: &Server, moment: Moment) -> SocketRow {
        let io = server.io.try_borrow();
        let application_name = io.as_ref().ok().map(|io| io.params.application_name());
        let (fd, rest) = io.map_or_else(
            |_| (None, Rest::default()),
            |io| (io.conn.stream().fd(), Rest::of(&io.conn)),
        );
        SocketRow {
            id: server.id,
            user: Some(self.shared.key.user.clone()),
            database: Some(self.shared.key.database.clone()),
            replication: server.facts.replication,
            addr: endpoint(&server.facts.peer),
            local_addr: match server.facts.local {
                Some(addr) => Endpoint::Tcp(addr),
                None => endpoint(&server.facts.peer),
            },
            connected_at: server.facts.connect_time,
            requested_at: moment.time(server.request_time.get()),
            waited: Duration::ZERO,
            close_needed: self.is_outdated(server),
            link: server.link.get(),
            remote_pid: server.facts.key.as_ref().map_or(0, CancelKey::process_id),
            tls: server
                .facts
                .tls
                .as_ref()
                .map_or_else(String::new, |tls| tls.cipher.to_string()),
            application_name: application_name.unwrap_or_default(),
            prepared_statements: server.io.try_borrow().map_or(0, |io| io.prepared.len()),
            fd,
            held: rest.held,
            unsent: rest.unsent,
        }
    }
}

/// What there is most of, by its own size; what it points to is not counted.
fn memory(snapshot: &Snapshot, buffered: usize) -> Vec<MemoryRow> {
    let row = |name, size, used| MemoryRow { name, size, used };
    vec![
        row("buffered_bytes", 1, buffered),
        row("client", size_of::<ClientEntry>(), snapshot.clients.len()),
        row("pool", size_of::<Pool>(), snapshot.pools.len()),
        row("server", size_of::<Server>(), snapshot.servers.len()),
    ]
}

pub(crate) fn client_state(client: &ClientEntry) -> ClientState {
    match client.state.get() {
        roster::ClientState::Idle if client.kind == ClientKind::Console => ClientState::Active,
        roster::ClientState::Idle => ClientState::Idle,
        roster::ClientState::Active => ClientState::Active,
        roster::ClientState::Waiting => ClientState::Waiting,
    }
}

fn client_row(client: &ClientEntry, moment: Moment) -> ClientRow {
    let state = client_state(client);
    let waited = client.query_start.get().map_or(Duration::ZERO, |start| {
        moment.now.saturating_duration_since(start)
    });
    let rest = client.rest.get();
    let socket = SocketRow {
        id: client.id.0,
        user: Some(client.user.clone()),
        database: Some(client.database.clone()),
        replication: client.replication,
        addr: endpoint(&client.peer),
        local_addr: match client.local {
            Some(addr) => Endpoint::Tcp(addr),
            None => Endpoint::Unix {
                port: moment.listen_port,
            },
        },
        connected_at: client.connect_time,
        requested_at: moment.time(client.request_time.get()),
        waited,
        close_needed: client.killed().is_some(),
        link: client.link.get(),
        remote_pid: match client.peer {
            PeerAddr::Unix { pid, .. } => u32::try_from(pid).unwrap_or(0),
            PeerAddr::Tcp(_) => 0,
        },
        tls: client
            .tls
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        application_name: client.application_name.borrow().clone(),
        prepared_statements: client.prepared_statements.get(),
        fd: client.fd.get(),
        held: rest.held,
        unsent: rest.unsent,
    };
    ClientRow { state, socket }
}

fn endpoint(peer: &PeerAddr) -> Endpoint {
    match peer {
        PeerAddr::Tcp(addr) => Endpoint::Tcp(*addr),
        PeerAddr::Unix { port, .. } => Endpoint::Unix { port: *port },
    }
}
