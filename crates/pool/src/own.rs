//! A server of a client's own: opened for it alone, never lent to another, closed after it.
//!
//! Replication needs one, since what a server may be asked for is settled in its startup packet.
//! It counts towards every limit. A client that finds one full is in line like any other, and an
//! idle server, which it can't use, goes.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use events::time::Instant;
use wire::Replication;

use crate::attempts::LoginFailure;
use crate::key::ServerId;
use crate::lease::{Lease, LeaseError};
use crate::limits::{Owner, Permit, Purpose, Scope};
use crate::line::{Line, Place};
use crate::pool::Pool;
use crate::roster::ClientEntry;
use crate::server::login::LoggedIn;
use crate::server::{CloseReason, Server};
use crate::shared::Reported;

/// What a server of a client's own is asked for, besides user and database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnStartup {
    /// The kind of replication.
    pub replication: Replication,
    /// Startup parameters, as they are sent.
    pub parameters: Vec<(String, String)>,
}

/// A server that was opened for a client, and what it reported at its login.
#[derive(Debug)]
pub struct OwnServer {
    /// The server, lent for as long as the client stays.
    pub lease: Lease,
    /// Its parameters.
    pub reported: Reported,
}

/// Clients of a pool, on one worker, that are about to have a server of their own.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Those who wait for a permit or for their login.
    pub(crate) waiting: Line,
    logins: Cell<usize>,
}

impl Owners {
    /// Logins under way.
    pub(crate) fn logins(&self) -> usize {
        self.logins.get()
    }
}

impl Pool {
    /// Opens a server for this client alone, which is in the roster: waits for a permit, and for
    /// the server to be back if it is away. A refusal of the server's is final, and concerns nobody
    /// else.
    pub async fn open_own(
        self: &Rc<Self>,
        client: &Rc<ClientEntry>,
        own: &OwnStartup,
    ) -> Result<OwnServer, LeaseError> {
        let waiting = Waiting::new(self, client);
        loop {
            let permit = waiting.permit().await?;
            match self.login(Some(own)).await {
                Ok(logged_in) => {
                    permit.ends(Outcome::Open);
                    let LoggedIn {
                        facts,
                        conn,
                        reported,
                    } = logged_in;
                    let server = self.take_in(facts, conn);
                    let place = self.add_leased(client.id, server.clone());
                    match self.came_too_late(&server) {
                        Some(reason) => self.close(place, reason),
                        None => {
                            let lease = waiting.over(place, server);
                            return Ok(OwnServer { lease, reported });
                        }
                    }
                }
                Err(failure) => {
                    let failure = Arc::new(failure);
                    if failure.is_final() {
                        return Err(LeaseError::LoginRefused(failure));
                    }
                    permit.ends(Outcome::Failed(failure));
                }
            }
        }
    }

    /// Why a server that has just logged in is of no use: something was ordered meanwhile.
    fn came_too_late(&self, server: &Server) -> Option<CloseReason> {
        match self.rules().paused {
            true => Some(CloseReason::Paused),
            false => self.outdated(server),
        }
    }
}

/// A client that waits for a server of its own.
struct Waiting<'a> {
    pool: &'a Rc<Pool>,
    place: Place<'a>,
    owner: Owner,
}

impl<'a> Waiting<'a> {
    fn new(pool: &'a Rc<Pool>, client: &'a Rc<ClientEntry>) -> Self {
        let place = pool.owners.waiting.join(client);
        let owner = Owner {
            client: client.id,
            worker: pool.local.worker,
            since: place.since,
        };
        Self { pool, place, owner }
    }

