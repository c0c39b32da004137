//! SHOW CLIENTS: who is connected to us.

use pool::snapshot::ClientState;

use super::View;
use super::sockets::{Line, columns};
use crate::table::Table;

pub(super) fn table(view: &View<'_>) -> Table {
    let lines = view.snapshot.clients.iter().map(|client| Line {
        kind: "C",
        state: word(client.state),
        socket: &client.socket,
        local_time: view.local_time,
    });
    Table::of(&columns(), lines)
}

fn word(state: ClientState) -> &'static str {
    match state {
        ClientState::Active => "active",
        ClientState::Idle => "idle",
        ClientState::Waiting => "waiting",
        ClientState::ActiveCancelReq => "active_cancel_req",
        ClientState::WaitingCancelReq => "waiting_cancel_req",
    }
}
