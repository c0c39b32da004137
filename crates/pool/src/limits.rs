//! How many servers may be open: exact counts over all workers, by pool, database and user.
//!
//! A permit is taken before a server's socket is opened and given back after it closed, so the
//! counts are never too low. `Limits` decides and never waits; it sits behind one short lock
//! that is taken when servers open and close, never when they are lent.

pub mod kin;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use events::time::Instant;
use rustc_hash::FxHashMap;

use self::kin::{Kin, Share};
use crate::key::{ClientId, PoolId, PoolKey, WorkerId};

/// Logins that may be under way at once in one pool.
const LOGINS_MAX: u32 = 4;

/// The first pause after a failed login. Each further failure doubles it, up to
/// `server_login_retry`: a server that restarts is found soon, and one that stays away is left alone.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The limits of one pool, as its settings have them; 0 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Servers in the pool (`pool_size`).
    pub pool: u32,
    /// Servers in the pool when its oldest waiter has waited long (`reserve_pool_size` more).
    pub reserve: u32,
    /// Servers of the database (`max_db_connections`).
    pub database: u32,
    /// Servers of the user (`max_user_connections`).
    pub user: u32,
    /// Longest pause after a failed login (`server_login_retry`).
    pub login_retry: Duration,
}

/// What a new server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A client waits.
    Waiter,
    /// A client has waited for `reserve_pool_timeout`.
    Reserve,
    /// The pool holds fewer than this (`min_pool_size`).
    Minimum(u32),
}

/// Whether a server may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Yes: the permit is taken. Give it back with `login_failed` or `closed`.
    Granted,
    /// The pool is full.
    PoolFull,
    /// Enough logins are under way.
    Busy,
    /// The last login failed, and the pause after it is not over.
    Retrying,
    /// The database or the user has too many servers: ask for one to be evicted.
    Full(Scope),
    /// The limits are another process's, which was asked.
    Asked,
}

/// Whose servers count towards a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `pool_size`: an idle server of the pool itself is in the way of a client that needs its own.
    Pool,
    /// `max_db_connections`.
    Database,
    /// `max_user_connections`.
    User,
}

/// A permit that became free and was passed on: this worker may log a server in to this pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Where to.
    pub pool: PoolId,
    /// Who asked.
    pub worker: WorkerId,
    /// For this client alone: it picks the permit up with `open_own`.
    pub owner: Option<ClientId>,
}

/// A client that needs a server of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub client: ClientId,
    /// Where it is.
    pub worker: WorkerId,
    /// Since when it has waited.
    pub since: Instant,
}

/// Open servers of one pool, for those who only want to look.
pub type Gauge = Arc<AtomicU32>;

/// The counts of all pools.
#[derive(Debug, Default)]
pub struct Limits {
    pools: FxHashMap<PoolId, PoolCount>,
    databases: HashMap<Arc<str>, u32>,
    users: HashMap<Arc<str>, u32>,
    askers: VecDeque<Asker>,
    /// Owners to whom a permit was passed that they have not picked up yet.
    passed: HashSet<ClientId>,
    kin: Kin,
}

#[derive(Debug)]
struct PoolCount {
    key: PoolKey,
    bounds: Bounds,
    servers: u32,
    logins: u32,
    closing: u32,
    outage: Option<Outage>,
    gauge: Gauge,
    share: Share,
}

/// Logins fail, and none has succeeded since they began to.
#[derive(Debug, Clone, Copy)]
struct Outage {
    /// Failures in a row; those of logins that began together are one.
    failures: u32,
    /// When the last was; `None` if there is reason to try at once.
    last: Option<Instant>,
    /// The server itself refused: it may count how often it is asked.
    refused: bool,
}

/// In line for what becomes free: a worker that found a shared limit full, or an owner.
#[derive(Debug, Clone, Copy)]
struct Asker {
    pool: PoolId,
    worker: WorkerId,
    purpose: Purpose,
    owner: Option<Owner>,
}

impl Limits {
    /// Makes a pool known; its gauge follows the count of its servers.
    pub fn add_pool(&mut self, pool: PoolId, key: PoolKey, gauge: Gauge) {
        let count = PoolCount {
            key,
            bounds: Bounds::default(),
            servers: 0,
            logins: 0,
            closing: 0,
            outage: None,
            gauge,
            share: Share::default(),
        };
        self.pools.insert(pool, count);
    }

