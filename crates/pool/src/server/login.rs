//! Connects to a server and logs in.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use auth::{Initiator, Nonce, Reply};
use events::time::Instant;
use net::dial::{DialError, Encryption, dial};
use net::stream::Target;
use net::tls::ServerTls;
use net::{Conn, PeerAddr, Stream, TcpOptions};
use settings::{Database, SocketDir};
use thiserror::Error;
use wire::authentication::AuthRequest;
use wire::backend::{Parameter, negotiated_minor};
use wire::error::ErrorFields;
use wire::frontend::put_query;
use wire::startup::put_startup;
use wire::{CancelKey, ParamNames, Params, Replication, SqlState};
use zeroize::Zeroizing;

use super::{Encrypted, Facts, query};
use crate::own::OwnStartup;
use crate::shared::{PoolShared, Reported};

/// Longest message of a login, in bytes.
const MESSAGE_LEN_MAX: usize = 1 << 20;

/// Why a server could not be logged in to.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The name has no address.
    #[error("server DNS lookup failed: {0}")]
    Dns(io::Error),
    /// Nobody answers there.
    #[error("connect failed: {0}")]
    Connect(io::Error),
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
            Self::Dns(_) => "server DNS lookup failed",
            Self::Connect(_) => "connect failed",
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
            Self::Refused(fields) if !fields.message.is_empty() => fields.message.clone(),
            Self::Refused(_) => "server login failed".to_owned(),
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

    /// True if a server may say so that can't make sense of a newer protocol than it knows: some
    /// refuse it in these words, some hang up, some answer with what can't be.
    fn may_be_the_protocols(&self) -> bool {
        match self {
            Self::Refused(fields) => matches!(
                fields.sqlstate,
                None | Some(SqlState::PROTOCOL_VIOLATION | SqlState::FEATURE_NOT_SUPPORTED)
            ),
            Self::Broken(_) | Self::Protocol(_) => true,
            Self::Dns(_) | Self::Connect(_) | Self::Tls(_) | Self::Timeout | Self::Auth(_) => false,
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
    /// What it reported.
    pub reported: Reported,
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
    own: Option<&OwnStartup>,
) -> Result<LoggedIn, LoginError> {
    let generation = pool.database.generation.load(Ordering::SeqCst);
    let (opened, connect_time) = (Instant::now(), SystemTime::now());
    let greeting = Greeting {
        pool,
        config,
        target: &target,
        options,
        tls,
        own,
    };
    let Greeted { mut conn, first } = greeting.greet(generation).await?;
    let (peer, local) = ends(conn.stream(), &target, config.port);
    let tls = tls.and_then(|tls| Encrypted::of(conn.stream(), tls));

    authenticate(&mut conn, pool, first).await?;
    let (mut reported, key) = welcome(&mut conn, names).await?;
    // Replication has a grammar of its own, and its client set all up by startup parameters.
    if let (Some(sql), None) = (&config.connect_query, own) {
        let mut message = Vec::new();
        put_query(&mut message, sql);
        match query::on_conn(&mut conn, &message, names, &mut reported.tracked).await {
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
            replication: own.map_or(Replication::None, |own| own.replication),
            defaults: reported.tracked.clone(),
        },
        conn,
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
        DialError::Connect(error) => LoginError::Connect(error),
        DialError::Broken(error) => LoginError::Broken(error),
        other => LoginError::Tls(other),
    })
}

/// A client's own parameters come last: of two values the last one counts.
fn startup_parameters<'a>(
    pool: &'a PoolShared,
    config: &'a Database,
    own: Option<&'a OwnStartup>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let account: [(&str, &str); 2] = [("user", &pool.key.user), ("database", config.dbname())];
    let own = own.into_iter().flat_map(|own| &own.parameters);
    account
        .into_iter()
        .chain(config.startup_parameters())
        .chain(own.map(|(name, value)| (name.as_str(), value.as_str())))
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

