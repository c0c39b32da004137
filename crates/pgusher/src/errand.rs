//! An errand of the pooler's own: a place among a worker's clients, which leads to a server or to the
//! permit for one.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use events::time::Instant;
use net::PeerAddr;
use pool::roster::{ClientFacts, ClientKind};
use pool::{ClientEntry, ClientId, PoolShared};
use tokio::sync::oneshot;
use wire::Replication;

use crate::worker::Worker;

/// An errand's place, for as long as this lives.
pub(crate) struct Place {
    worker: Rc<Worker>,
    pub(crate) entry: Rc<ClientEntry>,
}

impl Place {
    /// On behalf of clients of this database and user.
    pub(crate) fn new(worker: &Rc<Worker>, database: &Arc<str>, user: &Arc<str>) -> Self {
        let next = &worker.process.questions.next_errand;
        let facts = ClientFacts {
            id: ClientId(next.fetch_add(1, Ordering::Relaxed)),
            user: user.clone(),
            pool_user: user.clone(),
            database: database.clone(),
            // It comes from nowhere, and is shown nowhere.
            peer: PeerAddr::Unix {
                pid: 0,
                uid: 0,
                port: 0,
            },
            local: None,
            tls: None,
            connect_time: SystemTime::now(),
            kind: ClientKind::Errand,
            replication: Replication::None,
            application_name: "".into(),
        };
        let entry = Rc::new(ClientEntry::new(facts, Instant::now()));
        worker.pools.local.roster.add(entry.clone());
        Self {
            worker: worker.clone(),
            entry,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.pools.local.roster.remove(self.entry.id);
    }
}

/// Waits for a permit for the process that we took over from, as long as that wants to know.
pub(crate) async fn lend(
    worker: Rc<Worker>,
    shared: Arc<PoolShared>,
    mut reply: oneshot::Sender<()>,
) {
    let key = &shared.key;
    let place = Place::new(&worker, &key.database, &key.user);
    let pool = worker.pools.get(&shared);
    tokio::select! {
        biased;
        () = reply.closed() => {}
        () = pool.lend_permit(&place.entry) => {
            if reply.send(()).is_err() {
                let passed = worker.process.shared.limits(|limits| limits.lent_closed(shared.id));
                worker.process.shared.deliver(passed);
            }
        }
    }
}
