//! One pool on one worker: does what [`PoolState`] decides.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use events::time::Instant;
use net::TcpOptions;
use net::stream::Target;
use net::tls::ServerTls;
use settings::{PoolMode, PoolSettings, SocketDir, StatementSettings};
use tokio::sync::Notify;
use wire::frontend::{Policy, put_query, put_terminate};

use crate::key::{ClientId, ServerId, WorkerId};
use crate::lease::{Lease, LeaseError};
use crate::line::{Line, Place};
use crate::meter::{Meter, Tallies, micros};
use crate::own::Owners;
use crate::pace::Pace;
use crate::patience::Patience;
use crate::pools::TICK;
use crate::report::Retired;
use crate::roster::{self, ClientEntry, ClientKind, ClientState, Roster, Turn};
use crate::server::{CloseReason, IdleNews, ParkedServer, Server, cancel, query};
use crate::shared::{Freshness, Mail, PoolShared, Reported, Shared, Welcome};
use crate::snapshot::Counters;
use crate::state::{Grant, Next, PoolState, Rules, ServerState, Waiter};

/// What a worker's pools have in common.
#[derive(Debug)]
pub struct Local {
    /// Which worker this is.
    pub worker: WorkerId,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The worker's clients.
    pub roster: Roster,
    /// Options for sockets to servers.
    pub tcp: RefCell<TcpOptions>,
    /// TLS with servers, if it is switched on.
    pub tls: RefCell<Option<Arc<ServerTls>>>,
    /// Where servers without a host are found.
    pub socket_dir: RefCell<Option<SocketDir>>,
    /// What is counted whatever the pool.
    pub tallies: RefCell<Tallies>,
    /// What pools counted that are gone: counters never go down.
    pub retired: RefCell<Retired>,
    /// How far SUSPEND has come.
    pub suspension: Cell<Suspension>,
    /// Pools whose clients have patience, for a while.
    pub patience: Patience,
}

impl Local {
    /// A server was closed, or never came to be one.
    pub(crate) fn note_close(&self, reason: &'static str) {
        let mut tallies = self.tallies.borrow_mut();
        *tallies.server_closes.entry(reason).or_default() += 1;
    }
}

/// How far SUSPEND has come: whether clients and servers are still read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Suspension {
    /// They are.
    #[default]
    None,
    /// Only those of whom something is on its way, and those whose servers others wait for.
    Lenient,
    /// Only those of whom something is on its way.
    Strict,
}

/// One pool on one worker.
#[derive(Debug)]
pub struct Pool {
    /// What the pool shares with its other halves.
    pub shared: Arc<PoolShared>,
    /// What the pool shares with the worker's other pools.
    pub local: Rc<Local>,
    /// What its idle servers wake.
    pub(crate) stir: Waker,
    /// What it did so far.
    pub counters: RefCell<Counters>,
    /// What it measured.
    pub meter: RefCell<Meter>,
    /// Clients logged in here.
    pub clients: Cell<usize>,
    /// What clients may send.
    policy: Cell<Policy>,
    mode: Cell<PoolMode>,
    /// For decisions, as settings have them.
    rules: Cell<Rules>,
    statements: Cell<Option<StatementSettings>>,
    pub(crate) settings: RefCell<Rc<PoolSettings>>,
    pub(crate) state: RefCell<PoolState>,
    pub(crate) servers: RefCell<Vec<Option<Rc<Server>>>>,
    /// Logins under way here.
    pub(crate) logins: Cell<usize>,
    /// Has them look whether they are still wanted.
    pub(crate) look_at_logins: Notify,
    /// Clients at login that wait for the first server.
    pub(crate) newcomers: Line,
    /// Clients at login that wait for a server of their own.
    pub(crate) owners: Owners,
    /// Cancel requests that wait for their turn, and those under way.
    pub(crate) cancels_waiting: Cell<usize>,
    pub(crate) cancels_active: Cell<usize>,
    /// Whether the search for a server to evict is under way.
    pub(crate) evicting: Cell<bool>,
    /// Whether `advance` is about to run.
    pub(crate) kicked: Cell<bool>,
    /// Whether others are asked soon, if clients still wait then.
    pub(crate) patient: Cell<bool>,
    /// How its servers come free here, if there are several workers.
    pub(crate) pace: RefCell<Pace>,
    /// Since when it has had neither clients nor servers.
    pub(crate) unused_since: Cell<Option<Instant>>,
}