    /// Forgets a pool that has no servers.
    pub fn remove_pool(&mut self, pool: PoolId) {
        if self
            .pools
            .get(&pool)
            .is_some_and(|count| count.servers == 0)
        {
            self.pools.remove(&pool);
            self.askers.retain(|asker| asker.pool != pool);
        }
    }

    /// Asks to open a server. Who finds a shared limit full is in line for the next free permit.
    pub fn open(
        &mut self,
        pool: PoolId,
        bounds: Bounds,
        purpose: Purpose,
        worker: WorkerId,
        now: Instant,
    ) -> Permit {
        let permit = self.judge(pool, bounds, purpose, now);
        let for_minimum = matches!(purpose, Purpose::Minimum(_));
        match permit {
            Permit::Granted => {
                if !for_minimum {
                    // Who is still in want after this asks again, and is in line anew.
                    self.withdraw(pool, worker);
                }
                self.take(pool);
            }
            Permit::Full(_) | Permit::Asked if !for_minimum => self.put_in_line(Asker {
                pool,
                worker,
                purpose,
                owner: None,
            }),
            _ => {}
        }
        permit
    }

    /// Asks to open a server for one client alone. Whatever it lacks, it is in line for it, but for
    /// the pause after a failed login; a permit that was passed to it meanwhile is picked up here.
    pub fn open_own(
        &mut self,
        pool: PoolId,
        bounds: Bounds,
        purpose: Purpose,
        owner: Owner,
        now: Instant,
    ) -> Permit {
        if self.passed.remove(&owner.client) {
            return Permit::Granted;
        }
        let permit = self.judge(pool, bounds, purpose, now);
        match permit {
            Permit::Granted => {
                self.leave_line(owner.client);
                self.take(pool);
            }
            Permit::Retrying => {}
            Permit::PoolFull | Permit::Busy | Permit::Full(_) | Permit::Asked => {
                self.put_in_line(Asker {
                    pool,
                    worker: owner.worker,
                    purpose,
                    owner: Some(owner),
                })
            }
        }
        permit
    }

    /// A client needs no server of its own any more, or not now.
    pub fn give_up_own(&mut self, pool: PoolId, client: ClientId) -> Vec<Passed> {
        self.leave_line(client);
        if self.passed.remove(&client) {
            self.unused(pool)
        } else {
            Vec::new()
        }
    }

    fn leave_line(&mut self, client: ClientId) {
        self.askers.retain(|asker| !asker.is(client));
    }

    fn judge(&mut self, pool: PoolId, bounds: Bounds, purpose: Purpose, now: Instant) -> Permit {
        if let Some(count) = self.pools.get_mut(&pool)
            && count.has_room_within(bounds, purpose)
        {
            count.bounds = bounds;
            if let Some(outage) = count.outage
                && outage.rests(now, bounds.login_retry)
            {
                return Permit::Retrying;
            }
            if !count.may_log_in() {
                return Permit::Busy;
            }
        }
        self.judge_room(pool, bounds, purpose)
    }

    /// Whether there is room, whether or not a login may begin now.
    fn judge_room(&mut self, pool: PoolId, bounds: Bounds, purpose: Purpose) -> Permit {
        let awaits_census = self.is_census_awaited();
        let Some(count) = self.pools.get_mut(&pool).filter(|_| !awaits_census) else {
            return Permit::PoolFull;
        };
        count.bounds = bounds;
        let for_minimum = matches!(purpose, Purpose::Minimum(_));
        if !count.has_room(purpose) {
            if !for_minimum {
                self.need(Scope::Pool, pool);
            }
            return Permit::PoolFull;
        }
        if !self.is_within_quota(pool) {
            if for_minimum {
                return Permit::PoolFull;
            }
            self.ask_heir(pool);
            return Permit::Asked;
        }
        match self.full(pool) {
            Some(scope) => {
                if !for_minimum {
                    self.need(scope, pool);
                }
                Permit::Full(scope)
            }
            None => Permit::Granted,
        }
    }

    fn put_in_line(&mut self, new: Asker) {
        let known = |asker: &&mut Asker| match new.owner {
            Some(owner) => asker.is(owner.client),
            None => asker.is_worker(new.pool, new.worker),
        };
        match self.askers.iter_mut().find(known) {
            Some(asker) => asker.purpose = new.purpose,
            None => self.askers.push_back(new),
        }
    }

    /// A login succeeded. Who waited for its turn to log in may get a permit that is free.
    #[must_use]
    pub fn logged_in(&mut self, pool: PoolId) -> Vec<Passed> {
        if let Some(count) = self.pools.get_mut(&pool) {
            count.logins = count.logins.saturating_sub(1);
            if count.outage.take().is_some() {
                let database = count.key.database.clone();
                self.end_pauses(&database);
            }
        }
        self.pass_on()
    }

