//! The new process's side: it counts what the old one has, and takes on what comes over.

mod coming;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use auth::{Password, ScramKeys, Secret};
use events::time::timeout;
use pool::limits::kin::News;
use pool::moving::Keepsakes;
use pool::snapshot::PoolerState;
use pool::{PoolShared, Reported};
use settings::Database;
use tokio::sync::{mpsc, oneshot};

use super::link::{self, Post, Reader};
use super::origin::{origin, params};
use super::record::{
    AnswerRecord, Bytes, EnterRecord, Frame, GuestsRecord, NeedRecord, Place, PoolRecord,
    RestRecord,
};
use super::visits::{Visit, Who};
use crate::pooler::Pooler;
use crate::process::Counted;
use crate::takeover::Talk;
use crate::worker::WorkerMail;

/// Longest time that the old process may take to tell what it has.
const CENSUS_MAX: Duration = Duration::from_secs(30);

/// Servers of one pool, or clients of one user, that are believed at once.
const COUNT_MAX: u32 = 1 << 20;

/// What the old process has, and how it is spoken with.
struct Estate {
    pooler: Rc<Pooler>,
    post: Post,
    guests: HashMap<Who, Vec<Guest>>,
    /// Which worker gets the next server.
    turn: usize,
    /// How many clients and servers came over.
    came: [usize; 2],
}

/// A client of the old process, counted here.
struct Guest {
    counts: [Counted; 2],
    visit: Visit,
    _socket: Counted,
}

impl Pooler {
    /// Learns what the old process has; from then on takes on what comes over.
    pub(crate) async fn take(self: &Rc<Self>, talk: Talk) {
        let (stream, heard, sockets) = talk.into_parts();
        let (post, mut reader) = link::open(stream, heard, sockets);
        let mut estate = Estate {
            pooler: self.clone(),
            post: post.clone(),
            guests: HashMap::new(),
            turn: 0,
            came: [0; 2],
        };
        let census = timeout(CENSUS_MAX, estate.read_census(&mut reader)).await;
        let census = census.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = census {
            return estate.is_over(&error);
        }
        let shared = &self.process.shared;
        let (to_elder, needs) = mpsc::unbounded_channel();
        shared.set_has_elder(true);
        shared.limits(|limits| limits.census_is_over(Some(to_elder)));
        tokio::task::spawn_local(pass_needs_on(needs, post));
        tokio::task::spawn_local(async move {
            let error = estate.read_on(reader).await;
            estate.is_over(&error);
        });
    }

    /// Nothing is known of the process before us, or it has nothing: our limits are our own.
    pub(crate) fn takes_nothing(&self) {
        let shared = &self.process.shared;
        shared.limits(|limits| limits.census_is_over(None));
    }
}

async fn pass_needs_on(mut needs: mpsc::UnboundedReceiver<News>, post: Post) {
    while let Some(news) = needs.recv().await {
        if let News::Needed(scope, key) = news {
            post.send(&Frame::Needed(NeedRecord::new(scope, &key)));
        }
    }
}

impl Estate {
    async fn read_census(&mut self, reader: &mut Reader) -> io::Result<()> {
        loop {
            match reader.next().await?.0 {
                Frame::Pool(record) => self.take_pool(record),
                Frame::Guests(record) => self.take_guests(&record),
                Frame::Census(rest) => {
                    self.take_rest(&rest);
                    return Ok(());
                }
                _ => return Err(out_of_turn()),
            }
        }
    }

