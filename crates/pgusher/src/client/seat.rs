//! A server at login, for clients whose sessions begin with one.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pool::own::{OwnServer, OwnStartup};
use pool::pool::Wait;
use pool::roster::{ClientFacts, ClientKind};
use pool::{ClientEntry, Lease, LeaseError, Pool};
use wire::Replication;

use super::login::passes;
use super::{Newcomer, Refused};
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
            application_name: "".into(),
        };
        let entry = Rc::new(ClientEntry::new(facts, Instant::now()));
        worker.pools.local.roster.add(entry.clone());
        pool.clients.set(pool.clients.get() + 1);
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

    /// Opens a server for this client alone.
    pub(super) async fn open_own(
        &self,
        newcomer: &mut Newcomer,
        own: &OwnStartup,
        wait_max: Option<Duration>,
    ) -> Result<OwnServer, Refused> {
        let server = async {
            tokio::select! {
                biased;
                server = self.pool.open_own(&self.entry, own) => server,
                () = passes(wait_max) => Err(LeaseError::QueryWaitTimeout),
            }
        };
        self.unless_over(newcomer, server).await
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
        self.unless_over(newcomer, lease).await
    }

    /// Waits for a server, unless the client is sent away meanwhile, or leaves.
    async fn unless_over<T>(
        &self,
        newcomer: &mut Newcomer,
        server: impl Future<Output = Result<T, LeaseError>>,
    ) -> Result<T, Refused> {
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
        if !self.handed_over {
            self.worker.pools.local.roster.remove(self.entry.id);
            self.pool.clients.set(self.pool.clients.get() - 1);
        }
    }
}