    /// The server of a database is back: its other pools need not wait to find that out.
    fn end_pauses(&mut self, database: &Arc<str>) {
        for count in self.pools.values_mut() {
            if let Some(outage) = &mut count.outage
                && count.key.database == *database
                && !outage.refused
            {
                outage.last = None;
            }
        }
    }

    /// A login failed, and its socket is closed. Who else asked for this pool need not fail as
    /// well: it asks again when the pause is over.
    pub fn login_failed(&mut self, pool: PoolId, now: Instant, refused: bool) -> Vec<Passed> {
        if let Some(count) = self.pools.get_mut(&pool) {
            count.logins = count.logins.saturating_sub(1);
            count.outage = Some(Outage::after(count.outage, now, refused, count.bounds));
        }
        self.askers.retain(|asker| asker.pool != pool);
        self.closed(pool)
    }

    /// A permit that was granted is not needed after all.
    pub fn unused(&mut self, pool: PoolId) -> Vec<Passed> {
        if let Some(count) = self.pools.get_mut(&pool) {
            count.logins = count.logins.saturating_sub(1);
        }
        self.closed(pool)
    }

    /// A server closed. Its permit passes to who has asked longest and may have it.
    pub fn closed(&mut self, pool: PoolId) -> Vec<Passed> {
        self.give_back(pool);
        self.pass_on()
    }

    fn pass_on(&mut self) -> Vec<Passed> {
        let mut passed = Vec::new();
        let mut place = 0;
        while let Some(&asker) = self.askers.get(place) {
            let fits = |count: &PoolCount| count.has_room(asker.purpose) && count.may_log_in();
            let allowed = self.pools.get(&asker.pool).is_some_and(fits);
            let allowed = allowed && self.is_within_quota(asker.pool);
            if allowed && self.full(asker.pool).is_none() {
                self.askers.remove(place);
                self.take(asker.pool);
                let owner = asker.owner.map(|owner| owner.client);
                self.passed.extend(owner);
                passed.push(Passed {
                    pool: asker.pool,
                    worker: asker.worker,
                    owner,
                });
            } else {
                place += 1;
            }
        }
        passed
    }

    /// Whether the pool stays at `min` servers or above when one of its idle servers closes. Yes
    /// means that the server counts as closing: nobody else closes it for the same reason. Close
    /// its socket, then call `closed`.
    pub fn may_close(&mut self, pool: PoolId, min: u32) -> bool {
        let Some(count) = self.pools.get_mut(&pool) else {
            return false;
        };
        let may = count.servers.saturating_sub(count.closing) > min;
        count.closing += u32::from(may);
        may
    }

    /// A server that `may_close` let go has closed.
    pub fn closed_as_agreed(&mut self, pool: PoolId) -> Vec<Passed> {
        if let Some(count) = self.pools.get_mut(&pool) {
            count.closing = count.closing.saturating_sub(1);
        }
        self.closed(pool)
    }

    /// The worker's waiters of this pool are served: it no longer asks.
    pub fn withdraw(&mut self, pool: PoolId, worker: WorkerId) {
        self.askers.retain(|asker| !asker.is_worker(pool, worker));
    }

    /// Whether somebody waits for a permit that this pool's servers hold back, though a client
    /// waits for one of them since `oldest`: only owners go before it, if they came earlier.
    pub fn is_wanted(&self, pool: PoolId, oldest: Option<Instant>) -> bool {
        self.askers.iter().any(|asker| {
            let goes_first = match (oldest, asker.owner) {
                (None, _) => true,
                (Some(oldest), Some(owner)) => owner.since < oldest,
                (Some(_), None) => false,
            };
            goes_first
                && self
                    .obstacle(asker)
                    .is_some_and(|scope| self.same(asker.pool, pool, scope))
                // Others would take this server itself.
                && (asker.pool != pool || asker.owner.is_some())
        })
    }

    /// The limit that an asker runs into.
    fn obstacle(&self, asker: &Asker) -> Option<Scope> {
        if self.pools.get(&asker.pool)?.has_room(asker.purpose) {
            self.full(asker.pool)
        } else {
            Some(Scope::Pool)
        }
    }

    /// Whether two pools share a limit.
    fn same(&self, a: PoolId, b: PoolId, scope: Scope) -> bool {
        let (Some(a), Some(b)) = (self.pools.get(&a), self.pools.get(&b)) else {
            return false;
        };
        match scope {
            Scope::Pool => a.key == b.key,
            Scope::Database => a.key.database == b.key.database,
            Scope::User => a.key.user == b.key.user,
        }
    }

