//! Carries bytes between a client and its server for as long as the lease lasts.
//!
//! Each direction fills the worker's buffer, walks the headers, and sends what it walked over in
//! one piece. A side that does not take its bytes stops the other from being read.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pool::server::ServerIo;
use pool::{CloseReason, Server};
use settings::PoolMode;
use wire::TxStatus;
use wire::backend::{self, Parameter};
use wire::frontend::{self, put_query};

use crate::session::{End, Session, lost};

/// Reads of each side in one turn, before others have theirs.
const READS_PER_TURN: usize = 8;

/// How a relay ends.
pub(crate) enum RelayEnd {
    /// The server owes nothing, and the pool mode takes it back.
    Over,
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
        for _ in 0..READS_PER_TURN {
            if let Some(kill) = self.entry.killed() {
                return Poll::Ready(RelayEnd::Client(End::Killed(kill)));
            }
            let moved = self
                .relay_client(cx, server, &mut io, &mut buffer)
                .and_then(|from_client| {
                    let from_server = self.relay_server(cx, server, &mut io, &mut buffer)?;
                    Ok(from_client | from_server)
                });
            match moved {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
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
        server: &Server,
        io: &mut ServerIo,
        buffer: &mut [u8],
    ) -> Result<bool, RelayEnd> {
        match io.conn.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(RelayEnd::Server(CloseReason::Crashed)),
            Poll::Pending => return Ok(false),
        }
        let said = if let Some(fresh) = self.fresh.take() {
            fresh
        } else if self.conn.has_news() {
            0..self.conn.unhold(buffer)
        } else {
            match self.conn.poll_fill(cx, buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(RelayEnd::Client(End::Lost)),
                Poll::Ready(Ok(filled)) => 0..filled,
                Poll::Pending => return Ok(false),
            }
        };
        self.client_said(&buffer[said], server, io)?;
        self.look_for_end(io)?;
        Ok(true)
    }

    fn client_said(
        &mut self,
        bytes: &[u8],
        server: &Server,
        io: &mut ServerIo,
    ) -> Result<(), RelayEnd> {
        let policy = self.policy();
        let mut rest = bytes;
        while !rest.is_empty() {
            let between = self.intake.at_boundary();
            match self.intake.next(rest, Some(&mut io.pipeline), policy) {
                frontend::Action::Forward(count) => {
                    if between && self.entry.query_start.get().is_none() {
                        let now = Instant::now();
                        server.request_time.set(now);
                        self.begin_query(now);
                    }
                    let (sent, left) = rest.split_at(count);
                    self.pool.counters.borrow_mut().bytes_received += count as u64;
                    io.conn
                        .send(sent)
                        .map_err(|_| RelayEnd::Server(CloseReason::Crashed))?;
                    rest = left;
                }
                frontend::Action::Drop(count) => rest = &rest[count..],
                frontend::Action::Hold | frontend::Action::NeedsServer => {
                    self.conn.hold(rest);
                    break;
                }
                frontend::Action::Terminate => return Err(RelayEnd::Client(End::Terminated)),
                frontend::Action::Refuse(refusal) => {
                    return Err(RelayEnd::Client(End::Refused(refusal)));
                }
            }
        }
        Ok(())
    }

    /// From the server to the client; true if anything moved.
    fn relay_server(
        &mut self,
        cx: &mut Context<'_>,
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
        self.server_said(&buffer[..filled], server, io)?;
        if io.pipeline.take_ready() {
            self.query_done(server, io);
        }
        self.look_for_end(io)?;
        Ok(true)
    }

    fn server_said(
        &mut self,
        bytes: &[u8],
        server: &Server,
        io: &mut ServerIo,
    ) -> Result<(), RelayEnd> {
        let between = io.outflow.at_boundary();
        let (mut from, mut done) = (0, 0);
        while done < bytes.len() {
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
                    self.say_to_client(&bytes[from..done])?;
                    done += count;
                    from = done;
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
        // A client that heard of its BEGIN would believe in it.
        if between
            && self.pool.mode() == PoolMode::Statement
            && io.pipeline.status() != TxStatus::Idle
        {
            return Err(RelayEnd::Server(CloseReason::StatementMode));
        }
        self.say_to_client(&bytes[from..done])?;
        if io.pipeline.wants_probe() {
            let mut probe = Vec::new();
            put_query(&mut probe, "");
            io.conn
                .send(&probe)
                .map_err(|_| RelayEnd::Server(CloseReason::Crashed))?;
            io.pipeline.probe_sent();
        }
        Ok(())
    }

    fn say_to_client(&mut self, bytes: &[u8]) -> Result<(), RelayEnd> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.pool.counters.borrow_mut().bytes_sent += bytes.len() as u64;
        self.conn
            .send(bytes)
            .map_err(|error| RelayEnd::Client(lost(error)))
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

    /// ReadyForQuery came: the query is over, and the transaction perhaps.
    fn query_done(&self, server: &Server, io: &ServerIo) {
        let now = Instant::now();
        server.last_heard.set(now);
        let mut counters = self.pool.counters.borrow_mut();
        let since = |start: Instant| {
            let passed = now.saturating_duration_since(start).as_micros();
            u64::try_from(passed).unwrap_or(u64::MAX)
        };
        if let Some(start) = self.entry.query_start.take() {
            counters.query_time += since(start);
        }
        if io.pipeline.is_settled()
            && io.pipeline.status() == TxStatus::Idle
            && let Some(start) = self.entry.xact_start.take()
        {
            counters.xact_time += since(start);
        }
    }

    /// Ends the relay if the server owes nothing and the pool mode takes it back.
    fn look_for_end(&self, io: &ServerIo) -> Result<(), RelayEnd> {
        if !io.pipeline.is_settled()
            || !self.intake.at_boundary()
            || !io.outflow.at_boundary()
            || !io.conn.is_flushed()
            || io.conn.has_held()
        {
            return Ok(());
        }
        let idle = io.pipeline.status() == TxStatus::Idle;
        match self.pool.mode() {
            PoolMode::Statement if !idle => Err(RelayEnd::Server(CloseReason::StatementMode)),
            PoolMode::Session => Ok(()),
            _ if idle => Err(RelayEnd::Over),
            _ => Ok(()),
        }
    }
}
