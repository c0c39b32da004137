//! SHOW LISTS: how many there are of everything.

use super::View;
use crate::table::{Column, Table, fit, int4, text};

const COLUMNS: [Column<(&str, usize)>; 2] = [
    text("list", |(list, _)| (*list).to_owned()),
    int4("items", |&(_, items)| fit(items)),
];

pub(super) fn table(view: &View<'_>) -> Table {
    let snapshot = view.snapshot;
    let lists = snapshot.lists;
    let rows = [
        ("databases", snapshot.databases.len()),
        ("users", snapshot.users.len()),
        ("peers", snapshot.peers.len()),
        ("pools", snapshot.pools.len()),
        ("peer_pools", lists.peer_pools),
        ("free_clients", lists.free_clients),
        ("used_clients", lists.used_clients),
        ("login_clients", lists.login_clients),
        ("free_servers", lists.free_servers),
        ("used_servers", lists.used_servers),
        ("dns_names", lists.dns_names),
        ("dns_zones", lists.dns_zones),
        ("dns_queries", lists.dns_queries),
        // PgBouncer never fills it either.
        ("dns_pending", 0),
    ];
    Table::of(&COLUMNS, rows)
}
