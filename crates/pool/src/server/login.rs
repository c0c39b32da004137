//! Connects to a server and logs in.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use auth::{Initiator, Nonce, Reply};
use net::dial::{DialError, Encryption, dial};
use net::resolve::resolve;
use net::stream::Target;
use net::tls::ServerTls;
use net::{Conn, PeerAddr, Stream, TcpOptions};
use settings::{Database, Host, LoadBalanceHosts, SocketDir};
use thiserror::Error;
use wire::authentication::AuthRequest;
use wire::error::ErrorFields;
use wire::frontend::put_query;
use wire::startup::put_startup;
use wire::{CancelKey, ParamNames, Params, SqlState};

use super::{Encrypted, Facts, query};
use crate::shared::PoolShared;

/// Longest message of a login, in bytes.
const MESSAGE_LEN_MAX: usize = 1 << 20;

/// Why a server could not be logged in to.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The name has no address.
    #[error("server DNS lookup failed: {host}: {error}")]
    Dns {
        /// The name.
        host: String,
        /// The resolver's words.
        error: io::Error,
    },
    /// Nobody answers there.
    #[error("connect failed: {target}: {error}")]
    Connect {
        /// Where.
        target: Target,
        /// The system's words.
        error: io::Error,
    },
    /// TLS was asked for, and can't be had.
    #[error("{0}")]
    Tls(DialError),
    /// `server_connect_timeout` passed.
    #[error("connect timeout")]
    Timeout,
    /// The connection broke during the login.
    #[error("server login failed: {0}")]
    Broken(io::Error),
    /// The server refused.
    #[error("server login failed: {} {}", .0.severity, .0.message)]
    Refused(ErrorFields),
    /// The proof could not be given, or the server's was wrong.
    #[error("server login failed: {0}")]
    Auth(auth::LoginError),
    /// It is not a PostgreSQL server.
    #[error("server login failed: unexpected message {:?}", char::from(*.0))]
    Protocol(u8),
}

impl LoginError {
    /// What the log says when the connection is closed for it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "server DNS lookup failed",
            Self::Connect { .. } => "connect failed",
            Self::Tls(DialError::Refused) => "server refused SSL",
            Self::Tls(_) => "TLS handshake failed",
            Self::Timeout => "connect timeout",
            Self::Broken(_) | Self::Refused(_) | Self::Auth(_) | Self::Protocol(_) => {
                "login failed"
            }
        }
    }

    /// What waiting clients are told: the server's own words, or what went wrong here.
    pub fn for_client(&self) -> String {
        match self {
            Self::Refused(fields) => fields.message.clone(),
            other => other.to_string(),
        }
    }

    /// The code that goes with it.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Refused(fields) => fields.sqlstate.unwrap_or(SqlState::PROTOCOL_VIOLATION),
            _ => SqlState::PROTOCOL_VIOLATION,
        }
    }

    /// True if trying again will not help, so that waiting clients had better hear of it.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused(fields) => fields.sqlstate != Some(SqlState::CANNOT_CONNECT_NOW),
            Self::Auth(_) | Self::Tls(DialError::Refused) => true,
            Self::Tls(DialError::Handshake(error)) => error.is_refusal(),
            _ => false,
        }
    }
}

/// A server that has just logged in.
#[derive(Debug)]
pub struct LoggedIn {
    /// What stays the same for its life.
    pub facts: Facts,
    /// Its connection.
    pub conn: Conn,
    /// Its tracked parameters.
    pub params: Arc<Params>,
    /// Everything it reported, in its order.
    pub reported: Vec<(String, String)>,
}

/// Where the next server of a pool is connected to: hosts take turns, and so do the addresses of
/// a name.
pub async fn next_target(
    pool: &PoolShared,
    config: &Database,
    socket_dir: Option<&SocketDir>,
) -> Result<Target, LoginError> {
    let Some(count) = std::num::NonZeroUsize::new(config.hosts.len()) else {
        return Ok(Target::Unix(default_socket(socket_dir, config.port)));
    };
    // With `disable`, a host is left only when connecting to it fails.
    let turn = match config.load_balance_hosts {
        LoadBalanceHosts::RoundRobin => pool.next_host.fetch_add(1, Ordering::Relaxed),
        LoadBalanceHosts::Disable => pool.next_host.load(Ordering::Relaxed),
    };
    match &config.hosts[turn % count] {
        Host::Unix(dir) => Ok(Target::Unix(socket_path(dir, config.port))),
        Host::Ip(ip) => Ok(Target::Tcp((*ip, config.port).into(), None)),
        Host::Name(name) => {
            let found = resolve(name, config.port).await;
            let addresses = found.map_err(|error| LoginError::Dns {
                host: name.clone(),
                error,
            })?;
            let turn = pool.next_address.fetch_add(1, Ordering::Relaxed);
            let address = addresses[turn % addresses.len()];
            Ok(Target::Tcp(address, Some(name.as_str().into())))
        }
    }
}

/// Where an entry without `host` leads: the socket in our own `unix_socket_dir`.
fn default_socket(dir: Option<&SocketDir>, port: u16) -> PathBuf {
    match dir {
        Some(dir) => socket_path(dir, port),
        None => PathBuf::from(format!("/tmp/.s.PGSQL.{port}")),
    }
}

/// The socket of a port in a directory; an abstract one keeps its `@`.
pub fn socket_path(dir: &SocketDir, port: u16) -> PathBuf {
    match dir {
        SocketDir::Directory(path) => path.join(format!(".s.PGSQL.{port}")),
        SocketDir::Abstract(name) => PathBuf::from(format!("@{name}/.s.PGSQL.{port}")),
    }
}

