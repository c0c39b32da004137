//! A worker: one thread, one event loop, its clients and its servers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use events::time::Instant;
use net::listen::Accepted;
use pool::patience::Patience;
use pool::pool::{Local, Suspension};
use pool::roster::{ClientKind, ClientState, Crossing, Kill};
use pool::snapshot::{Counters, MemoryRow, Snapshot};
use pool::{ClientEntry, ClientId, Mail, PoolShared, Pools, Roster, WorkerId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use wire::Replication;

use crate::accept::{Admission, Intake};
use crate::client;
use crate::drain::{Drain, Due, Pacing, SILENCE};
use crate::errand::lend;
use crate::handover::arrival::Arrival;
use crate::handover::giving;
use crate::process::{Counted, Process};
use crate::setup::Setup;

/// Bytes read at once from a client or a server; one buffer serves the whole worker. A little less than
/// the kernel passes on in one piece (64 KB, headers included): of a whole 64 KB, the last few bytes go
/// through all of TCP once more.
const READ_BUFFER: usize = 64 * 1024 - 512;

/// Rows of a snapshot that are gathered, or clients that are counted, at once, before others have their turn.
const ROWS_AT_ONCE: usize = 200;

/// Clients that come in, before others have their turn.
const ADMITTED_AT_ONCE: usize = 8;

/// What control and other workers tell a worker.
#[derive(Debug)]
pub(crate) enum WorkerMail {
    /// A new connection, and its count.
    Client(Accepted, Counted, Admission),
    /// A new configuration is in force.
    Setup(Arc<Setup>),
    /// What does the worker look like?
    Snapshot(oneshot::Sender<Snapshot>),
    /// The same with clients counted rather than listed.
    Summary(oneshot::Sender<Snapshot>),
    /// Does the worker turn?
    AreYouThere(oneshot::Sender<()>),
    /// What did it count?
    Totals(oneshot::Sender<BTreeMap<String, Counters>>),
    /// How many servers of this database, or of all, are in use?
    Busy(Option<Arc<str>>, oneshot::Sender<usize>),
    /// How many servers of this database, or of all, are to be closed once they are free?
    Outdated(Option<Arc<str>>, oneshot::Sender<usize>),
    /// Take connections in yourself.
    TakeIn(Intake),
    /// How many sessions are there, other than the console's?
    Sessions(oneshot::Sender<usize>),
    /// How many clients were sent away, and may not have heard why?
    Leaving(oneshot::Sender<usize>),
    /// Stop the query of this client; answer when that has been said to the server.
    Cancel {
        client: ClientId,
        reply: oneshot::Sender<()>,
    },
    /// End this session; answer whether it was here.
    KillClient(ClientId, oneshot::Sender<bool>),
    /// End the sessions of this database.
    KillDatabase(Arc<str>),
    /// This database has another forced user now, or none: end the sessions that would get other
    /// servers if they came today.
    PartMisplaced(Arc<str>),
    /// End the sessions that wait for a server.
    KillWaiting,
    /// The process shuts down: send clients away, as many as are due.
    Drain(Drain),
    /// Its time is over: end all sessions.
    EndSessions,
    /// SUSPEND, or its end.
    Suspend(Suspension),
    /// Of how many clients and servers is something on its way, under SUSPEND?
    Stirring(oneshot::Sender<usize>),
    /// End the sessions among them.
    EndStirring,
    /// Another process has taken over: send the clients there.
    CallOver,
    /// Hand over servers that can be spared.
    PartWithIdle,
    /// A client of the process that we took over from.
    Arrive(Box<Arrival>),
    /// That process wants to open a server of this pool: answer when it may.
    Lend(Arc<PoolShared>, oneshot::Sender<()>),
    /// Databases were paused, resumed, removed, or their servers must be replaced.
    LookAgain,
}

/// A worker's own things; its sessions share them.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) process: &'static Process,
    pub(crate) pools: Rc<Pools>,
    /// What console sessions count.
    pub(crate) console_counters: RefCell<Counters>,
    /// A copy of our own, so that no other thread counts who has it.
    setup: RefCell<Rc<Setup>>,
    /// Clients at login that are in the roster already.
    pub(crate) listed_logins: Cell<usize>,
    /// Sessions that are over, and whose clients are still being told why.
    pub(crate) parting: Cell<usize>,
    /// How the clients leave, once they have to.
    pacing: Cell<Option<Pacing>>,
    buffer: RefCell<Box<[u8]>>,
    scratch: RefCell<Vec<u8>>,
}

