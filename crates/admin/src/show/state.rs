//! SHOW STATE: active, paused or suspended.

use pool::snapshot::PoolerState;

use super::View;
use crate::table::{Column, Table, text, yes_no};

const COLUMNS: [Column<(&str, bool)>; 2] = [
    text("key", |(key, _)| (*key).to_owned()),
    text("value", |(_, is)| yes_no(*is)),
];

pub(super) fn table(view: &View<'_>) -> Table {
    let now = view.snapshot.state;
    let rows = [
        ("active", PoolerState::Active),
        ("paused", PoolerState::Paused),
        ("suspended", PoolerState::Suspended),
    ];
    Table::of(&COLUMNS, rows.map(|(key, state)| (key, state == now)))
}
