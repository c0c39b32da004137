//! SHOW SERVERS: what we are connected to.

use pool::snapshot::{ServerRow, ServerState};

use super::View;
use super::sockets::{Line, columns};
use crate::table::Table;

pub(super) fn table(view: &View<'_>) -> Table {
    let lines = view.snapshot.servers.iter().map(|server| Line {
        kind: "S",
        state: word(server),
        socket: &server.socket,
        local_time: view.local_time,
    });
    Table::of(&columns(), lines)
}

fn word(server: &ServerRow) -> &'static str {
    match server.state {
        // Its client has just left.
        ServerState::Active if server.socket.link.is_none() => "idle",
        ServerState::Active => "active",
        ServerState::Idle => "idle",
        ServerState::Used => "used",
        ServerState::Tested => "tested",
        ServerState::New => "new",
        ServerState::ActiveCancel => "active_cancel",
        ServerState::BeingCanceled => "being_canceled",
    }
}
