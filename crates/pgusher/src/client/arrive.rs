//! A client that logged in at the process before this one, and has come over.

use std::io;
use std::rc::Rc;

use net::{Conn, Stream};
use wire::Replication;

use super::seat::Listed;
use super::{Admitted, Newcomer};
use crate::accept::Admission;
use crate::handover::arrival::Arrival;
use crate::session::Session;
use crate::statements::ClientStatements;
use crate::worker::Worker;

/// Its session, as it was there.
pub(crate) fn arrive(worker: &Rc<Worker>, arrival: Arrival) -> io::Result<Box<Session>> {
    let setup = worker.setup();
    let stream = Stream::unpark(arrival.socket)?;
    let peer = stream.peer_addr(setup.config.settings.listen_port)?;
    if let Stream::Tcp(tcp) = &stream
        && let Err(error) = setup.tcp_options().apply(tcp)
    {
        tracing::warn!("cannot set options of a client's socket: {error}");
    }
    let local = stream.local_addr();
    let mut conn = Conn::new(stream);
    conn.hold(&arrival.held);
    let newcomer = Newcomer {
        id: arrival.id,
        conn,
        peer,
        local,
        connected: arrival.connected,
        connect_time: arrival.connect_time,
        label: String::new(),
        // Its key is made already.
        minor: 0,
        has_done_its_part: true,
        admission: Admission::Open,
        counted: arrival.counted,
    };
    let pool = worker.pools.get(&arrival.pool);
    let listed = Listed::new(worker, &newcomer, &pool, arrival.user, Replication::None);
    let admitted = Admitted {
        listed,
        pool,
        lease: None,
        params: arrival.params,
        key: arrival.key,
        counts: arrival.counts,
        visit: arrival.visit,
    };
    let mut session = Session::new(worker.clone(), newcomer, admitted);
    session.entry.request_time.set(arrival.request_time);
    session
        .entry
        .prepared_statements
        .set(arrival.statements.len());
    if !arrival.statements.is_empty() {
        let statements = &worker.process.shared.statements;
        let statements = ClientStatements::of(arrival.statements, statements);
        session.statements = Some(Box::new(statements));
    }
    Ok(Box::new(session))
}
