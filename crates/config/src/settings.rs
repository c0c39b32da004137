//! Every setting of `[pgbouncer]`: one row each.
//!
//! A row yields the field, its default, its parser, its line in SHOW CONFIG and its comment in
//! `etc/pgusher.ini`. The order is SHOW CONFIG's: PgBouncer's settings first, then our own.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::choices::{AuthType, LogFormat, PoolMode, SslMode, StatementErrors, TlsNegotiation};
use crate::finding::{Problem, SettingError};
use crate::host::SocketDir;
use crate::nearest::nearest;
use crate::values::{CheckQuery, DbName, List, Millis, Password, SettingValue};
use crate::workers::Workers;

/// Makes [`Settings`] and [`SETTINGS`] of the rows `/// doc`, `name: Type = "default", When;`.
macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:tt, $when:ident; )+) => {
        /// The values of every setting, complete and typed.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $( $(#[doc = $doc])+ pub $name: $type, )+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    $( $name: settings!(@value $default, $type), )+
                }
            }
        }

        /// The table of all settings, in the order of SHOW CONFIG.
        pub static SETTINGS: &[Setting] = &[
            $( Setting {
                name: stringify!($name),
                expects: <$type as SettingValue>::EXPECTS,
                default: settings!(@default $default),
                when: When::$when,
                doc: &[$( $doc ),+],
                secret: <$type as SettingValue>::SECRET,
                parse: |settings, text| {
                    settings.$name = <$type as SettingValue>::parse(text)?;
                    Some(())
                },
                show: |settings| settings.$name.show(),
                copy: |to, from| to.$name = from.$name.clone(),
            }, )+
        ];
    };
    (@default NULL) => { None };
    (@default $text:literal) => { Some($text) };
    (@value NULL, $type:ty) => { <$type>::default() };
    (@value $text:literal, $type:ty) => {
        <$type as SettingValue>::parse($text).expect("a default is of its row's type")
    };
}

