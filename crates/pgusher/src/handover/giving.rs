//! The old process's side: it tells what it has, and lets go of it.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use events::time::Instant;
use events::time::timeout;
use pool::limits::kin::News;
use pool::pool::Suspension;
use pool::server::ParkedServer;
use pool::server::portrait::Portrait;
use pool::{PoolKey, PoolShared};
use settings::Config;
use tokio::sync::{mpsc, oneshot};

use super::link::{self, Post, Reader};
use super::origin::{micros, micros_since_1970, origin, place, statement, values};
use super::record::{Bytes, ClientRecord, Frame, GuestsRecord, RestRecord, ServerRecord};
use super::successor::Successor;
use super::visits::Who;
use crate::pooler::{LOOK, Pooler};
use crate::process::Process;
use crate::session::{Seat, Session};
use crate::takeover::Talk;
use crate::worker::{Worker, WorkerMail};

/// Longest time that the last servers may take to become idle, once the last client has left.
const LAST_SERVERS: Duration = Duration::from_secs(3);

/// What is held of a client that goes over at most, in bytes.
const HELD_MAX: usize = 1 << 20;

/// What becomes of what the heir counts.
struct Events {
    news: mpsc::UnboundedReceiver<News>,
    left: mpsc::UnboundedReceiver<Who>,
    /// Whoever asks has all of it on its way.
    flush: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

impl Pooler {
    /// Tells the heir what there is, and begins to send it over.
    pub(crate) fn give(self: &Rc<Self>, talk: Talk) {
        let (stream, heard, sockets) = talk.into_parts();
        let (post, reader) = link::open(stream, heard, sockets);
        let successor = Arc::new(Successor::new(post));
        let events = self.tell_census(&successor);
        self.process.set_successor(Some(successor.clone()));
        self.process.shared.set_departing(true);
        let (process, setup) = (self.process, self.setup());
        tokio::task::spawn_local(forward(
            process,
            setup.config.clone(),
            successor.clone(),
            events,
        ));
        let pooler = self.clone();
        tokio::task::spawn_local(async move {
            let error = listen(&pooler, reader, &successor).await;
            pooler.goes_on_alone(&successor, &error);
        });
        self.process.tell_workers(|| WorkerMail::CallOver);
    }

    /// Tells of all that the heir is to count; what becomes of it comes as events.
    fn tell_census(&self, successor: &Successor) -> Events {
        let (shared, setup) = (&self.process.shared, self.setup());
        let (to_news, news) = mpsc::unbounded_channel();
        let (to_left, left) = mpsc::unbounded_channel();
        let (to_flush, flush) = mpsc::unbounded_channel();
        let servers = shared.limits(|limits| limits.bequeath(to_news));
        for pool in shared.pools() {
            let open = servers.iter().find(|(key, _)| *key == pool.key);
            let open = open.map_or(0, |(_, servers)| *servers);
            successor.tell_of(self.process, &setup, &pool, open);
        }
        for ((database, user), count) in self.process.visits.bequeath(to_left) {
            let place = place(&database, &user);
            let guests = Frame::Guests(GuestsRecord { place, count });
            successor.post().send(&guests);
        }
        let marked = |mark: fn(&pool::DatabaseShared) -> bool| {
            let all = shared.databases().into_iter();
            all.filter(|database| mark(database))
                .map(|database| database.name.to_string())
                .collect()
        };
        let rest = RestRecord {
            paused: self.rest.get() == pool::snapshot::PoolerState::Paused,
            paused_databases: marked(|it| it.paused.load(Ordering::SeqCst)),
            disabled_databases: marked(|it| it.disabled.load(Ordering::SeqCst)),
        };
        successor.post().send(&Frame::Census(rest));
        *self.flush.borrow_mut() = Some(to_flush);
        Events { news, left, flush }
    }

    /// The heir is gone: whoever is here stays, under our own limits.
    fn goes_on_alone(&self, successor: &Successor, error: &std::io::Error) {
        tracing::warn!("the process that has taken over is gone: {error}");
        self.process.set_successor(None);
        self.process.shared.set_departing(false);
        successor.is_gone();
        self.process.visits.heir_is_gone();
        let shared = &self.process.shared;
        let passed = shared.limits(|limits| limits.heir_is_gone());
        shared.deliver(passed);
        self.process.tell_workers(|| WorkerMail::LookAgain);
    }

