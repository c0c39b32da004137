//! What the whole pooler looks like at one moment: plain values for SHOW tables and metrics.
//!
//! Each worker fills in a [`Snapshot`] of what it owns, control one of what it knows of the
//! configuration; [`Snapshot::merge`] makes one of them. [`StatsHistory`] remembers earlier
//! counters, from which the averages of SHOW STATS come.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{AddAssign, Sub};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use events::time::Instant;

pub use net::resolve::{KnownHost, KnownZone};
use settings::{LoadBalanceHosts, PoolMode};
use wire::Replication;

use crate::key::PoolKey;
use crate::labels::ClientLabel;
use crate::meter::{Meter, Tallies};

/// The pooler at one moment, or the part of it that one thread knows.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Whether the pooler serves; told by control.
    pub state: PoolerState,
    /// Clients, those still logging in aside; told by the workers.
    pub clients: Vec<ClientRow>,
    /// Server connections; told by the workers.
    pub servers: Vec<ServerRow>,
    /// Pools, the console's included; told by the workers, each with its own share of the counts.
    pub pools: Vec<PoolRow>,
    /// Databases, the console's included; told by control.
    pub databases: Vec<DatabaseRow>,
    /// Users; told by control.
    pub users: Vec<UserRow>,
    /// Peers that the configuration names; told by control.
    pub peers: Vec<PeerRow>,
    /// Names of hosts in the cache, in order; told by control.
    pub dns_hosts: Vec<KnownHost>,
    /// Zones whose serial numbers are watched, in order; told by control.
    pub dns_zones: Vec<KnownZone>,
    /// Who is in line for a server; told by the workers.
    pub waiters: Vec<WaiterRow>,
    /// What memory is used for, as far as it is counted; told by the workers.
    pub memory: Vec<MemoryRow>,
    /// Cancel requests on their way to peers.
    pub peer_pools: Vec<PeerPoolRow>,
    /// What each database has counted since the start; told by the workers.
    pub totals: BTreeMap<String, Counters>,
    /// What pools have measured since the start; told by the workers.
    pub meters: BTreeMap<PoolKey, Meter>,
    /// How many clients there are of each kind; told by the workers, in a summary.
    pub client_counts: BTreeMap<(ClientLabel, ClientState), usize>,
    /// The clients that have had their servers for longest; told by the workers, in a summary.
    pub holders: Vec<HolderRow>,
    /// What happened whatever the pool; told by the workers.
    pub tallies: Tallies,
    /// The workers; each tells of itself, in a summary.
    pub workers: Vec<WorkerRow>,
    /// Empty until control asks [`StatsHistory::averages`], once the totals are merged.
    pub averages: Averages,
    /// Counts of things that have no row above; each thread tells its own.
    pub lists: Lists,
}

impl Snapshot {
    /// Makes one snapshot of those that workers and control gave, its rows in order.
    pub fn merge(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::default();
        let mut pools = BTreeMap::new();
        for part in parts {
            whole.state = whole.state.max(part.state);
            whole.clients.extend(part.clients);
            whole.servers.extend(part.servers);
            whole.databases.extend(part.databases);
            whole.users.extend(part.users);
            whole.peers.extend(part.peers);
            whole.dns_hosts.extend(part.dns_hosts);
            whole.dns_zones.extend(part.dns_zones);
            whole.waiters.extend(part.waiters);
            for row in part.memory {
                add_memory(&mut whole.memory, row);
            }
            whole.peer_pools.extend(part.peer_pools);
            whole.lists += part.lists;
            whole.tallies += part.tallies;
            whole.holders.extend(part.holders);
            whole.workers.extend(part.workers);
            for (pool, meter) in part.meters {
                *whole.meters.entry(pool).or_default() += meter;
            }
            for (kind, count) in part.client_counts {
                *whole.client_counts.entry(kind).or_default() += count;
            }
            for pool in part.pools {
                add_pool(&mut pools, pool);
            }
            for (database, counters) in part.totals {
                *whole.totals.entry(database).or_default() += counters;
            }
        }
        whole.pools = pools.into_values().collect();
        whole.sort();
        whole
    }

