//! A new connection: from its first packet to a session, a console, a cancel request, or a refusal.

mod arrive;
mod elsewhere;
mod first;
mod login;
mod prove;
mod reason;
mod recognise;
mod seat;
mod startup;
mod vouched;
mod welcome;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use auth::Origin;
use events::time::Instant;
use net::listen::Accepted;
use net::tls::{Cipher, ClientTls, HandshakeError};
use net::{Conn, PeerAddr, Stream};
use pool::roster::Kill;
use pool::{ClientId, LeaseError};
use thiserror::Error;
use wire::error::put_error;
use wire::startup::StartupError;
use wire::{CancelKey, Severity, SqlState};

use crate::accept::Admission;
use crate::cancel::cancel;
use crate::console;
use crate::process::Counted;
use crate::session::Session;
use crate::setup::Setup;
use crate::stage::Stage;
use crate::worker::Worker;

pub(crate) use self::arrive::arrive;
use self::first::Opening;
pub(crate) use self::login::{Admitted, AdmittedToConsole};

/// A connection whose client is not known yet.
pub(crate) struct Newcomer {
    pub(crate) id: ClientId,
    pub(crate) conn: Conn,
    pub(crate) peer: PeerAddr,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) connected: Instant,
    pub(crate) connect_time: SystemTime,
    /// Its database and user, once it has named them: for the log.
    pub(crate) label: Option<(Arc<str>, Arc<str>)>,
    /// The minor version of protocol 3 that is spoken with it.
    pub(crate) minor: u16,
    /// It has proven who it is, and waits for a server.
    pub(crate) has_done_its_part: bool,
    /// Whether it came in time for more than the console.
    pub(crate) admission: Admission,
    /// Counts it as a client socket.
    pub(crate) counted: Counted,
    /// What it is told, and is not sent yet.
    said: Vec<u8>,
}

/// What a client is told at once, nearly always, in bytes.
const ROOM: usize = 512;

/// Why a client is not let in.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    /// The connection broke, or was closed: nobody is left to be told.
    #[error("client unexpected eof")]
    Gone(#[from] std::io::Error),
    /// Its startup packet can't be read, or asks for what we don't have.
    #[error("{0}")]
    Startup(#[from] StartupError),
    /// TLS came to nothing: there is no way to tell the client, other than what TLS itself says.
    #[error("TLS handshake failed")]
    Handshake(HandshakeError),
    /// Told to the client as it stands.
    #[error("{0}")]
    Told(String),
    /// Told to the client with this code.
    #[error("{1}")]
    Coded(SqlState, String),
    /// `client_login_timeout`.
    #[error("client_login_timeout")]
    LoginTimeout,
    /// The same, and not the client's fault.
    #[error("client_login_timeout (server down)")]
    ServerDown,
}

impl From<HandshakeError> for Refused {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => Self::Gone(error),
            other => Self::Handshake(other),
        }
    }
}

impl Refused {
    fn told(text: impl Into<String>) -> Self {
        Self::Told(text.into())
    }

    /// What the client hears: code and text; nothing, if it is gone.
    fn for_client(&self) -> Option<(SqlState, String)> {
        match self {
            Self::Gone(_) | Self::Handshake(_) => None,
            Self::Coded(code, text) => Some((*code, text.clone())),
            other => Some((SqlState::PROTOCOL_VIOLATION, other.to_string())),
        }
    }
}

/// A login ends as sessions do.
impl From<Kill> for Refused {
    fn from(kill: Kill) -> Self {
        Self::Coded(kill.sqlstate(), kill.for_client().to_owned())
    }
}

/// A login ends for want of a server.
impl From<LeaseError> for Refused {
    fn from(error: LeaseError) -> Self {
        match &error {
            LeaseError::LoginRefused(cause) => Self::Coded(cause.sqlstate(), error.to_string()),
            _ => Self::Told(error.to_string()),
        }
    }
}