impl Pool {
    /// A pool without servers, whose idle ones will wake `stir`.
    pub fn new(
        shared: Arc<PoolShared>,
        local: Rc<Local>,
        settings: PoolSettings,
        policy: Policy,
        stir: Waker,
    ) -> Self {
        Self {
            shared,
            local,
            stir,
            policy: Cell::new(policy),
            mode: Cell::new(settings.pool_mode),
            rules: Cell::new(rules_of(&settings)),
            statements: Cell::new(settings.prepared_statements),
            counters: RefCell::default(),
            meter: RefCell::default(),
            clients: Cell::new(0),
            settings: RefCell::new(Rc::new(settings)),
            state: RefCell::default(),
            servers: RefCell::default(),
            logins: Cell::new(0),
            look_at_logins: Notify::new(),
            newcomers: Line::default(),
            owners: Owners::default(),
            cancels_waiting: Cell::new(0),
            cancels_active: Cell::new(0),
            evicting: Cell::new(false),
            kicked: Cell::new(false),
            patient: Cell::new(false),
            pace: RefCell::default(),
            unused_since: Cell::new(None),
        }
    }

    /// How the pool is run now.
    pub fn settings(&self) -> Rc<PoolSettings> {
        self.settings.borrow().clone()
    }

    /// Runs the pool in another way from now on.
    pub(crate) fn set_settings(&self, settings: PoolSettings, policy: Policy) {
        self.mode.set(settings.pool_mode);
        self.rules.set(rules_of(&settings));
        self.statements.set(settings.prepared_statements);
        self.policy.set(policy);
        *self.settings.borrow_mut() = Rc::new(settings);
    }

    /// What clients may send.
    pub fn policy(&self) -> Policy {
        self.policy.get()
    }

    /// How prepared statements are pooled; `None`: those that there are stay, without limits.
    pub fn statement_settings(&self) -> Option<StatementSettings> {
        self.statements.get()
    }

    /// When servers are taken back.
    pub fn mode(&self) -> PoolMode {
        self.mode.get()
    }

    /// Asks for a server. `None`: the client is in line, and [`Self::wait`] tells its turn.
    pub fn request(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        client: &ClientEntry,
        now: Instant,
    ) -> Result<Option<Lease>, LeaseError> {
        if self.shared.database.removed.load(Ordering::Relaxed) {
            return Err(LeaseError::DatabaseRemoved);
        }
        loop {
            let cpu_of = |place| self.cpu_of(place);
            let grant = self.state.borrow_mut().request(
                client.id,
                now,
                self.rules(),
                net::cpu::current,
                cpu_of,
            );
            match grant {
                Grant::Server(place) => {
                    self.idle_changed();
                    match self.fit_to_lend(cx, place) {
                        Ok(server) => {
                            self.meter.borrow_mut().wait.record_micros(0);
                            return Ok(Some(self.lease(place, server, client, now)));
                        }
                        Err(reason) => self.close(place, reason),
                    }
                }
                Grant::Check(place) => {
                    self.idle_changed();
                    self.check(place);
                    break;
                }
                Grant::Wait => break,
            }
        }
        if let Some(error) = self.hopeless(now) {
            self.state.borrow_mut().abandon(client.id);
            return Err(error);
        }
        client.state.set(ClientState::Waiting);
        client.notify.set(roster::Notify::Untold);
        self.publish_waiting(now);
        self.advance(now);
        Ok(None)
    }

    /// Whether anybody, on whichever worker, is in line for a server.
    pub fn has_waiters(&self) -> bool {
        let here = self.state.borrow().oldest().is_some();
        here || self.shared.waits_elsewhere(self.local.worker)
    }

