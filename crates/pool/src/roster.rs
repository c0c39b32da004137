//! A worker's clients: what others may know of them, and how they are reached.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use events::time::Instant;
use net::tls::Cipher;
use net::{Conn, PeerAddr};
use rustc_hash::FxHashMap;
use wire::{Replication, SqlState};

use crate::key::ClientId;
use crate::lease::{Lease, LeaseError};

/// What a logged-in client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Nothing, without a server.
    Idle,
    /// It has a server.
    Active,
    /// It is in line for one.
    Waiting,
}

/// What a client is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// A session with servers.
    Session,
    /// The console.
    Console,
    /// A question of the pooler's own, on behalf of clients who log in: no client to be seen or
    /// counted, but one in line for a server.
    Errand,
}

/// Why a session is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// `KILL_CLIENT`.
    Admin,
    /// Its database was killed, or is gone from the configuration.
    DatabaseRemoved,
    /// Its server must be replaced, and `server_fast_close` has it go at once.
    Reconfigured,
    /// `client_idle_timeout`.
    ClientIdle,
    /// `query_timeout`, while the query ran.
    QueryTimeout,
    /// `idle_transaction_timeout`.
    IdleTransaction,
    /// `transaction_timeout`.
    TransactionTimeout,
    /// The process shuts down.
    ShuttingDown,
    /// The process shuts down, and has no more time for this session.
    Drained,
    /// It was still busy `suspend_timeout` after SUSPEND.
    SuspendTimeout,
}

impl Kill {
    /// What the client is told, in PgBouncer's words.
    pub fn for_client(self) -> &'static str {
        match self {
            Self::Admin => "admin forced disconnect",
            Self::DatabaseRemoved => "database removed",
            Self::Reconfigured => "database configuration changed",
            Self::ClientIdle => "client_idle_timeout",
            Self::QueryTimeout => "query timeout",
            Self::IdleTransaction => "idle transaction timeout",
            Self::TransactionTimeout => "transaction timeout",
            Self::ShuttingDown => "server shutting down",
            // PostgreSQL's own words, which clients know how to take.
            Self::Drained => "terminating connection due to administrator command",
            Self::SuspendTimeout => "suspend_timeout",
        }
    }

    /// The code that goes with these words.
    pub fn sqlstate(self) -> SqlState {
        match self {
            Self::Drained => SqlState::ADMIN_SHUTDOWN,
            _ => SqlState::PROTOCOL_VIOLATION,
        }
    }
}

/// Whether a session goes over to the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// Nobody has asked for it.
    Uncalled,
    /// As soon as it is between two transactions.
    Called,
    /// It can't, and is not asked again.
    Stays,
}

/// What a waiting client is woken with.
#[derive(Debug)]
pub enum Turn {
    /// A server.
    Lease(Lease),
    /// No server will come.
    Failed(LeaseError),
}

/// A logged-in client, as its worker knows it.
#[derive(Debug)]
pub struct ClientEntry {
    /// Its number.
    pub id: ClientId,
    /// The user it logged in as.
    pub user: Arc<str>,
    /// The user whose servers serve it.
    pub pool_user: Arc<str>,
    /// The database it asked for.
    pub database: Arc<str>,
    /// Where it comes from.
    pub peer: PeerAddr,
    /// Where it came in.
    pub local: Option<SocketAddr>,
    /// How it is encrypted; `None`: not at all. In a box, since most are not.
    pub tls: Option<Box<Cipher>>,
    /// When it connected.
    pub connect_time: SystemTime,
    /// What it is here for.
    pub kind: ClientKind,
    /// Whether it is a replication connection, which has a server of its own.
    pub replication: Replication,
    /// What it does.
    pub state: Cell<ClientState>,
    /// When its last request began.
    pub request_time: Cell<Instant>,
    /// When the query that runs, or waits for a server, began.
    pub query_start: Cell<Option<Instant>>,
    /// When its transaction began.
    pub xact_start: Cell<Option<Instant>>,
    /// The server that serves it.
    pub link: Cell<Option<u64>>,
    /// Since when it has that server.
    pub held_since: Cell<Option<Instant>>,
    /// How many prepared statements it has names for.
    pub prepared_statements: Cell<usize>,
    /// Its application_name, as it last was.
    pub application_name: RefCell<Arc<str>>,
    /// Whether the notice of `query_wait_notify` is due.
    pub notify: Cell<Notify>,
    /// Whether, under SUSPEND, nothing of it is on its way any more.
    pub still: Cell<bool>,
    /// Whether a console session's command is no longer wanted.
    pub given_up: Cell<bool>,
    kill: Cell<Option<Kill>>,
    dismissed: Cell<Option<Kill>>,
    /// Whether it goes over to the next process.
    crossing: Cell<Crossing>,
    /// What its connection holds.
    pub(crate) rest: Cell<Rest>,
    /// The number of its socket.
    pub(crate) fd: Cell<Option<i32>>,
    turn: RefCell<Option<Turn>>,
    waker: RefCell<Option<Waker>>,
}

/// What a connection holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rest {
    pub(crate) held: usize,
    pub(crate) unsent: usize,
}

impl Rest {
    pub(crate) fn of(conn: &Conn) -> Self {
        Self {
            held: conn.held_len(),
            unsent: conn.unsent_len(),
        }
    }
}

