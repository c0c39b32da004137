//! SHOW DNS_HOSTS and SHOW DNS_ZONES: the addresses that are remembered, and the zones watched.

use pool::snapshot::{KnownHost, KnownZone};

use super::View;
use crate::table::{Column, Table, fit, int4, int8, text};

const HOSTS: [Column<KnownHost>; 3] = [
    text("hostname", |row| row.name.clone()),
    int8("ttl", |row| {
        row.ttl.as_secs().try_into().unwrap_or(i64::MAX)
    }),
    text("addrs", |row| {
        let addrs = row.addresses.iter().map(ToString::to_string);
        addrs.collect::<Vec<_>>().join(",")
    }),
];

const ZONES: [Column<KnownZone>; 3] = [
    text("zonename", |row| row.name.clone()),
    int8("serial", |row| i64::from(row.serial)),
    int4("count", |row| fit(row.hosts)),
];

pub(super) fn hosts(view: &View<'_>) -> Table {
    Table::of(&HOSTS, &view.snapshot.dns_hosts)
}

pub(super) fn zones(view: &View<'_>) -> Table {
    Table::of(&ZONES, &view.snapshot.dns_zones)
}
