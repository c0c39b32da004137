//! SHOW WAITERS: who is in line for a server, in each pool the first in line first.

use std::collections::HashMap;
use std::time::SystemTime;

use pool::snapshot::{SocketRow, WaiterRow};

use super::View;
use super::sockets::{host, port};
use crate::table::{Column, Table, fit, int4, int4_or_null, text, text_or_null};

/// Somebody in line.
struct Line<'a> {
    waiter: &'a WaiterRow,
    place: usize,
    /// None for a question of the pooler's own.
    client: Option<&'a SocketRow>,
    local_time: &'a dyn Fn(SystemTime) -> String,
}

fn columns<'a>() -> [Column<Line<'a>>; 11] {
    [
        text("database", |line| line.waiter.database.clone()),
        text("user", |line| line.waiter.user.clone()),
        int4("place", |line| fit(line.place)),
        int4("wait", |line| fit(line.waiter.waited.as_secs())),
        int4("wait_us", |line| fit(line.waiter.waited.subsec_micros())),
        text_or_null("since", |line| {
            line.client
                .map(|client| (line.local_time)(client.requested_at))
        }),
        int4("id", |line| fit(line.waiter.client)),
        text_or_null("client_user", |line| {
            line.client?.user.as_deref().map(str::to_owned)
        }),
        text_or_null("addr", |line| Some(host(line.client?.addr))),
        int4_or_null("port", |line| Some(port(line.client?.addr))),
        text_or_null("application_name", |line| {
            Some(line.client?.application_name.to_string())
        }),
    ]
}

pub(super) fn table(view: &View<'_>) -> Table {
    let snapshot = view.snapshot;
    let clients = snapshot.clients.iter().map(|client| &client.socket);
    let clients: HashMap<u64, &SocketRow> = clients.map(|socket| (socket.id, socket)).collect();
    let mut pool = None;
    let mut place = 0;
    let lines = snapshot.waiters.iter().map(|waiter| {
        let its = Some((&waiter.database, &waiter.user));
        place = if pool == its { place + 1 } else { 1 };
        pool = its;
        Line {
            waiter,
            place,
            client: clients.get(&waiter.client).copied(),
            local_time: view.local_time,
        }
    });
    Table::of(&columns(), lines)
}