    /// Waits for a permit.
    async fn permit(&self) -> Result<OwnPermit<'a>, LeaseError> {
        poll_fn(|cx| {
            self.place.client.set_waker(cx.waker());
            if self.pool.shared.database.removed.load(Ordering::Relaxed) {
                return Poll::Ready(Err(LeaseError::DatabaseRemoved));
            }
            if self.pool.rules().paused {
                self.leave_line();
                return Poll::Pending;
            }
            match self.ask() {
                Permit::Granted => Poll::Ready(Ok(OwnPermit::new(self.pool))),
                Permit::PoolFull => {
                    self.pool.ask_for_eviction(Scope::Pool);
                    Poll::Pending
                }
                Permit::Full(scope) => {
                    self.pool.ask_for_eviction(scope);
                    Poll::Pending
                }
                Permit::Retrying => {
                    let now = Instant::now();
                    let waited = now.saturating_duration_since(self.owner.since);
                    match self.pool.given_up(waited, now) {
                        Some(error) => Poll::Ready(Err(error)),
                        None => Poll::Pending,
                    }
                }
                Permit::Busy | Permit::Asked => Poll::Pending,
            }
        })
        .await
    }

    /// Asks for a permit; for one of the reserve, when the client has waited long.
    fn ask(&self) -> Permit {
        let now = Instant::now();
        let permit = self.ask_for(Purpose::Waiter, now);
        let patience = self.pool.settings().reserve_pool_timeout;
        let waited = now.saturating_duration_since(self.owner.since);
        if permit != Permit::PoolFull || patience.is_none_or(|patience| waited < patience) {
            return permit;
        }
        let permit = self.ask_for(Purpose::Reserve, now);
        if permit == Permit::Granted {
            self.pool.log_reserve();
        }
        permit
    }

    fn ask_for(&self, purpose: Purpose, now: Instant) -> Permit {
        let (id, bounds) = (self.pool.shared.id, self.pool.bounds());
        self.pool
            .local
            .shared
            .limits(|limits| limits.open_own(id, bounds, purpose, self.owner, now))
    }

    /// The client has its server.
    fn over(self, place: ServerId, server: Rc<Server>) -> Lease {
        let now = Instant::now();
        let waited = now.saturating_duration_since(self.owner.since);
        self.pool.note_wait(waited);
        self.pool.begin_lease(&server, self.place.client, now);
        Lease::new(self.pool.clone(), place, server)
    }

    /// Asks no more, and gives back what was granted meanwhile.
    fn leave_line(&self) {
        let (id, client) = (self.pool.shared.id, self.owner.client);
        let shared = &self.pool.local.shared;
        let passed = shared.limits(|limits| limits.give_up_own(id, client));
        self.pool.permit_is_back(passed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave_line();
    }
}

/// A permit, while the login that it is for is under way; dropped, it is given back.
struct OwnPermit<'a> {
    pool: &'a Rc<Pool>,
    outcome: Option<Outcome>,
}

/// How the login ended.
enum Outcome {
    /// The server is open: the permit is its own from here.
    Open,
    /// It could not be reached: whoever asks next waits for a while.
    Failed(Arc<LoginFailure>),
}

impl<'a> OwnPermit<'a> {
    fn new(pool: &'a Rc<Pool>) -> Self {
        pool.owners.logins.set(pool.owners.logins.get() + 1);
        pool.shared.own_servers.fetch_add(1, Ordering::SeqCst);
        let outcome = None;
        Self { pool, outcome }
    }

    fn ends(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for OwnPermit<'_> {
    fn drop(&mut self) {
        let (pool, id) = (self.pool, self.pool.shared.id);
        pool.owners.logins.set(pool.owners.logins.get() - 1);
        let outcome = self.outcome.take();
        if !matches!(outcome, Some(Outcome::Open)) {
            pool.shared.own_servers.fetch_sub(1, Ordering::SeqCst);
        }
        match outcome {
            Some(Outcome::Open) => {
                let passed = pool.note_success();
                pool.permit_is_back(passed);
            }
            Some(Outcome::Failed(failure)) => pool.note_failure(&failure),
            None => {
                let passed = pool.local.shared.limits(|limits| limits.unused(id));
                pool.permit_is_back(passed);
            }
        }
    }
}
