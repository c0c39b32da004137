//! SHOW MEM: what there is most of in memory.

use pool::snapshot::MemoryRow;

use super::View;
use crate::table::{Column, Table, fit, int4, text};

const COLUMNS: [Column<MemoryRow>; 5] = [
    text("name", |row| row.name.to_owned()),
    int4("size", |row| fit(row.size)),
    int4("used", |row| fit(row.used)),
    // Nothing is kept ready.
    int4("free", |_| 0),
    int4("memtotal", |row| fit(row.size.saturating_mul(row.used))),
];

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, &view.snapshot.memory)
}
