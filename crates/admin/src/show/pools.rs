//! SHOW POOLS: what the clients and servers of each pool are doing, and who waits.

use pool::snapshot::PoolRow;

use super::View;
use crate::table::{Column, Table, fit, int4, text, text_or_null};

const COLUMNS: [Column<PoolRow>; 17] = [
    text("database", |row| row.database.clone()),
    text("user", |row| row.user.clone()),
    int4("cl_active", |row| fit(row.cl_active)),
    int4("cl_waiting", |row| fit(row.cl_waiting)),
    int4("cl_active_cancel_req", |row| fit(row.cl_active_cancel_req)),
    int4(
        "cl_waiting_cancel_req",
        |row| fit(row.cl_waiting_cancel_req),
    ),
    int4("sv_active", |row| fit(row.sv_active)),
    int4("sv_active_cancel", |row| fit(row.sv_active_cancel)),
    int4("sv_being_canceled", |row| fit(row.sv_being_canceled)),
    int4("sv_idle", |row| fit(row.sv_idle)),
    int4("sv_used", |row| fit(row.sv_used)),
    int4("sv_tested", |row| fit(row.sv_tested)),
    int4("sv_login", |row| fit(row.sv_login)),
    int4("maxwait", |row| fit(row.maxwait.as_secs())),
    int4("maxwait_us", |row| fit(row.maxwait.subsec_micros())),
    text("pool_mode", |row| row.pool_mode.to_string()),
    text_or_null("load_balance_hosts", |row| {
        row.load_balance_hosts.map(|how| how.to_string())
    }),
];

pub(super) fn table(view: &View<'_>) -> Table {
    Table::of(&COLUMNS, &view.snapshot.pools)
}
