use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use expect_test::{Expect, expect};
use pool::PoolKey;
use pool::labels::Labels;
use pool::meter::{Histogram, Meter};
use pool::snapshot::{ClientState, Counters, Snapshot, WorkerRow};
use settings::Settings;

use super::{Figures, Reload, Upkeep, Vitals};

fn text(snapshot: &Snapshot, labels: &mut Labels) -> String {
    let upkeep = Upkeep {
        reload: Reload {
            succeeded: true,
            last_success: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
        },
        certificates: [
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2000)),
            None,
        ],
        vitals: Vitals {
            cpu_seconds: 1.5,
            resident_bytes: 4096,
            virtual_bytes: 8192,
            open_files: 7,
            max_files: 1024,
            started: SystemTime::UNIX_EPOCH,
        },
    };
    let figures = Figures {
        snapshot,
        settings: &Settings::default(),
        upkeep: &upkeep,
    };
    figures.text(labels)
}

/// The lines of the text that hold `part`.
fn check(snapshot: &Snapshot, part: &str, expected: Expect) {
    let text = text(snapshot, &mut Labels::new(9));
    let lines = text.lines().filter(|line| line.contains(part));
    expected.assert_eq(&lines.map(|line| format!("{line}\n")).collect::<String>());
}

fn shop() -> PoolKey {
    PoolKey {
        database: "shop".into(),
        user: "alice".into(),
    }
}

fn measured() -> Snapshot {
    let mut wait = Histogram::default();
    wait.record(Duration::ZERO);
    wait.record(Duration::from_millis(3));
    let meter = Meter {
        wait,
        ..Meter::default()
    };
    Snapshot {
        meters: BTreeMap::from([(shop(), meter)]),
        ..Snapshot::default()
    }
}

#[test]
fn a_histogram_has_a_bucket_for_each_bound_its_sum_and_its_count() {
    check(
        &measured(),
        "client_wait",
        expect![[r#"
            # HELP pgusher_client_wait_seconds From a client's asking for a server to its having it
            # TYPE pgusher_client_wait_seconds histogram
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.0001"} 1
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.00025"} 1
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.0005"} 1
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.001"} 1
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.0025"} 1
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.005"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.01"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.025"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.05"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.1"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.25"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="0.5"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="1"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="2.5"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="5"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="10"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="25"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="50"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="100"} 2
            pgusher_client_wait_seconds_bucket{database="shop",user="alice",le="+Inf"} 2
            pgusher_client_wait_seconds_sum{database="shop",user="alice"} 0.003
            pgusher_client_wait_seconds_count{database="shop",user="alice"} 2
        "#]],
    );
}

#[test]
fn traffic_is_told_under_the_exporters_new_and_old_names() {
    let counters = Counters {
        query_count: 7,
        query_time: 1_500_000,
        ..Counters::default()
    };
    let snapshot = Snapshot {
        totals: BTreeMap::from([("shop".to_owned(), counters)]),
        ..Snapshot::default()
    };
    check(
        &snapshot,
        "queries",
        expect![[r#"
            # HELP pgbouncer_in_flight_dns_queries DNS questions that wait for an answer
            # TYPE pgbouncer_in_flight_dns_queries gauge
            pgbouncer_in_flight_dns_queries 0
            # HELP pgbouncer_stats_totals_queries_pooled_total Queries
            # TYPE pgbouncer_stats_totals_queries_pooled_total counter
            pgbouncer_stats_totals_queries_pooled_total{database="shop"} 7
            # HELP pgbouncer_stats_totals_queries_duration_seconds_total Time that queries took, their wait for a server included
            # TYPE pgbouncer_stats_totals_queries_duration_seconds_total counter
            pgbouncer_stats_totals_queries_duration_seconds_total{database="shop"} 1.5
            # HELP pgbouncer_stats_queries_pooled_total Queries
            # TYPE pgbouncer_stats_queries_pooled_total counter
            pgbouncer_stats_queries_pooled_total{database="shop"} 7
            # HELP pgbouncer_stats_queries_duration_seconds_total Time that queries took, their wait for a server included
            # TYPE pgbouncer_stats_queries_duration_seconds_total counter
            pgbouncer_stats_queries_duration_seconds_total{database="shop"} 1.5
        "#]],
    );
}

#[test]
fn the_keeping_of_the_process_is_told() {
    let snapshot = Snapshot {
        workers: vec![WorkerRow {
            id: 0,
            clients: 3,
            servers: 2,
            busy: Duration::from_millis(1500),
        }],
        ..Snapshot::default()
    };
    for (part, expected) in [
        (
            "worker_busy",
            expect![[r#"
                # HELP pgusher_worker_busy_seconds_total Time that a worker was at work rather than asleep
                # TYPE pgusher_worker_busy_seconds_total counter
                pgusher_worker_busy_seconds_total{worker="0"} 1.5
            "#]],
        ),
        (
            "cert_expiry",
            expect![[r#"
                # HELP pgusher_tls_cert_expiry_timestamp_seconds When our certificate runs out, by who sees it
                # TYPE pgusher_tls_cert_expiry_timestamp_seconds gauge
                pgusher_tls_cert_expiry_timestamp_seconds{side="clients"} 2000
            "#]],
        ),
    ] {
        check(&snapshot, part, expected);
    }
}

#[test]
fn clients_without_a_label_of_their_own_are_told_together() {
    let client = |name: &str| {
        let label: [Arc<str>; 3] = ["shop".into(), "alice".into(), name.into()];
        ((label, ClientState::Idle), 2)
    };
    let snapshot = Snapshot {
        client_counts: BTreeMap::from(["a", "b\n\"", "c", "d"].map(client)),
        ..Snapshot::default()
    };
    let text = text(&snapshot, &mut Labels::new(2));
    let lines = text
        .lines()
        .filter(|line| line.starts_with("pgbouncer_client_conn"));
    expect![[r#"
        pgbouncer_client_connections{database="(others)",user="(others)",application_name="(others)",state="idle"} 4
        pgbouncer_client_connections{database="shop",user="alice",application_name="a",state="idle"} 2
        pgbouncer_client_connections{database="shop",user="alice",application_name="b\n\"",state="idle"} 2
    "#]]
    .assert_eq(&lines.map(|line| format!("{line}\n")).collect::<String>());
}