/// What a worker's thread starts with.
pub(crate) struct Start {
    pub(crate) id: WorkerId,
    pub(crate) process: &'static Process,
    pub(crate) setup: Arc<Setup>,
    pub(crate) mail: mpsc::UnboundedReceiver<WorkerMail>,
    pub(crate) post: mpsc::UnboundedReceiver<Mail>,
}

impl Start {
    /// Starts the thread; returns once its event loop is there.
    pub(crate) fn spawn(self) -> std::io::Result<thread::JoinHandle<()>> {
        let name = format!("worker-{}", self.id.0);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let control = Handle::current();
        let sending = match self.setup.config.settings.io_uring {
            true => events::Sending::Gathered,
            false => events::Sending::AtOnce,
        };
        let thread = thread::Builder::new().name(name).spawn(move || {
            // Names are looked up, and what blocks is done, by control's runtime.
            let _elsewhere = control.enter();
            let tell = ready.clone();
            let over = events::run(sending, async move {
                let _alive = Alive;
                let _ = tell.send(Ok(()));
                self.run().await;
            });
            // Once it has begun, it does not end but with the process.
            let _ = ready.send(over);
        })?;
        started.recv().map_err(std::io::Error::other)??;
        Ok(thread)
    }

    async fn run(self) {
        let gathers = events::sends_gathered();
        tracing::debug!("io_uring: {}", if gathers { "on" } else { "off" });
        let local = Rc::new(Local {
            worker: self.id,
            shared: self.process.shared.clone(),
            roster: Roster::default(),
            tcp: RefCell::new(self.setup.tcp_options()),
            tls: RefCell::new(self.setup.tls.servers.clone()),
            socket_dir: RefCell::new(self.setup.config.settings.unix_socket_dir.clone()),
            tallies: RefCell::default(),
            retired: RefCell::default(),
            suspension: Cell::default(),
            patience: Patience::default(),
        });
        let worker = Rc::new(Worker {
            id: self.id,
            process: self.process,
            pools: Pools::new(local, self.setup.config.clone()),
            console_counters: RefCell::default(),
            listed_logins: Cell::new(0),
            parting: Cell::new(0),
            setup: RefCell::new(Rc::new((*self.setup).clone())),
            pacing: Cell::default(),
            buffer: RefCell::new(vec![0; READ_BUFFER].into_boxed_slice()),
            scratch: RefCell::default(),
        });
        worker.open_forced_pools();
        events::spawn(worker.pools.clone().run(self.post));
        worker.read_mail(self.mail).await;
    }
}

/// A worker that ends takes the process with it: its clients would wait for ever, and whoever
/// looks after the process starts it again.
struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        tracing::error!("a worker ended: the process can't go on");
        std::process::exit(1);
    }
}

impl Worker {
    /// The configuration in force.
    pub(crate) fn setup(&self) -> Rc<Setup> {
        self.setup.borrow().clone()
    }

    /// Says where this worker runs, for those who choose one for a client.
    pub(crate) fn note_cpu(&self) {
        if let Some(cpu) = net::cpu::current() {
            let cpus = &self.process.shared.cpus;
            cpus.note(self.id, cpu, Instant::of_turn());
        }
    }