/// Connects and logs in.
pub async fn login(
    pool: &PoolShared,
    config: &Database,
    target: Target,
    options: &TcpOptions,
    tls: Option<&Arc<ServerTls>>,
    names: &ParamNames,
) -> Result<LoggedIn, LoginError> {
    let generation = pool.database.generation.load(Ordering::SeqCst);
    let (opened, connect_time) = (Instant::now(), SystemTime::now());
    let mut conn = connect(&target, options, tls).await?;
    let (peer, local) = ends(conn.stream(), &target, config.port);
    let tls = tls.and_then(|tls| Encrypted::of(conn.stream(), tls));

    let mut startup = Vec::new();
    let mut parameters: Vec<(&str, &str)> =
        vec![("user", &pool.key.user), ("database", config.dbname())];
    parameters.extend(config.startup_parameters());
    put_startup(&mut startup, parameters);
    conn.send_all(&startup).await.map_err(LoginError::Broken)?;

    authenticate(&mut conn, pool).await?;
    let mut params = Arc::new(Params::default());
    let (reported, key) = welcome(&mut conn, names, &mut params).await?;
    if let Some(sql) = &config.connect_query {
        let mut message = Vec::new();
        put_query(&mut message, sql);
        match query::on_conn(&mut conn, &message, names, &mut params).await {
            Ok(()) => {}
            Err(query::QueryError::Refused(fields)) => {
                tracing::warn!("{}: connect_query failed: {}", pool.key, fields.message);
            }
            Err(error) => return Err(LoginError::Broken(io::Error::other(error))),
        }
    }
    Ok(LoggedIn {
        facts: Facts {
            target,
            peer,
            local,
            tls,
            key,
            opened,
            connect_time,
            generation,
        },
        conn,
        params,
        reported,
    })
}

async fn connect(
    target: &Target,
    options: &TcpOptions,
    tls: Option<&Arc<ServerTls>>,
) -> Result<Conn, LoginError> {
    let encryption = tls.map_or(Encryption::Never, |tls| Encryption::AsSet(tls));
    let dialled = dial(target, options, encryption).await;
    dialled.map_err(|error| match error {
        DialError::Connect(error) => LoginError::Connect {
            target: target.clone(),
            error,
        },
        DialError::Broken(error) => LoginError::Broken(error),
        other => LoginError::Tls(other),
    })
}

fn ends(stream: &Stream, target: &Target, port: u16) -> (PeerAddr, Option<std::net::SocketAddr>) {
    let peer = match target {
        Target::Tcp(addr, _) => PeerAddr::Tcp(*addr),
        Target::Unix(_) => stream.peer_addr(port).unwrap_or(PeerAddr::Unix {
            pid: 0,
            uid: 0,
            port,
        }),
    };
    (peer, stream.local_addr())
}

async fn authenticate(conn: &mut Conn, pool: &PoolShared) -> Result<(), LoginError> {
    let nonce = Nonce::fresh().map_err(|error| LoginError::Broken(io::Error::other(error)))?;
    let secured = conn.stream().secured();
    let end_point = secured.and_then(|secured| secured.end_point.clone());
    let initiator = Initiator::new(&pool.key.user, pool.credentials(), nonce);
    let mut initiator = initiator.bound_to(end_point);
    loop {
        let (tag, body) = read(conn).await?;
        match tag {
            b'R' => {}
            // A server of 3.0 has nothing to negotiate; others only say what they know.
            b'v' | b'N' => continue,
            other => return Err(LoginError::Protocol(other)),
        }
        let request = AuthRequest::parse(&body)
            .map_err(|error| LoginError::Broken(io::Error::other(error)))?;
        let mut reply = initiator.on(request).map_err(LoginError::Auth)?;
        if let Reply::Derive(job) = reply {
            let derived = tokio::task::spawn_blocking(|| job.run())
                .await
                .map_err(|error| LoginError::Broken(io::Error::other(error)))?;
            reply = initiator.derived(&derived).map_err(LoginError::Auth)?;
            pool.keep_derived(derived);
        }
        match reply {
            Reply::Send(message) => conn.send_all(&message).await.map_err(LoginError::Broken)?,
            Reply::Wait | Reply::Derive(_) => {}
            Reply::Done => return Ok(()),
        }
    }
}

type Reported = Vec<(String, String)>;

/// Reads up to the first ReadyForQuery.
async fn welcome(
    conn: &mut Conn,
    names: &ParamNames,
    params: &mut Arc<Params>,
) -> Result<(Reported, CancelKey), LoginError> {
    let mut reported = Reported::new();
    let mut key = CancelKey([0; 8]);
    loop {
        let (tag, body) = read(conn).await?;
        match tag {
            b'S' => {
                query::note(names, params, &body);
                if let Some(parameter) = wire::backend::Parameter::parse(&body) {
                    reported.push((parameter.name.to_owned(), parameter.value.to_owned()));
                }
            }
            b'K' => {
                let bytes = body.as_slice().try_into();
                key = CancelKey(bytes.map_err(|_| LoginError::Protocol(tag))?);
            }
            b'N' => {}
            b'Z' => return Ok((reported, key)),
            other => return Err(LoginError::Protocol(other)),
        }
    }
}

async fn read(conn: &mut Conn) -> Result<(u8, Vec<u8>), LoginError> {
    let (tag, body) = conn
        .read_message(MESSAGE_LEN_MAX)
        .await
        .map_err(LoginError::Broken)?;
    if tag == b'E' {
        return Err(LoginError::Refused(ErrorFields::parse(&body)));
    }
    Ok((tag, body))
}