    /// The server that was idle there, or why it had better not be lent.
    fn fit_to_lend(
        &self,
        cx: &mut Context<'_>,
        place: ServerId,
    ) -> Result<Rc<Server>, CloseReason> {
        let server = self.server(place).ok_or(CloseReason::Unclean)?;
        // Age is judged when a server comes free: until then it serves.
        if let Some(reason) = self.outdated(&server) {
            return Err(reason);
        }
        match server.idle_news(cx) {
            IdleNews::Quiet => Ok(server),
            IdleNews::Gone => Err(CloseReason::Crashed),
            IdleNews::Spoke => Err(CloseReason::Dirty),
        }
    }

    /// What a client is told at once, since waiting is of no use: no server serves, and logins have
    /// just failed. If another login is under way, this holds once `server_login_retry` is over.
    fn hopeless(&self, now: Instant) -> Option<LeaseError> {
        if self.shared.serves() || self.rules().paused {
            return None;
        }
        let failing = self.shared.failing()?;
        let settings = self.settings.borrow();
        let retry = settings.server_login_retry;
        let known_for = now.saturating_duration_since(failing.at);
        let told = if self.shared.servers_for_all() == 0 {
            known_for < retry
        } else {
            let login = settings.server_connect_timeout.unwrap_or(retry);
            failing.lasted(now) >= retry && known_for < retry.saturating_add(login)
        };
        told.then(|| failing.told(now))
    }

    /// What clients are told that have waited for `server_login_retry`, once logins have failed for
    /// as long.
    pub(crate) fn given_up(&self, waited: Duration, now: Instant) -> Option<LeaseError> {
        let retry = self.settings.borrow().server_login_retry;
        if retry.is_zero() || waited < retry || self.shared.serves() || self.rules().paused {
            return None;
        }
        let failing = self.shared.failing()?;
        (failing.lasted(now) >= retry).then(|| failing.told(now))
    }

