//! Opening servers: for those who wait, and for the minimum.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use events::time::Instant;
use net::Conn;

use crate::attempts::LoginFailure;
use crate::lease::LeaseError;
use crate::limits::{Bounds, Passed, Permit, Purpose};
use crate::pool::Pool;
use crate::roster::Turn;
use crate::server::login::LoggedIn;
use crate::server::{CloseReason, Facts, Server};
use crate::shared::{Mail, Welcome, lock};

impl Pool {
    /// Opens servers for waiters for whom none is on its way, as far as the limits allow.
    pub(crate) fn open_for_waiters(self: &Rc<Self>, now: Instant) {
        for _ in 0..self.wanted() {
            if self.is_full() || !self.try_open(Purpose::Waiter, now) {
                break;
            }
        }
    }

    /// A quick look before the lock: whoever closes a server looks at the waiters after it. What the
    /// process before us has must be asked for there.
    fn is_full(&self) -> bool {
        let size = self.settings().pool_size;
        !self.local.shared.has_elder()
            && size.is_some_and(|size| self.shared.servers.load(Ordering::SeqCst) >= size)
    }

    /// Opens a server if the limits allow it.
    pub(crate) fn try_open(self: &Rc<Self>, purpose: Purpose, now: Instant) -> bool {
        let (id, worker, bounds) = (self.shared.id, self.local.worker, self.bounds());
        let permit = self
            .local
            .shared
            .limits(|limits| limits.open(id, bounds, purpose, worker, now));
        match permit {
            Permit::Granted => {
                self.start_login();
                true
            }
            Permit::Full(scope) => {
                if !matches!(purpose, Purpose::Minimum(_)) {
                    self.ask_for_eviction(scope);
                }
                false
            }
            Permit::PoolFull | Permit::Busy | Permit::Retrying | Permit::Asked => false,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let settings = self.settings();
        Bounds {
            pool: settings.pool_size.unwrap_or(0),
            reserve: settings.reserve_pool_size,
            database: settings.max_db_connections.unwrap_or(0),
            user: settings.max_user_connections.unwrap_or(0),
            login_retry: settings.server_login_retry,
        }
    }

    /// A permit that we asked for has come.
    pub(crate) fn use_permit(self: &Rc<Self>) {
        if self.wanted() > 0 {
            self.start_login();
        } else {
            let id = self.shared.id;
            let passed = self.local.shared.limits(|limits| limits.unused(id));
            self.permit_is_back(passed);
        }
    }

    /// Logs a server in, with a permit in hand.
    fn start_login(self: &Rc<Self>) {
        self.logins.set(self.logins.get() + 1);
        self.shared.logging_in.fetch_add(1, Ordering::SeqCst);
        let pool = self.clone();
        events::spawn(async move {
            let begun_for = pool.shared.database.generation.load(Ordering::SeqCst);
            let result = tokio::select! {
                biased;
                result = pool.login(None) => Some(result),
                () = pool.outdated_since(begun_for) => None,
            };
            pool.logins.set(pool.logins.get() - 1);
            pool.shared.logging_in.fetch_sub(1, Ordering::SeqCst);
            match result {
                Some(Ok(logged_in)) => pool.opened(logged_in),
                Some(Err(failure)) => pool.login_failed(failure),
                None => pool.login_outdated(),
            }
        });
    }

    /// Ends once servers opened for this generation must be replaced.
    async fn outdated_since(&self, generation: u64) {
        loop {
            let look = self.look_at_logins.notified();
            if self.shared.database.generation.load(Ordering::SeqCst) != generation {
                return;
            }
            look.await;
        }
    }

    /// A login is given up, since its server would have to be replaced at once.
    fn login_outdated(self: &Rc<Self>) {
        let reason = CloseReason::Reconfigured.as_str();
        tracing::info!(name: "server_closed",
            "S: {} closing because: {reason} (age=0s)", self.shared.key);
        self.local.note_close(reason);
        let id = self.shared.id;
        let passed = self.local.shared.limits(|limits| limits.unused(id));
        self.permit_is_back(passed);
        self.advance(Instant::now());
    }

    fn opened(self: &Rc<Self>, logged_in: LoggedIn) {
        let passed = self.note_success();
        let LoggedIn {
            mut facts,
            conn,
            reported,
        } = logged_in;
        let known = self.shared.make_known(reported);
        if *known.tracked == *facts.defaults {
            // Clients with nothing of their own have this very one.
            facts.defaults = known.tracked.clone();
        }
        let server = self.take_in(facts, conn);
        let place = self.add(server.clone());
        let now = Instant::now();
        self.lend_if_fit(place, &server);
        drop(server);
        // Others may have found enough logins under way.
        self.permit_is_back(passed);
        self.advance(now);
    }

    /// A login succeeded: others may have waited for that.
    pub(crate) fn note_success(&self) -> Vec<Passed> {
        let id = self.shared.id;
        if let Some(failing) = lock(&self.shared.failing).take() {
            let lasted = failing.since.elapsed().as_secs();
            tracing::info!(name: "server_login_works",
                "{}: server login works again after {lasted} s",
                self.shared.key
            );
        }
        self.local.shared.limits(|limits| limits.logged_in(id))
    }

    /// The server of a login that succeeded.
    pub(crate) fn take_in(&self, facts: Facts, conn: Conn) -> Rc<Server> {
        let number = self.local.shared.next_id();
        let local = facts.local;
        let params = facts.defaults.clone();
        let server = Rc::new(Server::new(number, facts, conn, params));
        match local {
            Some(local) => tracing::info!(name: "server_opened",
                "{} new connection to server (from {local})",
                self.tag(&server)
            ),
            None => {
                tracing::info!(name: "server_opened", "{} new connection to server", self.tag(&server))
            }
        }
        if let Some(tls) = &server.facts.tls {
            tracing::info!(name: "server_encrypted", "{} SSL established: {}", self.tag(&server), tls.cipher);
        }
        server
    }

    fn login_failed(self: &Rc<Self>, failure: LoginFailure) {
        let failure = Arc::new(failure);
        self.note_failure(&failure);
        if failure.is_final() {
            self.tell_refusal(&failure);
        }
    }

    /// A login failed: its permit goes back, and the next attempt waits for a while.
    pub(crate) fn note_failure(self: &Rc<Self>, failure: &Arc<LoginFailure>) {
        let (id, now) = (self.shared.id, Instant::now());
        self.shared.note_failure(failure, now);
        let passed = self
            .local
            .shared
            .limits(|limits| limits.login_failed(id, now, failure.is_final()));
        self.permit_is_back(passed);
    }

    /// The server itself said no: who waits for it hears that at once, unless others still serve.
    fn tell_refusal(self: &Rc<Self>, error: &Arc<LoginFailure>) {
        self.shared.welcome.send_if_modified(|welcome| {
            let unknown = !matches!(welcome, Welcome::Known(_));
            if unknown {
                *welcome = Welcome::Refused(error.clone());
            }
            unknown
        });
        for other in self.shared.waiting_elsewhere(self.local.worker) {
            let mail = Mail::Refused(self.shared.id, error.clone());
            self.local.shared.send(other, mail);
        }
        self.refuse_waiters(error);
    }

    /// Ends the wait of every client here, if no server is left.
    pub(crate) fn refuse_waiters(self: &Rc<Self>, error: &Arc<LoginFailure>) {
        if self.shared.servers_for_all() > 0 {
            return;
        }
        loop {
            let oldest = self.state.borrow().oldest();
            let Some(waiter) = oldest else {
                break;
            };
            self.fail_waiter(waiter.client, LeaseError::LoginRefused(error.clone()));
        }
    }

    /// Ends a client's wait without a server.
    pub(crate) fn fail_waiter(&self, client: crate::ClientId, error: LeaseError) {
        self.state.borrow_mut().abandon(client);
        self.publish_waiting(Instant::now());
        if let Some(client) = self.local.roster.get(client) {
            client.give_turn(Turn::Failed(error));
        }
    }
}
