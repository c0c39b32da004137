//! A logged-in server, and what it may be asked between two clients.

pub mod align;
pub mod cancel;
pub mod login;
pub mod portrait;
pub mod prepared;
pub mod query;
pub(crate) mod turns;
pub(crate) mod version;

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use events::time::Instant;
use net::conn::ParkedConn;
use net::stream::Target;
use net::tls::{Cipher, ServerTls};
use net::{Conn, PeerAddr, Stream};
use prepared::Prepared;
use wire::backend::Outflow;
use wire::{CancelKey, Params, Pipeline, Replication};

use crate::locality::Sightings;

/// A server of one worker. Others look at its facts; who holds the lease moves its bytes.
#[derive(Debug)]
pub struct Server {
    /// Its number, all over the process.
    pub id: u64,
    /// What stays the same for all its life.
    pub facts: Facts,
    /// When a client last began a request on it.
    pub request_time: Cell<Instant>,
    /// When bytes last came from it.
    pub last_heard: Cell<Instant>,
    /// The client it serves.
    pub link: Cell<Option<u64>>,
    /// Counts leases: a cancel request is for one of them only.
    pub epoch: Cell<u64>,
    /// Cancel requests that were sent and have not landed yet.
    pub cancels: Cell<u32>,
    /// Whether it works on a query of our own that its pipeline does not know of: closed meanwhile,
    /// it has to be stopped.
    pub own_query: Cell<bool>,
    /// Whether a session has used it, so that its parameters may be anybody's.
    pub touched: Cell<bool>,
    /// Whether what it does now its client asked for: before that there is nothing to cancel,
    /// though the client has it already.
    pub relays: Cell<bool>,
    /// Why it had better serve nobody else, though it seems to be fine.
    pub doubt: Cell<Option<CloseReason>>,
    /// While idle: whether it is registered for being woken when it speaks.
    pub watched: Cell<bool>,
    /// Where it runs, if it is on this machine.
    pub(crate) sightings: Sightings,
    /// The bytes, and what is known of them.
    pub io: RefCell<ServerIo>,
}

/// What stays the same for a server's life.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where it was connected to.
    pub target: Target,
    /// Its address as tables show it.
    pub peer: PeerAddr,
    /// Our end's address.
    pub local: Option<std::net::SocketAddr>,
    /// How it is encrypted; `None`: not at all.
    pub tls: Option<Encrypted>,
    /// Its own cancel key, if it gave one.
    pub key: Option<CancelKey>,
    /// When it was connected.
    pub opened: Instant,
    /// The same, as a time of day.
    pub connect_time: SystemTime,
    /// The database's generation when it was opened.
    pub generation: u64,
    /// Whether it serves replication: then it is its client's own, and nobody else's.
    pub replication: Replication,
    /// Its tracked parameters as they were before its first client.
    pub defaults: Arc<Params>,
}

impl Facts {
    /// Whether it serves one client and is closed after it.
    pub fn is_own(&self) -> bool {
        self.replication != Replication::None
    }
}

/// How a server's connection is encrypted.
#[derive(Debug, Clone)]
pub struct Encrypted {
    /// Protocol and cipher.
    pub cipher: Cipher,
    /// What it was asked for with: its cancel requests are encrypted likewise.
    pub context: Arc<ServerTls>,
}

impl Encrypted {
    pub(crate) fn of(stream: &Stream, context: &Arc<ServerTls>) -> Option<Self> {
        let cipher = stream.secured()?.cipher;
        let context = context.clone();
        Some(Self { cipher, context })
    }
}

/// A server's connection and the state of its conversation.
#[derive(Debug)]
pub struct ServerIo {
    /// The connection.
    pub conn: Conn,
    /// Walks what it sends.
    pub outflow: Outflow,
    /// What it still owes.
    pub pipeline: Pipeline,
    /// Its tracked parameters.
    pub params: Arc<Params>,
    /// The pooled statements that it has.
    pub prepared: Prepared,
}

/// A server on its way to another worker: idle, settled, nothing held.
#[derive(Debug)]
pub struct ParkedServer {
    id: u64,
    facts: Facts,
    request_time: Instant,
    touched: bool,
    params: Arc<Params>,
    prepared: Prepared,
    conn: ParkedConn,
}

/// Why a server is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Idle for `server_idle_timeout`.
    IdleTimeout,
    /// Older than `server_lifetime`.
    Lifetime,
    /// Another pool of the same database or user needed its permit.
    Evicted,
    /// PAUSE.
    Paused,
    /// Its database's settings changed, or RECONNECT.
    Reconfigured,
    /// The name of its host leads elsewhere now.
    Moved,
    /// Its database is gone.
    DatabaseRemoved,
    /// The pool shrank.
    Surplus,
    /// Another process has taken over, and can't have this one.
    TakenOver,
    /// It closed the connection, or the connection broke.
    Crashed,
    /// It said something while nobody had asked.
    Dirty,
    /// The replication client whose own it was is gone.
    ReplicationOver,
    /// Its client left in the middle of things.
    ClientGone,
    /// Its client left with queries in progress.
    QueriesInProgress,
    /// What it still owes is not known.
    Unclean,
    /// A cancel request for it may land at any time.
    CancelAstray,
    /// It reported a parameter in a way that can't be read: the next client would inherit it.
    ParameterUnread,
    /// The probe failed, or the reset query did.
    CheckFailed,
    /// It did not take a client's parameters.
    Parameters,
    /// A transaction block in statement pooling.
    StatementMode,
    /// `query_timeout`.
    QueryTimeout,
    /// `idle_transaction_timeout`.
    IdleTransaction,
    /// `transaction_timeout`.
    TransactionTimeout,
}

