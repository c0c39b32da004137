//! A query of the pooler's own on a server: the answers are read here and go nowhere.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use net::Conn;
use thiserror::Error;
use tokio::time::timeout;
use wire::backend::{Parameter, drops_all};
use wire::error::ErrorFields;
use wire::{ParamNames, Params, TxStatus};

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

/// Runs a query on a server that nobody else talks to now.
pub async fn on_server(
    server: &Server,
    message: &[u8],
    names: &ParamNames,
    limit: Option<Duration>,
) -> Result<(), QueryError> {
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
    let result = within(limit, answer).await;
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
    poll_fn(|cx| exchange.poll(cx, conn, params)).await
}

async fn within(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<(), QueryError>>,
) -> Result<(), QueryError> {
    match limit {
        Some(limit) => timeout(limit, answer)
            .await
            .unwrap_or(Err(QueryError::Timeout)),
        None => answer.await,
    }
}

/// Reading the answers up to ReadyForQuery.
struct Exchange<'a> {
    names: &'a ParamNames,
    refused: Option<ErrorFields>,
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
            unread: false,
            dropped_all: false,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Conn,
        params: &mut Arc<Params>,
    ) -> Poll<Result<(), QueryError>> {
        ready!(conn.poll_flush(cx))?;
        loop {
            let (tag, body) = ready!(conn.poll_message(cx, MESSAGE_LEN_MAX))?;
            match tag {
                b'E' => self.refused = Some(ErrorFields::parse(&body)),
                b'S' => self.unread |= !note(self.names, params, &body),
                b'C' => self.dropped_all |= drops_all(&body),
                b'Z' => return Poll::Ready(self.verdict(&body)),
                b'G' | b'W' => return Poll::Ready(Err(QueryError::NotIdle)),
                _ => {}
            }
        }
    }

    fn verdict(&mut self, ready: &[u8]) -> Result<(), QueryError> {
        if let Some(fields) = self.refused.take() {
            return Err(QueryError::Refused(fields));
        }
        match ready.first().copied().and_then(TxStatus::parse) {
            Some(TxStatus::Idle) => Ok(()),
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
