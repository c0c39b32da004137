//! What all workers share: pools and databases by name, the limits, and the post between workers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use auth::{Credentials, Derived, Password, ScramKeys, Secret};
use events::time::Instant;
use net::resolve::Resolver;
use rustc_hash::FxHashMap;
use settings::Database;
use tokio::sync::{mpsc, oneshot, watch};
use wire::backend::put_parameter;
use wire::{ParamNames, Params};

use crate::attempts::LoginFailure;
use crate::key::{ClientId, PoolId, PoolKey, WorkerId};
use crate::labels::Labels;
use crate::lease::LeaseError;
use crate::limits::{Gauge, Limits, Passed, Scope};
use crate::locality::{Balance, Cpus};
use crate::pace::Waits;
use crate::server::ParkedServer;
use crate::server::turns::Turns;
use crate::server::version::Versions;
use crate::statements::Statements;

/// Numbers of one generation of processes: what follows them is the next one's.
pub const GENERATION_BITS: u32 = 32;

/// Labels of each kind, until a configuration says how many.
const LABELS: usize = 500;

/// What workers tell each other about pools.
#[derive(Debug)]
pub enum Mail {
    /// A client of another worker waits, and you have an idle server.
    Demand(PoolId),
    /// A server for your waiter.
    Server(PoolId, Box<ParkedServer>, Freshness),
    /// A permit that you asked for: log a server in.
    Permit(PoolId),
    /// The same for this client's own server: it picks the permit up.
    OwnPermit(ClientId),
    /// A server of the pool closed: your waiter may open one.
    Room(PoolId),
    /// The server refused the login: nobody need wait for it.
    Refused(PoolId, Arc<LoginFailure>),
    /// Which of your idle servers that fall under this limit has idled longest?
    LongestIdle {
        /// The limit that is full.
        scope: Scope,
        /// For whom.
        asker: PoolKey,
        /// Where to answer.
        reply: oneshot::Sender<Option<(PoolId, Instant)>>,
    },
    /// Close the server of this pool that has idled longest.
    Evict(PoolId),
}

/// Whether a server may be lent as it is, or must answer a probe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It served lately.
    Fresh,
    /// It was idle for `server_check_delay`.
    Stale,
}