    fn sort(&mut self) {
        self.clients
            .sort_by(|a, b| a.socket.place().cmp(&b.socket.place()));
        self.servers
            .sort_by(|a, b| a.socket.place().cmp(&b.socket.place()));
        self.databases.sort_by(|a, b| a.name.cmp(&b.name));
        self.users.sort_by(|a, b| a.name.cmp(&b.name));
        self.peers.sort_by_key(|peer| peer.id);
        self.peer_pools.sort_by_key(|pool| pool.id);
        // Whoever waits longest stands first in the line of a pool.
        self.waiters.sort_by(|a, b| {
            let pools = (&a.database, &a.user).cmp(&(&b.database, &b.user));
            pools.then(b.waited.cmp(&a.waited))
        });
        self.memory.sort_by_key(|row| row.name);
        self.workers.sort_by_key(|worker| worker.id);
        self.holders.sort_by_key(|holder| Reverse(holder.held));
        self.holders.truncate(HOLDERS);
    }
}

fn add_memory(rows: &mut Vec<MemoryRow>, share: MemoryRow) {
    match rows.iter_mut().find(|row| row.name == share.name) {
        Some(row) => row.used += share.used,
        None => rows.push(share),
    }
}

fn add_pool(pools: &mut BTreeMap<(String, String), PoolRow>, pool: PoolRow) {
    let key = (pool.database.clone(), pool.user.clone());
    match pools.get_mut(&key) {
        Some(row) => row.add(&pool),
        None => {
            pools.insert(key, pool);
        }
    }
}

/// Whether the pooler serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PoolerState {
    /// It does.
    #[default]
    Active,
    /// PAUSE without a database.
    Paused,
    /// SUSPEND.
    Suspended,
}

/// What a client and a server have in common: a socket and who is behind it.
#[derive(Debug, Clone)]
pub struct SocketRow {
    /// One counter numbers clients and servers alike.
    pub id: u64,
    /// The pool's user; none on a cancel request that found no pool.
    pub user: Option<Arc<str>>,
    /// The database's name in our configuration.
    pub database: Option<Arc<str>>,
    /// What the client's `replication` parameter asked for.
    pub replication: Replication,
    /// The other end.
    pub addr: Endpoint,
    /// Our end.
    pub local_addr: Endpoint,
    /// When the connection was made.
    pub connected_at: SystemTime,
    /// When the last request came, for a server: was sent.
    pub requested_at: SystemTime,
    /// How long the running request has waited or run; zero when there is none.
    pub waited: Duration,
    /// To be closed as soon as it is free: RECONNECT, or its settings have changed.
    pub close_needed: bool,
    /// The id of the server lent to this client, or of the client that has this server.
    pub link: Option<u64>,
    /// A server: its backend's process; a client on a unix socket: its process; otherwise 0.
    pub remote_pid: u32,
    /// Protocol and cipher, such as `TLSv1.3/TLS_AES_256_GCM_SHA384`; empty without TLS.
    pub tls: String,
    /// `application_name` as tracked; empty if unset.
    pub application_name: Arc<str>,
    /// Prepared statements it knows.
    pub prepared_statements: usize,
    /// The socket's number in the process, where it is known.
    pub fd: Option<i32>,
    /// Bytes that came and are not passed on yet.
    pub held: usize,
    /// Bytes for it that it has not taken yet.
    pub unsent: usize,
}

impl SocketRow {
    /// Bytes that wait in it, either way.
    pub(crate) fn buffered(&self) -> usize {
        self.held + self.unsent
    }

    /// Rows of one pool stand together, oldest first.
    fn place(&self) -> (Option<&str>, Option<&str>, u64) {
        (self.database.as_deref(), self.user.as_deref(), self.id)
    }
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket, whose name ends in this port.
    Unix {
        /// The number after `.s.PGSQL.`.
        port: u16,
    },
}

/// One client.
#[derive(Debug, Clone)]
pub struct ClientRow {
    /// What it is doing.
    pub state: ClientState,
    /// Who it is.
    pub socket: SocketRow,
}

