//! `pgbouncer_*` is what PgBouncer's exporter makes of the console's answers.

use std::collections::BTreeMap;

use testkit::{Console, FakeClient, FakeServer, Row};

use super::{Scrape, name, told};
use crate::support::{WORKERS, alice, client, trusting, wait_for_waiting};

/// What the exporter makes of SHOW POOLS: the end of the name, and the column.
const POOLS: [(&str, &str); 12] = [
    ("client_active_connections", "cl_active"),
    ("client_active_cancel_connections", "cl_active_cancel_req"),
    ("client_waiting_connections", "cl_waiting"),
    ("client_waiting_cancel_connections", "cl_waiting_cancel_req"),
    ("server_active_connections", "sv_active"),
    ("server_active_cancel_connections", "sv_active_cancel"),
    ("server_being_canceled_connections", "sv_being_canceled"),
    ("server_idle_connections", "sv_idle"),
    ("server_used_connections", "sv_used"),
    ("server_testing_connections", "sv_tested"),
    ("server_login_connections", "sv_login"),
    ("client_maxwait_seconds", "maxwait"),
];

const DATABASES: [(&str, &str); 6] = [
    ("pool_size", "pool_size"),
    ("reserve_pool", "reserve_pool_size"),
    ("max_connections", "max_connections"),
    ("current_connections", "current_connections"),
    ("paused", "paused"),
    ("disabled", "disabled"),
];

/// SHOW STATS_TOTALS, and what one in the column counts for.
const TOTALS: [(&str, &str, f64); 11] = [
    ("queries_pooled_total", "query_count", 1.0),
    ("queries_duration_seconds_total", "query_time", 1e-6),
    ("received_bytes_total", "bytes_received", 1.0),
    ("sent_bytes_total", "bytes_sent", 1.0),
    ("client_wait_seconds_total", "wait_time", 1e-6),
    ("sql_transactions_pooled_total", "xact_count", 1.0),
    ("server_in_transaction_seconds_total", "xact_time", 1e-6),
    ("client_parses_total", "client_parse_count", 1.0),
    ("server_parses_total", "server_parse_count", 1.0),
    ("binds_total", "bind_count", 1.0),
    ("server_assignments_total", "server_assignment_count", 1.0),
];

const LISTS: [(&str, &str); 11] = [
    ("databases", "databases"),
    ("users", "users"),
    ("pools", "pools"),
    ("free_clients", "free_clients"),
    ("used_clients", "used_clients"),
    ("login_clients", "login_clients"),
    ("free_servers", "free_servers"),
    ("used_servers", "used_servers"),
    ("cached_dns_names", "dns_names"),
    ("cached_dns_zones", "dns_zones"),
    ("in_flight_dns_queries", "dns_queries"),
];

const CONFIG: [(&str, &str); 2] = [
    ("max_client_connections", "max_client_conn"),
    ("max_user_connections", "max_user_connections"),
];

/// Types by name, and values by name and labels.
#[derive(Default)]
struct Expected {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Expected {
    fn put(&mut self, kind: &str, name: &str, labels: &[(&str, &str)], value: f64) {
        let name = format!("pgbouncer_{name}");
        let labels = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let labels: Vec<_> = labels.collect();
        let sample = match labels.is_empty() {
            true => name.clone(),
            false => format!("{name}{{{}}}", labels.join(",")),
        };
        self.types.insert(name, kind.to_owned());
        *self.samples.entry(sample).or_default() += value;
    }