    /// True if anybody is in line for a permit.
    pub fn has_askers(&self) -> bool {
        !self.askers.is_empty()
    }

    /// Open servers of a pool, logins included.
    pub fn servers(&self, pool: PoolId) -> u32 {
        self.pools.get(&pool).map_or(0, |count| count.servers)
    }

    /// Open servers of a database.
    pub fn database_servers(&self, database: &str) -> u32 {
        self.databases.get(database).copied().unwrap_or(0)
    }

    /// Open servers of a user.
    pub fn user_servers(&self, user: &str) -> u32 {
        self.users.get(user).copied().unwrap_or(0)
    }

    fn full(&self, pool: PoolId) -> Option<Scope> {
        let count = self.pools.get(&pool)?;
        let reached = |limit: u32, servers: u32| limit > 0 && servers >= limit;
        if reached(
            count.bounds.database,
            self.database_servers(&count.key.database),
        ) {
            Some(Scope::Database)
        } else if reached(count.bounds.user, self.user_servers(&count.key.user)) {
            Some(Scope::User)
        } else {
            None
        }
    }

    fn take(&mut self, pool: PoolId) {
        if let Some(count) = self.pools.get_mut(&pool) {
            count.logins += 1;
        }
        self.count_open(pool);
    }

    fn count_open(&mut self, pool: PoolId) {
        if let Some(count) = self.pools.get_mut(&pool) {
            count.servers += 1;
            count.gauge.store(count.servers, Ordering::SeqCst);
            *self
                .databases
                .entry(count.key.database.clone())
                .or_default() += 1;
            *self.users.entry(count.key.user.clone()).or_default() += 1;
        }
    }

    fn give_back(&mut self, pool: PoolId) {
        self.count_closed(pool);
        self.closed_for_heir(pool);
    }

    fn count_closed(&mut self, pool: PoolId) {
        if let Some(count) = self.pools.get_mut(&pool) {
            debug_assert!(count.servers > 0, "a permit given back twice");
            count.servers = count.servers.saturating_sub(1);
            count.share.forgo();
            count.gauge.store(count.servers, Ordering::SeqCst);
            lower(&mut self.databases, &count.key.database);
            lower(&mut self.users, &count.key.user);
        }
    }
}

impl Outage {
    /// How things stand after one more failure.
    fn after(before: Option<Self>, now: Instant, refused: bool, bounds: Bounds) -> Self {
        let failures = match before {
            None => 1,
            Some(outage) if outage.rests(now, bounds.login_retry) => outage.failures,
            Some(outage) => outage.failures.saturating_add(1),
        };
        Self {
            failures,
            last: Some(now),
            refused,
        }
    }

    /// Whether it is too early to try again.
    fn rests(&self, now: Instant, retry: Duration) -> bool {
        let Some(last) = self.last else {
            return false;
        };
        let doublings = self.failures.saturating_sub(1).min(16);
        let pause = match self.refused {
            true => retry,
            false => FIRST_PAUSE.saturating_mul(1 << doublings).min(retry),
        };
        now.saturating_duration_since(last) < pause
    }
}

impl Asker {
    /// Whether it is this client, for itself.
    fn is(&self, client: ClientId) -> bool {
        self.owner.is_some_and(|owner| owner.client == client)
    }

    /// Whether it is this worker, for clients that take any server of the pool.
    fn is_worker(&self, pool: PoolId, worker: WorkerId) -> bool {
        self.owner.is_none() && self.pool == pool && self.worker == worker
    }
}

impl PoolCount {
    fn may_log_in(&self) -> bool {
        // After a failure one probe tells whether the server is back.
        let most = if self.outage.is_some() { 1 } else { LOGINS_MAX };
        self.logins < most
    }

    fn has_room(&self, purpose: Purpose) -> bool {
        self.has_room_within(self.bounds, purpose)
    }

    fn has_room_within(&self, bounds: Bounds, purpose: Purpose) -> bool {
        let size = bounds.pool;
        match purpose {
            Purpose::Waiter => size == 0 || self.servers < size,
            Purpose::Reserve => size == 0 || self.servers < size.saturating_add(bounds.reserve),
            Purpose::Minimum(min) => self.servers < min && (size == 0 || self.servers < size),
        }
    }
}

fn lower(counts: &mut HashMap<Arc<str>, u32>, name: &Arc<str>) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
