//! A query of the pooler's own on a server: the answers are read here and reach no client.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use events::time::timeout;
use net::Conn;
use thiserror::Error;
use wire::backend::{Parameter, drops_all, parse_data_row};
use wire::error::ErrorFields;
use wire::frontend::put_query_with;
use wire::{ParamNames, Params, ProtocolError, TxStatus};
use zeroize::Zeroizing;

use super::{CloseReason, Server, ServerIo};

/// Longest message that is expected in answer to our own queries, in bytes.
const MESSAGE_LEN_MAX: usize = 1 << 20;

/// Why a query of our own failed.
#[derive(Debug, Clone, Error)]
pub enum QueryError {
    /// The connection broke.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// It took too long.
    #[error("timeout")]
    Timeout,
    /// The server says it is an error.
    #[error("{}", .0.message)]
    Refused(ErrorFields),
    /// It left a transaction or a COPY open.
    #[error("not idle afterwards")]
    NotIdle,
}

impl From<io::Error> for QueryError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// A row that a query of our own brought, wiped when dropped: it may hold a secret.
pub struct Row(Zeroizing<Vec<u8>>);

impl Row {
    /// Its values; `None` among them is NULL.
    pub fn values(&self) -> Result<Vec<Option<&[u8]>>, ProtocolError> {
        parse_data_row(&self.0)
    }
}

/// Runs a query on a server that nobody else talks to now.
pub async fn on_server(
    server: &Server,
    message: &[u8],
    names: &ParamNames,
    limit: Option<Duration>,
) -> Result<(), QueryError> {
    exchange_on(server, message, names, limit).await.map(drop)
}

/// Runs a query with parameters on a leased server, and returns its last row. Given up before the
/// answer, it is stopped when the server is closed.
pub async fn fetch(
    server: &Server,
    sql: &str,
    values: &[&str],
    names: &ParamNames,
    limit: Option<Duration>,
) -> Result<Option<Row>, QueryError> {
    let mut message = Vec::new();
    put_query_with(&mut message, sql, values);
    server.own_query.set(true);
    let result = exchange_on(server, &message, names, limit).await;
    // Until a query that went wrong otherwise is answered, the server works on it.
    if matches!(result, Ok(_) | Err(QueryError::Refused(_))) {
        server.own_query.set(false);
    }
    result
}

async fn exchange_on(
    server: &Server,
    message: &[u8],
    names: &ParamNames,
    limit: Option<Duration>,
) -> Result<Option<Row>, QueryError> {
    server.io.borrow_mut().conn.send(message)?;
    let mut exchange = Exchange::new(names);
    let answer = poll_fn(|cx| {
        let ServerIo {
            conn,
            params,
            prepared,
            ..
        } = &mut *server.io.borrow_mut();
        let result = exchange.poll(cx, conn, params);
        if std::mem::take(&mut exchange.dropped_all) {
            prepared.clear();
        }
        result
    });
    let result = match limit {
        Some(limit) => timeout(limit, answer)
            .await
            .unwrap_or(Err(QueryError::Timeout)),
        None => answer.await,
    };
    if exchange.unread {
        server.doubt.set(Some(CloseReason::ParameterUnread));
    }
    result
}

/// Runs a query on a connection that is not a server yet.
pub(crate) async fn on_conn(
    conn: &mut Conn,
    message: &[u8],
    names: &ParamNames,
    params: &mut Arc<Params>,
) -> Result<(), QueryError> {
    conn.send(message)?;
    let mut exchange = Exchange::new(names);
    let answer = poll_fn(|cx| exchange.poll(cx, conn, params));
    answer.await.map(drop)
}

/// Reading the answers up to ReadyForQuery.
struct Exchange<'a> {
    names: &'a ParamNames,
    refused: Option<ErrorFields>,
    /// The last row so far.
    row: Option<Row>,
    /// Whether a parameter was reported that can't be read.
    unread: bool,
    /// Whether the query dropped all prepared statements.
    dropped_all: bool,
}

impl<'a> Exchange<'a> {
    fn new(names: &'a ParamNames) -> Self {
        Self {
            names,
            refused: None,
            row: None,
            unread: false,
            dropped_all: false,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Conn,
        params: &mut Arc<Params>,
    ) -> Poll<Result<Option<Row>, QueryError>> {
        ready!(conn.poll_flush(cx))?;
        loop {
            let message = ready!(conn.poll_message(cx, MESSAGE_LEN_MAX));
            let (tag, body) = message.map_err(|error| self.with_last_words(error))?;
            match tag {
                b'D' => self.row = Some(Row(Zeroizing::new(body))),
                b'E' => self.refused = Some(ErrorFields::parse(&body)),
                b'S' => self.unread |= !note(self.names, params, &body),
                b'C' => self.dropped_all |= drops_all(&body),
                b'Z' => return Poll::Ready(self.verdict(&body)),
                b'G' | b'W' => return Poll::Ready(Err(QueryError::NotIdle)),
                _ => {}
            }
        }
    }

    /// Why the connection broke, in the server's own words if it had some.
    fn with_last_words(&mut self, error: io::Error) -> io::Error {
        match self.refused.take() {
            Some(fields) => io::Error::new(error.kind(), fields.message),
            None => error,
        }
    }

    fn verdict(&mut self, ready: &[u8]) -> Result<Option<Row>, QueryError> {
        if let Some(fields) = self.refused.take() {
            return Err(QueryError::Refused(fields));
        }
        match ready.first().copied().and_then(TxStatus::parse) {
            Some(TxStatus::Idle) => Ok(self.row.take()),
            _ => Err(QueryError::NotIdle),
        }
    }
}

/// Keeps a ParameterStatus, if the parameter is tracked; false if it can't be read.
fn note(names: &ParamNames, params: &mut Arc<Params>, body: &[u8]) -> bool {
    let Some(Parameter { name, value }) = Parameter::parse(body) else {
        return false;
    };
    if let Some(place) = names.find_in(params, name)
        && params.get(place) != Some(value)
    {
        Arc::make_mut(params).set(place, value);
    }
    true
}