/// Whether a waiting client has been told that it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// Not yet.
    Untold,
    /// It is time to.
    Due,
    /// Yes.
    Told,
}

/// What a new entry is made of.
#[derive(Debug)]
pub struct ClientFacts {
    /// Its number.
    pub id: ClientId,
    /// The user it logged in as.
    pub user: Arc<str>,
    /// The user whose servers serve it.
    pub pool_user: Arc<str>,
    /// The database it asked for.
    pub database: Arc<str>,
    /// Where it comes from.
    pub peer: PeerAddr,
    /// Where it came in.
    pub local: Option<SocketAddr>,
    /// How it is encrypted; `None`: not at all. In a box, since most are not.
    pub tls: Option<Box<Cipher>>,
    /// When it connected.
    pub connect_time: SystemTime,
    /// What it is here for.
    pub kind: ClientKind,
    /// Whether it is a replication connection.
    pub replication: Replication,
    /// Its application_name.
    pub application_name: Arc<str>,
}

impl ClientEntry {
    /// A client that just logged in.
    pub fn new(facts: ClientFacts, now: Instant) -> Self {
        Self {
            id: facts.id,
            user: facts.user,
            pool_user: facts.pool_user,
            database: facts.database,
            peer: facts.peer,
            local: facts.local,
            tls: facts.tls,
            connect_time: facts.connect_time,
            kind: facts.kind,
            replication: facts.replication,
            state: Cell::new(ClientState::Idle),
            request_time: Cell::new(now),
            query_start: Cell::new(None),
            xact_start: Cell::new(None),
            link: Cell::new(None),
            held_since: Cell::new(None),
            prepared_statements: Cell::new(0),
            application_name: RefCell::new(facts.application_name),
            notify: Cell::new(Notify::Untold),
            still: Cell::new(false),
            given_up: Cell::new(false),
            kill: Cell::new(None),
            dismissed: Cell::new(None),
            crossing: Cell::new(Crossing::Uncalled),
            rest: Cell::default(),
            fd: Cell::default(),
            turn: RefCell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Keeps the way to wake the client's task: the same for all its life.
    pub fn set_waker(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Tells which socket is its connection's, and what that holds now.
    pub fn note_socket(&self, conn: &Conn) {
        self.fd.set(conn.stream().fd());
        self.note_rest(conn);
    }

    /// Tells what its connection holds now.
    #[inline]
    pub fn note_rest(&self, conn: &Conn) {
        self.rest.set(Rest::of(conn));
    }

    /// Makes the client's task look at what has changed.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Tells the session to end; the first reason counts.
    pub fn kill(&self, reason: Kill) {
        if self.kill.get().is_none() {
            self.kill.set(Some(reason));
        }
        self.wake();
    }

    /// Why the session is to end, if it is.
    pub fn killed(&self) -> Option<Kill> {
        self.kill.get()
    }

    /// Tells the session to end as soon as it is between two transactions; the first reason counts.
    pub fn dismiss(&self, reason: Kill) {
        if self.dismissed.get().is_none() {
            self.dismissed.set(Some(reason));
        }
        self.wake();
    }

    /// Why the session is to end between two transactions, if it is.
    pub fn dismissed(&self) -> Option<Kill> {
        self.dismissed.get()
    }

    /// Tells the session to go over to the next process once it is between two transactions.
    pub fn call_over(&self) {
        if self.crossing.get() == Crossing::Uncalled {
            self.crossing.set(Crossing::Called);
            self.wake();
        }
    }

    /// The session can't go over.
    pub fn stays(&self) {
        self.crossing.set(Crossing::Stays);
    }

    /// Whether the session goes over to the next process.
    pub fn crossing(&self) -> Crossing {
        self.crossing.get()
    }

    /// How long the client has asked for nothing; `None` while anything that it asked for goes on.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let asks = self.query_start.get().is_some() || self.xact_start.get().is_some();
        (!asks).then(|| now.saturating_duration_since(self.request_time.get()))
    }

    /// Ends the client's wait.
    pub fn take_turn(&self) -> Option<Turn> {
        self.turn.borrow_mut().take()
    }

    pub(crate) fn give_turn(&self, turn: Turn) {
        *self.turn.borrow_mut() = Some(turn);
        self.wake();
    }
}

/// The clients of one worker.
#[derive(Debug, Default)]
pub struct Roster {
    clients: RefCell<FxHashMap<ClientId, Rc<ClientEntry>>>,
}

impl Roster {
    /// Takes a client in.
    pub fn add(&self, entry: Rc<ClientEntry>) {
        self.clients.borrow_mut().insert(entry.id, entry);
    }

    /// Lets a client go; false if it was gone already.
    pub fn remove(&self, id: ClientId) -> bool {
        self.clients.borrow_mut().remove(&id).is_some()
    }

    /// A client by its number, errands among them.
    pub fn get(&self, id: ClientId) -> Option<Rc<ClientEntry>> {
        self.clients.borrow().get(&id).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.borrow().len()
    }

    /// True without clients.
    pub fn is_empty(&self) -> bool {
        self.clients.borrow().is_empty()
    }

    /// Calls `look` for every client, errands among them.
    pub fn for_each(&self, mut look: impl FnMut(&Rc<ClientEntry>)) {
        self.clients.borrow().values().for_each(&mut look);
    }
}
