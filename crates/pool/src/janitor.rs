//! The maintenance pass, three times a second: ageing, timeouts, the minimum and the reserve.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use events::time::Instant;
use settings::{Config, PoolMode};
use wire::TxStatus;

use crate::key::ServerId;
use crate::lease::LeaseError;
use crate::limits::Purpose;
use crate::pool::Pool;
use crate::roster::{ClientEntry, Kill, Notify};
use crate::server::{CloseReason, IdleNews, Server};
use crate::state::ServerState;

/// Which idle servers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Each of them.
    All,
    /// Those that nobody watches yet.
    Unwatched,
}

impl Pool {
    /// Does all that is due by now.
    pub(crate) fn tick(self: &Rc<Self>, now: Instant, config: &Config) {
        self.age_idle(now);
        self.stop_overdue(now);
        self.part_from_outdated();
        self.end_long_waits(now, config);
        self.fill_minimum(now);
        self.use_reserve(now);
        self.advance(now);
        self.part_with_idle();
    }

    /// Whether it has clients or servers, or is about to.
    pub(crate) fn is_used(&self) -> bool {
        self.clients.get() > 0 || self.logins.get() > 0 || !self.state.borrow().is_empty()
    }

    /// Whether it is of no more use, being unused.
    pub(crate) fn is_forgotten(&self, now: Instant) -> bool {
        if self.shared.database.removed.load(Ordering::Relaxed) {
            return true;
        }
        let settings = self.settings();
        let forced = self.shared.database.config.load().user.is_some();
        let keeps_minimum = forced && settings.min_pool_size > 0;
        let since = self.unused_since.get().unwrap_or(now);
        self.unused_since.set(Some(since));
        let over = |limit| now.saturating_duration_since(since) >= limit;
        !keeps_minimum && settings.pool_idle_timeout.is_some_and(over)
    }

    /// Registers idle servers to be woken for, and closes those that went away or spoke.
    pub(crate) fn watch_idle(self: &Rc<Self>, watch: Watch) {
        let cx = &mut Context::from_waker(&self.stir);
        let mut gone = Vec::new();
        for (place, server) in self.idle_servers() {
            if server.watched.replace(true) && watch == Watch::Unwatched {
                continue;
            }
            match server.poll_idle(cx) {
                IdleNews::Quiet => {}
                IdleNews::Gone => gone.push((place, CloseReason::Crashed)),
                IdleNews::Spoke => gone.push((place, CloseReason::Dirty)),
            }
        }
        for (place, reason) in gone {
            self.close(place, reason);
        }
    }

    fn idle_servers(&self) -> Vec<(ServerId, Rc<Server>)> {
        let state = self.state.borrow();
        state
            .idle()
            .filter_map(|(place, _)| Some((place, self.server(place)?)))
            .collect()
    }

    /// Closes idle servers that must go, the longest idle first.
    fn age_idle(self: &Rc<Self>, now: Instant) {
        let paused = self.rules().paused;
        let settings = self.settings();
        let idle: Vec<_> = self.state.borrow().idle().rev().collect();
        for (place, since) in idle {
            let Some(server) = self.server(place) else {
                continue;
            };
            let idle_for = now.saturating_duration_since(since);
            if paused {
                self.close(place, CloseReason::Paused);
            } else if let Some(reason) = self.unfit(&server, now) {
                self.close(place, reason);
            } else if settings.server_idle_timeout.is_some_and(|t| idle_for > t) {
                self.close_above(place, settings.min_pool_size, CloseReason::IdleTimeout);
            } else {
                self.close_surplus(place);
            }
        }
    }

    /// Closes a free server if the pool has shrunk and holds too many; true if so.
    pub(crate) fn close_surplus(self: &Rc<Self>, place: ServerId) -> bool {
        let most = {
            let settings = self.settings.borrow();
            let size = settings.pool_size;
            size.map(|size| size.saturating_add(settings.reserve_pool_size))
        };
        most.is_some_and(|most| self.close_above(place, most, CloseReason::Surplus))
    }

    /// Closes a free server if the pool, over all workers, holds more than `min`; true if so.
    fn close_above(self: &Rc<Self>, place: ServerId, min: u32, reason: CloseReason) -> bool {
        if self.shared.servers.load(Ordering::SeqCst) <= min {
            return false;
        }
        let (id, limits) = (self.shared.id, &self.local.shared);
        let may = limits.limits(|limits| limits.may_close(id, min));
        if may {
            self.end(place, reason);
            let passed = limits.limits(|limits| limits.closed_as_agreed(id));
            self.permit_is_back(passed);
        }
        may
    }

    /// Ends sessions whose query or transaction takes too long.
    fn stop_overdue(&self, now: Instant) {
        let settings = self.settings();
        let limits = [
            settings.query_timeout,
            settings.idle_transaction_timeout,
            settings.transaction_timeout,
        ];
        if limits.iter().all(Option::is_none) {
            return;
        }
        for (server, client) in self.leased() {
            if let Some(kill) = overdue(&server, &client, limits, now) {
                client.kill(kill);
            }
        }
    }