settings! {
    /// Users who may do everything on the console.
    admin_users: List = "", OnReload;
    /// Add the client's address and port to its application_name at login.
    application_name_add_host: bool = "0", OnReload;
    /// Database in which auth_query runs, unless a database entry names its own.
    /// Unset: the one the client asked for.
    auth_dbname: Option<DbName> = NULL, OnReload;
    /// File of user names and secrets.
    auth_file: Option<PathBuf> = NULL, OnReload;
    /// File of host-based rules, for auth_type = hba.
    auth_hba_file: Option<PathBuf> = "", OnReload;
    /// File that maps outside names to database users, for auth_type = hba.
    auth_ident_file: Option<PathBuf> = NULL, OnReload;
    /// LDAP options as in an HBA line, for auth_type = ldap.
    auth_ldap_options: Option<Password> = NULL, OnReload;
    /// Query that finds a user's secret: one parameter, the name; two columns, name and secret.
    auth_query: String = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin", OnReload;
    /// How clients prove who they are.
    auth_type: AuthType = "md5", OnReload;
    /// User who runs auth_query, for clients of whom auth_file has no secret.
    auth_user: Option<String> = NULL, OnReload;
    /// Forget a database made from the * entry after being unused this long; 0 means never.
    autodb_idle_timeout: Duration = "3600", OnReload;
    /// Longest time a cancel request may wait; 0 means forever.
    cancel_wait_timeout: Duration = "10", OnReload;
    /// Close a client that holds no server and is silent this long; 0 means never.
    client_idle_timeout: Duration = "0", OnReload;
    /// Longest time a login may take; 0 means forever.
    client_login_timeout: Duration = "60", OnReload;
    /// TLS 1.3 cipher suites offered to clients; empty: those of client_tls_ciphers.
    client_tls13_ciphers: Option<String> = NULL, OnReload;
    /// Certificate authorities that client certificates are checked against.
    client_tls_ca_file: Option<PathBuf> = "", OnReload;
    /// Certificate shown to clients.
    client_tls_cert_file: Option<PathBuf> = "", OnReload;
    /// Cipher suites offered to clients.
    client_tls_ciphers: String = "default", OnReload;
    /// Diffie-Hellman parameters: none, auto or legacy.
    client_tls_dheparams: String = "auto", OnReload;
    /// Elliptic curve: none, auto or a curve's name.
    client_tls_ecdhcurve: String = "auto", OnReload;
    /// Private key of the certificate shown to clients.
    client_tls_key_file: Option<PathBuf> = "", OnReload;
    /// TLS versions for clients: tlsv1.0 to tlsv1.3, secure, all, legacy.
    client_tls_protocols: String = "secure", OnReload;
    /// How much TLS is asked of clients.
    client_tls_sslmode: SslMode = "disable", OnReload;
    /// The ini file that RELOAD reads.
    conffile: Option<PathBuf> = NULL, OnReload;
    /// Server connections allowed in each pool, one pool per database and user; 0 means no limit.
    default_pool_size: u32 = "20", OnReload;
    /// Refuse the simple query protocol.
    disable_pqexec: bool = "0", AtBoot;
    /// How long an answer of the DNS is kept.
    dns_max_ttl: Duration = "15", OnReload;
    /// How long a failed DNS lookup is kept.
    dns_nxdomain_ttl: Duration = "15", OnReload;
    /// How often a DNS zone is asked whether it changed; 0 means never.
    dns_zone_check_period: Duration = "0", OnReload;
    /// Longest time a transaction may idle; 0 means forever.
    idle_transaction_timeout: Duration = "0", OnReload;
    /// Startup parameters that are dropped rather than refused.
    ignore_startup_parameters: List = "", OnReload;
    /// Name of the service on Windows.
    job_name: String = "pgbouncer", AtBoot;
    /// Addresses to listen on: names, addresses or *; empty means no TCP.
    listen_addr: List = "", AtBoot;
    /// Connections that the kernel may queue before they are accepted.
    listen_backlog: u32 = "128", AtBoot;
    /// Port to listen on, which also names the unix socket.
    listen_port: u16 = "6432", AtBoot;
    /// Log each login.
    log_connections: bool = "1", OnReload;
    /// Log each disconnection, with its reason.
    log_disconnections: bool = "1", OnReload;
    /// Log the errors that the pooler sends to clients.
    log_pooler_errors: bool = "1", OnReload;
    /// Log a line of statistics each stats_period.
    log_stats: bool = "1", OnReload;
    /// File that the log is written to.
    logfile: Option<PathBuf> = "", OnReload;
    /// Notice that is sent to every client after its login.
    login_notify_message: Option<String> = "", OnReload;
    /// Client connections allowed in all.
    max_client_conn: u32 = "100", OnReload;
    /// Client connections allowed to each database; 0 means no limit.
    max_db_client_connections: u32 = "0", OnReload;
    /// Server connections allowed to each database over all its users; 0 means no limit.
    max_db_connections: u32 = "0", OnReload;
    /// Longest packet that is taken, in bytes.
    max_packet_size: u32 = "2147483647", OnReload;
    /// Prepared statements kept on each server in transaction and statement pooling; 0 means off.
    max_prepared_statements: u32 = "200", OnReload;
    /// Client connections allowed to each user over all databases; 0 means no limit.
    max_user_client_connections: u32 = "0", OnReload;
    /// Server connections allowed to each user over all databases; 0 means no limit.
    max_user_connections: u32 = "0", OnReload;
    /// Server connections kept ready in each pool that is in use.
    min_pool_size: u32 = "0", OnReload;
    /// The number of this process among its peers, 1 to 16383; 0 means it has none.
    peer_id: u16 = "0", OnReload;
    /// File that the process id is written to.
    pidfile: Option<PathBuf> = "", AtBoot;
    /// Size of an active socket's buffer, in bytes.
    pkt_buf: NonZeroU32 = "4096", AtBoot;
    /// When a server goes back to the pool.
    pool_mode: PoolMode = "session", OnReload;
    /// Forget a pool that has had no client and no server this long; 0 means never.
    pool_idle_timeout: Duration = "0", OnReload;
    /// Longest time a query may run, or wait for a server; 0 means forever.
    query_timeout: Duration = "0", OnReload;
    /// Tell a client by a notice when it has waited this long for a server; 0 means never.
    query_wait_notify: Duration = "5", OnReload;
    /// Longest time a client may wait in line for a server; 0 means forever.
    query_wait_timeout: Duration = "120", OnReload;
    /// Server connections a pool may open on top of its size when clients wait too long.
    reserve_pool_size: u32 = "0", OnReload;
    /// How long is too long for the reserve to open; 0 means that it never does.
    reserve_pool_timeout: Duration = "5", OnReload;
    /// A resolv.conf of our own, instead of the system's.
    resolv_conf: Option<PathBuf> = "", AtBoot;
    /// Buffers read from one socket before the others have their turn; 0 means no limit.
    sbuf_loopcnt: u32 = "5", OnReload;
    /// SCRAM iterations for secrets that are made up at login.
    scram_iterations: NonZeroU32 = "4096", OnReload;
    /// Probe a server that was idle this long before it is used; 0 means always.
    server_check_delay: Duration = "30", OnReload;
    /// Query of that probe, which may be the empty one; without it there is no probe.
    server_check_query: CheckQuery = "<empty>", OnReload;
    /// Longest time that connecting and logging in to a server may take; 0 means forever.
    server_connect_timeout: Duration = "15", OnReload;
    /// In session pooling, close a server that must go as soon as it is idle, with its client.
    server_fast_close: bool = "0", OnReload;
    /// Close a server that was idle this long; 0 means never.
    server_idle_timeout: Duration = "600", OnReload;
    /// Close an unused server older than this; 0 means after one use.
    server_lifetime: Duration = "3600", OnReload;
    /// Longest pause between logins to a server that does not answer; nobody waits longer for it.
    server_login_retry: Duration = "15", OnReload;
    /// Query that cleans a server when a session client leaves; empty means none.
    server_reset_query: Option<String> = "DISCARD ALL", OnReload;
    /// Run server_reset_query in transaction and statement pooling too.
    server_reset_query_always: bool = "0", OnReload;
    /// Use idle servers in turn rather than the one used last.
    server_round_robin: bool = "0", OnReload;
    /// TLS 1.3 cipher suites offered to servers; empty: those of server_tls_ciphers.
    server_tls13_ciphers: Option<String> = NULL, OnReload;
    /// Certificate authorities that server certificates are checked against.
    server_tls_ca_file: Option<PathBuf> = "", OnReload;
    /// Certificate shown to servers.
    server_tls_cert_file: Option<PathBuf> = "", OnReload;
    /// Cipher suites offered to servers.
    server_tls_ciphers: String = "default", OnReload;
    /// Private key of the certificate shown to servers.
    server_tls_key_file: Option<PathBuf> = "", OnReload;
    /// TLS versions for servers: tlsv1.0 to tlsv1.3, secure, all, legacy.
    server_tls_protocols: String = "secure", OnReload;
    /// How much TLS is asked of servers.
    server_tls_sslmode: SslMode = "prefer", OnReload;
    /// Let several processes listen on the same port.
    so_reuseport: bool = "0", AtBoot;
    /// How often averages are computed and logged.
    stats_period: Duration = "60", OnReload;
    /// Users who may look at everything on the console.
    stats_users: List = "", OnReload;
    /// Longest time that SUSPEND waits for buffers to drain.
    suspend_timeout: Duration = "10", OnReload;
    /// Log to syslog.
    syslog: bool = "0", OnReload;
    /// The syslog facility.
    syslog_facility: String = "daemon", OnReload;
    /// The name that syslog lines carry.
    syslog_ident: String = "pgbouncer", OnReload;
    /// Accept a connection only once its first bytes are there; any number but 0 means yes.
    tcp_defer_accept: u32 = "1", OnReload;
    /// Let the kernel probe silent connections.
    tcp_keepalive: bool = "1", OnReload;
    /// Failed probes after which a connection is dead; 0 leaves it to the system.
    tcp_keepcnt: u32 = "0", OnReload;
    /// Seconds of silence before the first probe; 0 leaves it to the system.
    tcp_keepidle: u32 = "0", OnReload;
    /// Seconds between probes; 0 leaves it to the system.
    tcp_keepintvl: u32 = "0", OnReload;
    /// Kernel buffer of each socket, in bytes; 0 leaves it to the system.
    tcp_socket_buffer: u32 = "0", OnReload;
    /// Milliseconds that sent data may stay unacknowledged; 0 leaves it to the system.
    tcp_user_timeout: Millis = "0", OnReload;
    /// Parameters, beyond the usual ones, that are kept per client when servers change hands.
    track_extra_parameters: List = "IntervalStyle", AtBoot;
    /// Longest time a transaction may take; 0 means forever.
    transaction_timeout: Duration = "0", OnReload;
    /// Directory of our unix socket and of servers without host; @name is abstract, empty none.
    unix_socket_dir: Option<SocketDir> = "/tmp", AtBoot;
    /// Group of the unix socket.
    unix_socket_group: Option<String> = "", AtBoot;
    /// Permissions of the unix socket.
    unix_socket_mode: u32 = "0777", AtBoot;
    /// Account to run as once the sockets are bound.
    user: Option<String> = NULL, AtBoot;
    /// How much is logged, 0 to 3.
    verbose: u32 = NULL, OnReload;

    /// Send what has become ready together by io_uring, with a call of the kernel for all of it, if the
    /// kernel allows that; many containers do not. It changes nothing but the cost. Only pgusher has
    /// this.
    io_uring: bool = "1", AtBoot;
    /// How the log is written: as PgBouncer's lines, or as JSON, in which each line has the name of its
    /// event. Only pgusher has this.
    log_format: LogFormat = "pgbouncer", OnReload;
    /// Most databases, pools and kinds of clients that metrics tell apart by name; the others are
    /// told together as (others). Only pgusher has this.
    metrics_label_limit: u32 = "500", AtBoot;
    /// Addresses of the HTTP endpoint that has metrics, health and the status page: names, addresses
    /// or *; empty means none. Whoever reaches it may look. Only pgusher has this.
    metrics_listen_addr: List = "", AtBoot;
    /// Tell traffic under the names of old exporters, too: pgbouncer_stats_* beside
    /// pgbouncer_stats_totals_*. Only pgusher has this.
    metrics_old_names: bool = "1", OnReload;
    /// Port of the HTTP endpoint; 0 means none. Only pgusher has this.
    metrics_port: u16 = "9127", AtBoot;
    /// What a client hears of a prepared statement's name that is taken or unknown: pgbouncer ends
    /// its session, postgres answers as PostgreSQL would. Only pgusher has this.
    prepared_statement_errors: StatementErrors = "pgbouncer", OnReload;
    /// Most bytes that pooled prepared statements and clients' names for them may take, over all
    /// clients; 0 means no limit. Only pgusher has this.
    prepared_statement_memory: u32 = "268435456", OnReload;
    /// How TLS with servers begins: postgres asks for it, direct does not (PostgreSQL 17 or later).
    /// Only pgusher has this.
    server_tls_negotiation: TlsNegotiation = "postgres", OnReload;
    /// In session mode, lend a server at login already and tell its process id to the client, as
    /// those who compare it with what NOTIFY brings expect. Not with peer_id. Only pgusher has this.
    session_backend_pid: bool = "0", OnReload;
    /// Longest time that a shutdown which waits for clients takes, from SIGTERM on: clients are sent
    /// away between two transactions, one after the other; 0 means that it waits until they leave.
    /// Only pgusher has this.
    shutdown_drain_timeout: Duration = "0", OnReload;
    /// Go on taking clients in for this long once such a shutdown has begun, until whoever sends
    /// them here has noticed. It is part of shutdown_drain_timeout. Only pgusher has this.
    shutdown_listen_delay: Duration = "0", OnReload;
    /// Worker threads, 1 to 64; auto is one for every two CPUs, at most 16. Only pgusher has this.
    workers: Workers = "auto", AtBoot;
}

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// The key.
    pub name: &'static str,
    /// What may be written, to follow the word "expected".
    pub expects: &'static str,
    /// The default as it would be written; `None` if there is none.
    pub default: Option<&'static str>,
    /// When a change takes effect.
    pub when: When,
    /// What it does, line by line.
    pub doc: &'static [&'static str],
    /// Whether logs, and those who may only look, must not see its value.
    pub secret: bool,
    parse: fn(&mut Settings, &str) -> Option<()>,
    show: fn(&Settings) -> Option<String>,
    copy: fn(&mut Settings, &Settings),
}