/// Serves a connection from its first byte to its last.
pub(crate) fn serve(
    worker: Rc<Worker>,
    visitor: Visitor,
    counted: Counted,
    login: Counted,
    admission: Admission,
) -> impl Future<Output = ()> {
    let newcomer = Box::new(Newcomer {
        id: ClientId(worker.process.shared.next_id()),
        local: visitor.local,
        conn: Conn::new(visitor.stream),
        peer: visitor.peer,
        connected: Instant::of_turn(),
        connect_time: SystemTime::now(),
        label: None,
        minor: 0,
        has_done_its_part: false,
        admission,
        counted,
        said: Vec::with_capacity(ROOM),
    });
    admit(worker, newcomer, login)
}

/// A client's socket, and whose it is.
pub(crate) struct Visitor {
    stream: Stream,
    peer: PeerAddr,
    local: Option<SocketAddr>,
}

/// Registers a client's socket, gives it its options, and asks the kernel what is not known of it.
pub(crate) fn meet(setup: &Setup, accepted: Accepted) -> std::io::Result<Visitor> {
    let stream = Stream::accepted(accepted.socket)?;
    let peer = match accepted.peer {
        Some(peer) => PeerAddr::Tcp(peer),
        None => stream.peer_addr(setup.config.settings.listen_port)?,
    };
    if let Stream::Tcp(tcp) = &stream {
        let options = setup.tcp_options();
        let applied = match accepted.has_options {
            true => options.apply_rest(tcp),
            false => options.apply(tcp),
        };
        if let Err(error) = applied {
            tracing::warn!("cannot set options of a client's socket: {error}");
        }
    }
    let local = accepted.local.or_else(|| stream.local_addr());
    Ok(Visitor {
        stream,
        peer,
        local,
    })
}

/// Takes a connection through its login, to what comes of it.
async fn admit(worker: Rc<Worker>, mut newcomer: Box<Newcomer>, login: Counted) {
    let worker = &worker;
    let connected = newcomer.connected;
    let in_time = {
        let mut result = pin!(log_in(worker, &mut newcomer));
        // It wakes us every now and then, too: so silent logins end soon under SUSPEND.
        let mut timeout = pin!(login_timeout(worker, connected));
        poll_fn(|cx| {
            if worker.process.stage() == Stage::Suspended {
                return Poll::Ready(Some(Err(Kill::SuspendTimeout.into())));
            }
            match result.as_mut().poll(cx) {
                Poll::Pending => timeout.as_mut().poll(cx).map(|()| None),
                Poll::Ready(result) => Poll::Ready(Some(result)),
            }
        })
        .await
    };
    let result = in_time.unwrap_or_else(|| Err(newcomer.too_late()));
    drop(login);
    match result {
        // It was patient as long as it was a login, whose large future ends here.
        Ok(Outcome::Session(admitted)) => {
            let session = Session::new(worker.clone(), *newcomer, *admitted);
            events::spawn(Box::new(session).run());
        }
        Ok(Outcome::Console(admitted)) => {
            let session = console::Session::new(worker.clone(), *newcomer, *admitted);
            events::spawn(Box::new(session).run());
        }
        Ok(Outcome::Cancel(key)) => {
            Box::pin(cancel(worker.process, &worker.setup(), &key)).await;
        }
        Err(refused) => Box::pin(refuse(worker, &mut newcomer, &refused)).await,
    }
}

/// Ends when a login has taken `client_login_timeout`.
async fn login_timeout(worker: &Worker, connected: Instant) {
    let limit = || {
        let limit = worker.setup().config.settings.client_login_timeout;
        (!limit.is_zero()).then_some(limit)
    };
    passes(connected, limit).await;
}

/// Ends when so much time has passed since then, as the limit is now; without one it never is.
async fn passes(since: Instant, limit: impl Fn() -> Option<Duration>) {
    loop {
        let now = Instant::of_turn();
        let left = limit().map(|limit| limit.saturating_sub(now - since));
        match left {
            Some(left) if left.is_zero() => return,
            Some(left) => events::time::sleep_until(now + left.min(MOMENT)).await,
            None => events::time::sleep_until(now + MOMENT).await,
        }
    }
}

/// How soon changed limits count for logins under way.
const MOMENT: Duration = Duration::from_millis(500);

