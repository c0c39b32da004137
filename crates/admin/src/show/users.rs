//! SHOW USERS: each user's own limits, and how far they are used.

use pool::snapshot::UserRow;

use super::View;
use crate::table::{Column, Table, fit, int4, text, text_or_null};

const COLUMNS: [Column<UserRow>; 8] = [
    text("name", |row| row.name.clone()),
    text("pool_size", |row| padded(row.pool_size)),
    text("reserve_pool_size", |row| padded(row.reserve_pool_size)),
    text_or_null("pool_mode", |row| {
        row.pool_mode.map(|mode| mode.to_string())
    }),
    int4("max_user_connections", |row| fit(row.max_user_connections)),
    int4("current_connections", |row| fit(row.current_connections)),
    int4("max_user_client_connections", |row| {
        fit(row.max_user_client_connections)
    }),
    int4("current_client_connections", |row| {
        fit(row.current_client_connections)
    }),
];

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, &view.snapshot.users)
}

/// A size in a column of texts: right-aligned, or nothing when it is inherited.
fn padded(size: Option<u32>) -> String {
    size.map_or_else(String::new, |size| format!("{size:9}"))
}