/// A client that has a server.
#[derive(Debug, Clone)]
pub struct HolderRow {
    /// Its number.
    pub id: u64,
    /// Its database.
    pub database: Arc<str>,
    /// Its user.
    pub user: Arc<str>,
    /// `application_name` as tracked; empty if unset.
    pub application_name: Arc<str>,
    /// How long it has had its server.
    pub held: Duration,
}

/// How many of them a summary names.
pub const HOLDERS: usize = 10;

/// One worker.
#[derive(Debug, Clone)]
pub struct WorkerRow {
    /// Its number.
    pub id: usize,
    /// Clients logged in, the console's among them.
    pub clients: usize,
    /// Servers connected or connecting.
    pub servers: usize,
    /// How long it has been at work, rather than asleep, since the start.
    pub busy: Duration,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientState {
    /// Has a server, or is at the console.
    Active,
    /// Logged in, without a server.
    Idle,
    /// In line for a server.
    Waiting,
    /// A cancel request on its way.
    ActiveCancelReq,
    /// A cancel request in line.
    WaitingCancelReq,
}

/// One server connection.
#[derive(Debug, Clone)]
pub struct ServerRow {
    /// What it is doing.
    pub state: ServerState,
    /// Which it is.
    pub socket: SocketRow,
    /// What its client does with it, while it is lent.
    pub lease: Option<LeaseRow>,
}

/// What a client does with the server that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRow {
    /// What.
    pub state: LeaseState,
    /// For how long.
    pub since: Duration,
    /// How long its transaction is open.
    pub xact: Option<Duration>,
}

/// What a client does with the server that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// A query runs.
    Active,
    /// Nothing, in a transaction.
    IdleInTransaction,
    /// Nothing, in a transaction that has failed.
    IdleInFailedTransaction,
    /// Nothing, between transactions: the pool mode leaves it the server.
    Idle,
}

/// Somebody in line for a server.
#[derive(Debug, Clone)]
pub struct WaiterRow {
    /// The pool's database.
    pub database: String,
    /// The pool's user.
    pub user: String,
    /// Who, by the number; a question of the pooler's own is not among the clients.
    pub client: u64,
    /// For how long.
    pub waited: Duration,
}

/// Things of one kind in memory.
#[derive(Debug, Clone)]
pub struct MemoryRow {
    /// What they are.
    pub name: &'static str,
    /// Bytes of each.
    pub size: usize,
    /// How many there are.
    pub used: usize,
}

/// What a server connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Lent to a client.
    Active,
    /// Ready to be lent.
    Idle,
    /// Ready once it has been probed.
    Used,
    /// Running a probe or the reset query.
    Tested,
    /// Connecting or logging in.
    New,
    /// Carries a cancel request.
    ActiveCancel,
    /// Free, but a cancel request may still hit it.
    BeingCanceled,
}

/// One pool: a database and a user. Fields are named as the columns of SHOW POOLS.
#[derive(Debug, Clone)]
pub struct PoolRow {
    /// The database's name in our configuration.
    pub database: String,
    /// Who its servers log in as.
    pub user: String,
    /// Clients with a server, and idle ones.
    pub cl_active: usize,
    /// Clients in line.
    pub cl_waiting: usize,
    /// Cancel requests on their way.
    pub cl_active_cancel_req: usize,
    /// Cancel requests in line.
    pub cl_waiting_cancel_req: usize,
    /// Servers lent to a client.
    pub sv_active: usize,
    /// Connections that carry a cancel request.
    pub sv_active_cancel: usize,
    /// Servers that a cancel request may still hit.
    pub sv_being_canceled: usize,
    /// Servers ready to be lent.
    pub sv_idle: usize,
    /// Servers to be probed before they are lent.
    pub sv_used: usize,
    /// Servers running a probe or the reset query.
    pub sv_tested: usize,
    /// Servers logging in.
    pub sv_login: usize,
    /// How long the client first in line has waited.
    pub maxwait: Duration,
    /// The mode in force, inherited or not.
    pub pool_mode: PoolMode,
    /// How its hosts share the load; none unless there are several.
    pub load_balance_hosts: Option<LoadBalanceHosts>,
    /// How many servers it may have; none for no limit.
    pub pool_size: Option<u32>,
    /// How many more when clients wait for long.
    pub reserve_pool_size: u32,
}

