//! A session at the console: reads queries, has commands carried out, sends tables back.

use std::rc::Rc;

use admin::{Command, CommandError, Console, Outcome, Reaction};
use events::time::Instant;
use net::Conn;
use pool::ClientEntry;
use pool::roster::{ClientFacts, ClientKind, ClientState, Kill};
use tokio::sync::oneshot;
use wire::Replication;

use crate::cancel::Registered;
use crate::client::{AdmittedToConsole, Newcomer};
use crate::process::{Counted, Order};
use crate::worker::Worker;

/// Longest message at the console, in bytes.
const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// An operator's session.
pub(crate) struct Session {
    worker: Rc<Worker>,
    conn: Conn,
    entry: Rc<ClientEntry>,
    console: Console,
    connected: Instant,
    _key: Registered,
    _counts: [Counted; 2],
}

/// Why it is over.
enum End {
    Terminated,
    Lost,
    Killed(Kill),
    /// After these last words.
    Refused(Vec<u8>),
}

impl Session {
    pub(crate) fn new(worker: Rc<Worker>, newcomer: Newcomer, admitted: AdmittedToConsole) -> Self {
        let facts = ClientFacts {
            id: newcomer.id,
            pool_user: admitted.user.clone(),
            user: admitted.user,
            database: settings::CONSOLE_DATABASE.into(),
            peer: newcomer.peer,
            local: newcomer.local,
            tls: newcomer.cipher().map(Box::new),
            connect_time: newcomer.connect_time,
            kind: ClientKind::Console,
            replication: Replication::None,
            application_name: admitted.application_name,
        };
        let entry = Rc::new(ClientEntry::new(facts, Instant::now()));
        entry.note_socket(&newcomer.conn);
        worker.pools.local.roster.add(entry.clone());
        worker.console_counters.borrow_mut().client_login_count += 1;
        let consoles = Counted::new(&worker.process.consoles);
        Self {
            worker,
            conn: newcomer.conn,
            entry,
            console: Console::new(admitted.privilege),
            connected: newcomer.connected,
            _key: admitted.key,
            _counts: [newcomer.counted, consoles],
        }
    }

    /// Serves the operator until the session is over.
    pub(crate) async fn run(mut self: Box<Self>) {
        std::future::poll_fn(|cx| {
            self.entry.set_waker(cx.waker());
            std::task::Poll::Ready(())
        })
        .await;
        let end = loop {
            if let Err(end) = self.serve_one().await {
                break end;
            }
        };
        let reason = match &end {
            End::Terminated => "client close request",
            End::Lost => "client unexpected eof",
            End::Killed(kill) => kill.for_client(),
            End::Refused(_) => "bad packet",
        };
        self.worker.count_end(reason);
        if self.worker.setup().config.settings.log_disconnections {
            let (entry, age) = (&self.entry, self.connected.elapsed().as_secs());
            tracing::info!(name: "client_closed",
                "C-{:#x}: {}/{}@{} closing because: {reason} (age={age}s)",
                entry.id.0,
                entry.database,
                entry.user,
                entry.peer
            );
        }
        let last_words = match end {
            End::Terminated | End::Lost => return,
            End::Killed(kill) => Console::killed(kill.for_client()),
            End::Refused(words) => words,
        };
        // Whoever does not read them is gone.
        let _ = self.conn.send_all(&last_words).await;
        self.conn.finish().await;
    }

    async fn serve_one(&mut self) -> Result<(), End> {
        let (tag, body) = self.read().await?;
        let begins = self.console.is_at_rest();
        let reply = match self.console.on_message(tag, &body) {
            Reaction::Terminate => return Err(End::Terminated),
            Reaction::Leave(words) => return Err(End::Refused(words)),
            Reaction::Reply(bytes) => {
                self.begin_request(begins);
                bytes
            }
            Reaction::Run(command) => {
                self.begin_request(begins);
                let outcome = self.carry_out(command).await?;
                self.console.on_outcome(outcome)
            }
        };
        self.send(&reply).await?;
        while let Some(more) = self.console.rest() {
            self.send(&more).await?;
            // A long table is nobody else's delay.
            events::yield_now().await;
        }
        if self.console.is_at_rest() {
            self.request_done();
        }
        Ok(())
    }

    async fn carry_out(&mut self, command: Command) -> Result<Outcome, End> {
        let (reply, outcome) = oneshot::channel();
        let order = Order { command, reply };
        let control = &self.worker.process.control;
        // Without control the process is at its end.
        control.send(order).map_err(|_| End::Lost)?;
        self.await_outcome(outcome).await
    }

    async fn send(&mut self, reply: &[u8]) -> Result<(), End> {
        self.worker.console_counters.borrow_mut().bytes_sent += reply.len() as u64;
        self.conn.send_all(reply).await.map_err(|_| End::Lost)
    }

    /// Reads a message; a kill comes between.
    async fn read(&mut self) -> Result<(u8, Vec<u8>), End> {
        std::future::poll_fn(|cx| {
            if let Some(kill) = self.entry.killed() {
                return std::task::Poll::Ready(Err(End::Killed(kill)));
            }
            let message = self.conn.poll_message(cx, MESSAGE_LEN_MAX);
            message.map_err(|_| End::Lost)
        })
        .await
    }

    /// Waits for a command's outcome; an operator who leaves or cancels takes the command back.
    async fn await_outcome(&mut self, outcome: oneshot::Receiver<Outcome>) -> Result<Outcome, End> {
        // A cancel request that came earlier was for another command.
        self.entry.given_up.set(false);
        tokio::pin!(outcome);
        std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(result) = outcome.as_mut().poll(cx) {
                return std::task::Poll::Ready(result.map_err(|_| End::Lost));
            }
            if let Some(kill) = self.entry.killed() {
                return std::task::Poll::Ready(Err(End::Killed(kill)));
            }
            if self.entry.given_up.get() {
                return std::task::Poll::Ready(Ok(Outcome::Failed(CommandError::Canceled)));
            }
            let stream = self.conn.stream_mut();
            let gone = stream.poll_readable(cx).is_ready() && stream.is_at_end();
            if gone {
                return std::task::Poll::Ready(Err(End::Lost));
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Counts a request by its first message.
    fn begin_request(&self, begins: bool) {
        if !begins {
            return;
        }
        let now = Instant::now();
        self.entry.request_time.set(now);
        self.entry.query_start.set(Some(now));
        self.entry.state.set(ClientState::Active);
        let mut counters = self.worker.console_counters.borrow_mut();
        counters.query_count += 1;
        counters.xact_count += 1;
    }

    fn request_done(&self) {
        self.entry.query_start.set(None);
        self.entry.state.set(ClientState::Idle);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.worker.pools.local.roster.remove(self.entry.id);
    }
}
