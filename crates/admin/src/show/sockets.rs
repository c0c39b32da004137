//! The columns that SHOW CLIENTS and SHOW SERVERS share; SHOW SOCKETS, which are both of them.

use std::time::SystemTime;

use pool::snapshot::{ClientState, Endpoint, ServerState, SocketRow};
use wire::Replication;

use super::View;
use crate::table::{Column, Table, fit, int4, text};

/// A line of either table.
pub(super) struct Line<'a> {
    /// `C` or `S`.
    pub(super) kind: &'static str,
    /// The state's name.
    pub(super) state: &'static str,
    /// The connection.
    pub(super) socket: &'a SocketRow,
    /// See [`View`](super::View).
    pub(super) local_time: &'a dyn Fn(SystemTime) -> String,
}

pub(super) fn columns<'a>() -> [Column<Line<'a>>; 21] {
    [
        text("type", |line| line.kind.to_owned()),
        text("user", |line| name(line.socket.user.as_deref(), "(nouser)")),
        text("database", |line| {
            name(line.socket.database.as_deref(), "(nodb)")
        }),
        text("replication", |line| {
            replication(line.socket.replication).to_owned()
        }),
        text("state", |line| line.state.to_owned()),
        text("addr", |line| host(line.socket.addr)),
        int4("port", |line| port(line.socket.addr)),
        text("local_addr", |line| host(line.socket.local_addr)),
        int4("local_port", |line| port(line.socket.local_addr)),
        text("connect_time", |line| {
            (line.local_time)(line.socket.connected_at)
        }),
        text("request_time", |line| {
            (line.local_time)(line.socket.requested_at)
        }),
        int4("wait", |line| fit(line.socket.waited.as_secs())),
        int4("wait_us", |line| fit(line.socket.waited.subsec_micros())),
        int4("close_needed", |line| i32::from(line.socket.close_needed)),
        text("ptr", |line| pointer(line.socket.id)),
        text("link", |line| {
            line.socket.link.map_or_else(String::new, pointer)
        }),
        int4("remote_pid", |line| fit(line.socket.remote_pid)),
        text("tls", |line| line.socket.tls.clone()),
        text("application_name", |line| {
            line.socket.application_name.to_string()
        }),
        int4("prepared_statements", |line| {
            fit(line.socket.prepared_statements)
        }),
        int4("id", |line| fit(line.socket.id)),
    ]
}

/// Every connection, and what it holds.
pub(super) fn all(view: &View<'_>) -> Table {
    Table::of(&columns_with_rest(), lines(view))
}

/// Those that hold something.
pub(super) fn active(view: &View<'_>) -> Table {
    let holds = |line: &Line<'_>| line.socket.held > 0 || line.socket.unsent > 0;
    Table::of(&columns_with_rest(), lines(view).filter(holds))
}

fn lines<'a>(view: &'a View<'_>) -> impl Iterator<Item = Line<'a>> {
    let snapshot = view.snapshot;
    let clients = snapshot.clients.iter().map(|client| Line {
        kind: "C",
        state: client_word(client.state),
        socket: &client.socket,
        local_time: view.local_time,
    });
    let servers = snapshot.servers.iter().map(|server| Line {
        kind: "S",
        state: server_word(server.state),
        socket: &server.socket,
        local_time: view.local_time,
    });
    clients.chain(servers)
}

/// What is read goes through a buffer that all share, so a connection has only what it could not
/// get rid of: nothing of that is parsed, and no part of it is sent.
fn columns_with_rest<'a>() -> Vec<Column<Line<'a>>> {
    let rest = [
        int4("recv_pos", |line: &Line<'a>| fit(line.socket.held)),
        int4("pkt_pos", |_| 0),
        int4("pkt_remain", |_| 0),
        int4("send_pos", |_| 0),
        // PgBouncer never fills it either.
        int4("send_remain", |_| 0),
        int4("pkt_avail", |line| fit(line.socket.held)),
        int4("send_avail", |line| fit(line.socket.unsent)),
    ];
    columns().into_iter().chain(rest).collect()
}

fn client_word(state: ClientState) -> &'static str {
    match state {
        ClientState::Active | ClientState::Idle => "cl_active",
        ClientState::Waiting => "cl_waiting",
        ClientState::ActiveCancelReq => "cl_active_cancel_req",
        ClientState::WaitingCancelReq => "cl_waiting_cancel_req",
    }
}

fn server_word(state: ServerState) -> &'static str {
    match state {
        ServerState::Active => "sv_active",
        ServerState::Idle => "sv_idle",
        ServerState::Used => "sv_used",
        ServerState::Tested => "sv_tested",
        ServerState::New => "sv_login",
        ServerState::ActiveCancel => "sv_active_cancel",
        ServerState::BeingCanceled => "sv_being_canceled",
    }
}

fn name(name: Option<&str>, none: &str) -> String {
    name.unwrap_or(none).to_owned()
}

fn replication(replication: Replication) -> &'static str {
    match replication {
        Replication::None => "none",
        Replication::Logical => "logical",
        Replication::Physical => "physical",
    }
}

pub(super) fn host(end: Endpoint) -> String {
    match end {
        Endpoint::Tcp(addr) => addr.ip().to_string(),
        Endpoint::Unix { .. } => "unix".to_owned(),
    }
}

pub(super) fn port(end: Endpoint) -> i32 {
    i32::from(match end {
        Endpoint::Tcp(addr) => addr.port(),
        Endpoint::Unix { port } => port,
    })
}

/// PgBouncer prints addresses in its memory; tools use them as keys, which our ids are too.
fn pointer(id: u64) -> String {
    format!("{id:#x}")
}
