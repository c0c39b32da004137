//! A logged-in client: waits for requests, finds a server for each, and has them relayed.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use net::Conn;
use pool::pool::Wait;
use pool::roster::{ClientFacts, ClientState, Kill, Notify};
use pool::server::align;
use pool::server::query::QueryError;
use pool::{ClientEntry, CloseReason, Lease, LeaseError, Pool, Server};
use wire::error::{put_error, put_notice};
use wire::frontend::{Action, Intake, Policy, Refusal};
use wire::{Params, Severity, SqlState};

use crate::cancel::Registered;
use crate::client::{Admitted, Newcomer};
use crate::process::Counted;
use crate::relay::RelayEnd;
use crate::worker::Worker;

/// What a client hears that waits for long (`query_wait_notify`), in PgBouncer's words.
const QUEUED: &str = "No server connection available in postgres backend, client being queued";

/// A client's session.
pub(crate) struct Session {
    pub(crate) worker: Rc<Worker>,
    pub(crate) conn: Conn,
    pub(crate) intake: Intake,
    pub(crate) entry: Rc<ClientEntry>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) params: Arc<Params>,
    /// Where in the worker's buffer the client's next request stands, until anybody else reads.
    pub(crate) fresh: Option<Range<usize>>,
    /// Whether the client has part of a message, so that it would misread whatever came next.
    cut_off: bool,
    connected: Instant,
    _key: Registered,
    _counts: [Counted; 3],
}

/// Why a session is over.
pub(crate) enum End {
    /// The client took its leave.
    Terminated,
    /// The client's connection closed or broke.
    Lost,
    /// The session was told to end.
    Killed(Kill),
    /// The client sent what it may not.
    Refused(Refusal),
    /// There is no server for it.
    NoServer(LeaseError),
    /// Its server went away, or can't be used on.
    ServerGone(CloseReason),
}

impl End {
    /// What the client hears, if it still listens.
    fn for_client(&self) -> Option<(SqlState, String)> {
        let violation = SqlState::PROTOCOL_VIOLATION;
        match self {
            Self::Terminated | Self::Lost => None,
            Self::Killed(kill) => Some((violation, kill.for_client().to_owned())),
            Self::Refused(refusal) => Some(match refusal {
                Refusal::SimpleQuery => (violation, "PQexec disallowed".to_owned()),
                Refusal::NamedStatement => (
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "named prepared statements need pool_mode = session".to_owned(),
                ),
                Refusal::UnknownMessage => (violation, "unkn pkt".to_owned()),
                Refusal::Header(hex) => (violation, format!("bad packet header: '{hex}'")),
            }),
            Self::NoServer(error) => Some(match error {
                LeaseError::LoginRefused(cause) => (cause.sqlstate(), error.to_string()),
                _ => (violation, error.to_string()),
            }),
            Self::ServerGone(reason) => Some((violation, reason.as_str().to_owned())),
        }
    }

    /// What the log says.
    fn reason(&self) -> String {
        match self {
            Self::Terminated => "client close request".to_owned(),
            Self::Lost => "client unexpected eof".to_owned(),
            other => other
                .for_client()
                .map_or_else(String::new, |(_, text)| text),
        }
    }
}

impl Session {
    /// A session of a client that was admitted.
    pub(crate) fn new(worker: Rc<Worker>, newcomer: Newcomer, admitted: Admitted) -> Self {
        let names = &worker.process.shared.names;
        let place = names.find("application_name");
        let application_name = place.and_then(|place| admitted.params.get(place));
        let facts = ClientFacts {
            id: newcomer.id,
            user: admitted.user,
            database: admitted.database.name.clone(),
            peer: newcomer.peer,
            local: newcomer.local,
            tls: newcomer.cipher().map(Box::new),
            connect_time: newcomer.connect_time,
            console: false,
            application_name: application_name.unwrap_or("").into(),
        };
        let entry = Rc::new(ClientEntry::new(facts, Instant::now()));
        worker.pools.local.roster.add(entry.clone());
        let pool = admitted.pool;
        pool.clients.set(pool.clients.get() + 1);
        let [database, user] = admitted.counts;
        let mut conn = newcomer.conn;
        conn.look_at_held();
        Self {
            worker,
            conn,
            intake: Intake::default(),
            entry,
            pool,
            params: admitted.params,
            fresh: None,
            cut_off: false,
            connected: newcomer.connected,
            _key: admitted.key,
            _counts: [newcomer.counted, database, user],
        }
    }

