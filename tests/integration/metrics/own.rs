//! `pgusher_*`: what only we tell.

use testkit::{FakeClient, FakeServer, Gate, Login, Message, eventually_async};

use super::{Scrape, told};
use crate::support::{WORKERS, alice, client, wait_for_waiting};

const ALICE: &str = "{database=\"app\",user=\"alice\"}";

/// The count of one of alice's histograms.
fn count(scrape: &Scrape, name: &str) -> f64 {
    scrape.value(&format!("pgusher_{name}_seconds_count{ALICE}"))
}

#[tokio::test]
async fn waits_queries_transactions_and_logins_are_in_histograms() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = told(&fake, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut holder = alice(&pooler).await;
        holder.query("BEGIN").await;
        let mut waiter = alice(&pooler).await;
        let waits = tokio::spawn(async move { waiter.query("SELECT 1").await });
        wait_for_waiting(&pooler, 1).await;
        let oldest = format!("pgusher_oldest_wait_seconds{ALICE}");
        let limit = std::time::Duration::from_millis(100);
        // So that its wait is in a bucket of its own.
        eventually_async("a wait of 0.1 s", async || {
            Scrape::of(&pooler).await.value(&oldest) > limit.as_secs_f64()
        })
        .await;
        let scrape = Scrape::of(&pooler).await;
        assert_eq!(scrape.value(&format!("pgusher_waiters{ALICE}")), 1.0);
        holder.query("COMMIT").await;
        waits.await.unwrap();

        let scrape = Scrape::of(&pooler).await;
        assert_eq!(count(&scrape, "query_duration"), 3.0);
        assert_eq!(count(&scrape, "transaction_duration"), 2.0);
        assert_eq!(count(&scrape, "client_wait"), 2.0);
        assert_eq!(count(&scrape, "server_connect_duration"), 1.0);
        let below = |name: &str, bound: &str| {
            let labels = format!("{{database=\"app\",user=\"alice\",le=\"{bound}\"}}");
            scrape.value(&format!("pgusher_{name}_seconds_bucket{labels}"))
        };
        assert!(below("client_wait", "0.1") < 2.0);
        assert!(below("transaction_duration", "0.1") < 1.0);
        assert_eq!(below("client_wait", "+Inf"), 2.0);
        let sum = |name: &str| scrape.value(&format!("pgusher_{name}_seconds_sum{ALICE}"));
        assert!(sum("transaction_duration") > 2.0 * limit.as_secs_f64());
        let waited = "pgbouncer_stats_totals_client_wait_seconds_total{database=\"app\"}";
        assert!((sum("client_wait") - scrape.value(waited)).abs() < 1e-4);
    }
}

#[tokio::test]
async fn seats_are_told_by_state_with_their_limit_and_the_reserve() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = FakeServer::setup().login(Login::Behind(gate.clone()));
        let fake = fake.start().await;
        let pooler = told(&fake, workers)
            .set("default_pool_size", 1)
            .set("reserve_pool_size", 2)
            .set("reserve_pool_timeout", 1)
            .start()
            .await;
        let seats = |scrape: &Scrape, state: &str| {
            let labels = format!("{{database=\"app\",user=\"alice\",state=\"{state}\"}}");
            scrape.value(&format!("pgusher_seats{labels}"))
        };
        let address = pooler.address();
        let login =
            tokio::spawn(async move { FakeClient::login_trust(&address, "alice", "app").await });
        gate.wait_for_waiting(1).await;
        assert_eq!(seats(&Scrape::of(&pooler).await, "login"), 1.0);
        gate.open();
        let mut first = login.await.unwrap();
        first.query("BEGIN").await;
        let mut second = alice(&pooler).await;
        second.query("BEGIN").await;

        let scrape = Scrape::of(&pooler).await;
        let value = |name: &str| scrape.value(&format!("pgusher_{name}{ALICE}"));
        assert_eq!(
            (seats(&scrape, "active"), seats(&scrape, "idle")),
            (2.0, 0.0)
        );
        assert_eq!(
            (value("seat_limit"), value("reserve_seat_limit")),
            (1.0, 2.0)
        );
        assert_eq!(
            (value("reserve_seats"), value("reserve_opened_total")),
            (1.0, 1.0)
        );
        assert_eq!(scrape.value("pgusher_backend_up{database=\"app\"}"), 1.0);
    }
}

