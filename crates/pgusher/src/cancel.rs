//! Cancel keys of our clients, and the way from a key to the session that has it.

use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use auth::random::random;
use pool::{ClientId, WorkerId};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use wire::CancelKey;

use crate::process::Process;
use crate::setup::Setup;
use crate::worker::WorkerMail;

/// Parts of the map, each behind its own lock.
const SHARDS: usize = 16;

/// Every session's key, and where the session is.
#[derive(Debug, Default)]
pub(crate) struct CancelKeys([Shard; SHARDS]);

/// Keys are random: nobody chooses which of them fall together.
type Shard = Mutex<FxHashMap<CancelKey, (WorkerId, ClientId)>>;

impl CancelKeys {
    fn shard(&self, key: &CancelKey) -> &Shard {
        &self.0[key.process_id() as usize % SHARDS]
    }

    fn find(&self, key: &CancelKey) -> Option<(WorkerId, ClientId)> {
        let shard = self.shard(key).lock();
        let shard = shard.unwrap_or_else(PoisonError::into_inner);
        shard.get(key).copied()
    }
}

/// A session's key, known for as long as the session lasts.
pub(crate) struct Registered {
    process: &'static Process,
    key: CancelKey,
}

impl Registered {
    /// Draws a key that no other session has, for a client of this minor version of protocol 3;
    /// behind this process id, if there is one to tell. Peers find the way by our id, unless that
    /// is 0.
    pub(crate) fn new(
        process: &'static Process,
        worker: WorkerId,
        client: ClientId,
        minor: u16,
        process_id: Option<u32>,
        peer_id: u16,
    ) -> Result<Self, getrandom::Error> {
        loop {
            let key = CancelKey::from_random(random()?, minor);
            let key = match process_id {
                Some(id) => key.with_process_id(id),
                None if peer_id > 0 => key.of_peer(peer_id),
                None => key,
            };
            let shard = process.keys.shard(&key).lock();
            let mut shard = shard.unwrap_or_else(PoisonError::into_inner);
            if let Entry::Vacant(entry) = shard.entry(key.clone()) {
                entry.insert((worker, client));
                drop(shard);
                return Ok(Self { process, key });
            }
        }
    }

    /// The key that a client was given by the process before this one; `None` if another has it.
    pub(crate) fn adopt(
        process: &'static Process,
        worker: WorkerId,
        client: ClientId,
        key: CancelKey,
    ) -> Option<Self> {
        let mut shard = process
            .keys
            .shard(&key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Entry::Vacant(entry) = shard.entry(key.clone()) else {
            return None;
        };
        entry.insert((worker, client));
        drop(shard);
        Some(Self { process, key })
    }

    /// The key.
    pub(crate) fn key(&self) -> &CancelKey {
        &self.key
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let shard = self.process.keys.shard(&self.key).lock();
        let mut shard = shard.unwrap_or_else(PoisonError::into_inner);
        shard.remove(&self.key);
    }
}

/// Carries out a cancel request, or passes it on to the process whose client it is for; returns when
/// it has landed, or nothing was there to cancel.
pub(crate) async fn cancel(process: &Process, setup: &Setup, key: &CancelKey) {
    let own_id = setup.config.settings.peer_id;
    let has_come_far = || (own_id > 0).then(|| process.keys.find(&key.as_given()))?;
    if let Some(session) = process.keys.find(key) {
        cancel_here(process, session).await;
    } else if own_id > 0 && key.peer_id() != own_id {
        process.peers.pass_on(setup, key).await;
    } else if let Some(session) = has_come_far() {
        cancel_here(process, session).await;
    } else {
        process.elders.pass_on(setup, key).await;
    }
}

async fn cancel_here(process: &Process, (worker, client): (WorkerId, ClientId)) {
    let (reply, landed) = oneshot::channel();
    let mail = WorkerMail::Cancel { client, reply };
    if let Some(sender) = process.workers.get(worker.0)
        && sender.send(mail).is_ok()
    {
        // The worker may be gone, or the session: then there is nothing left to cancel.
        let _ = landed.await;
    }
}