/// The process-wide half of the pools.
#[derive(Debug)]
pub struct Shared {
    /// Names of the tracked parameters.
    pub names: ParamNames,
    /// Prepared statements.
    pub statements: Statements,
    /// Addresses of hosts.
    pub resolver: Resolver,
    limits: Mutex<Limits>,
    /// Whether anybody is in line for a permit under a shared limit.
    wanted: AtomicBool,
    /// Whether another process has taken over.
    departing: AtomicBool,
    /// Whether the process that we took over from still has servers.
    has_elder: AtomicBool,
    /// Whether all databases are under PAUSE, those to come as well.
    paused: Arc<AtomicBool>,
    registry: Mutex<Registry>,
    /// Names that metrics tell apart.
    labels: Mutex<Labels>,
    /// Where workers run.
    pub cpus: Cpus,
    post: Vec<mpsc::UnboundedSender<Mail>>,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct Registry {
    databases: HashMap<Arc<str>, Arc<DatabaseShared>>,
    /// By their databases and then by their users, so that names need not be copied to look.
    pools: HashMap<Arc<str>, HashMap<Arc<str>, Arc<PoolShared>>>,
    by_id: FxHashMap<PoolId, Arc<PoolShared>>,
    next_pool: u32,
}

impl Registry {
    fn find(&self, database: &str, user: &str) -> Option<&Arc<PoolShared>> {
        self.pools.get(database)?.get(user)
    }
}

/// A database entry in use.
#[derive(Debug)]
pub struct DatabaseShared {
    /// Its name in `[databases]`.
    pub name: Arc<str>,
    /// Made from the `*` entry.
    pub auto: bool,
    /// What the configuration says of it now.
    pub config: ArcSwap<Database>,
    /// Under a PAUSE of its own, or killed: nobody gets a server.
    pub paused: AtomicBool,
    /// The same of all databases at once.
    all_paused: Arc<AtomicBool>,
    /// Under DISABLE: nobody logs in.
    pub disabled: AtomicBool,
    /// No longer in the configuration.
    pub removed: AtomicBool,
    /// Servers opened before the last change of this number are closed when they are free.
    pub generation: AtomicU64,
    /// Clients logged in.
    pub clients: Arc<AtomicU32>,
}

/// A pool in use, on whichever workers.
#[derive(Debug)]
pub struct PoolShared {
    /// Its number.
    pub id: PoolId,
    /// Its name.
    pub key: PoolKey,
    /// Its database.
    pub database: Arc<DatabaseShared>,
    /// Open servers, logins included.
    pub servers: Gauge,
    /// Those among them that are logging in.
    pub(crate) logging_in: AtomicU32,
    /// Those among them that are one client's own.
    pub(crate) own_servers: AtomicU32,
    /// Parameters for welcoming clients, as far as known.
    pub welcome: watch::Sender<Welcome>,
    /// Which host and address comes next.
    pub(crate) turns: Mutex<Turns>,
    /// Cancel requests on their way to servers.
    pub carriers: AtomicU32,
    credentials: Mutex<Held>,
    /// Which servers speak an older protocol.
    pub(crate) versions: Mutex<Versions>,
    /// When a server was last closed for its age, as a number of nanoseconds (0: never).
    aged_out: AtomicU64,
    /// How logins have been failing, until one succeeds.
    pub(crate) failing: Mutex<Option<Failing>>,
    /// Whether the process that has taken over waits for a server that is idle here.
    pub(crate) needed: AtomicBool,
    /// Workers whose clients wait.
    waiting: AtomicU64,
    /// Workers with an idle server.
    idle: AtomicU64,
    /// Start of waiting of each worker's oldest waiter, as a number of nanoseconds.
    tickets: Vec<AtomicU64>,
    /// How long clients of each worker wait.
    pub(crate) waits: Waits,
    /// Who got servers of whom because they run where it does.
    pub(crate) balance: Mutex<Balance>,
}

/// What there is to log servers in with.
#[derive(Debug, Default)]
struct Held {
    /// The password that the user's last login typed, until a secret changes: that is newer.
    typed: Option<Password>,
    /// What the files say.
    configured: Option<Secret>,
    /// What auth_query brought when a client of this user last logged in.
    queried: Option<Secret>,
    /// Keys from a client's login.
    scram_keys: Option<ScramKeys>,
    /// Keys derived from the secret.
    cached: Option<Arc<Derived>>,
}

impl Held {
    fn best(&self) -> Credentials {
        let typed = self.typed.clone().map(Secret::Plain);
        let configured = self.configured.as_ref();
        let usable = configured.filter(|secret| !secret.is_blank());
        let on_file = usable.or(self.queried.as_ref()).or(configured);
        Credentials {
            secret: typed.or_else(|| on_file.cloned()),
            scram_keys: self.scram_keys.clone(),
            cached: self.cached.clone(),
        }
    }
}

/// Logins fail, and none has succeeded since they began to.
#[derive(Debug, Clone)]
pub struct Failing {
    /// What happened last.
    pub failure: Arc<LoginFailure>,
    /// When it began.
    pub since: Instant,
    /// When it last happened.
    pub at: Instant,
}

impl Failing {
    /// For how long they have been failing.
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// What clients are told.
    pub(crate) fn told(&self, now: Instant) -> LeaseError {
        LeaseError::LoginFailing {
            failure: self.failure.clone(),
            lasted: self.lasted(now),
        }
    }
}

/// What a pool knows to tell clients that log in.
#[derive(Debug, Clone, Default)]
pub enum Welcome {
    /// No server has logged in yet.
    #[default]
    Unknown,
    /// What the first server reported.
    Known(Arc<Reported>),
    /// The server itself refused the login.
    Refused(Arc<LoginFailure>),
}

/// What a server reported at its login.
#[derive(Debug, Clone)]
pub struct Reported {
    /// All parameters, in its order.
    pub all: Vec<(String, String)>,
    /// The tracked ones, as they are when clients come.
    pub tracked: Arc<Params>,
    /// The messages that tell clients of the others.
    untracked: Box<[u8]>,
    /// The messages that tell of all, once a client has heard them.
    messages: OnceLock<Box<[u8]>>,
}

impl Reported {
    /// All that was reported, the tracked ones once more.
    pub fn new(all: Vec<(String, String)>, tracked: Arc<Params>, names: &ParamNames) -> Self {
        let mut untracked = Vec::new();
        // Who has no name among the tracked will not get one any more.
        for (name, value) in all.iter().filter(|(name, _)| names.find(name).is_none()) {
            put_parameter(&mut untracked, name, value);
        }
        Self {
            all,
            tracked,
            untracked: untracked.into(),
            messages: OnceLock::new(),
        }
    }

