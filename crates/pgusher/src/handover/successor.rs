//! The process that has taken over, as the threads of the old one know it.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pool::{PoolId, PoolShared};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::link::Post;
use super::origin::{origin, place, values};
use super::record::{AnswerRecord, Bytes, ClientRecord, EnterRecord, Frame, PoolRecord};
use crate::process::Process;
use crate::setup::Setup;

/// Clients on their way at once: the kernel carries few sockets, and who waits is not served.
const ON_THE_WAY_MAX: usize = 32;

/// The way to it.
pub(crate) struct Successor {
    post: Post,
    turns: Semaphore,
    /// Questions that it has not answered; `None` once it is gone.
    asked: Mutex<Option<HashMap<u64, oneshot::Sender<bool>>>>,
    /// Pools that it knows.
    told: Mutex<HashSet<PoolId>>,
}

impl Successor {
    pub(super) fn new(post: Post) -> Self {
        Self {
            post,
            turns: Semaphore::new(ON_THE_WAY_MAX),
            asked: Mutex::new(Some(HashMap::new())),
            told: Mutex::default(),
        }
    }

    /// Waits until another client may set out.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Sends a client over; true once it is the heir's. Until then nobody may read from it.
    pub(super) async fn offer(&self, record: ClientRecord, sockets: Vec<OwnedFd>) -> bool {
        let number = record.id;
        let Some(answer) = self.question(number) else {
            return false;
        };
        self.post.send_with(&Frame::Client(record), sockets) && answer.await.unwrap_or(false)
    }

    /// Whether a client may log in here, which the heir counts.
    pub(super) async fn may_enter(&self, number: u64, database: &str, user: &str) -> Option<bool> {
        let place = place(database, user);
        let enter = EnterRecord { number, place };
        let answer = self.question(number)?;
        let sent = self.post.send(&Frame::Enter(enter));
        match sent {
            true => answer.await.ok(),
            false => None,
        }
    }

    fn question(&self, number: u64) -> Option<oneshot::Receiver<bool>> {
        let (answer, awaited) = oneshot::channel();
        lock(&self.asked).as_mut()?.insert(number, answer);
        Some(awaited)
    }

    pub(super) fn answered(&self, answer: &AnswerRecord) {
        let mut asked = lock(&self.asked);
        if let Some(who) = asked
            .as_mut()
            .and_then(|asked| asked.remove(&answer.number))
        {
            // Who asked may be gone.
            let _ = who.send(answer.yes);
        }
    }

    /// It is gone: whoever waits for an answer has none.
    pub(super) fn is_gone(&self) {
        lock(&self.asked).take();
    }

    /// Tells of a pool, unless that was done; with so many servers.
    pub(super) fn tell_of(
        &self,
        process: &Process,
        setup: &Setup,
        pool: &PoolShared,
        servers: u32,
    ) {
        if !lock(&self.told).insert(pool.id) {
            return;
        }
        let keepsakes = pool.keepsakes();
        let names = &process.shared.names;
        let bytes = |secret: &[u8]| Bytes::from(secret);
        let record = PoolRecord {
            place: (&pool.key).into(),
            servers,
            origin: origin(&setup.config, &pool.database.config.load()),
            typed: keepsakes.typed.map(|it| bytes(it.as_bytes())),
            queried: keepsakes.queried.map(|it| bytes(&it.encode())),
            scram_keys: keepsakes
                .scram_keys
                .map(|keys| (bytes(keys.client_key()), bytes(keys.server_key()))),
            reported: keepsakes
                .reported
                .map(|reported| (reported.all, values(names, &reported.tracked))),
        };
        self.post.send(&Frame::Pool(record));
    }

    pub(super) fn post(&self) -> &Post {
        &self.post
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a client in that logs in; an error says that the heir has no room for it.
pub(crate) async fn enter(
    process: &'static Process,
    number: u64,
    database: &Arc<str>,
    user: &Arc<str>,
) -> Result<super::visits::Visit, NoRoom> {
    if let Some(successor) = process.successor()
        && successor.may_enter(number, database, user).await == Some(false)
    {
        return Err(NoRoom);
    }
    Ok(super::visits::Visit::new(process, database, user))
}

/// The heir has no room for one more client.
pub(crate) struct NoRoom;
