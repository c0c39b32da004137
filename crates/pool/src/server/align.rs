//! Gives a server the parameters of the client it is lent to.

use std::sync::Arc;
use std::time::Duration;

use wire::frontend::put_query;
use wire::params::alignment;
use wire::{ParamNames, Params};

use super::Server;
use super::query::{self, QueryError};

/// The query that gives the server the client's parameters; `None` if it has them. Two sessions
/// that agree share one value from then on, so that the next comparison is cheap: the one at the
/// lower address, so that in the end all sessions that agree share the same.
pub fn needed(server: &Server, names: &ParamNames, client: &mut Arc<Params>) -> Option<Vec<u8>> {
    let mut io = server.io.borrow_mut();
    if Arc::ptr_eq(&io.params, client) {
        return None;
    }
    let query = alignment(names, &io.params, client);
    if query.is_none() {
        // A client may spell a value in another way than the server: the server's counts.
        if Arc::as_ptr(client) < Arc::as_ptr(&io.params) && *client == io.params {
            io.params = client.clone();
        } else {
            *client = io.params.clone();
        }
    }
    query
}

/// Undoes what sessions have left behind: the server's parameters are those of its login again,
/// and nobody's temporary tables hide what a query names.
pub async fn undo_sessions(
    server: &Server,
    connect_query: Option<&str>,
    names: &ParamNames,
    limit: Option<Duration>,
) -> Result<(), QueryError> {
    // DISCARD ALL would take prepared statements along, which others count on.
    const UNDO: &str = "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DISCARD TEMP";
    let run = async |sql| {
        let mut message = Vec::new();
        put_query(&mut message, sql);
        query::on_server(server, &message, names, limit).await
    };
    run(UNDO).await?;
    let again = match connect_query {
        Some(sql) => run(sql).await,
        None => Ok(()),
    };
    match again {
        // As at the login, an error of the query's is no reason to go without the server.
        Ok(()) | Err(QueryError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    server.touched.set(false);
    Ok(())
}

/// Runs the query that `needed` gave; the client adopts the server's spelling.
pub async fn run(
    server: &Server,
    query: &[u8],
    names: &ParamNames,
    client: &mut Arc<Params>,
    limit: Option<Duration>,
) -> Result<(), QueryError> {
    server.own_query.set(true);
    let result = query::on_server(server, query, names, limit).await;
    server.own_query.set(false);
    result?;
    *client = server.io.borrow().params.clone();
    Ok(())
}