    /// The client's turn, if it has come.
    pub fn poll_turn(&self, client: &ClientEntry) -> Poll<Result<Lease, LeaseError>> {
        match client.take_turn() {
            Some(Turn::Lease(lease)) => Poll::Ready(Ok(lease)),
            Some(Turn::Failed(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }

    /// A client leaves the line; if its turn had just come, the server goes to the next.
    pub fn abandon(self: &Rc<Self>, client: &ClientEntry, now: Instant) {
        if self.state.borrow_mut().abandon(client.id) {
            self.publish_waiting(now);
        } else if let Some(Turn::Lease(lease)) = client.take_turn() {
            lease.release(now);
        }
    }

    /// The parameters that a client, which is in the roster, is welcomed with: known once a server
    /// has logged in.
    pub async fn welcome(
        self: &Rc<Self>,
        client: &Rc<ClientEntry>,
    ) -> Result<Arc<Reported>, LeaseError> {
        let mut news = self.shared.welcome.subscribe();
        let mut waits = None;
        loop {
            // Taken out first: what is borrowed can't be replaced.
            let latest = news.borrow_and_update().clone();
            match latest {
                Welcome::Known(reported) => return Ok(reported),
                Welcome::Refused(error) if waits.is_some() || self.just_failed() => {
                    return Err(LeaseError::LoginRefused(error));
                }
                Welcome::Refused(_) => {
                    self.shared.welcome.send_replace(Welcome::Unknown);
                }
                Welcome::Unknown => {}
            }
            let since = match &waits {
                Some(Place { since, .. }) => *since,
                None => {
                    let place = waits.insert(self.newcomers.join(client));
                    self.advance(Instant::now());
                    place.since
                }
            };
            if let Some(error) = self.given_up(since.elapsed(), Instant::now()) {
                return Err(error);
            }
            // The senders live as long as the pool.
            tokio::select! {
                _ = news.changed() => {}
                () = events::time::sleep(TICK) => {}
            }
        }
    }

    /// The same, if it is known already.
    pub fn known_welcome(&self) -> Option<Arc<Reported>> {
        match &*self.shared.welcome.borrow() {
            Welcome::Known(reported) => Some(reported.clone()),
            Welcome::Unknown | Welcome::Refused(_) => None,
        }
    }

    fn just_failed(&self) -> bool {
        let pause = self.settings.borrow().server_login_retry;
        self.shared
            .failing()
            .is_some_and(|failing| failing.at.elapsed() < pause)
    }

    /// A client gave its server back.
    pub(crate) fn release(self: &Rc<Self>, place: ServerId, server: &Rc<Server>, now: Instant) {
        server.link.set(None);
        if server.facts.is_own() {
            self.close(place, CloseReason::ReplicationOver);
        } else if !server.is_clean() {
            self.close(place, CloseReason::Unclean);
        } else if let Some(reason) = self.unfit(server, now) {
            self.close(place, reason);
        } else if server.cancels.get() > 0 {
            let mut state = self.state.borrow_mut();
            state.set_aside(place, ServerState::BeingCanceled);
        } else if !self.close_surplus(place) {
            self.reset_or_lend(place, now);
        }
    }

    /// The last cancel request for a server has landed.
    pub(crate) fn cancels_landed(self: &Rc<Self>, place: ServerId, server: &Rc<Server>) {
        let here = self.server(place).is_some_and(|s| s.id == server.id);
        let set_aside = self.state.borrow().state(place) == Some(ServerState::BeingCanceled);
        if here && set_aside && server.cancels.get() == 0 {
            match self.outdated(server) {
                Some(reason) => self.close(place, reason),
                None => self.reset_or_lend(place, Instant::now()),
            }
        }
    }

    fn reset_or_lend(self: &Rc<Self>, place: ServerId, now: Instant) {
        let settings = self.settings.borrow();
        let first = settings.reset_query.as_deref();
        if let Some(sql) = first.or_else(|| self.probe_for_waiters(&settings)) {
            return self.reset(place, sql);
        }
        drop(settings);
        self.lend(place, now);
    }

    /// The check query, if whoever waits may have no server that was not just probed.
    fn probe_for_waiters<'a>(&self, settings: &'a PoolSettings) -> Option<&'a str> {
        let sql = settings.check_query.sql()?;
        let worker = self.local.worker;
        let always = settings.server_check_delay.is_zero();
        (always && (self.state.borrow().oldest().is_some() || self.shared.waits_elsewhere(worker)))
            .then_some(sql)
    }

    /// A server is free: to whom it goes.
    pub(crate) fn lend(self: &Rc<Self>, place: ServerId, now: Instant) {
        let worker = self.local.worker;
        let remote = self
            .shared
            .waits_elsewhere(worker)
            .then(|| self.shared.longest_elsewhere(worker))
            .flatten();
        let since = remote.map(|(_, since)| since);
        let own = self.state.borrow().oldest().map(|waiter| waiter.since);
        if self.make_way(place, own.into_iter().chain(since).min()) {
            return;
        }
        let better = self.better_worker(place, now);
        let better = better.or_else(|| self.needier_worker(now));
        let next = match better {
            Some(_) => Next::SendOver,
            None => self
                .state
                .borrow_mut()
                .release(place, now, self.rules(), since),
        };
        let to = better.or(remote.map(|(to, _)| to));
        match (next, to) {
            (Next::Serve(waiter), _) => {
                self.note_pace(now.saturating_duration_since(waiter.since));
                self.serve(waiter, place, now);
            }
            (Next::SendOver, Some(to)) => {
                self.send_over(place, to, Freshness::Fresh, now);
                // A client here may have counted on it.
                if self.wanted() > 0 {
                    self.kick();
                }
            }
            (Next::SendOver | Next::Idle, _) => {
                self.note_pace(Duration::ZERO);
                self.now_idle(place);
            }
        }
    }

    /// A server came free for one who had waited so long, or for nobody.
    fn note_pace(&self, waited: Duration) {
        if self.local.shared.workers() > 1 {
            self.pace.borrow_mut().note(waited);
        }
    }

    /// A server comes from its login, from a query of our own, or from another worker: it may have
    /// become unfit meanwhile. Age alone does not count: it serves once.
    pub(crate) fn lend_if_fit(self: &Rc<Self>, place: ServerId, server: &Server) {
        match self.outdated(server) {
            None => self.lend(place, Instant::now()),
            Some(reason) => self.close(place, reason),
        }
    }

    fn now_idle(self: &Rc<Self>, place: ServerId) {
        self.idle_changed();
        self.part_with_idle();
        if self.rules().paused {
            self.close(place, CloseReason::Paused);
        } else if self.shared.waits_elsewhere(self.local.worker) {
            // Somebody began to wait while we looked: the other side looks in the other order.
            self.answer_demand();
        } else if self.local.shared.permits_wanted() {
            self.give_way(place);
        }
    }

    /// A client of another worker waits: it gets an idle server, if there is one.
    pub(crate) fn answer_demand(self: &Rc<Self>) {
        if self.rules().paused {
            return;
        }
        let longest = self.shared.longest_elsewhere(self.local.worker);
        let Some((to, _)) = longest else {
            return;
        };
        let now = Instant::now();
        let stale = self.state.borrow().next_is_stale(now, self.rules());
        let taken = self.state.borrow_mut().take_idle();
        match taken {
            Some(place) => {
                self.idle_changed();
                // Who takes it over probes it, so that it counts where it is wanted.
                let freshness = if stale {
                    Freshness::Stale
                } else {
                    Freshness::Fresh
                };
                self.send_over(place, to, freshness, now);
            }
            // Gone meanwhile: whoever waits had better look again.
            None => {
                for other in self.shared.waiting_elsewhere(self.local.worker) {
                    self.local.shared.send(other, Mail::Room(self.shared.id));
                }
            }
        }
    }

    fn serve(self: &Rc<Self>, waiter: Waiter, place: ServerId, now: Instant) {
        self.publish_waiting(now);
        let Some(client) = self.local.roster.get(waiter.client) else {
            debug_assert!(false, "{waiter:?} is not in the roster");
            self.close(place, CloseReason::Unclean);
            return;
        };
        let waited = now.saturating_duration_since(waiter.since);
        self.note_wait(waited);
        if let Some(server) = self.server(place) {
            client.give_turn(Turn::Lease(self.lease(place, server, &client, now)));
        }
    }

    /// A client had its server after this long.
    pub(crate) fn note_wait(&self, waited: Duration) {
        self.counters.borrow_mut().wait_time += micros(waited);
        self.meter.borrow_mut().wait.record(waited);
    }

    fn lease(
        self: &Rc<Self>,
        place: ServerId,
        server: Rc<Server>,
        client: &ClientEntry,
        now: Instant,
    ) -> Lease {
        self.begin_lease(&server, client, now);
        Lease::new(self.clone(), place, server)
    }

    pub(crate) fn begin_lease(&self, server: &Server, client: &ClientEntry, now: Instant) {
        server.link.set(Some(client.id.0));
        server.epoch.set(server.epoch.get() + 1);
        server.relays.set(false);
        server.request_time.set(now);
        server.last_heard.set(now);
        server.watched.set(false);
        if client.kind == ClientKind::Session {
            server.touched.set(true);
        }
        client.link.set(Some(server.id));
        client.held_since.set(Some(now));
        client.state.set(ClientState::Active);
        self.counters.borrow_mut().server_assignment_count += 1;
    }

    /// Lends what can be lent, probes what must be probed, and looks for more servers if clients
    /// still wait.
    pub(crate) fn advance(self: &Rc<Self>, now: Instant) {
        self.owners.waiting.wake();
        let rules = self.rules();
        if rules.paused {
            return;
        }
        loop {
            let served = self.state.borrow_mut().serve_waiting(now, rules);
            let Some((waiter, place)) = served else {
                break;
            };
            self.idle_changed();
            self.serve(waiter, place, now);
        }
        loop {
            let stale = self.state.borrow_mut().check_next();
            let Some(place) = stale else {
                break;
            };
            self.idle_changed();
            self.check(place);
        }
        if self.wanted() == 0 {
            return;
        }
        match self.shared.idle_elsewhere(self.local.worker).next() {
            Some(_) if self.is_content(now) => {}
            Some(other) => {
                let mail = Mail::Demand(self.shared.id);
                self.local.shared.send(other, mail);
            }
            None => self.open_for_waiters(now),
        }
    }

    /// Runs `advance` soon, from a place where nothing is half done.
    pub(crate) fn kick(self: &Rc<Self>) {
        if !self.kicked.replace(true) {
            let pool = self.clone();
            events::spawn(async move {
                pool.kicked.set(false);
                pool.advance(Instant::now());
            });
        }
    }

    /// How many servers are missing: waiters for whom none is on its way.
    pub(crate) fn wanted(&self) -> usize {
        let state = self.state.borrow();
        let coming = self.logins.get() + state.counts().tested;
        let newcomers = usize::from(self.newcomers.len() > 0 && self.known_welcome().is_none());
        (state.waiting().len() + newcomers).saturating_sub(coming)
    }

    /// Sends a server over to another worker.
    fn send_over(
        self: &Rc<Self>,
        place: ServerId,
        to: WorkerId,
        freshness: Freshness,
        now: Instant,
    ) {
        let Some(server) = self.forget(place) else {
            return;
        };
        match server.park() {
            Ok(parked) => {
                self.shared.promise(to, now);
                let mail = Mail::Server(self.shared.id, Box::new(parked), freshness);
                self.local.shared.send(to, mail);
            }
            Err(error) => {
                tracing::warn!("{}: cannot hand a server over: {error}", self.shared.key);
                self.give_permit_back();
            }
        }
    }

    /// A server came over from another worker.
    pub(crate) fn receive(self: &Rc<Self>, parked: ParkedServer, freshness: Freshness) {
        let now = Instant::now();
        match Server::unpark(parked) {
            Ok(server) => {
                let server = Rc::new(server);
                let place = self.add(server.clone());
                match freshness {
                    Freshness::Stale => self.check(place),
                    Freshness::Fresh => self.lend_if_fit(place, &server),
                }
                // More may wait than this one serves.
                self.advance(now);
            }
            Err(error) => {
                tracing::warn!("{}: cannot take a server over: {error}", self.shared.key);
                self.give_permit_back();
            }
        }
        // It was promised to the first in line, who may have to wait on.
        self.publish_waiting(now);
    }

    fn reset(self: &Rc<Self>, place: ServerId, sql: &str) {
        self.meter.borrow_mut().resets += 1;
        self.state
            .borrow_mut()
            .set_aside(place, ServerState::Resetting);
        self.ask(place, sql);
    }

    fn check(self: &Rc<Self>, place: ServerId) {
        let settings = self.settings();
        self.ask(place, settings.check_query.sql().unwrap_or_default());
    }

    /// Runs a query of our own on a server that was set aside; then it is lent, or closed.
    fn ask(self: &Rc<Self>, place: ServerId, sql: &str) {
        let Some(server) = self.server(place) else {
            return;
        };
        let mut message = Vec::new();
        put_query(&mut message, sql);
        let limit = self.settings.borrow().server_connect_timeout;
        let pool = self.clone();
        events::spawn(async move {
            let names = &pool.local.shared.names;
            let result = query::on_server(&server, &message, names, limit).await;
            // Nobody else moves a server that was set aside; but its place may be another's by now.
            if pool.server(place).is_none_or(|here| here.id != server.id) {
                return;
            }
            match result {
                Ok(()) => pool.lend_if_fit(place, &server),
                Err(error) => {
                    tracing::warn!("{}: query of our own failed: {error}", pool.tag(&server));
                    pool.close(place, CloseReason::CheckFailed);
                }
            }
        });
    }

    /// Closes a server and gives its permit back.
    pub(crate) fn close(self: &Rc<Self>, place: ServerId, reason: CloseReason) {
        if self.end(place, reason) {
            self.give_permit_back();
        }
    }

    /// Closes a server whose permit is given back already.
    pub(crate) fn end(self: &Rc<Self>, place: ServerId, reason: CloseReason) -> bool {
        let Some(server) = self.forget(place) else {
            return false;
        };
        let age = server.facts.opened.elapsed().as_secs();
        tracing::info!(name: "server_closed",
            "{} closing because: {} (age={age}s)",
            self.tag(&server),
            reason.as_str()
        );
        self.local.note_close(reason.as_str());
        self.say_goodbye(&server);
        true
    }

    fn say_goodbye(&self, server: &Server) {
        let mut io = server.io.borrow_mut();
        if io.pipeline.is_settled() && !server.own_query.get() {
            let mut message = Vec::new();
            put_terminate(&mut message);
            // It is about to be closed: whether this arrives makes no difference to us.
            let _ = io.conn.send(&message);
        } else {
            self.stop_working(server);
        }
        io.conn.close();
    }

    /// It would work on for nobody, and keep its locks: stops it.
    fn stop_working(&self, server: &Server) {
        let Some(key) = server.facts.key.clone() else {
            return;
        };
        let facts = server.facts.clone();
        let options = self.local.tcp.borrow().clone();
        let limit = self.settings().server_connect_timeout;
        events::spawn(async move {
            if let Ok(conn) = cancel::connect(&facts, &options, limit).await {
                let _ = cancel::land(conn, &key, limit).await;
            }
        });
    }

    /// Gives one permit back and tells those who may use it.
    pub(crate) fn give_permit_back(self: &Rc<Self>) {
        let id = self.shared.id;
        let passed = self.local.shared.limits(|limits| limits.closed(id));
        self.permit_is_back(passed);
    }

    pub(crate) fn permit_is_back(self: &Rc<Self>, passed: Vec<crate::limits::Passed>) {
        self.local.shared.deliver(passed);
        for other in self.shared.waiting_elsewhere(self.local.worker) {
            let mail = Mail::Room(self.shared.id);
            self.local.shared.send(other, mail);
        }
        if self.wanted() > 0 {
            self.kick();
        }
    }

    /// Takes a server in, set aside.
    pub(crate) fn add(&self, server: Rc<Server>) -> ServerId {
        let place = self.state.borrow_mut().add();
        self.put(place, server);
        place
    }

    /// Takes a server in that is this client's own.
    pub(crate) fn add_leased(&self, client: ClientId, server: Rc<Server>) -> ServerId {
        let place = self.state.borrow_mut().add_leased(client);
        self.put(place, server);
        place
    }

    fn put(&self, place: ServerId, server: Rc<Server>) {
        // Its name may have come to lead elsewhere while it was on its way.
        self.doubt_if_moved(&server);
        let mut servers = self.servers.borrow_mut();
        if servers.len() <= place.0 {
            servers.resize(place.0 + 1, None);
        }
        servers[place.0] = Some(server);
    }

    /// Doubts the servers whose hosts' names lead elsewhere now.
    pub(crate) fn doubt_moved(&self) {
        for server in self.servers.borrow().iter().flatten() {
            self.doubt_if_moved(server);
        }
    }

    fn doubt_if_moved(&self, server: &Server) {
        if let Target::Tcp(address, Some(name)) = &server.facts.target
            && !self.local.shared.resolver.is_current(name, address.ip())
        {
            server.doubt.set(Some(CloseReason::Moved));
        }
    }

    pub(crate) fn forget(&self, place: ServerId) -> Option<Rc<Server>> {
        let server = self.servers.borrow_mut().get_mut(place.0)?.take()?;
        if server.facts.is_own() {
            self.shared.own_servers.fetch_sub(1, Ordering::SeqCst);
        }
        self.state.borrow_mut().remove(place);
        self.idle_changed();
        Some(server)
    }

    /// The server at a place.
    pub(crate) fn server(&self, place: ServerId) -> Option<Rc<Server>> {
        self.servers.borrow().get(place.0)?.clone()
    }

    /// Why a server must be replaced, whatever its age.
    pub(crate) fn outdated(&self, server: &Server) -> Option<CloseReason> {
        let database = &self.shared.database;
        if database.removed.load(Ordering::Relaxed) {
            Some(CloseReason::DatabaseRemoved)
        } else if let Some(doubt) = server.doubt.get() {
            Some(doubt)
        } else {
            self.is_outdated(server)
                .then_some(CloseReason::Reconfigured)
        }
    }

    /// Why a server that is free must be closed. A yes for its age takes the pool's turn to close
    /// one: ask only to follow the answer.
    pub(crate) fn unfit(&self, server: &Server, now: Instant) -> Option<CloseReason> {
        if let Some(reason) = self.outdated(server) {
            return Some(reason);
        }
        let settings = self.settings.borrow();
        let age = now.saturating_duration_since(server.facts.opened);
        if age < settings.server_lifetime {
            return None;
        }
        if settings.server_lifetime.is_zero() {
            // One use each, however many end at once.
            return Some(CloseReason::Lifetime);
        }
        let pause = settings.server_lifetime / settings.pool_size.unwrap_or(1).max(1);
        self.shared
            .may_age_out(now, pause)
            .then_some(CloseReason::Lifetime)
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            paused: self.shared.database.is_paused(),
            ..self.rules.get()
        }
    }