    async fn read_on(&mut self, mut reader: Reader) -> io::Error {
        loop {
            match reader.next().await {
                Ok((frame, sockets)) => {
                    if let Err(error) = self.hear(frame, sockets).await {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
    }

    async fn hear(&mut self, frame: Frame, sockets: Vec<OwnedFd>) -> io::Result<()> {
        match frame {
            Frame::Pool(record) => self.take_pool(record),
            Frame::Client(record) => self.take_client(&record, sockets).await,
            Frame::Server(record) => self.take_server(&record, sockets),
            Frame::Left(place) => drop(self.guest(&who(&place))),
            Frame::Closed(place) => self.note_closed(&place),
            Frame::Wanted(place) => self.lend(place),
            Frame::Enter(record) => self.admit(&record),
            _ => return Err(out_of_turn()),
        }
        Ok(())
    }

    /// The old process is gone, and all that it had.
    fn is_over(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let [clients, servers] = self.came;
                tracing::info!(
                    "the process that we took over from is gone: {clients} clients and {servers} servers came over"
                );
            }
            _ => tracing::warn!("take-over: {error}"),
        }
        self.guests.clear();
        let shared = &self.pooler.process.shared;
        shared.set_has_elder(false);
        let passed = shared.limits(|limits| limits.elder_is_gone());
        shared.deliver(passed);
        self.pooler.process.tell_workers(|| WorkerMail::LookAgain);
    }

    /// A pool of this place, as far as our configuration has it.
    fn pool(&self, place: &Place) -> Option<Arc<PoolShared>> {
        let process = &self.pooler.process;
        let setup = self.pooler.setup();
        let config = setup.config.database(&place.database)?;
        let (database, _) = process.shared.database(&config, config.auto);
        let pool = process.shared.pool(&database, &place.user);
        pool.set_secret(setup.server_secret(&config, &place.user));
        Some(pool)
    }

    /// Whether servers of this origin can serve here.
    fn is_ours(&self, database: &Database, theirs: &str) -> bool {
        origin(&self.pooler.setup().config, database) == theirs
    }

    fn take_pool(&self, record: PoolRecord) {
        let Some(pool) = self.pool(&record.place) else {
            return;
        };
        let shared = &self.pooler.process.shared;
        let servers = record.servers.min(COUNT_MAX);
        shared.limits(|limits| limits.count_lent(pool.id, servers));
        let config = pool.database.config.load();
        let key = |bytes: &Bytes| <[u8; 32]>::try_from(&bytes.0[..]).ok();
        let scram_keys = record
            .scram_keys
            .and_then(|(client, server)| Some(ScramKeys::new(key(&client)?, key(&server)?)));
        let ours = self.is_ours(&config, &record.origin);
        let reported = record.reported.filter(|_| ours).map(|(all, tracked)| {
            let tracked = params(&shared.names, &tracked, None);
            Reported::new(all, tracked, &shared.names)
        });
        let mut keepsakes = Keepsakes {
            reported,
            ..Keepsakes::default()
        };
        // A forced user has nothing of its clients'.
        if config.user.is_none() {
            keepsakes.typed = record.typed.map(|it| Password::new(it.0.to_vec()));
            keepsakes.queried = record.queried.map(|it| Secret::parse(&it.0));
            keepsakes.scram_keys = scram_keys;
        }
        pool.inherit(keepsakes);
    }

    fn take_guests(&mut self, record: &GuestsRecord) {
        for _ in 0..record.count.min(COUNT_MAX) {
            self.add_guest(who(&record.place));
        }
    }

    fn add_guest(&mut self, who: Who) {
        let process = &self.pooler.process;
        let guest = Guest {
            counts: self.counts(&who),
            visit: Visit::new(process, &who.0, &who.1),
            _socket: Counted::new(&process.guests),
        };
        self.guests.entry(who).or_default().push(guest);
    }

    fn counts(&self, (database, user): &Who) -> [Counted; 2] {
        let process = &self.pooler.process;
        let config = self.pooler.setup().config.database(database);
        let of_database = match config {
            Some(config) => process
                .shared
                .database(&config, config.auto)
                .0
                .clients
                .clone(),
            // Here it is no database.
            None => Arc::default(),
        };
        [
            Counted::new(of_database),
            Counted::new(process.user_clients(user)),
        ]
    }

    fn guest(&mut self, who: &Who) -> Option<Guest> {
        let guests = self.guests.get_mut(who)?;
        let guest = guests.pop();
        if guests.is_empty() {
            self.guests.remove(who);
        }
        guest
    }

    fn take_rest(&self, rest: &RestRecord) {
        let shared = &self.pooler.process.shared;
        let database = |name: &String| {
            let config = self.pooler.setup().config.database(name)?;
            Some(shared.database(&config, config.auto).0)
        };
        for database in rest.paused_databases.iter().filter_map(database) {
            database.paused.store(true, Ordering::SeqCst);
        }
        for database in rest.disabled_databases.iter().filter_map(database) {
            database.disabled.store(true, Ordering::SeqCst);
        }
        if rest.paused {
            shared.pause_all(true);
            self.pooler.set_rest(PoolerState::Paused);
        }
    }

    fn note_closed(&self, place: &Place) {
        if let Some(pool) = self.pool(place) {
            let shared = &self.pooler.process.shared;
            let passed = shared.limits(|limits| limits.lent_closed(pool.id));
            shared.deliver(passed);
        }
    }

    /// Lends a permit once there is one.
    fn lend(&self, place: Place) {
        let (post, process) = (self.post.clone(), self.pooler.process);
        let grant = Frame::Grant(place);
        let Frame::Grant(place) = &grant else {
            return;
        };
        let Some(pool) = self.pool(place) else {
            // Nothing limits what we know nothing of.
            post.send(&grant);
            return;
        };
        let (reply, lent) = oneshot::channel();
        let worker = pool.id.0 as usize % process.workers.len().max(1);
        if let Some(worker) = process.workers.get(worker) {
            let _ = worker.send(WorkerMail::Lend(pool.clone(), reply));
        }
        tokio::task::spawn_local(async move {
            if lent.await.is_ok() && !post.send(&grant) {
                let passed = process.shared.limits(|limits| limits.lent_closed(pool.id));
                process.shared.deliver(passed);
            }
        });
    }

    /// A client logs in there: is there room?
    fn admit(&mut self, record: &EnterRecord) {
        let who = who(&record.place);
        let setup = self.pooler.setup();
        let yes = setup.config.database(&who.0).is_some_and(|database| {
            let process = &self.pooler.process;
            let limits = setup.config.client_settings(&database, &who.1);
            let shared = process.shared.database(&database, database.auto).0;
            let room = |count: u32, limit: Option<u32>| limit.is_none_or(|limit| count < limit);
            let of_user = process.user_clients(&who.1).load(Ordering::SeqCst);
            process.clients() < setup.config.settings.max_client_conn
                && room(
                    shared.clients.load(Ordering::SeqCst),
                    limits.max_db_client_connections,
                )
                && room(of_user, limits.max_user_client_connections)
        });
        if yes {
            self.add_guest(who);
        }
        let number = record.number;
        self.post.send(&Frame::Answer(AnswerRecord { number, yes }));
    }
}

fn who(place: &Place) -> Who {
    (place.database.as_str().into(), place.user.as_str().into())
}

fn out_of_turn() -> io::Error {
    io::Error::other("the other process says what it should not")
}