    /// Appends the messages that tell a client of it, these tracked ones in the place of its own.
    pub fn put(&self, out: &mut Vec<u8>, names: &ParamNames, tracked: &Arc<Params>) {
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(&self.untracked);
            for (place, name) in names.iter().enumerate() {
                if let Some(value) = tracked.get(place) {
                    put_parameter(out, name, value);
                }
            }
        };
        if Arc::ptr_eq(tracked, &self.tracked) {
            out.extend_from_slice(self.messages.get_or_init(|| {
                let mut all = Vec::new();
                put(&mut all);
                all.into()
            }));
        } else {
            put(out);
        }
    }
}

impl Shared {
    /// The shared half for as many workers as there are senders.
    pub fn new(names: ParamNames, post: Vec<mpsc::UnboundedSender<Mail>>) -> Self {
        Self {
            names,
            statements: Statements::default(),
            resolver: Resolver::default(),
            limits: Mutex::default(),
            wanted: AtomicBool::new(false),
            departing: AtomicBool::new(false),
            has_elder: AtomicBool::new(false),
            paused: Arc::default(),
            registry: Mutex::default(),
            labels: Mutex::new(Labels::new(LABELS)),
            cpus: Cpus::new(post.len()),
            post,
            ids: AtomicU64::new(0),
        }
    }

    /// The next number for a client or a server.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Numbers clients, servers and statements as is right for this generation of processes: what
    /// those before have numbered, and what they still may, is below.
    pub fn begin_generation(&self, generation: u32) {
        let start = u64::from(generation) << GENERATION_BITS;
        self.ids.fetch_max(start, Ordering::SeqCst);
        self.statements.begin_after(start);
    }

    /// How many processes took over from one another before this one.
    pub fn generation(&self) -> u32 {
        let generation = self.ids.load(Ordering::SeqCst) >> GENERATION_BITS;
        u32::try_from(generation).unwrap_or(u32::MAX)
    }

    /// Another process has taken over, or is gone again.
    pub fn set_departing(&self, departing: bool) {
        self.departing.store(departing, Ordering::SeqCst);
    }

    /// Whether another process has taken over.
    pub fn is_departing(&self) -> bool {
        self.departing.load(Ordering::Relaxed)
    }

    /// Whether the process that we took over from still has servers that count here.
    pub fn set_has_elder(&self, has_elder: bool) {
        self.has_elder.store(has_elder, Ordering::SeqCst);
    }

    pub(crate) fn has_elder(&self) -> bool {
        self.has_elder.load(Ordering::SeqCst)
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.post.len()
    }

    /// Runs `change` under the lock of the limits, for a moment.
    pub fn limits<T>(&self, change: impl FnOnce(&mut Limits) -> T) -> T {
        let mut limits = lock(&self.limits);
        let result = change(&mut limits);
        self.wanted.store(limits.has_askers(), Ordering::SeqCst);
        result
    }

    /// Whether anybody is in line for a permit under a shared limit.
    pub fn permits_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Tells workers of permits that passed to them.
    pub fn deliver(&self, passed: Vec<Passed>) {
        for passed in passed {
            let mail = match passed.owner {
                Some(client) => Mail::OwnPermit(client),
                None => Mail::Permit(passed.pool),
            };
            self.send(passed.worker, mail);
        }
    }

    /// Posts to a worker. One that is gone needs nothing any more.
    pub fn send(&self, to: WorkerId, mail: Mail) {
        if let Some(sender) = self.post.get(to.0) {
            let _ = sender.send(mail);
        }
    }

    /// The database of this name, if it is in use.
    pub fn find_database(&self, name: &str) -> Option<Arc<DatabaseShared>> {
        lock(&self.registry).databases.get(name).cloned()
    }

    /// The database of this entry; it comes into use if it was not. True says that it is new.
    pub fn database(&self, config: &Arc<Database>, auto: bool) -> (Arc<DatabaseShared>, bool) {
        let mut registry = lock(&self.registry);
        if let Some(database) = registry.databases.get(config.name.as_str()) {
            return (database.clone(), false);
        }
        let database = Arc::new(DatabaseShared {
            name: config.name.as_str().into(),
            auto,
            config: ArcSwap::new(config.clone()),
            paused: AtomicBool::new(false),
            all_paused: self.paused.clone(),
            disabled: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            clients: Arc::default(),
        });
        registry
            .databases
            .insert(database.name.clone(), database.clone());
        (database, true)
    }