    /// By the exporter's rules.
    async fn derived(console: &Console) -> Self {
        let mut it = Self::default();
        it.put("gauge", "up", &[], 1.0);
        let version = console.show("VERSION").await.remove(0);
        it.put(
            "gauge",
            "version_info",
            &[("version", &version["version"])],
            1.0,
        );
        for (name, list) in LISTS {
            let row = console.show_row("LISTS", "list", list).await;
            it.put("gauge", name, &[], row.number("items") as f64);
        }
        for (name, key) in CONFIG {
            let value = console.setting(key).await.parse().unwrap();
            it.put("gauge", &format!("config_{name}"), &[], value);
        }
        for row in console.show("CLIENTS").await {
            let columns = ["database", "user", "application_name", "state"];
            let labels = columns.map(|column| (column, &row[column]));
            it.put("gauge", "client_connections", &labels, 1.0);
        }
        for row in console.show("DATABASES").await {
            let columns = [
                "name",
                "host",
                "port",
                "database",
                "force_user",
                "pool_mode",
            ];
            let labels = columns.map(|column| (column, row.get(column).unwrap_or_default()));
            it.put_all("databases", &DATABASES, &labels, &row);
        }
        for row in console.show("POOLS").await {
            let labels = ["database", "user"].map(|column| (column, &row[column]));
            it.put_all("pools", &POOLS, &labels, &row);
        }
        for row in console.show("STATS_TOTALS").await {
            let labels = [("database", &row["database"])];
            for prefix in ["stats_totals", "stats"] {
                for (name, column, unit) in TOTALS {
                    let value = row.number(column) as f64 * unit;
                    it.put("counter", &format!("{prefix}_{name}"), &labels, value);
                }
            }
        }
        it
    }

    fn put_all(
        &mut self,
        what: &str,
        metrics: &[(&str, &str)],
        labels: &[(&str, &str)],
        row: &Row,
    ) {
        for (name, column) in metrics {
            let value = row.number(column) as f64;
            self.put("gauge", &format!("{what}_{name}"), labels, value);
        }
    }
}

#[tokio::test]
async fn the_text_is_what_the_exporter_makes_of_the_consoles_answers() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = told(&fake, workers)
            .set("default_pool_size", 1)
            .set("reserve_pool_size", 3)
            .database(
                "shop",
                &format!("{} pool_mode=session", fake.conn_info("v2")),
            )
            .start()
            .await;
        let shopper = pooler.connect("bob", "secret", "shop").await;
        let statement = shopper.prepare("SELECT 1").await.unwrap();
        shopper.query(&statement, &[]).await.unwrap();
        let mut named = FakeClient::connect(&pooler.address()).await;
        let names = [
            ("user", "carol"),
            ("database", "app"),
            ("application_name", "till 7"),
        ];
        named.startup(&names).await;
        named.read_until_ready().await;
        named.query_value("SELECT 7").await;
        let mut holder = alice(&pooler).await;
        holder.query("BEGIN").await;
        let waiting = tokio::spawn({
            let mut waiter = alice(&pooler).await;
            async move { waiter.query("SELECT 1").await }
        });
        wait_for_waiting(&pooler, 1).await;
        let console = pooler.console().await;
        // Within one second, or the wait of who waits is a second longer.
        let (expected, scrape) = loop {
            let before = Expected::derived(&console).await;
            let scrape = Scrape::of(&pooler).await;
            let wait = "pgbouncer_pools_client_maxwait_seconds{database=\"app\",user=\"alice\"}";
            if before.samples[wait] == scrape.value(wait) {
                break (before, scrape);
            }
        };
        // What it learns from the kernel has a test of its own.
        let theirs =
            |name: &str| name.starts_with("pgbouncer_") && !name.starts_with("pgbouncer_process_");
        let types = scrape.types.iter().filter(|(name, _)| theirs(name));
        let types: BTreeMap<_, _> = types.map(|(a, b)| (a.clone(), b.clone())).collect();
        assert_eq!(types, expected.types);
        let samples = scrape.samples.keys().filter(|sample| theirs(name(sample)));
        let expected_samples: Vec<_> = expected.samples.keys().collect();
        assert_eq!(samples.collect::<Vec<_>>(), expected_samples);
        for (sample, expected) in &expected.samples {
            // The console's own traffic went on meanwhile.
            if sample.contains("stats") && sample.contains("database=\"pgbouncer\"") {
                continue;
            }
            let value = scrape.value(sample);
            let same = (value - expected).abs() <= expected.abs() * 1e-9;
            assert!(same, "{sample} {value}, and the console says {expected}");
        }
        holder.query("COMMIT").await;
        waiting.await.unwrap();
    }
}

