//! SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS: the counters under their four names.

use pool::snapshot::Counters;
use wire::binary::oid::{NUMERIC, TEXT};

use super::View;
use crate::table::Table;

/// One counter and what each table calls it.
struct Statistic {
    /// Its total in SHOW STATS.
    total: &'static str,
    /// Its average in SHOW STATS.
    average: &'static str,
    /// In SHOW STATS_TOTALS.
    in_totals: &'static str,
    /// In SHOW STATS_AVERAGES.
    in_averages: &'static str,
    /// In SHOW TOTALS, behind `total_` or `avg_`.
    internal: &'static str,
    of: fn(&Counters) -> u64,
}

const STATISTICS: [Statistic; 12] = [
    Statistic {
        total: "total_server_assignment_count",
        average: "avg_server_assignment_count",
        in_totals: "server_assignment_count",
        in_averages: "server_assignment_count",
        internal: "server_assignment_count",
        of: |counters| counters.server_assignment_count,
    },
    Statistic {
        total: "total_xact_count",
        average: "avg_xact_count",
        in_totals: "xact_count",
        in_averages: "xact_count",
        internal: "xact_count",
        of: |counters| counters.xact_count,
    },
    Statistic {
        total: "total_query_count",
        average: "avg_query_count",
        in_totals: "query_count",
        in_averages: "query_count",
        internal: "query_count",
        of: |counters| counters.query_count,
    },
    Statistic {
        total: "total_received",
        average: "avg_recv",
        in_totals: "bytes_received",
        in_averages: "bytes_received",
        internal: "client_bytes",
        of: |counters| counters.bytes_received,
    },
    Statistic {
        total: "total_sent",
        average: "avg_sent",
        in_totals: "bytes_sent",
        in_averages: "bytes_sent",
        internal: "server_bytes",
        of: |counters| counters.bytes_sent,
    },
    Statistic {
        total: "total_xact_time",
        average: "avg_xact_time",
        in_totals: "xact_time",
        in_averages: "xact_time",
        internal: "xact_time",
        of: |counters| counters.xact_time,
    },
    Statistic {
        total: "total_query_time",
        average: "avg_query_time",
        in_totals: "query_time",
        in_averages: "query_time",
        internal: "query_time",
        of: |counters| counters.query_time,
    },
    Statistic {
        total: "total_wait_time",
        average: "avg_wait_time",
        in_totals: "wait_time",
        in_averages: "wait_time",
        internal: "wait_time",
        of: |counters| counters.wait_time,
    },
    // From here on the averages keep their prefix in SHOW STATS_AVERAGES too.
    Statistic {
        total: "total_client_parse_count",
        average: "avg_client_parse_count",
        in_totals: "client_parse_count",
        in_averages: "avg_client_parse_count",
        internal: "ps_client_parse_count",
        of: |counters| counters.client_parse_count,
    },
    Statistic {
        total: "total_server_parse_count",
        average: "avg_server_parse_count",
        in_totals: "server_parse_count",
        in_averages: "avg_server_parse_count",
        internal: "ps_server_parse_count",
        of: |counters| counters.server_parse_count,
    },
    Statistic {
        total: "total_bind_count",
        average: "avg_bind_count",
        in_totals: "bind_count",
        in_averages: "avg_bind_count",
        internal: "ps_bind_count",
        of: |counters| counters.bind_count,
    },
    Statistic {
        total: "total_client_login_count",
        average: "avg_client_login_count",
        in_totals: "client_login_count",
        in_averages: "avg_client_login_count",
        internal: "client_login_count",
        of: |counters| counters.client_login_count,
    },
];

/// SHOW STATS.
pub(super) fn all(view: &View<'_>) -> Table {
    let names = STATISTICS
        .iter()
        .map(|it| it.total)
        .chain(STATISTICS.iter().map(|it| it.average));
    by_database(view, names, |totals, averages| {
        values(totals).chain(values(averages)).collect()
    })
}

/// SHOW STATS_TOTALS.
pub(super) fn totals(view: &View<'_>) -> Table {
    let names = STATISTICS.iter().map(|it| it.in_totals);
    by_database(view, names, |totals, _| values(totals).collect())
}

/// SHOW STATS_AVERAGES.
pub(super) fn averages(view: &View<'_>) -> Table {
    let names = STATISTICS.iter().map(|it| it.in_averages);
    by_database(view, names, |_, averages| values(averages).collect())
}

/// SHOW TOTALS: one line a counter.
pub(super) fn sums(view: &View<'_>) -> Table {
    let lines = |prefix: &str, counters: &Counters| -> Vec<Vec<Option<String>>> {
        STATISTICS
            .iter()
            .map(|it| {
                let name = format!("{prefix}_{}", it.internal);
                vec![Some(name), Some((it.of)(counters).to_string())]
            })
            .collect()
    };
    let mut sum = Counters::default();
    for totals in view.snapshot.totals.values() {
        sum += *totals;
    }
    let mut rows = lines("total", &sum);
    rows.extend(lines("avg", &view.snapshot.averages.overall));
    Table::raw(vec![("name", TEXT), ("value", NUMERIC)], rows)
}

/// A table with a row for each database.
fn by_database(
    view: &View<'_>,
    names: impl Iterator<Item = &'static str>,
    cells: fn(&Counters, &Counters) -> Vec<u64>,
) -> Table {
    let mut header = vec![("database", TEXT)];
    header.extend(names.map(|name| (name, NUMERIC)));

    let averages = &view.snapshot.averages.databases;
    let rows = view
        .snapshot
        .totals
        .iter()
        .map(|(database, totals)| {
            let averages = averages.get(database).copied().unwrap_or_default();
            let mut row = vec![Some(database.clone())];
            row.extend(
                cells(totals, &averages)
                    .iter()
                    .map(|value| Some(value.to_string())),
            );
            row
        })
        .collect();
    Table::raw(header, rows)
}

fn values(counters: &Counters) -> impl Iterator<Item = u64> {
    STATISTICS.iter().map(|it| (it.of)(counters))
}
