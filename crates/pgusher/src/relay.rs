//! Carries bytes between a client and its server for as long as the lease lasts.
//!
//! Each direction fills the worker's buffer, walks the headers, and sends what it walked over in
//! one piece. A side that does not take its bytes stops the other from being read.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use events::time::Instant;
use net::Conn;
use pool::server::ServerIo;
use pool::{CloseReason, Server};
use settings::{PoolMode, StatementSettings};
use wire::backend::{self, Parameter, put_fake};
use wire::frontend::{self, Refusal, put_query};
use wire::pipeline::{About, Failure, Pipeline};
use wire::statements::{Named, put_flush};
use wire::{FrameHeader, TxStatus};

use crate::session::{End, Session, lost};
use crate::statements::{ClientStatements, Desk, Taken};
use crate::worker::Worker;

/// Reads of each side in one turn, before others have theirs.
pub(crate) const READS_PER_TURN: usize = 8;

/// How a relay ends.
pub(crate) enum RelayEnd {
    /// The server owes nothing, and the pool mode takes it back; since when.
    Over(Instant),
    /// The client's session is over.
    Client(End),
    /// The server is of no more use, for this reason.
    Server(CloseReason),
}

impl Session {
    /// Relays until the lease is over. What the client has said already is held.
    pub(crate) fn poll_relay(&mut self, cx: &mut Context<'_>, server: &Server) -> Poll<RelayEnd> {
        let worker = self.worker.clone();
        let mut buffer = worker.buffer();
        let mut io = server.io.borrow_mut();
        // Who has nothing to say is not asked again in this turn. The server comes first, since most
        // likely its answer is what we were woken for; unless the buffer holds a request.
        let (mut client_rests, mut server_rests) = (false, false);
        let mut asked = self.fresh.is_some();
        for _ in 0..READS_PER_TURN {
            if let Some(kill) = self.entry.killed() {
                return Poll::Ready(RelayEnd::Client(End::Killed(kill)));
            }
            if self.is_still(Some(&io)) {
                return Poll::Pending;
            }
            if !server_rests && !std::mem::take(&mut asked) {
                match self.relay_server(cx, &worker, server, &mut io, &mut buffer) {
                    // Its answers may be what the client's next request waits for.
                    Ok(true) => client_rests &= !self.waits,
                    Ok(false) => server_rests = true,
                    Err(end) => return Poll::Ready(end),
                }
            }
            if !client_rests {
                match self.relay_client(cx, &worker, server, &mut io, &mut buffer) {
                    Ok(moved) => client_rests = !moved,
                    Err(end) => return Poll::Ready(end),
                }
            }
            if client_rests && server_rests {
                return if io.is_between_transactions() {
                    if self.is_called_over() {
                        return Poll::Ready(RelayEnd::Client(End::CalledOver));
                    }
                    self.poll_parting().map(RelayEnd::Client)
                } else {
                    Poll::Pending
                };
            }
        }
        // Others wait for their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// From the client to the server; true if anything moved.
    fn relay_client(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        server: &Server,
        io: &mut ServerIo,
        buffer: &mut [u8],
    ) -> Result<bool, RelayEnd> {
        match io.conn.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(RelayEnd::Server(CloseReason::Crashed)),
            Poll::Pending => return Ok(false),
        }
        let gathered;
        let said = if let Some(fresh) = self.fresh.take() {
            &buffer[fresh]
        } else if self.gather > 0 {
            match self.conn.poll_hold(cx, self.gather) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(RelayEnd::Client(End::Lost)),
                Poll::Pending => return Ok(false),
            }
            self.gather = 0;
            gathered = self.conn.take_all_held();
            &gathered
        } else if self.conn.held_len() > buffer.len() {
            gathered = self.conn.take_all_held();
            &gathered
        } else if self.conn.has_news() {
            let held = self.conn.unhold(buffer);
            &buffer[..held]
        } else {
            match self.conn.poll_fill(cx, buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(RelayEnd::Client(End::Lost)),
                Poll::Ready(Ok(filled)) => &buffer[..filled],
                Poll::Pending => return Ok(false),
            }
        };
        self.client_said(said, worker, server, io)?;
        self.look_for_end(io, None)?;
        // Nobody comes back here before the server has answered: it must hear the request.
        if self.waits
            && let Poll::Ready(Err(_)) = io.conn.poll_flush(cx)
        {
            return Err(RelayEnd::Server(CloseReason::Crashed));
        }
        Ok(!self.waits)
    }

    /// Sends on what the client said, or keeps what has to wait.
    fn client_said(
        &mut self,
        bytes: &[u8],
        worker: &Worker,
        server: &Server,
        io: &mut ServerIo,
    ) -> Result<(), RelayEnd> {
        let policy = self.policy();
        let mut out = worker.scratch();
        // What stands between the two goes on as it is, behind what is put together in `out`.
        let (mut from, mut done) = (0, 0);
        let mut verdict = Ok(());
        let waited = std::mem::take(&mut self.waits);
        while done < bytes.len() {
            let rest = &bytes[done..];
            let between = self.intake.at_boundary();
            match self.intake.next(rest, Some(&mut io.pipeline), policy) {
                frontend::Action::Forward(count) => {
                    if between {
                        self.note_request(server);
                    }
                    done += count;
                }
                frontend::Action::Drop(count) => {
                    out.extend_from_slice(&bytes[from..done]);
                    done += count;
                    from = done;
                }
                frontend::Action::Named(header, named) => {
                    self.note_request(server);
                    out.extend_from_slice(&bytes[from..done]);
                    from = done;
                    match self.take_named(header, named, io, &mut out) {
                        Ok(Taken::Whole) => {
                            done += header.frame_len();
                            from = done;
                        }
                        Ok(Taken::Front(len)) => {
                            self.intake.took_front(header, len);
                            done += len;
                            from = done;
                        }
                        Ok(Taken::AsItIs) => {
                            io.pipeline.sent(header.tag);
                            done += self.intake.pass(header, rest);
                        }
                        Ok(Taken::Skip) => {
                            done += self.intake.refuse(header, rest);
                            from = done;
                        }
                        Ok(Taken::Wait) => self.waits = true,
                        Err(refusal) => {
                            verdict = Err(RelayEnd::Client(End::Refused(refusal)));
                            break;
                        }
                    }
                }
                frontend::Action::Wait => self.waits = true,
                frontend::Action::Gather(header) if self.is_too_long(header) => {
                    out.extend_from_slice(&bytes[from..done]);
                    self.refuse_for_memory(io, &mut out);
                    done += self.intake.refuse(header, rest);
                    from = done;
                }
                frontend::Action::Gather(header) => {
                    self.gather = header.frame_len();
                    self.conn.hold(rest);
                    break;
                }
                frontend::Action::Hold | frontend::Action::NeedsServer => {
                    self.conn.hold(rest);
                    break;
                }
                frontend::Action::Terminate => {
                    verdict = Err(RelayEnd::Client(End::Terminated));
                    break;
                }
                frontend::Action::Refuse(refusal) => {
                    verdict = Err(RelayEnd::Client(End::Refused(refusal)));
                    break;
                }
            }
            if self.waits {
                // Whoever waits for an answer sees to it that there is one.
                if !waited || done > 0 {
                    out.extend_from_slice(&bytes[from..done]);
                    from = done;
                    put_flush(&mut out);
                }
                self.conn.hold_news(&bytes[done..]);
                break;
            }
        }
        self.pool.counters.borrow_mut().bytes_received += done as u64;
        send_together(&mut io.conn, &mut out, &bytes[from..done])
            .map_err(|_| RelayEnd::Server(CloseReason::Crashed))?;
        self.look_for_syncs(io)?;
        self.say_fakes(io, &mut out)?;
        verdict
    }

    /// Tells the client what is due in the server's place before that says more.
    fn say_fakes(&mut self, io: &mut ServerIo, out: &mut Vec<u8>) -> Result<(), RelayEnd> {
        if io.pipeline.owes_fake() && io.outflow.at_boundary() {
            out.clear();
            put_fakes(out, &mut io.pipeline);
            self.say_to_client(out, &[])?;
        }
        Ok(())
    }

    /// A request begins, if none is under way.
    fn note_request(&self, server: &Server) {
        if self.entry.query_start.get().is_none() {
            let now = Instant::of_turn();
            server.request_time.set(now);
            self.begin_query(now);
        }
    }

    /// Deals with a message that names a prepared statement.
    fn take_named(
        &mut self,
        header: FrameHeader,
        named: Named<'_>,
        io: &mut ServerIo,
        out: &mut Vec<u8>,
    ) -> Result<Taken, Refusal> {
        let (statements, mut desk) = self.desk(io, out);
        let taken = statements.take(header, named, &mut desk);
        let count = statements.len();
        drop(desk);
        self.entry.prepared_statements.set(count);
        taken
    }

    fn desk<'a>(
        &'a mut self,
        io: &'a mut ServerIo,
        out: &'a mut Vec<u8>,
    ) -> (&'a mut ClientStatements, Desk<'a>) {
        let desk = Desk {
            settings: self.statement_settings(),
            statements: &self.worker.process.shared.statements,
            pipeline: &mut io.pipeline,
            prepared: &mut io.prepared,
            counters: self.pool.counters.borrow_mut(),
            out,
        };
        (self.statements.get_or_insert_default(), desk)
    }

    fn refuse_for_memory(&mut self, io: &mut ServerIo, out: &mut Vec<u8>) {
        let (statements, mut desk) = self.desk(io, out);
        statements.refuse_for_memory(&mut desk);
    }

    /// Whether a message is longer than all prepared statements together may be.
    fn is_too_long(&self, header: FrameHeader) -> bool {
        let limit = self.statement_settings().memory;
        limit.is_some_and(|limit| header.body_len > limit)
    }

    fn statement_settings(&self) -> StatementSettings {
        let settings = self.pool.statement_settings();
        settings.unwrap_or(StatementSettings::UNLIMITED)
    }

    /// From the server to the client; true if anything moved.
    fn relay_server(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        server: &Server,
        io: &mut ServerIo,
        buffer: &mut [u8],
    ) -> Result<bool, RelayEnd> {
        debug_assert!(self.fresh.is_none(), "the buffer still holds a request");
        match self.conn.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(RelayEnd::Client(lost(error))),
            Poll::Pending => return Ok(false),
        }
        let filled = match io.conn.poll_fill(cx, buffer) {
            Poll::Ready(Ok(0) | Err(_)) => return Err(RelayEnd::Server(CloseReason::Crashed)),
            Poll::Ready(Ok(filled)) => filled,
            Poll::Pending => return Ok(false),
        };
        self.server_said(&buffer[..filled], worker, server, io)?;
        let ready = io.pipeline.take_ready();
        let now = ready.then(|| self.query_done(server, io));
        self.look_for_end(io, now)?;
        Ok(true)
    }

    fn server_said(
        &mut self,
        bytes: &[u8],
        worker: &Worker,
        server: &Server,
        io: &mut ServerIo,
    ) -> Result<(), RelayEnd> {
        let between = io.outflow.at_boundary();
        let mut out = worker.scratch();
        // As in the other direction.
        let (mut from, mut done) = (0, 0);
        loop {
            if io.pipeline.owes_fake() && io.outflow.at_boundary() {
                out.extend_from_slice(&bytes[from..done]);
                from = done;
                put_fakes(&mut out, &mut io.pipeline);
            }
            // What follows is no answer that the client would know what to do with.
            let lost = io.outflow.at_boundary() && self.is_out_of_step(io);
            if done == bytes.len() || lost {
                break;
            }
            match io.outflow.next(&bytes[done..], &mut io.pipeline) {
                Ok(backend::Action::Forward(count)) => done += count,
                Ok(backend::Action::Parameter(count, parameter)) => {
                    self.note_parameter(&mut io.params, parameter);
                    done += count;
                }
                Ok(backend::Action::Unread(count)) => {
                    server.doubt.set(Some(CloseReason::ParameterUnread));
                    done += count;
                }
                Ok(backend::Action::Drop(count)) => {
                    out.extend_from_slice(&bytes[from..done]);
                    done += count;
                    from = done;
                }
                Ok(backend::Action::DroppedAll(count)) => {
                    self.dropped_all(io);
                    done += count;
                }
                Ok(backend::Action::Described {
                    len,
                    tag,
                    body,
                    about,
                }) => {
                    self.statement_described(about, tag, body, io);
                    if about.0 == About::OwnDescribe {
                        out.extend_from_slice(&bytes[from..done]);
                        from = done + len;
                    }
                    done += len;
                }
                Ok(backend::Action::Failed { len, body, failure }) => {
                    if let Some(instead) = self.statement_failed(failure, body, io) {
                        out.extend_from_slice(&bytes[from..done]);
                        out.extend_from_slice(&instead);
                        from = done + len;
                    }
                    done += len;
                }
                Ok(backend::Action::Hold) => {
                    io.conn.hold(&bytes[done..]);
                    break;
                }
                Err(error) => {
                    tracing::warn!("{}: {error}", self.pool.shared.key);
                    return Err(RelayEnd::Server(CloseReason::Unclean));
                }
            }
        }
        if io.pipeline.has_undone() {
            self.undo(io);
        }
        // A client that heard of its BEGIN would believe in it.
        if between && self.mode() == PoolMode::Statement && io.pipeline.status() != TxStatus::Idle {
            return Err(RelayEnd::Server(CloseReason::StatementMode));
        }
        self.say_to_client(&mut out, &bytes[from..done])?;
        self.look_for_syncs(io)
    }

    /// Asks the server which Syncs a COPY has swallowed, if that must be known; never in the middle of
    /// a message of the client's.
    #[inline]
    fn look_for_syncs(&mut self, io: &mut ServerIo) -> Result<(), RelayEnd> {
        match io.pipeline.wants_probe() && self.intake.at_boundary() {
            true => probe(io),
            false => Ok(()),
        }
    }

    /// Tells the client what is put together in `out`, and `rest` behind it.
    fn say_to_client(&mut self, out: &mut Vec<u8>, rest: &[u8]) -> Result<(), RelayEnd> {
        self.pool.counters.borrow_mut().bytes_sent += (out.len() + rest.len()) as u64;
        send_together(&mut self.conn, out, rest).map_err(|error| RelayEnd::Client(lost(error)))
    }

    fn dropped_all(&mut self, io: &mut ServerIo) {
        match &mut self.statements {
            Some(statements) => {
                statements.dropped_all(io);
                self.entry.prepared_statements.set(statements.len());
            }
            None => io.prepared.clear(),
        }
    }

    fn statement_described(
        &mut self,
        about: (About, u64),
        tag: u8,
        body: Option<&[u8]>,
        io: &mut ServerIo,
    ) {
        let all = &self.worker.process.shared.statements;
        if let Some(statements) = &mut self.statements {
            statements.described(about, tag, body, all, io);
        }
    }

    fn statement_failed(
        &mut self,
        failure: Failure,
        body: Option<&[u8]>,
        io: &mut ServerIo,
    ) -> Option<Vec<u8>> {
        let all = &self.worker.process.shared.statements;
        let statements = self.statements.as_mut()?;
        statements.failed(failure, body, all, io)
    }

    fn undo(&mut self, io: &mut ServerIo) {
        if let Some(statements) = &mut self.statements {
            statements.undo(io);
            self.entry.prepared_statements.set(statements.len());
        }
    }

    /// What a server reports holds for it and for its client.
    fn note_parameter(&mut self, params: &mut Arc<wire::Params>, parameter: Parameter<'_>) {
        let names = &self.worker.process.shared.names;
        let Some(place) = names.find_in(params, parameter.name) else {
            return;
        };
        if params.get(place) != Some(parameter.value) {
            names.note_set(place);
            Arc::make_mut(params).set(place, parameter.value);
        }
        if self.params.get(place) != Some(parameter.value) {
            Arc::make_mut(&mut self.params).set(place, parameter.value);
        }
        if *params == self.params {
            self.params = params.clone();
        }
        if parameter.name == "application_name" {
            *self.entry.application_name.borrow_mut() = parameter.value.into();
        }
    }

    /// ReadyForQuery came: the query is over, and the transaction perhaps; when that was.
    fn query_done(&self, server: &Server, io: &ServerIo) -> Instant {
        let now = Instant::of_turn();
        server.last_heard.set(now);
        let mut counters = self.pool.counters.borrow_mut();
        let mut meter = self.pool.meter.borrow_mut();
        let mut query_took = None;
        let query_start = self.entry.query_start.take();
        if let Some(start) = query_start {
            let took = now.micros_since(start);
            query_took = Some(took);
            counters.query_time += took;
            meter.query.record_micros(took);
        }
        if io.pipeline.is_settled()
            && io.pipeline.status() == TxStatus::Idle
            && let Some(start) = self.entry.xact_start.take()
        {
            let took = match query_took {
                // Most transactions are one query.
                Some(took) if query_start == Some(start) => took,
                _ => now.micros_since(start),
            };
            counters.xact_time += took;
            meter.xact.record_micros(took);
        }
        now
    }

    /// Whether answers and requests match no more, in a mode in which a client that goes on like
    /// that would keep its server for ever.
    fn is_out_of_step(&self, io: &ServerIo) -> bool {
        io.pipeline.is_lost() && self.pool.mode() != PoolMode::Session
    }

    /// Ends the relay if the server owes nothing and the pool mode takes it back.
    fn look_for_end(&self, io: &ServerIo, now: Option<Instant>) -> Result<(), RelayEnd> {
        if self.is_out_of_step(io) {
            return Err(RelayEnd::Client(End::Refused(Refusal::OutOfStep)));
        }
        if !io.pipeline.is_settled()
            || !self.intake.at_boundary()
            || !io.outflow.at_boundary()
            || !io.conn.is_flushed()
            || io.conn.has_held()
        {
            return Ok(());
        }
        let idle = io.pipeline.status() == TxStatus::Idle;
        match self.mode() {
            PoolMode::Statement if !idle => Err(RelayEnd::Server(CloseReason::StatementMode)),
            PoolMode::Session => Ok(()),
            _ if idle => Err(RelayEnd::Over(now.unwrap_or_else(Instant::of_turn))),
            _ => Ok(()),
        }
    }
}

/// Sends a query of our own, whose answer tells what the ones before were for.
#[cold]
fn probe(io: &mut ServerIo) -> Result<(), RelayEnd> {
    let mut probe = Vec::new();
    put_query(&mut probe, "");
    io.conn
        .send(&probe)
        .map_err(|_| RelayEnd::Server(CloseReason::Crashed))?;
    io.pipeline.probe_sent();
    Ok(())
}

/// Sends what is put together in `out`, and `rest` behind it, at once.
fn send_together(conn: &mut Conn, out: &mut Vec<u8>, rest: &[u8]) -> io::Result<()> {
    if out.is_empty() {
        return if rest.is_empty() {
            Ok(())
        } else {
            conn.send(rest)
        };
    }
    out.extend_from_slice(rest);
    conn.send(out)
}

/// Appends the messages that are due in the server's place.
fn put_fakes(out: &mut Vec<u8>, pipeline: &mut Pipeline) {
    while let Some(fake) = pipeline.take_fake() {
        put_fake(out, fake);
    }
}