    /// Lends an empty buffer to put a message together in.
    pub(crate) fn scratch(&self) -> std::cell::RefMut<'_, Vec<u8>> {
        let mut scratch = self.scratch.borrow_mut();
        scratch.clear();
        // A large message is not remembered for ever.
        scratch.shrink_to(READ_BUFFER * 2);
        scratch
    }

    /// Lends the worker's read buffer; nobody keeps anything in it across an await.
    pub(crate) fn buffer(&self) -> std::cell::RefMut<'_, Box<[u8]>> {
        self.buffer.borrow_mut()
    }

    async fn read_mail(self: Rc<Self>, mut mail: mpsc::UnboundedReceiver<WorkerMail>) {
        let mut admitted = 0;
        while let Some(mail) = mail.recv().await {
            admitted += usize::from(matches!(mail, WorkerMail::Client(..)));
            self.receive(mail);
            if admitted == ADMITTED_AT_ONCE {
                admitted = 0;
                events::yield_now().await;
            }
        }
    }

    fn receive(self: &Rc<Self>, mail: WorkerMail) {
        match mail {
            WorkerMail::Client(accepted, counted, admission) => {
                self.note_cpu();
                self.admit(accepted, counted, admission);
            }
            WorkerMail::TakeIn(intake) => {
                events::spawn_patient(intake.run(self.clone()));
            }
            WorkerMail::Setup(setup) => self.set_setup(setup),
            // Who asked may be gone.
            WorkerMail::Snapshot(reply) => {
                let worker = self.clone();
                events::spawn(async move {
                    let _ = reply.send(worker.snapshot().await);
                });
            }
            WorkerMail::Summary(reply) => {
                let worker = self.clone();
                events::spawn(async move {
                    let _ = reply.send(worker.summary().await);
                });
            }
            WorkerMail::AreYouThere(reply) => {
                let _ = reply.send(());
            }
            WorkerMail::Totals(reply) => {
                let _ = reply.send(self.totals());
            }
            WorkerMail::Busy(database, reply) => {
                let _ = reply.send(self.pools.busy_servers(database.as_deref()));
            }
            WorkerMail::Outdated(database, reply) => {
                let _ = reply.send(self.pools.outdated_servers(database.as_deref()));
            }
            WorkerMail::Sessions(reply) => {
                let _ = reply.send(self.sessions());
            }
            WorkerMail::Leaving(reply) => {
                let _ = reply.send(self.leaving());
            }
            WorkerMail::Cancel { client, reply } => self.cancel(client, reply),
            WorkerMail::KillClient(client, reply) => {
                let found = self.pools.local.roster.get(client);
                let found = found.filter(|client| client.kind != ClientKind::Errand);
                if let Some(client) = &found {
                    client.kill(Kill::Admin);
                }
                let _ = reply.send(found.is_some());
            }
            WorkerMail::KillDatabase(name) => self.kill_database(&name),
            WorkerMail::PartMisplaced(name) => self.part_misplaced(&name),
            WorkerMail::KillWaiting => self.kill_waiting(),
            WorkerMail::Drain(drain) => self.drain(drain),
            WorkerMail::EndSessions => self.end_sessions(),
            WorkerMail::Suspend(suspension) => self.pools.suspend(suspension),
            WorkerMail::Stirring(reply) => {
                let _ = reply.send(self.pools.stirring());
            }
            WorkerMail::EndStirring => self.pools.end_stirring(),
            WorkerMail::CallOver => {
                events::spawn(giving::call_over(self.clone()));
            }
            WorkerMail::PartWithIdle => self.pools.part_with_idle(),
            WorkerMail::Arrive(arrival) => self.take_on(*arrival),
            WorkerMail::Lend(pool, reply) => {
                events::spawn(lend(self.clone(), pool, reply));
            }
            WorkerMail::LookAgain => self.pools.look_again(Instant::now()),
        }
    }

    /// The clients that another process could have.
    pub(crate) fn movable(&self) -> Vec<Rc<ClientEntry>> {
        let mut movable = Vec::new();
        self.pools.local.roster.for_each(|client| {
            if is_movable(client) {
                movable.push(client.clone());
            }
        });
        movable
    }

    fn take_on(self: &Rc<Self>, arrival: Arrival) {
        match client::arrive(self, arrival) {
            Ok(session) => events::spawn(session.run()),
            // It left while it was on its way.
            Err(error) => tracing::debug!("a client did not arrive: {error}"),
        }
    }

    fn kill_database(&self, name: &Arc<str>) {
        self.pools.local.roster.for_each(|client| {
            if client.database == *name {
                client.kill(Kill::DatabaseRemoved);
            }
        });
    }

    fn part_misplaced(&self, name: &str) {
        let Some(database) = self.process.shared.find_database(name) else {
            return;
        };
        let config = database.config.load();
        self.pools.local.roster.for_each(|client| {
            let here = client.kind == ClientKind::Session && *client.database == *name;
            if !here || config.pool_user(&client.user) == &*client.pool_user {
                return;
            }
            match client.state.get() {
                // It would wait for a server that should not be opened any more.
                ClientState::Waiting => client.kill(Kill::Reconfigured),
                ClientState::Idle | ClientState::Active => client.dismiss(Kill::Reconfigured),
            }
        });
    }

    fn kill_waiting(&self) {
        self.pools.local.roster.for_each(|client| {
            if client.state.get() == ClientState::Waiting {
                client.kill(Kill::ShuttingDown);
            }
        });
    }

    /// Sends away those whose time has come, the longest silent first.
    fn drain(&self, drain: Drain) {
        let now = Instant::now();
        let mut pacing = self
            .pacing
            .get()
            .unwrap_or_else(|| Pacing::new(self.sessions()));
        let due = pacing.due(&drain, now);
        let departing = self.process.shared.is_departing();
        let mut leaving = Vec::new();
        self.pools.local.roster.for_each(|client| {
            let enough = match due {
                Due::All => true,
                Due::Silent(_) => client.silent_for(now).is_some_and(|it| it >= SILENCE),
            };
            // Who goes over to another process need not leave.
            let goes_over = departing && is_movable(client);
            let enough = enough && !goes_over;
            if enough && client.kind == ClientKind::Session && client.dismissed().is_none() {
                leaving.push(client.clone());
            }
        });
        if let Due::Silent(count) = due {
            leaving.sort_by_key(|client| client.request_time.get());
            leaving.truncate(count);
        }
        for client in leaving {
            pacing.one_told();
            match client.replication {
                Replication::None => client.dismiss(Kill::Drained),
                // Nobody knows when that would end by itself.
                Replication::Logical | Replication::Physical => client.kill(Kill::Drained),
            }
        }
        self.pacing.set(Some(pacing));
    }

    fn end_sessions(&self) {
        self.pools.local.roster.for_each(|client| {
            if client.kind == ClientKind::Session {
                client.kill(Kill::Drained);
            }
        });
    }

    /// Serves a client that has just connected.
    pub(crate) fn admit(
        self: &Rc<Self>,
        accepted: Accepted,
        counted: Counted,
        admission: Admission,
    ) {
        match client::meet(&self.setup(), accepted) {
            Ok(visitor) => {
                // Counted before anybody else can look.
                let login = Counted::new(&self.process.logins);
                let served = client::serve(self.clone(), visitor, counted, login, admission);
                events::spawn_patient(served);
            }
            Err(error) => tracing::warn!("cannot take a client in: {error}"),
        }
    }

    fn set_setup(&self, setup: Arc<Setup>) {
        *self.pools.local.tcp.borrow_mut() = setup.tcp_options();
        *self.pools.local.tls.borrow_mut() = setup.tls.servers.clone();
        self.pools.set_config(setup.config.clone());
        *self.setup.borrow_mut() = Rc::new((*setup).clone());
        self.open_forced_pools();
    }

    /// Pools that keep a minimum for a forced user are there before their first client.
    fn open_forced_pools(&self) {
        let setup = self.setup();
        for config in setup.config.databases.values() {
            let Some(user) = &config.user else {
                continue;
            };
            if setup.config.pool_settings(config, user).min_pool_size == 0 {
                continue;
            }
            let shared = &self.process.shared;
            let (database, _) = shared.database(config, false);
            let pool = shared.pool(&database, user);
            pool.set_secret(setup.server_secret(config, user));
            self.pools.get(&pool);
        }
    }

    async fn snapshot(&self) -> Snapshot {
        let port = self.setup.borrow().config.settings.listen_port;
        let (now, clock) = (Instant::now(), SystemTime::now());
        let mut survey = self.pools.survey(now, clock, port);
        while survey.go_on(ROWS_AT_ONCE) {
            events::yield_now().await;
        }
        let mut snapshot = survey.conclude();
        self.complete(&mut snapshot);
        snapshot.memory.push(MemoryRow {
            name: "read_buffer",
            size: READ_BUFFER,
            used: 1,
        });
        snapshot
    }

    async fn summary(&self) -> Snapshot {
        let mut census = self.pools.census(Instant::now());
        while census.go_on(ROWS_AT_ONCE) {
            events::yield_now().await;
        }
        let mut snapshot = census.conclude(events::busy_time());
        self.complete(&mut snapshot);
        snapshot
    }

    /// Adds what pools don't know.
    fn complete(&self, snapshot: &mut Snapshot) {
        self.add_console(&mut snapshot.totals);
        snapshot.lists.waiting_logins = self.listed_logins.get();
    }

    fn add_console(&self, totals: &mut BTreeMap<String, Counters>) {
        let name = settings::CONSOLE_DATABASE.to_owned();
        *totals.entry(name).or_default() += *self.console_counters.borrow();
    }

    /// A session has ended.
    pub(crate) fn count_end(&self, reason: &'static str) {
        let mut tallies = self.pools.local.tallies.borrow_mut();
        *tallies.client_ends.entry(reason).or_default() += 1;
    }

    /// A client was not let in.
    pub(crate) fn count_refusal(&self, reason: &'static str) {
        let mut tallies = self.pools.local.tallies.borrow_mut();
        *tallies.refusals.entry(reason).or_default() += 1;
    }

    fn sessions(&self) -> usize {
        let mut count = self.parting.get();
        let roster = &self.pools.local.roster;
        roster.for_each(|client| count += usize::from(client.kind == ClientKind::Session));
        count
    }

    fn leaving(&self) -> usize {
        let mut count = self.parting.get();
        let roster = &self.pools.local.roster;
        roster.for_each(|client| count += usize::from(client.killed().is_some()));
        count
    }

    fn totals(&self) -> BTreeMap<String, Counters> {
        let mut totals = self.pools.totals();
        self.add_console(&mut totals);
        totals
    }

    fn cancel(self: &Rc<Self>, client: ClientId, reply: oneshot::Sender<()>) {
        let entry = self.pools.local.roster.get(client);
        if let Some(console) = entry.filter(|entry| entry.kind == ClientKind::Console) {
            console.given_up.set(true);
            console.wake();
        }
        let wait = self.setup.borrow().config.settings.cancel_wait_timeout;
        let wait_max = Some(wait).filter(|wait| *wait > Duration::ZERO);
        let worker = self.clone();
        events::spawn(async move {
            let pools = worker.pools.all();
            let pool = pools.iter().find(|pool| pool.server_of(client).is_some());
            if let Some(pool) = pool {
                pool.cancel(client, wait_max).await;
            }
            let _ = reply.send(());
        });
    }
}

/// Whether another process could have this client.
fn is_movable(client: &ClientEntry) -> bool {
    client.kind == ClientKind::Session
        && client.tls.is_none()
        && client.replication == Replication::None
        && client.crossing() != Crossing::Stays
}