#[tokio::test]
async fn refusals_and_ends_are_counted_by_reason() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = told(&fake, workers).start().await;
        for made_up in ["one", "two"] {
            let mut stranger = FakeClient::connect(&pooler.address()).await;
            stranger
                .startup(&[("user", "alice"), ("database", made_up)])
                .await;
            stranger.expect_closed().await;
        }
        let mut quits = alice(&pooler).await;
        quits.query_value("SELECT 1").await;
        quits.close().await;
        let mut loses = alice(&pooler).await;
        loses.send(Message::query("DIE")).await;
        loses.expect_closed().await;

        let value = async |sample: &str| {
            let scrape = Scrape::of(&pooler).await;
            scrape.samples.get(sample).copied()
        };
        for (sample, count) in [
            ("pgusher_refused_total{reason=\"no such database\"}", 2.0),
            (
                "pgusher_client_disconnects_total{reason=\"client close request\"}",
                1.0,
            ),
            (
                "pgusher_client_disconnects_total{reason=\"server conn crashed?\"}",
                1.0,
            ),
            (
                "pgusher_server_closed_total{reason=\"server conn crashed?\"}",
                1.0,
            ),
        ] {
            eventually_async(sample, async || value(sample).await == Some(count)).await;
        }
    }
}

#[tokio::test]
async fn prepared_statements_that_a_server_has_are_hits() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1)
        .set("max_prepared_statements", 10)
        .start()
        .await;
    let client = pooler.connect("alice", "secret", "app").await;
    let statement = client.prepare("SELECT 1").await.unwrap();
    for _ in 0..3 {
        client.query(&statement, &[]).await.unwrap();
    }
    let scrape = Scrape::of(&pooler).await;
    let value = |name: &str| {
        scrape.value(&format!(
            "pgusher_prepared_cache_{name}{{database=\"app\"}}"
        ))
    };
    assert_eq!(value("misses_total"), 1.0);
    assert!(value("hits_total") >= 3.0);
}

#[tokio::test]
async fn reloads_and_workers_are_told() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = told(&fake, workers).start().await;
        let _clients = [alice(&pooler).await, alice(&pooler).await];
        let first = Scrape::of(&pooler).await;
        assert_eq!(first.value("pgusher_config_reload_success"), 1.0);
        let clients = (0..workers)
            .map(|worker| first.value(&format!("pgusher_worker_clients{{worker=\"{worker}\"}}")));
        assert_eq!(clients.sum::<f64>(), 2.0);
        let busy = "pgusher_worker_busy_seconds_total{worker=\"0\"}";
        eventually_async("work", async || Scrape::of(&pooler).await.value(busy) > 0.0).await;

        pooler.rewrite(|setup| setup.set("default_pool_size", "many"));
        let console = pooler.console().await;
        assert!(console.try_run("RELOAD").await.is_err());
        let failed = Scrape::of(&pooler).await;
        assert_eq!(failed.value("pgusher_config_reload_success"), 0.0);
        let moment = "pgusher_config_reload_success_timestamp_seconds";
        assert_eq!(failed.value(moment), first.value(moment));
        pooler
            .reload(|setup| setup.set("default_pool_size", 3))
            .await;
        let mended = Scrape::of(&pooler).await;
        assert_eq!(mended.value("pgusher_config_reload_success"), 1.0);
        assert!(mended.value(moment) > first.value(moment));
    }
}

#[tokio::test]
async fn no_more_names_are_told_apart_than_allowed() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).set("metrics_label_limit", 1).start().await;
    for user in ["alice", "bob", "carol"] {
        client(&pooler, user).await.query_value("SELECT 1").await;
    }
    let scrape = Scrape::of(&pooler).await;
    let labelled = scrape.samples.iter();
    let queries: Vec<_> = labelled
        .filter(|(sample, _)| sample.starts_with("pgusher_query_duration_seconds_count"))
        .collect();
    assert_eq!(queries.len(), 2, "{queries:?}");
    let others = "pgusher_query_duration_seconds_count{database=\"(others)\",user=\"(others)\"}";
    assert_eq!(scrape.value(others), 2.0);
    let databases = "pgbouncer_stats_totals_queries_pooled_total{database=\"app\"}";
    assert_eq!(scrape.value(databases), 3.0);
}