impl CloseReason {
    /// What the log says, in PgBouncer's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdleTimeout => "server idle timeout",
            Self::Lifetime => "server lifetime over",
            Self::Evicted => "evicted",
            Self::Paused => "pause mode",
            Self::Reconfigured => "database configuration changed",
            Self::Moved => "obsolete connection",
            Self::DatabaseRemoved => "database removed",
            Self::TakenOver => "another process has taken over",
            Self::Surplus => "too many servers in the pool",
            Self::Crashed => "server conn crashed?",
            Self::Dirty => "idle server got dirty",
            Self::ReplicationOver => "replication client was closed",
            Self::ClientGone => "client disconnect while server was not ready",
            Self::QueriesInProgress => "client disconnected with queries in progress",
            Self::Unclean => "unclean server",
            Self::CancelAstray => "cancel request gone astray",
            Self::ParameterUnread => "unreadable server parameter",
            Self::CheckFailed => "test query failed",
            Self::Parameters => "invalid server parameter",
            Self::StatementMode => "transaction blocks not allowed in statement pooling mode",
            Self::QueryTimeout => "query timeout",
            Self::IdleTransaction => "idle transaction timeout",
            Self::TransactionTimeout => "transaction timeout",
        }
    }
}

/// What an idle server's socket has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleNews {
    /// Nothing.
    Quiet,
    /// It closed, or the connection broke.
    Gone,
    /// It said something unasked.
    Spoke,
}

impl Server {
    /// A server fresh from its login.
    pub fn new(id: u64, facts: Facts, conn: Conn, params: Arc<Params>) -> Self {
        let opened = facts.opened;
        Self {
            id,
            facts,
            request_time: Cell::new(opened),
            last_heard: Cell::new(opened),
            link: Cell::new(None),
            epoch: Cell::new(0),
            cancels: Cell::new(0),
            own_query: Cell::new(false),
            touched: Cell::new(false),
            relays: Cell::new(false),
            doubt: Cell::new(None),
            watched: Cell::new(false),
            sightings: Sightings::default(),
            io: RefCell::new(ServerIo {
                conn,
                outflow: Outflow::default(),
                pipeline: Pipeline::default(),
                params,
                prepared: Prepared::default(),
            }),
        }
    }

    /// Takes the server out of this worker's event loop; what stays behind is closed.
    pub fn park(&self) -> io::Result<ParkedServer> {
        let mut io = self.io.borrow_mut();
        Ok(ParkedServer {
            id: self.id,
            facts: self.facts.clone(),
            request_time: self.request_time.get(),
            touched: self.touched.get(),
            params: io.params.clone(),
            prepared: std::mem::take(&mut io.prepared),
            conn: io.conn.park()?,
        })
    }

    /// Takes a server into this worker's event loop.
    pub fn unpark(parked: ParkedServer) -> io::Result<Self> {
        let conn = Conn::unpark(parked.conn)?;
        let server = Self::new(parked.id, parked.facts, conn, parked.params);
        server.request_time.set(parked.request_time);
        server.touched.set(parked.touched);
        server.io.borrow_mut().prepared = parked.prepared;
        Ok(server)
    }

    /// Looks whether an idle server said something or went away; registers `cx` for when it does.
    /// Costs no system call while all is quiet.
    pub fn poll_idle(&self, cx: &mut Context<'_>) -> IdleNews {
        let mut io = self.io.borrow_mut();
        if io.conn.stream().poll_readable(cx).is_pending() {
            return IdleNews::Quiet;
        }
        Self::listen(&mut io, cx)
    }

    /// The same without having anybody woken.
    #[inline]
    pub fn idle_news(&self, cx: &mut Context<'_>) -> IdleNews {
        let mut io = self.io.borrow_mut();
        if !io.conn.stream().may_be_readable() {
            return IdleNews::Quiet;
        }
        Self::listen(&mut io, cx)
    }

    fn listen(io: &mut ServerIo, cx: &mut Context<'_>) -> IdleNews {
        let mut byte = [0];
        match io.conn.stream_mut().poll_read(cx, &mut byte) {
            Poll::Pending => IdleNews::Quiet,
            Poll::Ready(Ok(1..)) => IdleNews::Spoke,
            Poll::Ready(Ok(_) | Err(_)) => IdleNews::Gone,
        }
    }

    /// The label of its log lines.
    pub fn label(&self) -> String {
        format!("S-{:#x}", self.id)
    }

    /// The processor on which it last said something, if it is on this machine and connected by TCP.
    pub(crate) fn cpu(&self) -> Option<u32> {
        match &self.facts.target {
            Target::Tcp(addr, _) => {
                let io = self.io.borrow();
                io.conn.stream().peer_cpu(addr.ip(), self.facts.local)
            }
            Target::Unix(_) => None,
        }
    }

    /// True when it owes nothing and stands outside a transaction.
    pub fn is_clean(&self) -> bool {
        self.io.borrow().is_between_transactions()
    }
}

impl ServerIo {
    /// Whether it owes nothing, is in no transaction, and nothing is on its way.
    pub fn is_between_transactions(&self) -> bool {
        self.pipeline.is_settled()
            && self.pipeline.status() == wire::TxStatus::Idle
            && self.outflow.at_boundary()
            && self.conn.is_flushed()
            && !self.conn.has_held()
    }
}

impl ParkedServer {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }
}
