//! A client that logged in at the process before this one, and has come over.

use std::io;
use std::rc::Rc;

use net::Conn;
use net::listen::Accepted;
use wire::Replication;

use super::seat::Listed;
use super::{Admitted, Newcomer, Visitor, meet};
use crate::accept::Admission;
use crate::handover::arrival::Arrival;
use crate::session::Session;
use crate::statements::ClientStatements;
use crate::worker::Worker;

/// Its session, as it was there.
pub(crate) fn arrive(worker: &Rc<Worker>, arrival: Arrival) -> io::Result<Box<Session>> {
    let pool = worker.pools.get(&arrival.pool);
    let Visitor {
        stream,
        peer,
        local,
    } = match meet(&worker.setup(), Accepted::unknown(arrival.socket)) {
        Ok(visitor) => visitor,
        Err(error) => {
            if let Some(server) = arrival.server {
                pool.turn_away(*server);
            }
            return Err(error);
        }
    };
    let mut conn = Conn::new(stream);
    conn.hold(&arrival.held);
    let newcomer = Newcomer {
        id: arrival.id,
        peer,
        local,
        conn,
        connected: arrival.connected,
        connect_time: arrival.connect_time,
        label: None,
        // Its key is made already.
        minor: 0,
        has_done_its_part: true,
        admission: Admission::Open,
        counted: arrival.counted,
        said: Vec::new(),
    };
    let name = arrival.params.application_name();
    let (user, replication) = (arrival.user, Replication::None);
    let listed = Listed::new(worker, &newcomer, &pool, user, replication, name);
    let lease = match arrival.server {
        Some(server) => Some(pool.receive_leased(*server, listed.entry())?),
        None => None,
    };
    let admitted = Admitted {
        listed,
        pool,
        lease,
        params: arrival.params,
        key: arrival.key,
        counts: arrival.counts,
        visit: arrival.visit,
    };
    let mut session = Session::new(worker.clone(), newcomer, admitted);
    session.entry.request_time.set(arrival.request_time);
    let names = arrival.statements.len();
    session.entry.prepared_statements.set(names);
    if names > 0 {
        let statements = &worker.process.shared.statements;
        let statements = ClientStatements::of(arrival.statements, statements);
        session.statements = Some(Box::new(statements));
    }
    Ok(Box::new(session))
}