    /// Tells other workers since when clients wait here: not yet, if they can do with what is here.
    pub(crate) fn publish_waiting(&self, now: Instant) {
        let since = self.state.borrow().oldest().map(|waiter| waiter.since);
        if since.is_none() && self.local.shared.permits_wanted() {
            let (id, worker) = (self.shared.id, self.local.worker);
            self.local
                .shared
                .limits(|limits| limits.withdraw(id, worker));
        }
        let content = self.local.shared.workers() > 1 && self.is_content(now);
        if content && !self.patient.replace(true) {
            self.local.patience.begin(self.shared.id, now);
        }
        let told = since.filter(|_| !content);
        self.shared.publish_waiting(self.local.worker, told);
    }

    /// Whether those in line here can do with the servers that are here, for now.
    fn is_content(&self, now: Instant) -> bool {
        let patience = self.pace.borrow().patience(now);
        self.state.borrow().is_content(now, patience)
    }

    /// Clients here had patience for a while: if some still wait, others are asked.
    pub(crate) fn lose_patience(self: &Rc<Self>, now: Instant) {
        self.patient.set(false);
        self.publish_waiting(now);
        self.advance(now);
    }

    pub(crate) fn idle_changed(&self) {
        let has_idle = self.state.borrow().has_idle();
        self.shared.publish_idle(self.local.worker, has_idle);
    }

