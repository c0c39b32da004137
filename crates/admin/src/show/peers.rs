//! SHOW PEERS and SHOW PEER_POOLS: processes that cancel requests may be meant for, and our
//! connections to them.

use pool::snapshot::{PeerPoolRow, PeerRow};

use super::View;
use crate::table::{Column, Table, fit, int4, text};

const COLUMNS: [Column<PeerRow>; 4] = [
    int4("peer_id", |row| fit(row.id)),
    text("host", |row| row.host.clone()),
    int4("port", |row| i32::from(row.port)),
    int4("pool_size", |row| fit(row.pool_size)),
];

const POOLS: [Column<PeerPoolRow>; 5] = [
    int4("peer_id", |row| fit(row.id)),
    int4("cl_active_cancel_req", |row| fit(row.cl_active_cancel_req)),
    int4(
        "cl_waiting_cancel_req",
        |row| fit(row.cl_waiting_cancel_req),
    ),
    int4("sv_active_cancel", |row| fit(row.sv_active_cancel)),
    int4("sv_login", |row| fit(row.sv_login)),
];

pub(super) fn pools(view: &View<'_>) -> Table {
    Table::of(&POOLS, &view.snapshot.peer_pools)
}

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, &view.snapshot.peers)
}