    /// All databases in use.
    pub fn databases(&self) -> Vec<Arc<DatabaseShared>> {
        let mut all: Vec<_> = lock(&self.registry).databases.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Takes a database and its pools out of use. Who still has them lets go of them in time.
    pub fn remove_database(&self, name: &str) {
        let mut registry = lock(&self.registry);
        if let Some(database) = registry.databases.remove(name) {
            database.removed.store(true, Ordering::SeqCst);
        }
        registry.pools.remove(name);
    }

    /// Forgets a database that nobody uses; false if somebody does after all.
    pub fn forget_database(&self, name: &str) -> bool {
        let mut registry = lock(&self.registry);
        let Some(database) = registry.databases.get(name).cloned() else {
            return false;
        };
        // Whoever logs in counts itself first and looks at the mark then.
        database.removed.store(true, Ordering::SeqCst);
        let mut pools = registry
            .pools
            .get(name)
            .into_iter()
            .flat_map(HashMap::values);
        let used = database.clients.load(Ordering::SeqCst) > 0
            || pools.any(|pool| pool.servers.load(Ordering::SeqCst) > 0);
        if used {
            database.removed.store(false, Ordering::SeqCst);
            return false;
        }
        registry.databases.remove(name);
        registry.pools.remove(name);
        let gone: Vec<PoolId> = registry
            .by_id
            .values()
            .filter(|pool| &*pool.key.database == name)
            .map(|pool| pool.id)
            .collect();
        registry.by_id.retain(|id, _| !gone.contains(id));
        drop(registry);
        self.limits(|limits| gone.iter().for_each(|&id| limits.remove_pool(id)));
        true
    }

    /// Forgets pools of databases that are gone, once their last server and client are.
    pub fn forget_removed_pools(&self) {
        let mut registry = lock(&self.registry);
        let mut gone = Vec::new();
        registry.by_id.retain(|&id, pool| {
            let used = !pool.database.removed.load(Ordering::SeqCst)
                || pool.servers.load(Ordering::SeqCst) > 0
                || pool.database.clients.load(Ordering::SeqCst) > 0;
            if !used {
                gone.push(id);
            }
            used
        });
        drop(registry);
        if !gone.is_empty() {
            self.limits(|limits| gone.iter().for_each(|&id| limits.remove_pool(id)));
        }
    }

    /// Forgets pools that no worker has any more, and tells which.
    pub fn forget_idle_pools(&self) -> Vec<PoolKey> {
        let mut registry = lock(&self.registry);
        let Registry { pools, by_id, .. } = &mut *registry;
        let mut gone = Vec::new();
        by_id.retain(|_, pool| {
            // Here, and by name: who else uses it got it under this lock.
            let used = Arc::strong_count(pool) > 2
                || pool.servers.load(Ordering::SeqCst) > 0
                || pool.database.removed.load(Ordering::SeqCst);
            if !used {
                if let Some(of_database) = pools.get_mut(&pool.key.database) {
                    of_database.remove(&pool.key.user);
                }
                gone.push(pool.clone());
            }
            used
        });
        drop(registry);
        self.limits(|limits| gone.iter().for_each(|pool| limits.remove_pool(pool.id)));
        gone.iter().map(|pool| pool.key.clone()).collect()
    }

    /// Runs `look` under the lock of the labels, for a moment.
    pub fn labels<T>(&self, look: impl FnOnce(&mut Labels) -> T) -> T {
        look(&mut lock(&self.labels))
    }

    /// Puts all databases at once, and those to come, under PAUSE or takes them out of it. One that
    /// is paused by itself stays so.
    pub fn pause_all(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    /// Whether any database is under a PAUSE of its own.
    pub fn is_any_paused(&self) -> bool {
        let registry = lock(&self.registry);
        let mut databases = registry.databases.values();
        databases.any(|database| database.paused.load(Ordering::SeqCst))
    }

    /// The pool of a database and user; it comes into use if it was not.
    pub fn pool(&self, database: &Arc<DatabaseShared>, user: &str) -> Arc<PoolShared> {
        let mut registry = lock(&self.registry);
        if let Some(pool) = registry.find(&database.name, user) {
            return pool.clone();
        }
        let key = PoolKey {
            database: database.name.clone(),
            user: user.into(),
        };
        let id = PoolId(registry.next_pool);
        registry.next_pool += 1;
        let pool = Arc::new(PoolShared::new(
            id,
            key.clone(),
            database.clone(),
            self.workers(),
        ));
        let of_database = registry.pools.entry(key.database.clone()).or_default();
        of_database.insert(key.user.clone(), pool.clone());
        registry.by_id.insert(id, pool.clone());
        drop(registry);
        let gauge = pool.servers.clone();
        self.limits(|limits| limits.add_pool(id, key, gauge));
        pool
    }

    /// The pool of this name, if it is in use.
    pub fn find_pool(&self, key: &PoolKey) -> Option<Arc<PoolShared>> {
        lock(&self.registry).find(&key.database, &key.user).cloned()
    }

    /// The pool of this number.
    pub fn pool_by_id(&self, id: PoolId) -> Option<Arc<PoolShared>> {
        lock(&self.registry).by_id.get(&id).cloned()
    }

    /// All pools in use.
    pub fn pools(&self) -> Vec<Arc<PoolShared>> {
        let registry = lock(&self.registry);
        let pools = registry.pools.values().flat_map(HashMap::values);
        pools.cloned().collect()
    }
}

impl DatabaseShared {
    /// Whether nobody gets a server.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst) || self.all_paused.load(Ordering::SeqCst)
    }
}

impl PoolShared {
    fn new(id: PoolId, key: PoolKey, database: Arc<DatabaseShared>, workers: usize) -> Self {
        Self {
            id,
            key,
            database,
            servers: Gauge::default(),
            logging_in: AtomicU32::new(0),
            own_servers: AtomicU32::new(0),
            welcome: watch::Sender::new(Welcome::Unknown),
            turns: Mutex::default(),
            carriers: AtomicU32::new(0),
            credentials: Mutex::default(),
            versions: Mutex::default(),
            aged_out: AtomicU64::new(0),
            failing: Mutex::default(),
            needed: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            tickets: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            waits: Waits::new(workers),
            balance: Mutex::new(Balance::new(workers)),
        }
    }

