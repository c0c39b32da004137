//! SHOW DNS_HOSTS and SHOW DNS_ZONES: the addresses that are remembered, and the zones watched.

use pool::snapshot::{DnsHostRow, DnsZoneRow};

use super::View;
use crate::table::{Column, Table, fit, int4, int8, text};

const HOSTS: [Column<DnsHostRow>; 3] = [
    text("hostname", |row| row.hostname.clone()),
    int8("ttl", |row| {
        row.ttl.as_secs().try_into().unwrap_or(i64::MAX)
    }),
    text("addrs", |row| {
        let addrs = row.addrs.iter().map(ToString::to_string);
        addrs.collect::<Vec<_>>().join(",")
    }),
];

const ZONES: [Column<DnsZoneRow>; 3] = [
    text("zonename", |row| row.zonename.clone()),
    int8("serial", |row| row.serial.try_into().unwrap_or(i64::MAX)),
    int4("count", |row| fit(row.count)),
];

pub(super) fn hosts(view: &View<'_>) -> Table {
    Table::of(&HOSTS, &view.snapshot.dns_hosts)
}

pub(super) fn zones(view: &View<'_>) -> Table {
    Table::of(&ZONES, &view.snapshot.dns_zones)
}
