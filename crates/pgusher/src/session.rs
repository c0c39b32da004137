//! A logged-in client: waits for requests, finds a server for each, and has them relayed.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use events::time::Instant;
use net::Conn;
use pool::pool::Suspension;
use pool::roster::{ClientState, Crossing, Kill, Notify};
use pool::server::query::QueryError;
use pool::server::{ServerIo, align};
use pool::{ClientEntry, CloseReason, Lease, LeaseError, Pool, Server};
use settings::PoolMode;
use wire::backend::put_parameter;
use wire::error::{put_error, put_notice};
use wire::frontend::{Action, Intake, Policy, Refusal};
use wire::{Params, Replication, Severity, SqlState};

use crate::cancel::Registered;
use crate::client::{Admitted, Newcomer};
use crate::handover::giving::go_over;
use crate::handover::visits::Visit;
use crate::process::Counted;
use crate::relay::{READS_PER_TURN, RelayEnd};
use crate::statements::ClientStatements;
use crate::worker::Worker;

/// What a client hears that waits for long (`query_wait_notify`), in PgBouncer's words.
const QUEUED: &str = "No server connection available in postgres backend, client being queued";

/// Requests of one client that are served in one turn, before others have theirs.
const REQUESTS_PER_TURN: usize = 8;

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
    pub(crate) seat: Seat,
    /// Bytes of a message that are awaited before it is looked at.
    pub(crate) gather: usize,
    /// Whether the request at the front of what is held waits for answers of the server's.
    pub(crate) waits: bool,
    /// Its prepared statements, once it has any.
    pub(crate) statements: Option<Box<ClientStatements>>,
    /// Whether the client has part of a message, so that it would misread whatever came next.
    cut_off: bool,
    pub(crate) connected: Instant,
    pub(crate) key: Registered,
    pub(crate) visit: Visit,
    _counts: [Counted; 3],
}

/// How the client is served.
#[derive(Default)]
pub(crate) enum Seat {
    /// Not at all: it has asked for nothing.
    #[default]
    None,
    /// It waits in line for a server; whether its connection is watched for its end.
    InLine { watching: bool },
    /// By this server, which may have other parameters yet.
    Given(Lease),
    /// By this server.
    Taken(Lease),
}

/// Why a session is over.
pub(crate) enum End {
    /// The client took its leave.
    Terminated,
    /// The client's connection closed or broke.
    Lost,
    /// The next process is to have it: no end at all, if it can be helped.
    CalledOver,
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
            Self::Terminated | Self::Lost | Self::CalledOver => None,
            Self::Killed(kill) => Some((kill.sqlstate(), kill.for_client().to_owned())),
            Self::Refused(Refusal::Header(hex)) => {
                Some((violation, format!("bad packet header: '{hex}'")))
            }
            Self::NoServer(error) => Some(match error {
                LeaseError::LoginRefused(cause) => (cause.sqlstate(), error.to_string()),
                _ => (violation, error.to_string()),
            }),
            Self::Refused(_) | Self::ServerGone(_) => Some((violation, self.kind().to_owned())),
        }
    }

    /// The same in words that are always the same: for counting.
    fn kind(&self) -> &'static str {
        match self {
            Self::Terminated => "client close request",
            Self::Lost => "client unexpected eof",
            Self::CalledOver => "handed over",
            Self::Killed(kill) => kill.for_client(),
            Self::Refused(refusal) => match refusal {
                Refusal::SimpleQuery => "PQexec disallowed",
                Refusal::NameInUse => "prepared statement name is already in use",
                Refusal::UnknownName => "prepared statement did not exist",
                Refusal::OutOfStep => "out of step with the server",
                Refusal::UnknownMessage => "unkn pkt",
                Refusal::Header(_) => "bad packet header",
            },
            Self::NoServer(error) => error.reason(),
            Self::ServerGone(reason) => reason.as_str(),
        }
    }

    /// What the log says.
    fn reason(&self) -> String {
        let told = self.for_client();
        told.map_or_else(|| self.kind().to_owned(), |(_, text)| text)
    }
}