/// A server that takes the startup packet, and its first word on who we are.
struct Greeted {
    conn: Conn,
    first: (u8, Vec<u8>),
}

/// What a server is told first, and where it is.
struct Greeting<'a> {
    pool: &'a PoolShared,
    config: &'a Database,
    target: &'a Target,
    options: &'a TcpOptions,
    tls: Option<&'a Arc<ServerTls>>,
    own: Option<&'a OwnStartup>,
}

impl Greeting<'_> {
    /// Greets a server with the newest protocol. One that does not even understand the question is
    /// asked again with 3.0, and not bothered any more.
    async fn greet(&self, generation: u64) -> Result<Greeted, LoginError> {
        let newest = self.pool.newest_minor(self.target, generation);
        match self.greet_with(newest).await {
            Ok((greeted, spoken)) => {
                if spoken < newest {
                    self.pool.keep_to(self.target, generation, spoken);
                }
                Ok(greeted)
            }
            Err(error) if newest > 0 && error.may_be_the_protocols() => {
                let (greeted, _) = self.greet_with(0).await?;
                self.pool.keep_to(self.target, generation, 0);
                Ok(greeted)
            }
            Err(error) => Err(error),
        }
    }

    /// Connects, asks for a minor version of protocol 3, and tells the one that is spoken then.
    async fn greet_with(&self, minor: u16) -> Result<(Greeted, u16), LoginError> {
        let mut conn = connect(self.target, self.options, self.tls).await?;
        let mut startup = Vec::new();
        let parameters = startup_parameters(self.pool, self.config, self.own);
        put_startup(&mut startup, minor, parameters);
        conn.send_all(&startup).await.map_err(LoginError::Broken)?;

        let mut spoken = minor;
        loop {
            match read(&mut conn).await? {
                (b'v', body) => {
                    let told = negotiated_minor(&body).filter(|&told| told <= minor);
                    spoken = told.ok_or(LoginError::Protocol(b'v'))?;
                }
                (b'N', _) => {}
                first => return Ok((Greeted { conn, first }, spoken)),
            }
        }
    }
}

async fn authenticate(
    conn: &mut Conn,
    pool: &PoolShared,
    first: (u8, Vec<u8>),
) -> Result<(), LoginError> {
    let nonce = Nonce::fresh().map_err(|error| LoginError::Broken(io::Error::other(error)))?;
    let secured = conn.stream().secured();
    let end_point = secured.and_then(|secured| secured.end_point.clone());
    let initiator = Initiator::new(&pool.key.user, pool.credentials(), nonce);
    let mut initiator = initiator.bound_to(end_point);
    let mut next = Some(first);
    loop {
        let (tag, body) = match next.take() {
            Some(first) => first,
            None => read(conn).await?,
        };
        match tag {
            b'R' => {}
            b'N' => continue,
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
            // It may be a password.
            Reply::Send(message) => {
                let message = Zeroizing::new(message);
                conn.send_all(&message).await.map_err(LoginError::Broken)?;
            }
            Reply::Wait | Reply::Derive(_) => {}
            Reply::Done => return Ok(()),
        }
    }
}

/// Reads up to the first ReadyForQuery.
async fn welcome(
    conn: &mut Conn,
    names: &ParamNames,
) -> Result<(Reported, Option<CancelKey>), LoginError> {
    let (mut all, mut tracked) = (Vec::new(), Params::default());
    let mut key = None;
    loop {
        let (tag, body) = read(conn).await?;
        match tag {
            b'S' => {
                if let Some(Parameter { name, value }) = Parameter::parse(&body) {
                    if let Some(place) = names.track(name) {
                        tracked.set(place, value);
                    }
                    all.push((name.to_owned(), value.to_owned()));
                }
            }
            b'K' => key = Some(CancelKey::parse(&body).ok_or(LoginError::Protocol(tag))?),
            b'N' => {}
            b'Z' => break,
            other => return Err(LoginError::Protocol(other)),
        }
    }
    Ok((Reported::new(all, Arc::new(tracked), names), key))
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