    /// Keeps what a server reported, if it is the first; returns what clients are told.
    pub(crate) fn make_known(&self, reported: Reported) -> Arc<Reported> {
        let mut known = Arc::new(reported);
        self.welcome.send_if_modified(|welcome| {
            if let Welcome::Known(first) = welcome {
                known = first.clone();
                return false;
            }
            *welcome = Welcome::Known(known.clone());
            true
        });
        known
    }

    /// With what servers are logged in.
    pub fn credentials(&self) -> Credentials {
        lock(&self.credentials).best()
    }

    /// Sets the secret that the files have; keys from clients' logins stay.
    pub fn set_secret(&self, secret: Option<Secret>) {
        let mut held = lock(&self.credentials);
        if held.configured != secret {
            held.configured = secret;
            held.typed = None;
        }
    }

    /// Sets the secret that auth_query brought: it serves where the files have none.
    pub fn set_queried_secret(&self, secret: Secret) {
        let mut held = lock(&self.credentials);
        if held.queried.as_ref() != Some(&secret) {
            held.queried = Some(secret);
            held.typed = None;
        }
    }

    /// Keeps the password of a user whose login brought it in clear: others than the files may
    /// have found it right.
    pub fn set_typed_password(&self, password: Password) {
        lock(&self.credentials).typed = Some(password);
    }

    /// What clients' logins brought: a typed password, auth_query's secret, keys.
    pub(crate) fn of_clients(&self) -> (Option<Password>, Option<Secret>, Option<ScramKeys>) {
        let held = lock(&self.credentials);
        (
            held.typed.clone(),
            held.queried.clone(),
            held.scram_keys.clone(),
        )
    }

    /// Keeps the keys derived for the server's salt: the next login needs them again.
    pub(crate) fn keep_derived(&self, derived: Derived) {
        lock(&self.credentials).cached = Some(Arc::new(derived));
    }

    /// Keeps the keys that fell out of a client's login, to log servers in with.
    pub fn set_scram_keys(&self, keys: ScramKeys) {
        lock(&self.credentials).scram_keys = Some(keys);
    }

    /// Open servers that any client of the pool may get, logins included.
    pub(crate) fn servers_for_all(&self) -> u32 {
        let own = self.own_servers.load(Ordering::SeqCst);
        self.servers.load(Ordering::SeqCst).saturating_sub(own)
    }

    /// Whether any client of the pool is or may be served now.
    pub(crate) fn serves(&self) -> bool {
        self.servers_for_all() > self.logging_in.load(Ordering::SeqCst)
    }

