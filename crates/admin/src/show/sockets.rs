//! The columns that SHOW CLIENTS and SHOW SERVERS share.

use std::time::SystemTime;

use pool::snapshot::{Endpoint, SocketRow};
use wire::Replication;

use crate::table::{Column, fit, int4, text};

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
            line.socket.application_name.clone()
        }),
        int4("prepared_statements", |line| {
            fit(line.socket.prepared_statements)
        }),
        int4("id", |line| fit(line.socket.id)),
    ]
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

fn host(end: Endpoint) -> String {
    match end {
        Endpoint::Tcp(addr) => addr.ip().to_string(),
        Endpoint::Unix { .. } => "unix".to_owned(),
    }
}

fn port(end: Endpoint) -> i32 {
    i32::from(match end {
        Endpoint::Tcp(addr) => addr.port(),
        Endpoint::Unix { port } => port,
    })
}

/// PgBouncer prints addresses in its memory; tools use them as keys, which our ids are too.
fn pointer(id: u64) -> String {
    format!("{id:#x}")
}
