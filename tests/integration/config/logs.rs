//! What is logged, and how.

use testkit::Pooler;

use crate::support::{outcome, pgusher};

/// Waits for a line of the log after its first so many.
async fn line(pooler: &Pooler, text: &str) -> serde_json::Value {
    let line = pooler.wait_for_log(text).await;
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[tokio::test]
async fn json_lines_have_the_names_of_their_events() {
    let pooler = pgusher(1).set("log_format", "json").start().await;
    outcome(&pooler, "a \"quoted\"\nname", "", "nowhere").await;
    let attempt = line(&pooler, "login_attempt").await;
    assert_eq!(attempt["level"], "LOG");
    assert_eq!(attempt["pid"], pooler.pid());
    let message = attempt["message"].as_str().unwrap();
    assert!(message.starts_with("C-0x"), "{message}");
    let error = line(&pooler, "pooler_error").await;
    assert_eq!(error["level"], "WARNING");
    for event in ["listening", "process_up", "client_closed"] {
        assert_eq!(line(&pooler, event).await["event"], event);
    }
    // Every line, also those without a name.
    let console = pooler.console().await;
    console.run("SET log_format = 'pgbouncer'").await;
    for line in pooler.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    outcome(&pooler, "later", "", "nowhere").await;
    let line = pooler.wait_for_log("user=later").await;
    assert!(line.contains("] LOG C-0x"), "{line}");
}

#[tokio::test]
async fn statistics_are_logged_each_period_unless_switched_off() {
    let pooler = pgusher(1).set("stats_period", 1).start().await;
    let line = pooler.wait_for_log_count("stats: ", 2).await;
    for figure in ["xacts/s, ", "queries/s, ", "in 0 B/s, ", "wait 0 us"] {
        assert!(line.contains(figure), "{line}");
    }
    pooler.console().await.run("SET log_stats = 0").await;
    let count = pooler.log_count("stats: ");
    let other = pgusher(1).set("stats_period", 1).start().await;
    other.wait_for_log_count("stats: ", 2).await;
    assert_eq!(pooler.log_count("stats: "), count);
}

#[tokio::test]
async fn statistics_follow_a_reload() {
    let mut pooler = pgusher(1).set("stats_period", 3600).start().await;
    let mut silent = pgusher(1)
        .set("stats_period", 1)
        .set("log_stats", 0)
        .start()
        .await;
    pooler.reload(|setup| setup.set("stats_period", 1)).await;
    pooler.wait_for_log_count("stats: ", 2).await;
    assert_eq!(silent.log_count("stats: "), 0);
    silent.reload(|setup| setup.set("log_stats", 1)).await;
    silent.wait_for_log("stats: ").await;
}

#[tokio::test]
async fn verbose_says_how_much_is_logged() {
    let pooler = pgusher(1).user("alice", "a").start().await;
    let refused = async || outcome(&pooler, "alice", "wrong", "nowhere").await;
    refused().await;
    pooler.wait_for_log_count("pooler error: ", 1).await;
    assert_eq!(pooler.log_count("] DEBUG "), 0);
    pooler.console().await.run("SET verbose = 1").await;
    refused().await;
    pooler.wait_for_log("] DEBUG ").await;
}
