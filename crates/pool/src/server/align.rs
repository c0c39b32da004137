//! Gives a server the parameters of the client it is lent to.

use std::sync::Arc;
use std::time::Duration;

use wire::params::alignment;
use wire::{ParamNames, Params};

use super::Server;
use super::query::{self, QueryError};

/// True if server and client hold the same parameters at a glance: nearly always.
pub fn agree(server: &Server, client: &Arc<Params>) -> bool {
    Arc::ptr_eq(&server.io.borrow().params, client)
}

/// The query that gives the server the client's parameters; `None` if it has them.
pub fn needed(server: &Server, names: &ParamNames, client: &Params) -> Option<Vec<u8>> {
    let have = &server.io.borrow().params;
    alignment(names, have, client, &server.facts.defaults)
}

/// Runs the query that `needed` gave.
pub async fn run(
    server: &Server,
    query: &[u8],
    names: &ParamNames,
    limit: Option<Duration>,
) -> Result<(), QueryError> {
    query::on_server(server, query, names, limit).await
}

/// Once both have the same, the client takes the server's spelling. Two sessions that agree share
/// one value from then on, so that the next comparison is cheap: the one at the lower address, so
/// that in the end all sessions that agree share the same.
pub fn adopt(server: &Server, client: &mut Arc<Params>) {
    let mut io = server.io.borrow_mut();
    if let Some(all) = io.params.completed_by(client) {
        // A server of another version reports less: the client keeps what it has besides.
        if all != **client {
            *client = Arc::new(all);
        }
    } else if Arc::as_ptr(client) < Arc::as_ptr(&io.params) && *client == io.params {
        io.params = client.clone();
    } else {
        *client = io.params.clone();
    }
}
