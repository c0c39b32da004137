//! A server at login, for clients whose sessions begin with one.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use events::time::Instant;
use pool::own::{OwnServer, OwnStartup};
use pool::pool::Wait;
use pool::roster::{ClientFacts, ClientKind};
use pool::{ClientEntry, Lease, LeaseError, Pool, Reported};
use wire::Replication;

use super::{Newcomer, Refused, passes};
use crate::worker::Worker;

/// A client that is in the roster of its worker and counted in its pool, so that commands reach it:
/// until its session takes over, or this is dropped.
pub(crate) struct Listed {
    worker: Rc<Worker>,
    pool: Rc<Pool>,
    entry: Rc<ClientEntry>,
    /// Whether a session has taken over.
    handed_over: bool,
}

impl Listed {
    pub(super) fn new(
        worker: &Rc<Worker>,
        newcomer: &Newcomer,
        pool: &Rc<Pool>,
        user: Arc<str>,
        replication: Replication,
        application_name: Arc<str>,
    ) -> Self {
        let facts = ClientFacts {
            id: newcomer.id,
            user,
            pool_user: pool.shared.key.user.clone(),
            database: pool.shared.key.database.clone(),
            peer: newcomer.peer,
            local: newcomer.local,
            tls: newcomer.cipher().map(Box::new),
            connect_time: newcomer.connect_time,
            kind: ClientKind::Session,
            replication,
            application_name,
        };
        let entry = Rc::new(ClientEntry::new(facts, Instant::of_turn()));
        worker.pools.local.roster.add(entry.clone());
        pool.clients.set(pool.clients.get() + 1);
        worker.listed_logins.set(worker.listed_logins.get() + 1);
        Self {
            worker: worker.clone(),
            pool: pool.clone(),
            entry,
            handed_over: false,
        }
    }

    /// The entry, which whoever takes it strikes off in the end.
    pub(crate) fn hand_over(mut self) -> Rc<ClientEntry> {
        self.handed_over = true;
        self.entry.clone()
    }

    /// The entry.
    pub(super) fn entry(&self) -> &ClientEntry {
        &self.entry
    }

    /// Waits for what the pool's first server reports.
    pub(super) async fn welcome(&self, newcomer: &mut Newcomer) -> Result<Arc<Reported>, Refused> {
        if let Some(reported) = self.pool.known_welcome() {
            return Ok(reported);
        }
        let welcome = self.in_time(self.pool.welcome(&self.entry));
        Box::pin(self.unless_over(newcomer, welcome)).await
    }

    /// Opens a server for this client alone.
    pub(super) async fn open_own(
        &self,
        newcomer: &mut Newcomer,
        own: &OwnStartup,
    ) -> Result<OwnServer, Refused> {
        let server = self.in_time(self.pool.open_own(&self.entry, own));
        Box::pin(self.unless_over(newcomer, server)).await
    }

    /// Waits for something no longer than `query_wait_timeout`.
    async fn in_time<T>(
        &self,
        something: impl Future<Output = Result<T, LeaseError>>,
    ) -> Result<T, LeaseError> {
        let limit = || {
            let config = &self.worker.setup().config;
            let database = self.pool.shared.database.config.load();
            let limits = config.client_settings(&database, &self.entry.user);
            limits.query_wait_timeout
        };
        tokio::select! {
            biased;
            done = something => done,
            () = passes(Instant::now(), limit) => Err(LeaseError::QueryWaitTimeout),
        }
    }

    /// Has a server of the pool lent to this client.
    pub(super) async fn lease(&self, newcomer: &mut Newcomer) -> Result<Lease, Refused> {
        let lease = async {
            let request = |cx: &mut Context<'_>| {
                self.entry.set_waker(cx.waker());
                Poll::Ready(self.pool.request(cx, &self.entry, Instant::now()))
            };
            match poll_fn(request).await? {
                Some(lease) => Ok(lease),
                None => Wait::new(&self.pool, &self.entry).turn().await,
            }
        };
        Box::pin(self.unless_over(newcomer, lease)).await
    }

    /// Waits for a server, unless the client is sent away meanwhile, or leaves.
    async fn unless_over<T>(
        &self,
        newcomer: &mut Newcomer,
        server: impl Future<Output = Result<T, LeaseError>>,
    ) -> Result<T, Refused> {
        // Proof first: it may take long.
        newcomer.send_said().await?;
        let killed = poll_fn(|cx| {
            self.entry.set_waker(cx.waker());
            match self.entry.killed() {
                Some(kill) => Poll::Ready(kill),
                None => Poll::Pending,
            }
        });
        tokio::select! {
            biased;
            kill = killed => Err(kill.into()),
            server = newcomer.unless_gone(server) => Ok(server??),
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let listed_logins = &self.worker.listed_logins;
        listed_logins.set(listed_logins.get() - 1);
        if !self.handed_over {
            self.worker.pools.local.roster.remove(self.entry.id);
            self.pool.clients.set(self.pool.clients.get() - 1);
        }
    }
}