    /// Serves the client until its session is over.
    pub(crate) async fn run(mut self: Box<Self>) {
        poll_fn(|cx| {
            self.entry.set_waker(cx.waker());
            Poll::Ready(())
        })
        .await;
        let end = loop {
            if let Err(end) = self.serve_one().await {
                break end;
            }
        };
        Box::pin(self.finish(end)).await;
    }

    /// Waits for a request and has it served.
    async fn serve_one(&mut self) -> Result<(), End> {
        poll_fn(|cx| self.poll_request(cx)).await?;
        let lease = match poll_fn(|cx| Poll::Ready(self.request(cx))).await {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                self.keep_request();
                self.wait().await?
            }
            Err(error) => return Err(End::NoServer(error)),
        };
        let names = &self.worker.process.shared.names;
        if let Some(query) = align::needed(lease.server(), names, &mut self.params) {
            self.keep_request();
            if let Err(reason) = Box::pin(self.align(&lease, &query)).await {
                lease.close(reason);
                return Err(End::ServerGone(reason));
            }
        }
        let end = poll_fn(|cx| self.poll_relay(cx, lease.server())).await;
        self.end_lease(lease, end)
    }

    fn request(&mut self, cx: &mut Context<'_>) -> Result<Option<Lease>, LeaseError> {
        let now = Instant::now();
        self.begin_query(now);
        self.pool.request(cx, &self.entry, now)
    }

    /// Others are about to use the worker's buffer: keeps the request that stands there.
    fn keep_request(&mut self) {
        if let Some(fresh) = self.fresh.take() {
            self.conn.hold_news(&self.worker.buffer()[fresh]);
        }
    }

    /// Ready once a request of the client asks for a server: it is `fresh` then.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if let Some(kill) = self.entry.killed() {
                return Poll::Ready(Err(End::Killed(kill)));
            }
            // Whoever does not read its answers gets no new ones.
            if ready!(self.conn.poll_flush(cx)).is_err() {
                return Poll::Ready(Err(End::Lost));
            }
            let worker = self.worker.clone();
            let mut buffer = worker.buffer();
            let filled = if self.conn.has_news() {
                self.conn.unhold(&mut buffer)
            } else {
                match ready!(self.conn.poll_fill(cx, &mut buffer)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(End::Lost)),
                    Ok(filled) => filled,
                }
            };
            self.fresh = self.find_request(&buffer[..filled])?;
            if self.fresh.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Passes over what needs no server, and tells where the first request stands.
    fn find_request(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, End> {
        let policy = self.policy();
        let mut done = 0;
        while done < bytes.len() {
            match self.intake.next(&bytes[done..], None, policy) {
                // Nothing is forwarded without a server: a lease ends between messages only.
                Action::Drop(count) | Action::Forward(count) => done += count,
                Action::NeedsServer => return Ok(Some(done..bytes.len())),
                Action::Hold => {
                    self.conn.hold(&bytes[done..]);
                    break;
                }
                Action::Terminate => return Err(End::Terminated),
                Action::Refuse(refusal) => return Err(End::Refused(refusal)),
            }
        }
        Ok(None)
    }

    /// Waits in line for a server.
    async fn wait(&mut self) -> Result<Lease, End> {
        let (pool, entry) = (self.pool.clone(), self.entry.clone());
        let mut wait = Wait::new(&pool, &entry);
        let mut watching = true;
        poll_fn(|cx| {
            if let Poll::Ready(turn) = wait.poll() {
                return Poll::Ready(turn.map_err(End::NoServer));
            }
            if let Some(kill) = entry.killed() {
                return Poll::Ready(Err(End::Killed(kill)));
            }
            self.poll_while_waiting(cx, &mut watching).map(Err)
        })
        .await
    }

    /// Looks after the connection while its client waits: ready only with the end.
    fn poll_while_waiting(&mut self, cx: &mut Context<'_>, watching: &mut bool) -> Poll<End> {
        if self.entry.notify.get() == Notify::Due {
            self.entry.notify.set(Notify::Told);
            let mut out = Vec::new();
            put_notice(&mut out, SqlState::SUCCESS, QUEUED, None);
            if self.conn.send(&out).is_err() {
                return Poll::Ready(End::Lost);
            }
        }
        if let Poll::Ready(Err(_)) = self.conn.poll_flush(cx) {
            return Poll::Ready(End::Lost);
        }
        if *watching && self.conn.stream().poll_readable(cx).is_ready() {
            if self.conn.stream_mut().is_at_end() {
                return Poll::Ready(End::Lost);
            }
            // More requests: they wait in the socket, and hide its end.
            *watching = false;
        }
        Poll::Pending
    }

    /// Gives the server this client's parameters.
    async fn align(&mut self, lease: &Lease, query: &[u8]) -> Result<(), CloseReason> {
        let names = &self.worker.process.shared.names;
        let limit = self.pool.settings().server_connect_timeout;
        if tracing::enabled!(tracing::Level::TRACE) {
            let sql = query.get(wire::FrameHeader::LEN..query.len() - 1);
            let sql = String::from_utf8_lossy(sql.unwrap_or_default());
            tracing::trace!("{} varcache_apply: {sql}", self.tag());
        }
        let aligned = align::run(lease.server(), query, names, &mut self.params, limit).await;
        if let Err(error) = aligned {
            tracing::warn!("{} cannot set parameters: {error}", self.tag());
            return Err(match error {
                QueryError::Io(_) => CloseReason::Crashed,
                _ => CloseReason::Parameters,
            });
        }
        Ok(())
    }

    /// What becomes of the lease, and whether the session goes on.
    fn end_lease(&mut self, lease: Lease, end: RelayEnd) -> Result<(), End> {
        let now = Instant::now();
        self.entry.link.set(None);
        self.entry.state.set(ClientState::Idle);
        self.cut_off = !lease.server().io.borrow().outflow.at_boundary();
        match end {
            RelayEnd::Over => {
                lease.release(now);
                Ok(())
            }
            RelayEnd::Client(end) if lease.server().is_clean() => {
                lease.release(now);
                Err(end)
            }
            RelayEnd::Client(end) => {
                let reason = close_reason(&end, lease.server());
                lease.close(reason);
                Err(end)
            }
            RelayEnd::Server(reason) => {
                lease.close(reason);
                Err(End::ServerGone(reason))
            }
        }
    }

    /// Says goodbye, to the client and in the log.
    async fn finish(&mut self, end: End) {
        let setup = self.worker.setup();
        let settings = &setup.config.settings;
        if settings.log_disconnections {
            let age = self.connected.elapsed().as_secs();
            let reason = end.reason();
            tracing::info!("{} closing because: {reason} (age={age}s)", self.tag());
        }
        let Some((code, text)) = end.for_client() else {
            return;
        };
        if settings.log_pooler_errors {
            tracing::warn!("{} pooler error: {text}", self.tag());
        }
        if self.cut_off {
            return;
        }
        let mut out = Vec::new();
        put_error(&mut out, Severity::Fatal, code, &text);
        let goodbye = self.conn.send_all(&out);
        // Whoever does not read it is gone or does not care.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        self.conn.finish().await;
    }

    /// What this client may send.
    pub(crate) fn policy(&self) -> Policy {
        self.pool.policy()
    }

    /// A request begins: counted at its first message, before a server is found.
    pub(crate) fn begin_query(&self, now: Instant) {
        let entry = &self.entry;
        entry.request_time.set(now);
        let mut counters = self.pool.counters.borrow_mut();
        if entry.query_start.get().is_none() {
            entry.query_start.set(Some(now));
            counters.query_count += 1;
        }
        if entry.xact_start.get().is_none() {
            entry.xact_start.set(Some(now));
            counters.xact_count += 1;
        }
    }

    /// The front of its log lines.
    fn tag(&self) -> String {
        let entry = &self.entry;
        format!(
            "C-{:#x}: {}/{}@{}",
            entry.id.0, entry.database, entry.user, entry.peer
        )
    }
}

/// Longest time that a client may take to hear why its session ends.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(5);

/// Why the server of a session that ends in the middle of things is closed.
fn close_reason(end: &End, server: &Server) -> CloseReason {
    match end {
        End::Killed(Kill::QueryTimeout) => CloseReason::QueryTimeout,
        End::Killed(Kill::IdleTransaction) => CloseReason::IdleTransaction,
        End::Killed(Kill::TransactionTimeout) => CloseReason::TransactionTimeout,
        End::Killed(Kill::DatabaseRemoved) => CloseReason::DatabaseRemoved,
        _ if server.io.borrow().pipeline.is_settled() => CloseReason::ClientGone,
        _ => CloseReason::QueriesInProgress,
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.worker.pools.local.roster.remove(self.entry.id);
        self.pool.clients.set(self.pool.clients.get() - 1);
    }
}

/// An error of the client's connection is the client's end.
pub(crate) fn lost(_: io::Error) -> End {
    End::Lost
}