impl PoolRow {
    /// Servers connected or connecting.
    pub fn servers(&self) -> usize {
        self.sv_active
            + self.sv_being_canceled
            + self.sv_idle
            + self.sv_used
            + self.sv_tested
            + self.sv_login
    }

    /// Adds another worker's share of the same pool.
    fn add(&mut self, share: &Self) {
        self.cl_active += share.cl_active;
        self.cl_waiting += share.cl_waiting;
        self.cl_active_cancel_req += share.cl_active_cancel_req;
        self.cl_waiting_cancel_req += share.cl_waiting_cancel_req;
        self.sv_active += share.sv_active;
        self.sv_active_cancel += share.sv_active_cancel;
        self.sv_being_canceled += share.sv_being_canceled;
        self.sv_idle += share.sv_idle;
        self.sv_used += share.sv_used;
        self.sv_tested += share.sv_tested;
        self.sv_login += share.sv_login;
        self.maxwait = self.maxwait.max(share.maxwait);
    }
}

/// One database of the configuration. Fields are named as the columns of SHOW DATABASES.
#[derive(Debug, Clone)]
pub struct DatabaseRow {
    /// Its name here.
    pub name: String,
    /// Hosts as written; none for the unix socket.
    pub host: Option<String>,
    /// The server's port.
    pub port: u16,
    /// Its name on the server.
    pub database: String,
    /// The user everybody becomes.
    pub force_user: Option<String>,
    /// The limit in force.
    pub pool_size: u32,
    /// The floor in force.
    pub min_pool_size: u32,
    /// The reserve in force.
    pub reserve_pool_size: u32,
    /// The lifetime in force.
    pub server_lifetime: Duration,
    /// Its own mode; none if inherited.
    pub pool_mode: Option<PoolMode>,
    /// How its hosts share the load; none unless there are several.
    pub load_balance_hosts: Option<LoadBalanceHosts>,
    /// `max_db_connections` in force; 0 for no limit.
    pub max_connections: u32,
    /// Servers connected or connecting, in all its pools.
    pub current_connections: usize,
    /// `max_db_client_connections` in force; 0 for no limit.
    pub max_client_connections: u32,
    /// Clients logged in.
    pub current_client_connections: usize,
    /// PAUSE or KILL of this database.
    pub paused: bool,
    /// DISABLE of this database.
    pub disabled: bool,
    /// Whether its server can be reached.
    pub backend: Backend,
}

/// Whether a database's server can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Nobody is connected, and nobody has failed to be.
    #[default]
    Unknown,
    /// Somebody is connected.
    Up,
    /// The last login to it failed, and nobody is connected.
    Down,
}

/// One user. Fields are named as the columns of SHOW USERS.
#[derive(Debug, Clone)]
pub struct UserRow {
    /// Name.
    pub name: String,
    /// Its own pool size; none if inherited.
    pub pool_size: Option<u32>,
    /// Its own reserve; none if inherited.
    pub reserve_pool_size: Option<u32>,
    /// Its own mode; none if inherited.
    pub pool_mode: Option<PoolMode>,
    /// `max_user_connections` in force; 0 for no limit.
    pub max_user_connections: u32,
    /// Servers logged in as this user.
    pub current_connections: usize,
    /// `max_user_client_connections` in force; 0 for no limit.
    pub max_user_client_connections: u32,
    /// Clients logged in as this user.
    pub current_client_connections: usize,
}

/// One peer. Fields are named as the columns of SHOW PEERS.
#[derive(Debug, Clone)]
pub struct PeerRow {
    /// Its `peer_id`.
    pub id: u32,
    /// An address, or a directory with its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Connections to it that may carry cancel requests.
    pub pool_size: u32,
}

