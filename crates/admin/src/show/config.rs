//! SHOW CONFIG: settings, their defaults, and whether they change without a restart.

use settings::Row;

use super::View;
use crate::table::{Column, Table, text, text_or_null, yes_no};

const fn columns(value: fn(&Row) -> Option<String>) -> [Column<Row>; 4] {
    [
        text("key", |row| row.name.to_owned()),
        text_or_null("value", value),
        text_or_null("default", |row| row.default.map(str::to_owned)),
        text("changeable", |row| yes_no(row.changeable)),
    ]
}

pub(super) fn table(view: &View<'_>) -> Table {
    const COLUMNS: [Column<Row>; 4] = columns(|row| row.value.clone());
    Table::of(&COLUMNS, view.settings)
}

/// The same for those who may only look.
pub(super) fn masked(view: &View<'_>) -> Table {
    const COLUMNS: [Column<Row>; 4] = columns(|row| row.public.clone());
    Table::of(&COLUMNS, view.settings)
}