    /// Parts clients from servers that must be replaced: replication at once, since nobody knows
    /// when it would end; with `server_fast_close` sessions that are between transactions, too.
    fn part_from_outdated(&self) {
        let settings = self.settings();
        let fast = settings.server_fast_close && settings.pool_mode == PoolMode::Session;
        for (server, client) in self.leased() {
            let parts = server.facts.is_own() || (fast && stands_between(&server, TxStatus::Idle));
            if parts && self.is_outdated(&server) {
                client.kill(Kill::Reconfigured);
            }
        }
    }

    /// Servers that serve a client, and whom.
    fn leased(&self) -> Vec<(Rc<Server>, Rc<ClientEntry>)> {
        let state = self.state.borrow();
        let leased = state.servers().filter_map(|(place, state)| match state {
            ServerState::Leased { client } => {
                Some((self.server(place)?, self.local.roster.get(client)?))
            }
            _ => None,
        });
        leased.collect()
    }

    /// Tells clients that they wait, and ends waits that took too long.
    fn end_long_waits(&self, now: Instant, config: &Config) {
        let waiting: Vec<_> = self.state.borrow().waiting().copied().collect();
        if waiting.is_empty() {
            return;
        }
        let database = self.shared.database.config.load();
        let query_timeout = self.settings().query_timeout;
        for waiter in waiting {
            let Some(client) = self.local.roster.get(waiter.client) else {
                continue;
            };
            let settings = config.client_settings(&database, &client.user);
            let waited = now.saturating_duration_since(waiter.since);
            let over = |limit: Option<Duration>| limit.is_some_and(|limit| waited > limit);
            if let Some(error) = self.given_up(waited, now) {
                self.fail_waiter(client.id, error);
            } else if over(settings.query_wait_timeout) {
                self.fail_waiter(client.id, LeaseError::QueryWaitTimeout);
            } else if over(query_timeout) {
                self.fail_waiter(client.id, LeaseError::QueryTimeout);
            } else if over(settings.query_wait_notify) && client.notify.get() == Notify::Untold {
                client.notify.set(Notify::Due);
                client.wake();
            }
        }
    }

    /// Keeps `min_pool_size` servers ready for pools in use: one more each pass. While nobody can
    /// log in, one login after the other is tried, so that no client need be the first to try.
    fn fill_minimum(self: &Rc<Self>, now: Instant) {
        let min = self.settings().min_pool_size;
        // Who waits asks by itself.
        let nobody_asks = self.wanted() == 0 && self.owners.waiting.len() == 0;
        let min = min.max(u32::from(nobody_asks && self.shared.is_unreachable()));
        if self.local.shared.is_departing() {
            return;
        }
        if min == 0 || self.shared.servers.load(Ordering::SeqCst) >= min || self.rules().paused {
            return;
        }
        let forced = self.shared.database.config.load().user.is_some();
        let workers = self.local.shared.workers();
        let ours = self.shared.id.0 as usize % workers == self.local.worker.0;
        if self.clients.get() > 0 || (forced && ours) {
            self.try_open(Purpose::Minimum(min), now);
        }
    }

    /// Opens a server from the reserve when the oldest client of all has waited long enough.
    fn use_reserve(self: &Rc<Self>, now: Instant) {
        let settings = self.settings();
        let Some(patience) = settings.reserve_pool_timeout else {
            return;
        };
        if settings.reserve_pool_size == 0 || self.wanted() == 0 || self.rules().paused {
            return;
        }
        let oldest = self.state.borrow().oldest();
        let Some(oldest) = oldest else {
            return;
        };
        let worker = self.local.worker;
        let elsewhere = self.shared.longest_elsewhere(worker);
        let ours_is_oldest = elsewhere.is_none_or(|(_, since)| oldest.since <= since);
        let waited = now.saturating_duration_since(oldest.since);
        if ours_is_oldest && waited >= patience && self.try_open(Purpose::Reserve, now) {
            self.log_reserve();
        }
    }

    pub(crate) fn log_reserve(&self) {
        self.meter.borrow_mut().reserve_opened += 1;
        tracing::warn!(name: "reserve_used", "{}: taking connection from reserve_pool", self.shared.key);
    }
}

/// Which of the limits on queries and transactions a session has passed.
fn overdue(
    server: &Server,
    client: &ClientEntry,
    [query, idle, transaction]: [Option<Duration>; 3],
    now: Instant,
) -> Option<Kill> {
    let over = |since: Option<Instant>, limit: Option<Duration>| match (since, limit) {
        (Some(since), Some(limit)) => now.saturating_duration_since(since) > limit,
        _ => false,
    };
    let running = client.query_start.get();
    let idles = [TxStatus::Open, TxStatus::Failed]
        .into_iter()
        .any(|status| stands_between(server, status));
    if over(running, query) {
        Some(Kill::QueryTimeout)
    } else if running.is_none() && idles && over(Some(server.last_heard.get()), idle) {
        Some(Kill::IdleTransaction)
    } else if over(client.xact_start.get(), transaction) {
        Some(Kill::TransactionTimeout)
    } else {
        None
    }
}

/// Whether a server has answered everything and reported this of the transaction.
fn stands_between(server: &Server, status: TxStatus) -> bool {
    let io = server.io.try_borrow();
    io.is_ok_and(|io| io.pipeline.is_settled() && io.pipeline.status() == status)
}
