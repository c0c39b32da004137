//! SHOW PEERS: processes that cancel requests may be meant for.

use pool::snapshot::PeerRow;

use super::View;
use crate::table::{Column, Table, fit, int4, text};

const COLUMNS: [Column<PeerRow>; 4] = [
    int4("peer_id", |row| fit(row.id)),
    text("host", |row| row.host.clone()),
    int4("port", |row| i32::from(row.port)),
    int4("pool_size", |row| fit(row.pool_size)),
];

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, &view.snapshot.peers)
}
