//! What the whole process has once: the way to control, keys, counts of clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use admin::{Command, Outcome};
use auth::{Derived, SaltKey};
use pool::Shared;
use tokio::sync::{mpsc, oneshot};

use crate::auth_query::Questions;
use crate::cancel::CancelKeys;
use crate::elders::Elders;
use crate::handover::successor::Successor;
use crate::handover::visits::Visits;
use crate::load::Load;
use crate::peers::Peers;
use crate::queue::Queue;
use crate::stage::Stage;
use crate::worker::WorkerMail;

/// Users whose counts are kept though none of their clients is here.
const USERS_KEPT: usize = 4096;

/// A command for control, and where its outcome is awaited.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// What every thread of the process may use.
pub(crate) struct Process {
    /// The pools' shared half.
    pub(crate) shared: Arc<Shared>,
    /// From cancel keys to sessions.
    pub(crate) keys: CancelKeys,
    /// Cancel requests on their way to peers.
    pub(crate) peers: Peers,
    /// Those whom we took over from.
    pub(crate) elders: Elders,
    /// What auth_query is asked now.
    pub(crate) questions: Questions,
    /// The way to control.
    pub(crate) control: mpsc::UnboundedSender<Order>,
    /// The ways to the workers.
    pub(crate) workers: Vec<mpsc::UnboundedSender<WorkerMail>>,
    /// Draws the salts of exchanges with unknown users.
    pub(crate) salt_key: SaltKey,
    /// How much each worker has to do.
    pub(crate) loads: Vec<Load>,
    /// Logins under way.
    pub(crate) logins: AtomicU32,
    /// Logins whose passwords an LDAP server checks.
    pub(crate) ldap: Queue,
    /// Logins whose passwords the PAM stack checks.
    pub(crate) pam: Queue,
    /// Console sessions.
    pub(crate) consoles: AtomicU32,
    /// Logged-in clients by database and user.
    pub(crate) visits: Visits,
    /// Clients that the process has which we took over from.
    pub(crate) guests: AtomicU32,
    /// The process that has taken over from this one.
    successor: Mutex<Option<Arc<Successor>>>,
    /// Whether there is one.
    has_successor: AtomicBool,
    /// What the process as a whole does.
    stage: AtomicU8,
    users: Mutex<HashMap<Arc<str>, Arc<AtomicU32>>>,
    derived: Mutex<HashMap<Arc<str>, Arc<Derived>>>,
}