/// A line of SHOW PEER_POOLS: the cancel requests for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerPoolRow {
    /// The peer's `peer_id`.
    pub id: u32,
    /// Requests that are being passed on.
    pub cl_active_cancel_req: usize,
    /// Requests in line.
    pub cl_waiting_cancel_req: usize,
    /// Connections that carry a request.
    pub sv_active_cancel: usize,
    /// Connections being made.
    pub sv_login: usize,
}

/// Counts for SHOW LISTS; databases, users, peers and pools are counted by their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lists {
    /// Pools of connections to peers.
    pub peer_pools: usize,
    /// Places for clients that are kept ready.
    pub free_clients: usize,
    /// Client sockets of every kind.
    pub used_clients: usize,
    /// Clients still logging in.
    pub login_clients: usize,
    /// Those among them that wait for a server, and are used ones already.
    pub waiting_logins: usize,
    /// Places for servers that are kept ready.
    pub free_servers: usize,
    /// Server sockets of every kind.
    pub used_servers: usize,
    /// Host names in the cache.
    pub dns_names: usize,
    /// Zones in the cache.
    pub dns_zones: usize,
    /// Questions that wait for an answer.
    pub dns_queries: usize,
}

impl AddAssign for Lists {
    fn add_assign(&mut self, other: Self) {
        self.peer_pools += other.peer_pools;
        self.free_clients += other.free_clients;
        self.used_clients += other.used_clients;
        self.login_clients += other.login_clients;
        self.waiting_logins += other.waiting_logins;
        self.free_servers += other.free_servers;
        self.used_servers += other.used_servers;
        self.dns_names += other.dns_names;
        self.dns_zones += other.dns_zones;
        self.dns_queries += other.dns_queries;
    }
}