    /// How logins have been failing, if none has succeeded since.
    pub fn failing(&self) -> Option<Failing> {
        lock(&self.failing).clone()
    }

    /// Whether logins fail for want of a server that answers.
    pub(crate) fn is_unreachable(&self) -> bool {
        let failing = lock(&self.failing);
        failing
            .as_ref()
            .is_some_and(|failing| !failing.failure.is_final())
    }

    /// A login failed.
    pub(crate) fn note_failure(&self, failure: &Arc<LoginFailure>, now: Instant) {
        let mut failing = lock(&self.failing);
        let since = failing.as_ref().map_or(now, |failing| failing.since);
        *failing = Some(Failing {
            failure: failure.clone(),
            since,
            at: now,
        });
    }

    /// Takes the turn to close a server for its age: once in `pause` over all workers.
    pub(crate) fn may_age_out(&self, now: Instant, pause: Duration) -> bool {
        let last = self.aged_out.load(Ordering::SeqCst);
        let due = last == 0 || now - Instant::from_nanos(last) >= pause;
        let (order, now) = (Ordering::SeqCst, now.as_nanos());
        due && self
            .aged_out
            .compare_exchange(last, now, order, order)
            .is_ok()
    }

    /// Publishes since when a worker's oldest client waits; `None`: nobody does.
    pub(crate) fn publish_waiting(&self, worker: WorkerId, since: Option<Instant>) {
        if self.tickets.len() < 2 {
            return;
        }
        if let Some(since) = since {
            self.tickets[worker.0].store(since.as_nanos(), Ordering::SeqCst);
        }
        publish(&self.waiting, worker, since.is_some());
    }

    /// A server is on its way to a worker's oldest waiter: until that worker publishes who is next,
    /// nobody else need send it one.
    pub(crate) fn promise(&self, worker: WorkerId, now: Instant) {
        self.tickets[worker.0].store(now.as_nanos(), Ordering::SeqCst);
    }

    /// Publishes whether a worker has an idle server.
    pub(crate) fn publish_idle(&self, worker: WorkerId, has_idle: bool) {
        if self.tickets.len() < 2 {
            return;
        }
        publish(&self.idle, worker, has_idle);
    }

    /// Whether a client of another worker waits: one load.
    pub(crate) fn waits_elsewhere(&self, worker: WorkerId) -> bool {
        self.waiting.load(Ordering::SeqCst) & !worker.bit() != 0
    }

    /// The other worker whose client has waited longest, and since when.
    pub(crate) fn longest_elsewhere(&self, worker: WorkerId) -> Option<(WorkerId, Instant)> {
        let waiting = self.waiting.load(Ordering::SeqCst) & !worker.bit();
        let others = (0..self.tickets.len()).map(WorkerId);
        others
            .filter(|other| waiting & other.bit() != 0)
            .map(|other| (self.tickets[other.0].load(Ordering::SeqCst), other))
            .min_by_key(|&(since, _)| since)
            .map(|(since, other)| (other, Instant::from_nanos(since)))
    }

    /// The other workers whose clients wait.
    pub(crate) fn waiting_elsewhere(&self, worker: WorkerId) -> impl Iterator<Item = WorkerId> {
        self.others(self.waiting.load(Ordering::SeqCst), worker)
    }

    /// The other workers that have an idle server.
    pub(crate) fn idle_elsewhere(&self, worker: WorkerId) -> impl Iterator<Item = WorkerId> {
        self.others(self.idle.load(Ordering::SeqCst), worker)
    }

    fn others(&self, set: u64, worker: WorkerId) -> impl Iterator<Item = WorkerId> {
        let others = set & !worker.bit();
        (0..self.tickets.len())
            .map(WorkerId)
            .filter(move |other| others & other.bit() != 0)
    }
}

/// Sets or clears a worker's bit, which only that worker does: where it is right, nothing is written.
fn publish(set: &AtomicU64, worker: WorkerId, is_in: bool) {
    let was_in = set.load(Ordering::Relaxed) & worker.bit() != 0;
    match (was_in, is_in) {
        (false, true) => {
            set.fetch_or(worker.bit(), Ordering::SeqCst);
        }
        (true, false) => {
            set.fetch_and(!worker.bit(), Ordering::SeqCst);
        }
        _ => {}
    }
}

/// Locks; a panic elsewhere under the lock leaves plain counts behind, which stay usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
