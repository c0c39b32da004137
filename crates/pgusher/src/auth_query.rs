//! auth_query: what the server knows of a user whom no file has a secret of.
//!
//! Questions are asked by errands, one at a time for each question, however many logins want its
//! answer. All who came before the query was sent share what it brings; who comes later is
//! answered by the next one. So no login is judged by a secret older than its own arrival.

use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use auth::Secret;
use events::time::Instant;
use pool::pool::Wait;
use pool::roster::Kill;
use pool::server::align;
use pool::server::query::{self, QueryError, Row};
use pool::{ClientEntry, CloseReason, Lease, LeaseError, Pool};
use tokio::sync::{Notify, oneshot};

use crate::errand::Place;
use crate::worker::Worker;

/// Longest time that a query goes on which nobody waits for any more: strangers who come and go
/// should not cost a server each.
const ABANDONED_MAX: Duration = Duration::from_secs(1);

/// Numbers of errands are above those of clients, which come from one counter without gaps.
const FIRST_ERRAND: u64 = 1 << 63;

/// What is asked, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// The entry of `[databases]` in which the query runs.
    pub(crate) database: Arc<str>,
    /// Who runs it.
    pub(crate) auth_user: Arc<str>,
    /// The query.
    pub(crate) sql: Arc<str>,
    /// The user it is about.
    pub(crate) user: Arc<str>,
}

/// A user, as the query tells.
#[derive(Debug)]
pub(crate) struct Found {
    /// The name in the first column: the client is that user from now on.
    pub(crate) user: Arc<str>,
    /// The secret in the second; blank for NULL, so that nothing matches it.
    pub(crate) secret: Secret,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// No server could be had.
    NoServer(LeaseError),
    /// The database was killed or removed, or the process shuts down.
    Killed(Kill),
    /// The query failed, or brought what it should not. The log has the details.
    Query,
}

/// The answer, shared by all who asked: `None` says that there is no such user.
pub(crate) type Answer = Result<Option<Arc<Found>>, Failure>;

/// The questions of the whole process: no more than there are logins under way.
#[derive(Debug)]
pub(crate) struct Questions {
    lines: Mutex<HashMap<Question, Line>>,
    pub(crate) next_errand: AtomicU64,
}

/// Those who want the answer to one question, and came too late for the query under way.
#[derive(Debug, Default)]
struct Line {
    askers: Vec<oneshot::Sender<Answer>>,
    /// Told when one of them leaves.
    left: Arc<Notify>,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            next_errand: AtomicU64::new(FIRST_ERRAND),
        }
    }
}

/// Asks, and waits for the answer.
pub(crate) async fn ask(worker: &Rc<Worker>, pool: &Rc<Pool>, question: Question) -> Answer {
    let questions = &worker.process.questions;
    let (answer, left, is_first) = questions.join(&question);
    if is_first {
        let errand = Errand {
            worker: worker.clone(),
            pool: pool.clone(),
            question,
            left: left.clone(),
        };
        events::spawn(errand.run());
    }
    let _leaving = Leaving(left);
    // An errand answers all before it ends.
    answer.await.unwrap_or(Err(Failure::Query))
}