impl Session {
    /// A session of a client that was admitted.
    pub(crate) fn new(worker: Rc<Worker>, newcomer: Newcomer, admitted: Admitted) -> Self {
        let entry = admitted.listed.hand_over();
        *entry.application_name.borrow_mut() = admitted.params.application_name();
        let [database, user] = admitted.counts;
        let mut conn = newcomer.conn;
        conn.look_at_held();
        entry.note_socket(&conn);
        Self {
            worker,
            conn,
            intake: Intake::default(),
            entry,
            pool: admitted.pool,
            params: admitted.params,
            seat: admitted.lease.map_or(Seat::None, Seat::Given),
            fresh: None,
            gather: 0,
            waits: false,
            statements: None,
            cut_off: false,
            connected: newcomer.connected,
            key: admitted.key,
            visit: admitted.visit,
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
        if self.worker.process.shared.is_departing() && self.entry.tls.is_none() {
            self.entry.call_over();
        }
        let end = loop {
            let served = poll_fn(|cx| self.poll_serve(cx)).await;
            let aligned = match served {
                Ok(lease) => self.align(lease).await,
                Err(end) => Err(end),
            };
            match aligned {
                Ok(()) => {}
                Err(End::CalledOver) => {
                    if Box::pin(go_over(&mut self)).await {
                        return;
                    }
                }
                Err(end) => break end,
            }
        };
        if let Some((code, text)) = self.part(&end) {
            Box::pin(self.say_goodbye(code, &text)).await;
        }
    }

    /// Serves the client, one request after the other; ready with a server whose parameters are
    /// not the client's, or with the end.
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, End>> {
        let mut requests = 0;
        loop {
            let lease = match std::mem::take(&mut self.seat) {
                Seat::Taken(lease) => lease,
                Seat::Given(lease) => match self.sit_down(lease) {
                    Ok(lease) => lease,
                    Err(lease) => return Poll::Ready(Ok(lease)),
                },
                Seat::None if requests == REQUESTS_PER_TURN => {
                    // Others wait for their turn.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Seat::None => {
                    requests += 1;
                    let request = self.poll_request(cx);
                    self.entry.note_rest(&self.conn);
                    ready!(request)?;
                    let asked = self.request(cx);
                    let Some(lease) = asked.map_err(End::NoServer)? else {
                        self.keep_request();
                        self.seat = Seat::InLine { watching: true };
                        continue;
                    };
                    match self.sit_down(lease) {
                        Ok(lease) => lease,
                        Err(lease) => return Poll::Ready(Ok(lease)),
                    }
                }
                Seat::InLine { mut watching } => {
                    let turn = self.poll_turn(cx, &mut watching);
                    if turn.is_pending() {
                        self.seat = Seat::InLine { watching };
                    }
                    self.seat = Seat::Given(ready!(turn)?);
                    continue;
                }
            };
            let end = self.poll_relay(cx, lease.server());
            self.entry.note_rest(&self.conn);
            match end {
                // It keeps its server, which goes along.
                Poll::Ready(RelayEnd::Client(End::CalledOver)) => {
                    self.seat = Seat::Given(lease);
                    return Poll::Ready(Err(End::CalledOver));
                }
                Poll::Ready(end) => self.end_lease(lease, end)?,
                Poll::Pending => {
                    self.seat = Seat::Taken(lease);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes the server on if it has the client's parameters; an error is a server that has not.
    fn sit_down(&self, lease: Lease) -> Result<Lease, Lease> {
        if !align::agree(lease.server(), &self.params) {
            return Err(lease);
        }
        lease.server().relays.set(true);
        Ok(lease)
    }

    /// Gives a server this client's parameters, and takes it on.
    async fn align(&mut self, lease: Lease) -> Result<(), End> {
        let names = &self.worker.process.shared.names;
        if let Some(query) = align::needed(lease.server(), names, &self.params) {
            self.keep_request();
            if let Err(reason) = Box::pin(self.set_parameters(&lease, &query)).await {
                lease.close(reason);
                return Err(End::ServerGone(reason));
            }
        }
        self.adopt_parameters(lease.server());
        lease.server().relays.set(true);
        self.seat = Seat::Taken(lease);
        Ok(())
    }

    fn request(&mut self, cx: &mut Context<'_>) -> Result<Option<Lease>, LeaseError> {
        let now = Instant::of_turn();
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
        for _ in 0..READS_PER_TURN {
            if let Some(kill) = self.entry.killed() {
                return Poll::Ready(Err(End::Killed(kill)));
            }
            // Whoever does not read its answers gets no new ones.
            if ready!(self.conn.poll_flush(cx)).is_err() {
                return Poll::Ready(Err(End::Lost));
            }
            if self.is_still(None) {
                return Poll::Pending;
            }
            let worker = self.worker.clone();
            let mut buffer = worker.buffer();
            if self.gather > 0 {
                if ready!(self.conn.poll_hold(cx, self.gather)).is_err() {
                    return Poll::Ready(Err(End::Lost));
                }
                self.gather = 0;
                self.conn.look_at_held();
            }
            let filled = if self.conn.held_len() > buffer.len() {
                if self.find_large_request()? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            } else if self.conn.has_news() {
                self.conn.unhold(&mut buffer)
            } else {
                match self.conn.poll_fill(cx, &mut buffer) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(End::Lost)),
                    Poll::Ready(Ok(filled)) => filled,
                    Poll::Pending if self.is_called_over() => {
                        return Poll::Ready(Err(End::CalledOver));
                    }
                    Poll::Pending => return self.poll_parting().map(Err),
                }
            };
            self.fresh = self.find_request(&buffer[..filled])?;
            if self.fresh.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        // Others wait for their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready once the session is to end, and the client is between two messages.
    pub(crate) fn poll_parting(&self) -> Poll<End> {
        match self.entry.dismissed() {
            Some(kill) if self.intake.at_boundary() && !self.conn.has_held() => {
                Poll::Ready(End::Killed(kill))
            }
            _ => Poll::Pending,
        }
    }

    /// Whether the next process is to have the client, and can: it is between two messages.
    pub(crate) fn is_called_over(&self) -> bool {
        self.entry.crossing() == Crossing::Called
            && self.intake.at_boundary()
            && !self.conn.has_held()
            && self.conn.is_flushed()
    }

    /// Whether SUSPEND holds and nothing is on its way: then nothing more is read, from the client
    /// or from the server that it has.
    pub(crate) fn is_still(&self, io: Option<&ServerIo>) -> bool {
        let suspension = self.pool.local.suspension.get();
        if suspension == Suspension::None {
            return false;
        }
        let rests = |conn: &Conn| conn.is_flushed() && !conn.has_held();
        // Who is in line gets a server first, if whoever has one lets go.
        let awaited = || suspension == Suspension::Lenient && self.pool.has_waiters();
        let still = self.fresh.is_none()
            && self.gather == 0
            && rests(&self.conn)
            && io.is_none_or(|io| rests(&io.conn) && !awaited());
        self.entry.still.set(still);
        still
    }

    /// Passes over what needs no server, and tells where the first request stands.
    fn find_request(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, End> {
        let policy = self.policy();
        if self.intake.begins_request(bytes, policy) {
            return Ok(Some(0..bytes.len()));
        }
        let mut done = 0;
        while done < bytes.len() {
            match self.intake.next(&bytes[done..], None, policy) {
                // Nothing is forwarded without a server: a lease ends between messages only.
                Action::Drop(count) | Action::Forward(count) => done += count,
                Action::NeedsServer | Action::Named(..) | Action::Gather(_) => {
                    return Ok(Some(done..bytes.len()));
                }
                Action::Hold | Action::Wait => {
                    self.conn.hold(&bytes[done..]);
                    break;
                }
                Action::Terminate => return Err(End::Terminated),
                Action::Refuse(refusal) => return Err(End::Refused(refusal)),
            }
        }
        Ok(None)
    }

    /// The request is larger than the worker's buffer: it stays with the connection.
    fn find_large_request(&mut self) -> Result<bool, End> {
        let held = self.conn.take_all_held();
        let request = self.find_request(&held)?;
        let found = request.is_some();
        if let Some(request) = request {
            self.conn.hold_news(&held[request]);
        }
        Ok(found)
    }

    /// Waits in line for a server; whoever gets none has left the line.
    fn poll_turn(&mut self, cx: &mut Context<'_>, watching: &mut bool) -> Poll<Result<Lease, End>> {
        if let Poll::Ready(turn) = self.pool.poll_turn(&self.entry) {
            return Poll::Ready(turn.map_err(End::NoServer));
        }
        let end = match self.entry.killed() {
            Some(kill) => End::Killed(kill),
            // What it asks for goes along, as far as it came.
            None if self.entry.crossing() == Crossing::Called && self.conn.is_flushed() => {
                End::CalledOver
            }
            None => ready!(self.poll_while_waiting(cx, watching)),
        };
        self.pool.abandon(&self.entry, Instant::now());
        Poll::Ready(Err(end))
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

    async fn set_parameters(&self, lease: &Lease, query: &[u8]) -> Result<(), CloseReason> {
        let names = &self.worker.process.shared.names;
        let limit = self.pool.settings().server_connect_timeout;
        if tracing::enabled!(tracing::Level::TRACE) {
            let sql = query.get(wire::FrameHeader::LEN..query.len() - 1);
            let sql = String::from_utf8_lossy(sql.unwrap_or_default());
            tracing::trace!("{} varcache_apply: {sql}", self.tag());
        }
        let aligned = align::run(lease.server(), query, names, limit).await;
        if let Err(error) = aligned {
            tracing::warn!("{} cannot set parameters: {error}", self.tag());
            return Err(match error {
                QueryError::Io(_) => CloseReason::Crashed,
                _ => CloseReason::Parameters,
            });
        }
        Ok(())
    }

    /// Takes on the server's spelling of what both have, and tells the client what it hears in
    /// other words than before.
    fn adopt_parameters(&mut self, server: &Server) {
        let before = self.params.clone();
        align::adopt(server, &mut self.params);
        if Arc::ptr_eq(&before, &self.params) {
            return;
        }
        let names = &self.worker.process.shared.names;
        let mut news = Vec::new();
        for (name, old, new) in self.params.changes(&before, names) {
            let old = old.unwrap_or_default();
            tracing::trace!(
                "{} varcache_set_canonical: setting {name} to its canonical version {old} -> {new}",
                self.tag()
            );
            put_parameter(&mut news, name, new);
        }
        if !news.is_empty() {
            // If the client is gone, the relay will notice.
            let _ = self.conn.send(&news);
        }
    }

    /// What becomes of the lease, and whether the session goes on.
    fn end_lease(&mut self, lease: Lease, end: RelayEnd) -> Result<(), End> {
        self.entry.link.set(None);
        self.entry.held_since.set(None);
        self.entry.state.set(ClientState::Idle);
        self.cut_off = !lease.server().io.borrow().outflow.at_boundary();
        self.waits = false;
        if let Some(statements) = &mut self.statements {
            statements.lease_over();
        }
        match end {
            RelayEnd::Over(now) => {
                lease.release(now);
                Ok(())
            }
            RelayEnd::Client(end) if lease.server().is_clean() => {
                lease.release(Instant::now());
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

    /// It is nobody's client any more. Returns what it is to be told.
    fn part(&self, end: &End) -> Option<(SqlState, String)> {
        self.worker.count_end(end.kind());
        self.strike_off();
        let setup = self.worker.setup();
        let settings = &setup.config.settings;
        if settings.log_disconnections {
            let age = self.connected.elapsed().as_secs();
            let reason = end.reason();
            tracing::info!(name: "client_closed", "{} closing because: {reason} (age={age}s)", self.tag());
        }
        let told = end.for_client();
        if let Some((_, text)) = &told
            && settings.log_pooler_errors
        {
            tracing::warn!(name: "pooler_error", "{} pooler error: {text}", self.tag());
        }
        told.filter(|_| !self.cut_off)
    }

    /// Tells the client why its session ends, however long that takes.
    async fn say_goodbye(&mut self, code: SqlState, text: &str) {
        let _parting = Parting::new(&self.worker);
        let mut out = Vec::new();
        put_error(&mut out, Severity::Fatal, code, text);
        let goodbye = self.conn.send_all(&out);
        // Whoever does not read it is gone or does not care.
        let _ = events::time::timeout(GOODBYE, goodbye).await;
        self.conn.finish().await;
    }

    /// Leaves the roster and the pool's count.
    fn strike_off(&self) {
        if self.worker.pools.local.roster.remove(self.entry.id) {
            self.pool.clients.set(self.pool.clients.get() - 1);
            self.pool.part_with_idle();
        }
    }

    /// What this client may send.
    pub(crate) fn policy(&self) -> Policy {
        let mut policy = self.pool.policy();
        // Who has names keeps them, whatever the pool mode has become.
        policy.pools_statements |= self.statements.is_some();
        policy.pools_statements &= self.entry.replication == Replication::None;
        policy
    }

    /// When its server is taken back: one of its own never is.
    pub(crate) fn mode(&self) -> PoolMode {
        match self.entry.replication {
            Replication::None => self.pool.mode(),
            Replication::Logical | Replication::Physical => PoolMode::Session,
        }
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

/// Counts a session that is over while its client is told why: the process waits for it.
struct Parting(Rc<Worker>);

impl Parting {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.parting.set(worker.parting.get() + 1);
        Self(worker.clone())
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        self.0.parting.set(self.0.parting.get() - 1);
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
        if matches!(self.seat, Seat::InLine { .. }) {
            self.pool.abandon(&self.entry, Instant::now());
        }
        self.strike_off();
    }
}

/// An error of the client's connection is the client's end.
pub(crate) fn lost(_: io::Error) -> End {
    End::Lost
}
