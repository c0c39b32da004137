//! A worker's pools: found by key, kept going, told what other workers say.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use events::time::Instant;
use rustc_hash::FxHashMap;
use settings::{Config, PoolSettings};
use tokio::sync::mpsc;
use wire::frontend::Policy;

use crate::janitor::Watch;
use crate::key::PoolId;
use crate::pool::{Local, Pool, Suspension};
use crate::roster::{ClientEntry, ClientKind, ClientState, Kill};
use crate::shared::{Mail, PoolShared};
use crate::stirs::Stirs;

/// The maintenance pass comes three times a second: PgBouncer's own grain.
pub const TICK: Duration = Duration::from_millis(333);

/// The pools of one worker.
#[derive(Debug)]
pub struct Pools {
    /// What they have in common.
    pub local: Rc<Local>,
    config: RefCell<Arc<Config>>,
    pools: RefCell<FxHashMap<PoolId, Rc<Pool>>>,
    /// Those with an idle server that something happened to.
    stirs: Arc<Stirs>,
    /// Whether any client may be closed for being silent.
    idle_clients_end: Cell<bool>,
    /// How many changes of addresses the pools know of.
    moves_seen: Cell<u64>,
}

impl Pools {
    /// No pools yet.
    pub fn new(local: Rc<Local>, config: Arc<Config>) -> Rc<Self> {
        let idle_clients_end = Cell::new(idle_clients_end(&config));
        Rc::new(Self {
            local,
            config: RefCell::new(config),
            pools: RefCell::default(),
            stirs: Arc::default(),
            idle_clients_end,
            moves_seen: Cell::new(0),
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// The pool here for what all workers share of it.
    pub fn get(&self, shared: &Arc<PoolShared>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.entry(shared.id).or_insert_with(|| {
            let (settings, policy) = self.settings_of(shared);
            let local = self.local.clone();
            let stir = self.stirs.waker(shared.id);
            Rc::new(Pool::new(shared.clone(), local, settings, policy, stir))
        });
        pool.clone()
    }

    fn settings_of(&self, shared: &PoolShared) -> (PoolSettings, Policy) {
        let database = shared.database.config.load();
        let config = self.config.borrow();
        let settings = config.pool_settings(&database, &shared.key.user);
        let policy = Policy {
            pools_statements: settings.prepared_statements.is_some(),
            simple_query: !config.settings.disable_pqexec,
            packet_len_max: config.settings.max_packet_size as usize,
        };
        (settings, policy)
    }

    fn by_id(&self, id: PoolId) -> Option<Rc<Pool>> {
        if let Some(pool) = self.pools.borrow().get(&id) {
            return Some(pool.clone());
        }
        let shared = self.local.shared.pool_by_id(id)?;
        Some(self.get(&shared))
    }

    /// All pools here.
    pub fn all(&self) -> Vec<Rc<Pool>> {
        self.pools.borrow().values().cloned().collect()
    }

    /// Takes a new configuration into force.
    pub fn set_config(&self, config: Arc<Config>) {
        self.idle_clients_end.set(idle_clients_end(&config));
        *self.config.borrow_mut() = config;
        for pool in self.all() {
            let (settings, policy) = self.settings_of(&pool.shared);
            pool.set_settings(settings, policy);
            pool.kick();
        }
    }

    /// Has every pool look at what changed: after RESUME, RECONNECT, KILL.
    pub fn look_again(&self, now: Instant) {
        let config = self.config();
        for pool in self.all() {
            if pool
                .shared
                .database
                .removed
                .load(std::sync::atomic::Ordering::SeqCst)
            {
                self.local.roster.for_each(|client| {
                    if client.database == pool.shared.database.name {
                        client.kill(Kill::DatabaseRemoved);
                    }
                });
            }
            pool.look_at_logins.notify_waiters();
            pool.tick(now, &config);
        }
    }

    /// Has every pool hand over what it can spare.
    pub fn part_with_idle(&self) {
        for pool in self.all() {
            pool.part_with_idle();
        }
    }

    /// Follows SUSPEND and its end.
    pub fn suspend(&self, suspension: Suspension) {
        self.local.suspension.set(suspension);
        self.local.roster.for_each(|client| {
            let late =
                suspension == Suspension::Strict && client.state.get() == ClientState::Waiting;
            if late && client.kind == ClientKind::Session {
                client.kill(Kill::SuspendTimeout);
            }
            client.still.set(false);
            client.wake();
        });
    }

    /// Clients and servers, under SUSPEND, of which something is still on its way. Clients look
    /// again, also those who keep still with a server that somebody may wait for by now.
    pub fn stirring(&self) -> usize {
        let servers = |pool: &Rc<Pool>| {
            let counts = pool.state.borrow().counts();
            pool.logins.get() + counts.tested + counts.being_canceled
        };
        let mut count = self.all().iter().map(servers).sum();
        self.local.roster.for_each(|client| {
            let stirs = stirs(client);
            count += usize::from(stirs);
            if stirs || client.still.get() && client.link.get().is_some() {
                client.wake();
            }
        });
        count
    }

    /// Ends the sessions of which something is on its way.
    pub fn end_stirring(&self) {
        self.local.roster.for_each(|client| {
            if stirs(client) {
                client.kill(Kill::SuspendTimeout);
            }
        });
    }

    /// Reads the post and keeps the time, for ever.
    pub async fn run(self: Rc<Self>, mut post: mpsc::UnboundedReceiver<Mail>) {
        let mut ticks = events::time::Ticks::each(TICK);
        poll_fn(|cx| {
            while let Poll::Ready(mail) = post.poll_recv(cx) {
                match mail {
                    Some(mail) => self.receive(mail),
                    None => return Poll::Ready(()),
                }
            }
            self.ask_for_impatient(cx);
            let mut due = false;
            while ticks.poll(cx).is_ready() {
                due = true;
            }
            // Under SUSPEND nobody is blamed for the time that passes.
            if due && self.local.suspension.get() == Suspension::None {
                self.tick(Instant::now());
            }
            if self.local.suspension.get() == Suspension::None {
                self.watch_idle(cx, due);
            }
            Poll::Pending
        })
        .await;
    }

    /// Asks other workers for servers, where clients have waited long enough for those that are here.
    fn ask_for_impatient(&self, cx: &Context<'_>) {
        let now = Instant::of_turn();
        while let Some(id) = self.local.patience.over(cx.waker(), now) {
            let pool = self.pools.borrow().get(&id).cloned();
            if let Some(pool) = pool {
                pool.lose_patience(now);
            }
        }
    }

    /// Looks after idle servers to which something happened; and, when that is due, after those that
    /// became idle of late.
    fn watch_idle(&self, cx: &Context<'_>, due: bool) {
        for id in self.stirs.take(cx.waker()) {
            let pool = self.pools.borrow().get(&id).cloned();
            if let Some(pool) = pool {
                pool.watch_idle(Watch::All);
            }
        }
        if due {
            for pool in self.all() {
                pool.watch_idle(Watch::Unwatched);
            }
        }
    }

    fn tick(&self, now: Instant) {
        let config = self.config();
        let moves = self.local.shared.resolver.changes();
        if self.moves_seen.replace(moves) != moves {
            self.all().iter().for_each(|pool| pool.doubt_moved());
        }
        for pool in self.all() {
            pool.tick(now, &config);
        }
        if self.idle_clients_end.get() {
            self.end_idle_clients(now, &config);
        }
        self.forget_unused(now);
    }

    fn end_idle_clients(&self, now: Instant, config: &Config) {
        self.local.roster.for_each(|client| {
            if client.kind != ClientKind::Session || client.state.get() != ClientState::Idle {
                return;
            }
            let Some(database) = self.local.shared.find_database(&client.database) else {
                return;
            };
            let settings = config.client_settings(&database.config.load(), &client.user);
            let silent = now.saturating_duration_since(client.request_time.get());
            if settings
                .client_idle_timeout
                .is_some_and(|limit| silent > limit)
            {
                client.kill(Kill::ClientIdle);
            }
        });
    }

    /// Lets go of pools that have neither clients nor servers: at once if their database is gone,
    /// else after `pool_idle_timeout`.
    fn forget_unused(&self, now: Instant) {
        self.pools.borrow_mut().retain(|_, pool| {
            // Whoever is about to use it has it already.
            let used = Rc::strong_count(pool) > 1 || pool.is_used();
            let stays = used || !pool.is_forgotten(now);
            if used {
                pool.unused_since.set(None);
            } else if !stays {
                pool.retire();
            }
            stays
        });
    }

    fn receive(&self, mail: Mail) {
        match mail {
            Mail::Demand(id) => self.with(id, Pool::answer_demand),
            Mail::Server(id, parked, freshness) => {
                self.with(id, |pool| pool.receive(*parked, freshness));
            }
            Mail::Permit(id) => self.with(id, Pool::use_permit),
            Mail::OwnPermit(client) => {
                // Who is gone has given it back.
                if let Some(client) = self.local.roster.get(client) {
                    client.wake();
                }
            }
            Mail::Room(id) => self.with(id, |pool| pool.advance(Instant::now())),
            Mail::Refused(id, error) => self.with(id, |pool| pool.refuse_waiters(&error)),
            Mail::LongestIdle {
                scope,
                asker,
                reply,
            } => {
                // Who asked may be gone.
                let _ = reply.send(self.longest_idle(scope, &asker));
            }
            Mail::Evict(id) => self.with(id, Pool::evict_longest_idle),
        }
    }

    fn with(&self, id: PoolId, act: impl FnOnce(&Rc<Pool>)) {
        if let Some(pool) = self.by_id(id) {
            act(&pool);
        }
    }
}

fn idle_clients_end(config: &Config) -> bool {
    !config.settings.client_idle_timeout.is_zero()
        || config
            .users
            .values()
            .any(|user| user.client_idle_timeout.is_some())
}

/// Whether something of a session is on its way.
fn stirs(client: &ClientEntry) -> bool {
    client.kind == ClientKind::Session && !client.still.get()
}