/// What a login may turn out to be.
enum Outcome {
    Session(Box<login::Admitted>),
    Console(Box<login::AdmittedToConsole>),
    Cancel(CancelKey),
}

async fn log_in(worker: &Rc<Worker>, newcomer: &mut Newcomer) -> Result<Outcome, Refused> {
    let setup = worker.setup();
    // Nobody listens in on a unix socket.
    let is_tcp = matches!(newcomer.peer, PeerAddr::Tcp(_));
    let tls = setup.tls.clients.as_deref().filter(|_| is_tcp);
    let opening = first::read(&mut newcomer.conn, tls).await?;
    match &opening {
        // The key alone proves its right, and libpq before 17 sends it in the clear.
        Opening::Cancel(key) => Ok(Outcome::Cancel(key.clone())),
        Opening::Startup(_)
            if newcomer.cipher().is_none() && tls.is_some_and(ClientTls::is_required) =>
        {
            Err(Refused::told("SSL required"))
        }
        Opening::Startup(startup) => login::run(worker, newcomer, startup).await,
    }
}

/// Tells the client why, and the log.
async fn refuse(worker: &Worker, newcomer: &mut Newcomer, refused: &Refused) {
    worker.count_refusal(refused.reason());
    let settings = &worker.setup().config.settings;
    let tag = newcomer.tag();
    let age = newcomer.connected.elapsed().as_secs();
    if let Refused::Handshake(error) = refused {
        tracing::warn!(name: "tls_failed", "{tag} TLS handshake error: {error}");
    }
    if settings.log_disconnections {
        tracing::info!(name: "client_closed", "{tag} closing because: {refused} (age={age}s)");
    }
    let Some((code, text)) = refused.for_client() else {
        if matches!(refused, Refused::Handshake(_)) {
            newcomer.conn.finish().await;
        }
        return;
    };
    if settings.log_pooler_errors {
        tracing::warn!(name: "pooler_error", "{tag} pooler error: {text}");
    }
    let mut out = std::mem::take(&mut newcomer.said);
    put_error(&mut out, Severity::Fatal, code, &text);
    // Whoever does not read it is gone or does not care.
    let goodbye = newcomer.conn.send_all(&out);
    let _ = events::time::timeout(GOODBYE, goodbye).await;
    newcomer.conn.finish().await;
}

/// Longest time that a refused client may take to hear why.
const GOODBYE: Duration = Duration::from_secs(5);

impl Newcomer {
    /// Why a login that took too long is refused.
    fn too_late(&self) -> Refused {
        if self.has_done_its_part {
            Refused::ServerDown
        } else {
            Refused::LoginTimeout
        }
    }

    /// Sends what it is told so far.
    async fn send_said(&mut self) -> Result<(), Refused> {
        if !self.said.is_empty() {
            self.conn.send(&self.said)?;
            // Whatever ends the login now, nothing is said twice.
            self.said.clear();
        }
        Ok(self.conn.flush().await?)
    }

    /// Waits for something, unless the client leaves.
    async fn unless_gone<T>(&mut self, something: impl Future<Output = T>) -> Result<T, Refused> {
        tokio::select! {
            biased;
            done = something => Ok(done),
            error = self.conn.gone() => Err(Refused::Gone(error)),
        }
    }

    /// How it came here.
    fn origin(&self) -> Origin {
        match self.peer {
            PeerAddr::Unix { .. } => Origin::Unix,
            PeerAddr::Tcp(address) => Origin::Tcp {
                address: address.ip(),
                tls: self.conn.stream().secured().is_some(),
            },
        }
    }

    /// How its connection is encrypted.
    pub(crate) fn cipher(&self) -> Option<Cipher> {
        let secured = self.conn.stream().secured();
        secured.map(|secured| secured.cipher)
    }

    /// The front of its log lines.
    fn tag(&self) -> String {
        let label = self.label.as_ref();
        let (database, user) =
            label.map_or(("(nodb)", "(nouser)"), |(database, user)| (database, user));
        format!("C-{:#x}: {database}/{user}@{}", self.id.0, self.peer)
    }
}
