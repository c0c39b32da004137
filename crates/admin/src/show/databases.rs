//! SHOW DATABASES: where each database leads, its limits, and how far they are used.

use pool::snapshot::DatabaseRow;

use super::View;
use crate::table::{Column, Table, fit, int4, text, text_or_null};

const COLUMNS: [Column<DatabaseRow>; 17] = [
    text("name", |row| row.name.clone()),
    text_or_null("host", |row| row.host.clone()),
    int4("port", |row| i32::from(row.port)),
    text("database", |row| row.database.clone()),
    text_or_null("force_user", |row| row.force_user.clone()),
    int4("pool_size", |row| fit(row.pool_size)),
    int4("min_pool_size", |row| fit(row.min_pool_size)),
    int4("reserve_pool_size", |row| fit(row.reserve_pool_size)),
    int4("server_lifetime", |row| fit(row.server_lifetime.as_secs())),
    text_or_null("pool_mode", |row| {
        row.pool_mode.map(|mode| mode.to_string())
    }),
    text_or_null("load_balance_hosts", |row| {
        row.load_balance_hosts.map(|how| how.to_string())
    }),
    int4("max_connections", |row| fit(row.max_connections)),
    int4("current_connections", |row| fit(row.current_connections)),
    int4("max_client_connections", |row| {
        fit(row.max_client_connections)
    }),
    int4("current_client_connections", |row| {
        fit(row.current_client_connections)
    }),
    int4("paused", |row| i32::from(row.paused)),
    int4("disabled", |row| i32::from(row.disabled)),
];

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, &view.snapshot.databases)
}
