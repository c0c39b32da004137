//! SHOW FDS: the sockets of clients and servers by their numbers in the process.
//!
//! PgBouncer hands them over with this table; pgusher has other ways for that, so here they are
//! only to be looked up, and no secret comes with them.

use std::collections::HashMap;

use pool::snapshot::SocketRow;
use wire::binary::oid;

use super::View;
use super::sockets::{host, port};
use crate::table::{Column, Table, int4, text, text_or_null, withheld};

/// A socket, its number and what it is for.
struct Line<'a> {
    fd: i32,
    task: &'static str,
    socket: &'a SocketRow,
    /// The number of the socket that it is linked with; 0 if there is none.
    link: i32,
}

fn columns<'a>() -> [Column<Line<'a>>; 15] {
    [
        int4("fd", |line| line.fd),
        text("task", |line| line.task.to_owned()),
        text_or_null("user", |line| {
            line.socket.user.as_deref().map(str::to_owned)
        }),
        text_or_null("database", |line| {
            line.socket.database.as_deref().map(str::to_owned)
        }),
        text("addr", |line| host(line.socket.addr)),
        int4("port", |line| port(line.socket.addr)),
        withheld("cancel", oid::INT8),
        int4("link", |line| line.link),
        withheld("client_encoding", oid::TEXT),
        withheld("std_strings", oid::TEXT),
        withheld("datestyle", oid::TEXT),
        withheld("timezone", oid::TEXT),
        withheld("password", oid::TEXT),
        withheld("scram_client_key", oid::BYTEA),
        withheld("scram_server_key", oid::BYTEA),
    ]
}

pub(super) fn table(view: &View<'_>) -> Table {
    let snapshot = view.snapshot;
    let clients = snapshot.clients.iter().map(|row| ("client", &row.socket));
    let servers = snapshot.servers.iter().map(|row| ("server", &row.socket));
    let all = clients.chain(servers);
    let numbers = all.clone().filter_map(|(_, row)| Some((row.id, row.fd?)));
    let numbers: HashMap<u64, i32> = numbers.collect();
    let lines = all.filter_map(|(task, socket)| {
        // An encrypted one is of no use without its keys.
        let fd = socket.fd.filter(|_| socket.tls.is_empty())?;
        let link = socket.link.and_then(|id| numbers.get(&id));
        Some(Line {
            fd,
            task,
            socket,
            link: link.copied().unwrap_or(0),
        })
    });
    Table::of(&columns(), lines)
}