#[tokio::test]
async fn the_process_is_told_as_the_kernel_knows_it() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).start().await;
    let scrape = Scrape::of(&pooler).await;
    let value = |name: &str| scrape.value(&format!("pgbouncer_process_{name}"));
    let (told, seen) = (value("resident_memory_bytes"), pooler.rss() as f64);
    assert!((0.5..2.0).contains(&(told / seen)), "{told} and {seen}");
    // The scrape itself has a connection.
    let files = value("open_fds") - pooler.open_files() as f64;
    assert!((0.0..=2.0).contains(&files), "{files}");
    assert!(value("max_fds") >= value("open_fds"));
    assert!(value("cpu_seconds_total") > 0.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.unwrap().as_secs_f64() - value("start_time_seconds");
    assert!((0.0..60.0).contains(&age), "{age}");
}

#[tokio::test]
async fn old_names_can_be_switched_off() {
    let fake = FakeServer::start().await;
    let mut pooler = told(&fake, 1).start().await;
    let old = |scrape: &Scrape| {
        let mut names = scrape.names();
        names.any(|name| name == "pgbouncer_stats_queries_pooled_total")
    };
    assert!(old(&Scrape::of(&pooler).await));
    pooler
        .reload(|setup| setup.set("metrics_old_names", 0))
        .await;
    let scrape = Scrape::of(&pooler).await;
    assert!(!old(&scrape));
    let new = "pgbouncer_stats_totals_queries_pooled_total{database=\"pgbouncer\"}";
    assert!(scrape.value(new) > 0.0);
}

#[tokio::test]
async fn counters_never_go_down_whoever_leaves() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = trusting(workers)
            .metrics()
            .database("app", &fake.conn_info("app"))
            .database("*", &fake.conn_info("any"))
            .set("autodb_idle_timeout", 1)
            .set("server_idle_timeout", 1)
            .start()
            .await;
        let mut clients = Vec::new();
        for database in ["app", "app", "auto"] {
            let mut client = FakeClient::login_trust(&pooler.address(), "alice", database).await;
            client.query_value("SELECT 1").await;
            clients.push(client);
        }
        let mut watch = Watch::default();
        watch.look(&pooler).await;
        for client in clients {
            client.close().await;
            watch.look(&pooler).await;
        }
        pooler.reload(|setup| setup.without_database("app")).await;
        watch
            .look_until(&pooler, "cleaning up idle pool: db=auto")
            .await;
        let auto = "pgbouncer_stats_totals_queries_pooled_total{database=\"auto\"}";
        let app = "pgusher_query_duration_seconds_count{database=\"app\",user=\"alice\"}";
        let last = watch.look(&pooler).await;
        assert_eq!((last.value(auto), last.value(app)), (1.0, 2.0));
        // Who comes back counts on.
        client(&pooler, "alice").await.query_value("SELECT 1").await;
        let last = watch.look(&pooler).await;
        assert_eq!(last.value(app), 3.0);
    }
}

/// Remembers counters.
#[derive(Default)]
struct Watch(BTreeMap<String, f64>);

impl Watch {
    /// Scrapes, and sees that no counter is gone or less.
    async fn look(&mut self, pooler: &testkit::Pooler) -> Scrape {
        let scrape = Scrape::of(pooler).await;
        for (sample, before) in &self.0 {
            let now = scrape.value(sample);
            assert!(now >= *before, "{sample} went from {before} to {now}");
        }
        let ups = ["_total", "_bucket", "_sum", "_count"];
        let counts = |sample: &str| ups.iter().any(|end| name(sample).ends_with(end));
        let counters = scrape.samples.iter().filter(|(sample, _)| counts(sample));
        self.0 = counters
            .map(|(sample, value)| (sample.clone(), *value))
            .collect();
        scrape
    }

    async fn look_until(&mut self, pooler: &testkit::Pooler, line: &str) {
        testkit::in_time(line, async {
            while pooler.log_count(line) == 0 {
                self.look(pooler).await;
            }
        })
        .await;
    }
}