impl Process {
    pub(crate) fn new(
        shared: Arc<Shared>,
        control: mpsc::UnboundedSender<Order>,
        workers: Vec<mpsc::UnboundedSender<WorkerMail>>,
        salt_key: SaltKey,
    ) -> &'static Self {
        let loads = workers.iter().map(|_| Load::default()).collect();
        // It lives as long as the process: nobody counts who uses it.
        Box::leak(Box::new(Self {
            shared,
            keys: CancelKeys::default(),
            peers: Peers::default(),
            elders: Elders::default(),
            questions: Questions::default(),
            control,
            workers,
            salt_key,
            loads,
            logins: AtomicU32::default(),
            ldap: Queue::new("LDAP"),
            pam: Queue::new("PAM"),
            consoles: AtomicU32::default(),
            visits: Visits::default(),
            guests: AtomicU32::default(),
            successor: Mutex::default(),
            has_successor: AtomicBool::default(),
            stage: AtomicU8::default(),
            users: Mutex::default(),
            derived: Mutex::default(),
        }))
    }

    /// What the process as a whole does.
    pub(crate) fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Ordering::SeqCst))
    }

    /// Control alone says what the process does from now on.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
    }

    /// Client sockets of all workers, and the clients of the process that we took over from.
    pub(crate) fn clients(&self) -> u32 {
        let loads = self.loads.iter().map(|load| &load.clients);
        loads
            .chain([&self.guests])
            .map(|load| load.load(Ordering::SeqCst))
            .sum()
    }

    /// The process that has taken over from this one, while it is there.
    pub(crate) fn successor(&self) -> Option<Arc<Successor>> {
        // Every login looks, and hardly ever is there one.
        if !self.has_successor.load(Ordering::SeqCst) {
            return None;
        }
        lock(&self.successor).clone()
    }

    /// Another process has taken over, or is gone again.
    pub(crate) fn set_successor(&self, successor: Option<Arc<Successor>>) {
        let mut place = lock(&self.successor);
        self.has_successor
            .store(successor.is_some(), Ordering::SeqCst);
        *place = successor;
    }

    /// Logged-in clients of a user, over all databases.
    pub(crate) fn user_clients(&self, user: &Arc<str>) -> Arc<AtomicU32> {
        let mut users = lock(&self.users);
        // With auth_type = any the names are the clients' choice.
        if users.len() >= USERS_KEPT && !users.contains_key(user) {
            users.retain(|_, count| Arc::strong_count(count) > 1);
        }
        users.entry(user.clone()).or_default().clone()
    }

    /// The same for every user who has logged in since the start.
    pub(crate) fn clients_by_user(&self) -> Vec<(Arc<str>, u32)> {
        let users = lock(&self.users);
        let counts = users.iter();
        counts
            .map(|(user, count)| (user.clone(), count.load(Ordering::Relaxed)))
            .collect()
    }

    /// Keys derived from a user's plain-text password, if a login has done so.
    pub(crate) fn derived(&self, user: &str) -> Option<Arc<Derived>> {
        lock(&self.derived).get(user).cloned()
    }

    /// Keeps such keys: as many as there are users with plain-text passwords.
    pub(crate) fn keep_derived(&self, user: Arc<str>, derived: Arc<Derived>) {
        lock(&self.derived).insert(user, derived);
    }

    /// Sends to every worker what `mail` makes for it.
    pub(crate) fn tell_workers(&self, mut mail: impl FnMut() -> WorkerMail) {
        for worker in &self.workers {
            // A worker that is gone has nothing to hear.
            let _ = worker.send(mail());
        }
    }

    /// Asks every worker and gathers the answers.
    pub(crate) async fn ask_workers<T>(
        &self,
        mail: impl Fn(oneshot::Sender<T>) -> WorkerMail,
    ) -> Vec<T> {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            if worker.send(mail(reply)).is_ok() {
                answers.push(answer);
            }
        }
        let mut gathered = Vec::new();
        for answer in answers {
            gathered.extend(answer.await.ok());
        }
        gathered
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One more of something, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted(Count);

/// What is counted: by the process, for as long as it runs, or by somebody else.
#[derive(Debug)]
pub(crate) enum Count {
    Process(&'static AtomicU32),
    Other(Arc<AtomicU32>),
}

impl Count {
    fn number(&self) -> &AtomicU32 {
        match self {
            Self::Process(number) => number,
            Self::Other(number) => number,
        }
    }
}

impl From<&'static AtomicU32> for Count {
    fn from(number: &'static AtomicU32) -> Self {
        Self::Process(number)
    }
}

impl From<Arc<AtomicU32>> for Count {
    fn from(number: Arc<AtomicU32>) -> Self {
        Self::Other(number)
    }
}

impl Counted {
    pub(crate) fn new(count: impl Into<Count>) -> Self {
        let count = count.into();
        count.number().fetch_add(1, Ordering::SeqCst);
        Self(count)
    }

    /// One more, unless that is more than `limit`.
    pub(crate) fn within(count: impl Into<Count>, limit: Option<u32>) -> Option<Self> {
        let (count, order) = (count.into(), Ordering::SeqCst);
        let more = |now| limit.is_none_or(|limit| now < limit).then_some(now + 1);
        count.number().fetch_update(order, order, more).ok()?;
        Some(Self(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.number().fetch_sub(1, Ordering::SeqCst);
    }
}