    /// The last client has left: sees to it that the heir gets the last servers.
    pub(crate) async fn give_the_rest(&self) {
        if self.process.successor().is_none() {
            return;
        }
        let shared = &self.process.shared;
        let began = Instant::now();
        let open = || {
            shared
                .pools()
                .iter()
                .any(|pool| pool.servers.load(Ordering::SeqCst) > 0)
        };
        while open() && began.elapsed() < LAST_SERVERS {
            self.process.tell_workers(|| WorkerMail::PartWithIdle);
            events::time::sleep(LOOK / 10).await;
        }
        let (done, all_sent) = oneshot::channel();
        let asked = self
            .flush
            .borrow()
            .as_ref()
            .is_some_and(|flush| flush.send(done).is_ok());
        if asked {
            let _ = timeout(LAST_SERVERS, all_sent).await;
        }
    }
}

/// Passes on what becomes of what the heir counts, in the order in which it happened.
async fn forward(
    process: &'static Process,
    config: Arc<Config>,
    successor: Arc<Successor>,
    mut events: Events,
) {
    loop {
        let frame = tokio::select! {
            biased;
            Some(news) = events.news.recv() => match news {
                News::Server(key, parked) => {
                    give_server(process, &config, successor.post(), &key, *parked);
                    continue;
                }
                News::Closed(key) => Frame::Closed((&key).into()),
                News::Wanted(key) => Frame::Wanted((&key).into()),
                // Not for the heir.
                News::Needed(..) => continue,
            },
            Some((database, user)) = events.left.recv() => Frame::Left(place(&database, &user)),
            Some(done) = events.flush.recv() => {
                successor.post().flush().await;
                let _ = done.send(());
                continue;
            }
            else => return,
        };
        successor.post().send(&frame);
    }
}

fn give_server(
    process: &Process,
    config: &Config,
    post: &Post,
    key: &PoolKey,
    parked: ParkedServer,
) {
    let pool = process.shared.find_pool(key);
    let given = pool.zip(parked.into_portrait());
    let given = given.is_some_and(|(pool, (portrait, socket))| {
        let record = server_record(process, config, &pool, portrait);
        post.send_with(&Frame::Server(record), vec![socket])
    });
    if !given {
        // It is closed, and the heir counts it still.
        post.send(&Frame::Closed(key.into()));
    }
}

fn server_record(
    process: &Process,
    config: &Config,
    pool: &PoolShared,
    portrait: Portrait,
) -> ServerRecord {
    let names = &process.shared.names;
    ServerRecord {
        place: (&pool.key).into(),
        origin: origin(config, &pool.database.config.load()),
        id: portrait.id,
        target: (&portrait.target).into(),
        key: portrait.key.map(|key| key.as_bytes().into()),
        connect_time: micros_since_1970(portrait.connect_time),
        age: micros(portrait.age),
        unused_for: micros(portrait.unused_for),
        touched: portrait.touched,
        defaults: values(names, &portrait.defaults),
        params: values(names, &portrait.params),
        statements: portrait.prepared.iter().map(|it| statement(it)).collect(),
    }
}

/// Hears what the heir says, until it is gone.
async fn listen(pooler: &Pooler, mut reader: Reader, successor: &Successor) -> std::io::Error {
    let shared = &pooler.process.shared;
    loop {
        let frame = match reader.next().await {
            Ok((frame, _)) => frame,
            Err(error) => return error,
        };
        match frame {
            Frame::Answer(answer) => successor.answered(&answer),
            Frame::Grant(place) => {
                if let Some(pool) = shared.find_pool(&place.into()) {
                    let passed = shared.limits(|limits| limits.granted(pool.id));
                    shared.deliver(passed);
                }
            }
            Frame::Needed(need) => {
                let (scope, like) = (need.scope(), need.place.into());
                shared.note_need(scope, &like);
                // It may be the process before us that has it.
                shared.limits(|limits| limits.need_of_elder(scope, &like));
                pooler.process.tell_workers(|| WorkerMail::PartWithIdle);
            }
            _ => return std::io::Error::other("it says what is not for it to say"),
        }
    }
}

/// Calls the clients of this worker over, no more at once than can be on their way.
pub(crate) async fn call_over(worker: Rc<Worker>) {
    let Some(successor) = worker.process.successor() else {
        return;
    };
    for entry in worker.movable() {
        // Who is idle takes the next turn at once, who is busy comes by itself.
        drop(successor.turn().await);
        entry.call_over();
        events::yield_now().await;
    }
    worker.pools.part_with_idle();
}

/// Sends a session over whose client is between two transactions, with the server that it keeps;
/// true if it is the heir's now.
pub(crate) async fn go_over(session: &mut Session) -> bool {
    let gone = try_to_go(session).await;
    if gone {
        session.visit.goes_over();
        if let Seat::Given(lease) = std::mem::take(&mut session.seat) {
            lease.goes_over();
        }
    } else {
        session.entry.stays();
    }
    gone
}

async fn try_to_go(session: &Session) -> bool {
    let process = session.worker.process;
    let Some(successor) = process.successor() else {
        return false;
    };
    let suspended = session.pool.local.suspension.get() != Suspension::None;
    if session.conn.held_len() > HELD_MAX || suspended {
        return false;
    }
    let Some(_turn) = successor.turn().await else {
        return false;
    };
    let setup = session.worker.setup();
    let Some((record, sockets)) = portray(session, process, &setup.config) else {
        return false;
    };
    successor.tell_of(process, &setup, &session.pool.shared, 0);
    successor.offer(record, sockets).await
}

/// All that the heir needs to know; `None` if it can't have this one.
fn portray(
    session: &Session,
    process: &Process,
    config: &Config,
) -> Option<(ClientRecord, Vec<OwnedFd>)> {
    let (entry, pool) = (&session.entry, &session.pool.shared);
    let mut sockets = vec![session.conn.stream().copy().ok()??];
    let server = match &session.seat {
        Seat::Given(lease) => {
            let (portrait, socket) = lease.server().portrait()?;
            sockets.push(socket);
            Some(server_record(process, config, pool, portrait))
        }
        _ => None,
    };
    let statements = session.statements.iter().flat_map(|it| it.named());
    let record = ClientRecord {
        id: entry.id.0,
        user: entry.user.to_string(),
        place: (&pool.key).into(),
        key: session.key.key().as_bytes().into(),
        connect_time: micros_since_1970(entry.connect_time),
        age: micros(session.connected.elapsed()),
        silent_for: micros(entry.request_time.get().elapsed()),
        params: values(&process.shared.names, &session.params),
        statements: statements
            .map(|(name, it)| (Bytes::from(name), statement(it)))
            .collect(),
        held: session.conn.held().into(),
        server,
    };
    Some((record, sockets))
}
