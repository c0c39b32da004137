//! SHOW CONFIG: settings, their defaults, and whether they change without a restart.

use settings::Row;

use super::View;
use crate::table::{Column, Table, text, text_or_null, yes_no};

const COLUMNS: [Column<Row>; 4] = [
    text("key", |row| row.name.to_owned()),
    text_or_null("value", |row| row.value.clone()),
    text_or_null("default", |row| row.default.map(str::to_owned)),
    text("changeable", |row| yes_no(row.changeable)),
];

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, view.settings)
}