    /// The front of a server's log lines.
    pub fn tag(&self, server: &Server) -> String {
        let key = &self.shared.key;
        format!("{}: {key}@{}", server.label(), server.facts.peer)
    }

    /// The server that serves a client.
    pub fn server_of(&self, client: ClientId) -> Option<(ServerId, Rc<Server>)> {
        let servers = self.servers.borrow();
        servers.iter().enumerate().find_map(|(place, server)| {
            let server = server.as_ref()?;
            (server.link.get() == Some(client.0)).then(|| (ServerId(place), server.clone()))
        })
    }
}

/// The rules of a pool that is not paused.
fn rules_of(settings: &PoolSettings) -> Rules {
    let delay = settings.server_check_delay;
    Rules {
        paused: false,
        round_robin: settings.server_round_robin,
        check_after: settings.check_query.sql().map(|_| delay),
    }
}

/// Waits for a client's turn; dropped before it came, it leaves the line.
pub struct Wait<'a> {
    pool: &'a Rc<Pool>,
    client: &'a ClientEntry,
    over: bool,
}

impl<'a> Wait<'a> {
    /// For a client that `request` put in line.
    pub fn new(pool: &'a Rc<Pool>, client: &'a ClientEntry) -> Self {
        Self {
            pool,
            client,
            over: false,
        }
    }

    /// Looks whether the turn has come.
    pub fn poll(&mut self) -> Poll<Result<Lease, LeaseError>> {
        let turn = self.pool.poll_turn(self.client);
        self.over |= turn.is_ready();
        turn
    }

    /// Waits for the turn.
    pub async fn turn(mut self) -> Result<Lease, LeaseError> {
        poll_fn(|_| self.poll()).await
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.pool.abandon(self.client, Instant::now());
        }
    }
}
