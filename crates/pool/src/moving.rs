//! Servers and permits on their way from one process to the next, which takes over.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use auth::{Password, ScramKeys, Secret};
use events::time::Instant;
use net::stream::Parked;
use wire::{ParamNames, Params};

use crate::key::ServerId;
use crate::lease::Lease;
use crate::limits::{Owner, Permit, Scope};
use crate::pool::Pool;
use crate::roster::ClientEntry;
use crate::server::portrait::Portrait;
use crate::server::{CloseReason, ParkedServer, Server};
use crate::shared::{PoolShared, Reported, Shared, Welcome};

/// What the next process needs to log servers in to a pool, and clients who wait for one.
#[derive(Debug, Default)]
pub struct Keepsakes {
    /// The password that the user's last login typed.
    pub typed: Option<Password>,
    /// What auth_query brought.
    pub queried: Option<Secret>,
    /// Keys from a client's login.
    pub scram_keys: Option<ScramKeys>,
    /// What the pool's first server reported.
    pub reported: Option<Reported>,
}

impl PoolShared {
    /// What the next process needs.
    pub fn keepsakes(&self) -> Keepsakes {
        let (typed, queried, scram_keys) = self.of_clients();
        let reported = match &*self.welcome.borrow() {
            Welcome::Known(reported) => Some(Reported::clone(reported)),
            Welcome::Unknown | Welcome::Refused(_) => None,
        };
        Keepsakes {
            typed,
            queried,
            scram_keys,
            reported,
        }
    }

    /// Takes on what the process before has kept: what came meanwhile is newer.
    pub fn inherit(&self, keepsakes: Keepsakes) {
        let (typed, queried, scram_keys) = self.of_clients();
        if let (None, Some(secret)) = (queried, keepsakes.queried) {
            self.set_queried_secret(secret);
        }
        if let (None, Some(keys)) = (scram_keys, keepsakes.scram_keys) {
            self.set_scram_keys(keys);
        }
        if let (None, Some(password)) = (typed, keepsakes.typed) {
            self.set_typed_password(password);
        }
        if let Some(reported) = keepsakes.reported {
            self.make_known(reported);
        }
    }

    /// The heir needs a server of this pool, or its permit.
    pub fn is_needed(&self) {
        self.needed.store(true, Ordering::SeqCst);
    }
}

/// These values, at their places.
pub fn params_of<'a>(
    names: &ParamNames,
    values: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Params {
    let mut params = Params::default();
    for (name, value) in values {
        if let Some(place) = names.track(name) {
            params.set(place, value);
        }
    }
    params
}

/// A server of the process before, ready for a worker.
pub fn unpack(pool: &PoolShared, portrait: Portrait, socket: Parked) -> io::Result<ParkedServer> {
    let generation = pool.database.generation.load(Ordering::SeqCst);
    let port = pool.database.config.load().port;
    ParkedServer::arrived(portrait, socket, port, generation)
}

impl Shared {
    /// The heir waits for a server of pools like this one.
    pub fn note_need(&self, scope: Scope, like: &crate::PoolKey) {
        for pool in self.pools() {
            let concerned = match scope {
                Scope::Pool => pool.key == *like,
                Scope::Database => pool.key.database == like.database,
                Scope::User => pool.key.user == like.user,
            };
            if concerned {
                pool.is_needed();
            }
        }
    }
}

impl Pool {
    /// Hands idle servers to the process that has taken over: all of them once no client is left
    /// here that they could serve; before that one, if one is needed there.
    pub fn part_with_idle(self: &Rc<Self>) {
        if !self.local.shared.is_departing() {
            return;
        }
        while self.may_part() {
            let place = self.state.borrow_mut().take_idle();
            let Some(place) = place else {
                break;
            };
            self.idle_changed();
            // Before it goes: what is needed next is heard of after it has come.
            self.shared.needed.store(false, Ordering::SeqCst);
            self.part_with(place);
        }
    }

    /// The heir has a server that serves a client, and its permit.
    pub(crate) fn went_over(&self, place: ServerId) {
        if self.forget(place).is_some() {
            let id = self.shared.id;
            self.local.shared.limits(|limits| limits.goes_over(id));
        }
    }

    /// Takes on a server of the process before, with its permit, that serves this client.
    pub fn receive_leased(
        self: &Rc<Self>,
        parked: ParkedServer,
        client: &ClientEntry,
    ) -> io::Result<Lease> {
        let server = match Server::unpark(parked) {
            Ok(server) => Rc::new(server),
            Err(error) => {
                self.give_permit_back();
                return Err(error);
            }
        };
        let place = self.add_leased(client.id, server.clone());
        self.begin_lease(&server, client, Instant::now());
        Ok(Lease::new(self.clone(), place, server))
    }

    /// A server of the process before came for a client that is gone.
    pub fn turn_away(self: &Rc<Self>, parked: ParkedServer) {
        drop(parked);
        self.give_permit_back();
    }

    fn may_part(&self) -> bool {
        let unused = self.clients.get() == 0 && self.newcomers.len() == 0;
        let wanted_here = self.shared.waits_elsewhere(self.local.worker);
        (unused && !wanted_here) || self.shared.needed.load(Ordering::SeqCst)
    }

    fn part_with(self: &Rc<Self>, place: ServerId) {
        let Some(server) = self.server(place) else {
            return;
        };
        if server.facts.tls.is_some() || server.doubt.get().is_some() {
            return self.close(place, CloseReason::TakenOver);
        }
        let _ = self.forget(place);
        let id = self.shared.id;
        let given = server.park().map(|parked| {
            let limits = &self.local.shared;
            limits.limits(|limits| limits.give_away(id, Box::new(parked)))
        });
        match given {
            Ok(true) => tracing::debug!("{} goes to the next process", self.tag(&server)),
            Ok(false) => self.give_permit_back(),
            Err(error) => {
                tracing::warn!("{}: cannot hand a server over: {error}", self.shared.key);
                self.give_permit_back();
            }
        }
    }

    /// Waits for a permit for the process before, in the name of this client, who is in the roster.
    pub async fn lend_permit(self: &Rc<Self>, client: &ClientEntry) {
        let (id, shared) = (self.shared.id, &self.local.shared);
        let owner = Owner {
            client: client.id,
            worker: self.local.worker,
            since: Instant::now(),
        };
        let _borrower = Borrower { pool: self, owner };
        poll_fn(|cx| {
            client.set_waker(cx.waker());
            let bounds = self.bounds();
            match shared.limits(|limits| limits.lend(id, bounds, owner)) {
                Permit::Granted => Poll::Ready(()),
                Permit::PoolFull => {
                    self.ask_for_eviction(Scope::Pool);
                    Poll::Pending
                }
                Permit::Full(scope) => {
                    self.ask_for_eviction(scope);
                    Poll::Pending
                }
                Permit::Busy | Permit::Retrying | Permit::Asked => Poll::Pending,
            }
        })
        .await;
    }
}

/// Whoever waits for a permit for the process before; dropped, it is out of the line.
struct Borrower<'a> {
    pool: &'a Rc<Pool>,
    owner: Owner,
}

impl Drop for Borrower<'_> {
    fn drop(&mut self) {
        let (id, client) = (self.pool.shared.id, self.owner.client);
        let shared = &self.pool.local.shared;
        let passed = shared.limits(|limits| limits.give_up_own(id, client));
        self.pool.permit_is_back(passed);
    }
}