/// Lists the counters once: the struct, its sum and its difference follow.
macro_rules! counters {
    ( $( $(#[$doc:meta])* $name:ident, )+ ) => {
        /// What a database counts; or, as [`StatsHistory`] gives them, the averages of it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters {
            $( $(#[$doc])* pub $name: u64, )+
        }

        impl AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                $( self.$name = self.$name.wrapping_add(other.$name); )+
            }
        }

        impl Sub for Counters {
            type Output = Self;

            /// What came since `earlier`; nothing where a counter has gone back.
            fn sub(self, earlier: Self) -> Self {
                Self { $( $name: self.$name.saturating_sub(earlier.$name), )+ }
            }
        }
    };
}

counters! {
    /// Servers given to a client.
    server_assignment_count,
    /// Transactions.
    xact_count,
    /// Queries.
    query_count,
    /// Bytes received from clients.
    bytes_received,
    /// Bytes sent to clients.
    bytes_sent,
    /// Microseconds that transactions took.
    xact_time,
    /// Microseconds that queries took.
    query_time,
    /// Microseconds that clients waited for a server.
    wait_time,
    /// Named Parse messages from clients.
    client_parse_count,
    /// Parse messages to servers because of them.
    server_parse_count,
    /// Bind messages to named statements.
    bind_count,
    /// Clients that have logged in.
    client_login_count,
    /// Times that a server had the prepared statement that was asked for; SHOW does not tell.
    prepared_hit_count,
}

impl Counters {
    /// What these counters, collected in `elapsed`, come to on average.
    ///
    /// Counts and bytes are per second. `xact_time` and `query_time` are per transaction and per
    /// query, and include the wait for a server, as measured on PgBouncer 1.18. There `wait_time`
    /// is per second (three clients in line give 3,000,000). Releases that count assignments
    /// divide by them instead, so that the figure is the wait of one client: so do we.
    fn averaged(self, elapsed: Duration) -> Self {
        let second = |count: u64| {
            let micros = u128::from(count) * 1_000_000;
            let rate = micros.checked_div(elapsed.as_micros()).unwrap_or(0);
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let each = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
        Self {
            server_assignment_count: second(self.server_assignment_count),
            xact_count: second(self.xact_count),
            query_count: second(self.query_count),
            bytes_received: second(self.bytes_received),
            bytes_sent: second(self.bytes_sent),
            xact_time: each(self.xact_time, self.xact_count),
            query_time: each(self.query_time, self.query_count),
            wait_time: each(self.wait_time, self.server_assignment_count),
            client_parse_count: second(self.client_parse_count),
            server_parse_count: second(self.server_parse_count),
            bind_count: second(self.bind_count),
            client_login_count: second(self.client_login_count),
            prepared_hit_count: second(self.prepared_hit_count),
        }
    }
}

/// Averages over the last one to two periods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Averages {
    /// Of each database.
    pub databases: BTreeMap<String, Counters>,
    /// Of all that they have done together.
    pub overall: Counters,
}

/// The counters of the last two ticks, one each `stats_period`.
///
/// Averages reach back to the tick before the last, so they cover one to two periods and are
/// never computed from a moment's traffic alone.
#[derive(Debug)]
pub struct StatsHistory {
    older: Tick,
    newer: Tick,
}

#[derive(Debug, Clone)]
struct Tick {
    at: Instant,
    totals: BTreeMap<String, Counters>,
}

impl StatsHistory {
    /// A history that begins now, with nothing counted yet.
    pub fn new(now: Instant) -> Self {
        let start = Tick {
            at: now,
            totals: BTreeMap::new(),
        };
        Self {
            older: start.clone(),
            newer: start,
        }
    }

    /// Remembers the counters of this moment; gives the averages of all databases together since
    /// the tick before, which is what the log's `stats:` line says.
    pub fn tick(&mut self, totals: &BTreeMap<String, Counters>, now: Instant) -> Counters {
        let tick = Tick {
            at: now,
            totals: totals.clone(),
        };
        self.older = std::mem::replace(&mut self.newer, tick);
        self.averages(totals, now).overall
    }

    /// The averages up to now.
    pub fn averages(&self, totals: &BTreeMap<String, Counters>, now: Instant) -> Averages {
        let elapsed = now.saturating_duration_since(self.older.at);
        let mut overall = Counters::default();
        let mut databases = BTreeMap::new();
        for (database, counters) in totals {
            // A database that was not there had counted nothing.
            let before = self.older.totals.get(database).copied().unwrap_or_default();
            let since = *counters - before;
            overall += since;
            databases.insert(database.clone(), since.averaged(elapsed));
        }
        Averages {
            databases,
            overall: overall.averaged(elapsed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(database: &str, user: &str) -> PoolRow {
        PoolRow {
            database: database.to_owned(),
            user: user.to_owned(),
            cl_active: 0,
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
            pool_mode: PoolMode::Transaction,
            load_balance_hosts: None,
            pool_size: Some(20),
            reserve_pool_size: 0,
        }
    }

    fn client(id: u64, database: &str) -> ClientRow {
        ClientRow {
            state: ClientState::Idle,
            socket: SocketRow {
                id,
                user: Some("alice".into()),
                database: Some(database.into()),
                replication: Replication::None,
                addr: Endpoint::Unix { port: 6432 },
                local_addr: Endpoint::Unix { port: 6432 },
                connected_at: SystemTime::UNIX_EPOCH,
                requested_at: SystemTime::UNIX_EPOCH,
                waited: Duration::ZERO,
                close_needed: false,
                link: None,
                remote_pid: 0,
                tls: String::new(),
                application_name: "".into(),
                prepared_statements: 0,
                fd: None,
                held: 0,
                unsent: 0,
            },
        }
    }

    fn totals(database: &str, counters: Counters) -> BTreeMap<String, Counters> {
        BTreeMap::from([(database.to_owned(), counters)])
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn shares_of_one_pool_add_up_and_the_longest_wait_stays() {
        let share = |cl_active, maxwait| Snapshot {
            pools: vec![
                PoolRow {
                    cl_active,
                    maxwait,
                    ..pool("b", "alice")
                },
                pool("a", "alice"),
            ],
            ..Snapshot::default()
        };
        let whole = Snapshot::merge([share(3, seconds(1)), share(4, seconds(2))]);
        let pools: Vec<_> = whole
            .pools
            .iter()
            .map(|pool| (pool.database.as_str(), pool.cl_active, pool.maxwait))
            .collect();
        assert_eq!(pools, [("a", 0, Duration::ZERO), ("b", 7, seconds(2))]);
    }

    #[test]
    fn clients_of_one_database_stand_together_oldest_first() {
        let part = |clients: Vec<ClientRow>| Snapshot {
            clients,
            ..Snapshot::default()
        };
        let whole = Snapshot::merge([
            part(vec![client(5, "b"), client(2, "a")]),
            part(vec![client(3, "b"), client(4, "a")]),
        ]);
        let ids: Vec<u64> = whole.clients.iter().map(|row| row.socket.id).collect();
        assert_eq!(ids, [2, 4, 3, 5]);
    }

    #[test]
    fn totals_and_lists_add_up_over_the_workers() {
        let part = || Snapshot {
            totals: totals(
                "a",
                Counters {
                    xact_count: 2,
                    bind_count: 1,
                    ..Counters::default()
                },
            ),
            lists: Lists {
                used_clients: 5,
                ..Lists::default()
            },
            ..Snapshot::default()
        };
        let whole = Snapshot::merge([part(), part(), Snapshot::default()]);
        assert_eq!(
            (whole.totals["a"].xact_count, whole.totals["a"].bind_count),
            (4, 2)
        );
        assert_eq!(whole.lists.used_clients, 10);
    }

    #[test]
    fn a_pause_told_by_one_part_holds_for_the_whole() {
        let paused = Snapshot {
            state: PoolerState::Paused,
            ..Snapshot::default()
        };
        let whole = Snapshot::merge([Snapshot::default(), paused, Snapshot::default()]);
        assert_eq!(whole.state, PoolerState::Paused);
    }

    fn counted(xacts: u64) -> BTreeMap<String, Counters> {
        totals(
            "a",
            Counters {
                server_assignment_count: xacts / 2,
                xact_count: xacts,
                xact_time: xacts * 700,
                wait_time: xacts * 10,
                ..Counters::default()
            },
        )
    }

    #[test]
    fn averages_reach_back_to_the_tick_before_the_last() {
        let start = Instant::now();
        let mut history = StatsHistory::new(start);
        history.tick(&counted(600), start + seconds(60));
        history.tick(&counted(1200), start + seconds(120));

        let averages = history.averages(&counted(2100), start + seconds(150));
        assert_eq!(averages.databases["a"].xact_count, (2100 - 600) / 90);
    }

    #[test]
    fn before_the_first_tick_averages_are_those_since_the_start() {
        let start = Instant::now();
        let averages = StatsHistory::new(start).averages(&counted(50), start + seconds(5));
        assert_eq!(averages.databases["a"].xact_count, 10);
    }

    #[test]
    fn times_are_averaged_over_what_took_them() {
        let start = Instant::now();
        let averages = StatsHistory::new(start).averages(&counted(50), start + seconds(5));
        assert_eq!(
            (
                averages.databases["a"].xact_time,
                averages.databases["a"].wait_time
            ),
            (700, 20)
        );
    }

    #[test]
    fn nothing_counted_and_no_time_passed_give_zero() {
        let start = Instant::now();
        let history = StatsHistory::new(start);
        assert_eq!(
            history.averages(&counted(0), start + seconds(1)).overall,
            Counters::default()
        );
        assert_eq!(history.averages(&counted(9), start).overall.xact_count, 0);
    }

    #[test]
    fn a_counter_that_went_back_counts_as_nothing() {
        let start = Instant::now();
        let mut history = StatsHistory::new(start);
        history.tick(&counted(600), start + seconds(1));
        history.tick(&counted(600), start + seconds(2));
        let averages = history.averages(&counted(10), start + seconds(3));
        assert_eq!(averages.databases["a"], Counters::default());
    }

    #[test]
    fn a_tick_tells_the_averages_of_its_own_period_over_all_databases() {
        let start = Instant::now();
        let mut history = StatsHistory::new(start);
        history.tick(&counted(600), start + seconds(60));
        let mut both = counted(1200);
        both.insert("b".to_owned(), counted(1200)["a"]);
        let period = history.tick(&both, start + seconds(120));
        assert_eq!(period.xact_count, (600 + 1200) / 60);
    }
}