/// When a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At RELOAD, or at once by SET on the console.
    OnReload,
    /// When the process starts, and never afterwards.
    AtBoot,
}

impl Setting {
    /// The setting of this name, old names included.
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = current_name(name);
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Whether it is about TLS.
    pub fn is_tls(&self) -> bool {
        self.name.contains("_tls")
    }

    /// The value as SHOW CONFIG prints it.
    pub fn show(&self, settings: &Settings) -> Option<String> {
        let empty = || self.default.map(|_| String::new());
        (self.show)(settings).or_else(empty)
    }

    /// Gives `to` the value that `from` has.
    pub(crate) fn copy(&self, to: &mut Settings, from: &Settings) {
        (self.copy)(to, from);
    }
}

/// A line of SHOW CONFIG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub name: &'static str,
    /// Its value now.
    pub value: Option<String>,
    /// The same without passwords, for those who may only look.
    pub public: Option<String>,
    /// Its default.
    pub default: Option<&'static str>,
    /// Whether RELOAD and SET can change it.
    pub changeable: bool,
}

impl Settings {
    /// Takes `value` for `key`, or says why not and changes nothing.
    ///
    /// Whether the change takes effect is for the caller to know: see [`Setting::when`].
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let error = |problem| {
            let key = key.to_owned();
            SettingError { key, problem }
        };
        let Some(setting) = Setting::named(key) else {
            let nearest = nearest_setting(key);
            return Err(error(Problem::UnknownKey { nearest }));
        };
        (setting.parse)(self, value).ok_or_else(|| {
            error(Problem::Value {
                value: value.to_owned(),
                expected: setting.expects,
            })
        })
    }

    /// The lines of SHOW CONFIG, in order.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        SETTINGS.iter().map(|setting| {
            let value = setting.show(self);
            Row {
                name: setting.name,
                public: match &value {
                    Some(value) if setting.secret => Some(without_password(value)),
                    value => value.clone(),
                },
                value,
                default: setting.default,
                changeable: setting.when == When::OnReload,
            }
        })
    }
}

/// LDAP options up to the password that may be among them.
fn without_password(options: &str) -> String {
    const KEY: &str = "ldapbindpasswd";
    match options.split_once(KEY) {
        Some((before, _)) => format!("{before}{KEY}=…"),
        None => options.to_owned(),
    }
}

/// Older or foreign names of settings that still work.
fn current_name(name: &str) -> &str {
    match name {
        "service_name" => "job_name",
        name => name,
    }
}

/// The setting that was probably meant.
pub(crate) fn nearest_setting(key: &str) -> Option<&'static str> {
    match key {
        // Seen in old files; likeness alone would lead elsewhere.
        "max_client_connections" => Some("max_client_conn"),
        "query_db_wait_timeout" => Some("query_wait_timeout"),
        "stats_users_prefix" => Some("stats_users"),
        "pool_size" => Some("default_pool_size"),
        key => nearest(key, SETTINGS.iter().map(|setting| setting.name)),
    }
}

#[cfg(test)]
mod tests;