/// Someone who waits for an answer: the errand looks again when it goes.
struct Leaving(Arc<Notify>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Questions {
    /// Stands in line for the answer; true for who is the first, and has to go and ask.
    fn join(&self, question: &Question) -> (oneshot::Receiver<Answer>, Arc<Notify>, bool) {
        let (asker, answer) = oneshot::channel();
        let mut lines = self.lines();
        let is_first = !lines.contains_key(question);
        let line = lines.entry(question.clone()).or_default();
        line.askers.push(asker);
        (answer, line.left.clone(), is_first)
    }

    /// Those who are in line now: the next to come wait for the next query.
    fn take(&self, question: &Question) -> Vec<oneshot::Sender<Answer>> {
        let mut lines = self.lines();
        lines
            .get_mut(question)
            .map(|line| mem::take(&mut line.askers))
            .unwrap_or_default()
    }

    /// Forgets the question if nobody waits for its answer any more; true if so.
    fn closes(&self, question: &Question) -> bool {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(question) else {
            return true;
        };
        line.askers.retain(|asker| !asker.is_closed());
        let is_over = line.askers.is_empty();
        if is_over {
            lines.remove(question);
        }
        is_over
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Question, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes and asks one question, as often as there is somebody who wants to know.
struct Errand {
    worker: Rc<Worker>,
    pool: Rc<Pool>,
    question: Question,
    left: Arc<Notify>,
}

impl Errand {
    async fn run(self) {
        let questions = &self.worker.process.questions;
        let (database, auth_user) = (&self.question.database, &self.question.auth_user);
        while !questions.closes(&self.question) {
            let place = Place::new(&self.worker, database, auth_user);
            let (askers, answer) = match self.lease(&place.entry).await {
                Ok(Some(lease)) => {
                    let mut askers = questions.take(&self.question);
                    let answer = self.ask_for(&mut askers, lease).await;
                    (askers, answer)
                }
                Ok(None) => return,
                Err(failure) => (questions.take(&self.question), Err(failure)),
            };
            for asker in askers {
                // Who left does not want to know.
                let _ = asker.send(answer.clone());
            }
        }
    }

    /// Waits in line for a server; `None` if there is nobody left to ask for.
    async fn lease(&self, entry: &ClientEntry) -> Result<Option<Lease>, Failure> {
        let requested = poll_fn(|cx| {
            entry.set_waker(cx.waker());
            Poll::Ready(self.pool.request(cx, entry, Instant::now()))
        });
        if let Some(lease) = requested.await.map_err(Failure::NoServer)? {
            return Ok(Some(lease));
        }
        let mut wait = Wait::new(&self.pool, entry);
        let turn = poll_fn(|cx| {
            entry.set_waker(cx.waker());
            if let Some(kill) = entry.killed() {
                return Poll::Ready(Err(Failure::Killed(kill)));
            }
            wait.poll().map_err(Failure::NoServer)
        });
        let mut turn = pin!(turn);
        loop {
            tokio::select! {
                biased;
                turn = &mut turn => return turn.map(Some),
                () = self.left.notified() => {
                    if self.worker.process.questions.closes(&self.question) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Runs the query for these askers, as long as any of them waits.
    async fn ask_for(&self, askers: &mut [oneshot::Sender<Answer>], lease: Lease) -> Answer {
        let abandoned = async {
            for asker in askers {
                asker.closed().await;
            }
            events::time::sleep(ABANDONED_MAX).await;
        };
        tokio::select! {
            biased;
            result = self.fetch(&lease) => {
                self.give_back(lease, &result);
                let row = result.map_err(|error| self.report(&self.explain(&error)))?;
                row.map(|row| self.read(&row)).transpose()
            }
            () = abandoned => {
                lease.close(CloseReason::ClientGone);
                Err(Failure::Query)
            }
        }
    }

    async fn fetch(&self, lease: &Lease) -> Result<Option<Row>, QueryError> {
        let settings = self.pool.settings();
        let limits = [settings.query_timeout, settings.server_connect_timeout];
        let limit = limits.into_iter().flatten().min();
        let names = &self.worker.process.shared.names;
        let server = lease.server();
        if server.touched.get() {
            let config = self.pool.shared.database.config.load();
            let connect_query = config.connect_query.as_deref();
            align::undo_sessions(server, connect_query, names, limit).await?;
        }
        let Question { sql, user, .. } = &self.question;
        query::fetch(server, sql, &[user], names, limit).await
    }

    fn give_back(&self, lease: Lease, result: &Result<Option<Row>, QueryError>) {
        match result {
            Ok(_) | Err(QueryError::Refused(_)) => lease.release(Instant::now()),
            Err(QueryError::Io(_)) => lease.close(CloseReason::Crashed),
            Err(QueryError::Timeout) => lease.close(CloseReason::QueryTimeout),
            Err(QueryError::NotIdle) => lease.close(CloseReason::Unclean),
        }
    }

    fn explain(&self, error: &QueryError) -> String {
        match error {
            QueryError::Refused(fields) => {
                let (severity, message) = (&fields.severity, &fields.message);
                format!("error response from auth_query: {severity}: {message}")
            }
            other => format!("auth_query failed: {other}"),
        }
    }

    /// Reads who the user is; the last row counts.
    fn read(&self, row: &Row) -> Result<Arc<Found>, Failure> {
        let values = row
            .values()
            .map_err(|error| self.report(&format!("auth_query failed: {error}")))?;
        let (user, secret) = match *values.as_slice() {
            [Some(user), secret] => (user, secret),
            [None, _] => {
                return Err(self.report("auth_query response contained null user name"));
            }
            _ => {
                let count = values.len();
                let text = format!("expected 2 columns from auth_query, not {count}");
                return Err(self.report(&text));
            }
        };
        let user = std::str::from_utf8(user)
            .map_err(|_| self.report("auth_query response contained a user name not in UTF-8"))?;
        let secret = secret.map_or_else(Secret::blank, Secret::parse);
        Ok(Arc::new(Found {
            user: user.into(),
            secret,
        }))
    }

    /// Says in the log what the client does not hear.
    fn report(&self, what: &str) -> Failure {
        let (key, user) = (&self.pool.shared.key, &self.question.user);
        tracing::error!(name: "auth_query_failed", "{key}: {what} (asked for user {user})");
        Failure::Query
    }
}
