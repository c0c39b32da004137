//! Gives a server the parameters of the client it is lent to.

use std::sync::Arc;
use std::time::Duration;

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

/// Runs the query that `needed` gave; the client adopts the server's spelling.
pub async fn run(
    server: &Server,
    query: &[u8],
    names: &ParamNames,
    client: &mut Arc<Params>,
    limit: Option<Duration>,
) -> Result<(), QueryError> {
    query::on_server(server, query, names, limit).await?;
    *client = server.io.borrow().params.clone();
    Ok(())
}
