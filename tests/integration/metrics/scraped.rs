//! Prometheus and its tool read what we write.

use testkit::{FakeServer, Prometheus, eventually_async, promtool};

use super::told;
use crate::support::alice;

#[tokio::test]
async fn promtool_finds_no_fault_with_the_text() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).start().await;
    alice(&pooler).await.query_value("SELECT 1").await;
    let text = pooler.page("/metrics").await.body;
    let (content, said) = promtool(&["check", "metrics"], &text);
    assert!(content && said.is_empty(), "{said}");
    // It does look.
    let (content, said) = promtool(&["check", "metrics"], "# TYPE oops counter\noops 1\n");
    assert!(!content, "{said}");
}

#[tokio::test]
async fn prometheus_scrapes_and_answers() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).start().await;
    let mut client = alice(&pooler).await;
    for _ in 0..5 {
        client.query_value("SELECT 1").await;
    }
    let prometheus = Prometheus::start(pooler.metrics_port()).await;
    for (expression, value) in [
        ("up", "1"),
        (
            "pgbouncer_stats_totals_queries_pooled_total{database=\"app\"}",
            "5",
        ),
        ("sum by (user) (pgusher_query_duration_seconds_count)", "5"),
        (
            "histogram_quantile(0.99, pgusher_query_duration_seconds_bucket) < bool 100",
            "1",
        ),
    ] {
        eventually_async(expression, async || {
            let answer = prometheus.query(expression).await;
            answer.contains(&format!(",\"{value}\"]"))
        })
        .await;
    }
}
