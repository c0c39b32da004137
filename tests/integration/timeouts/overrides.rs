//! Whose timeout counts: the user's, the database's, or the one for all.

use testkit::{FakeClient, FakeServer, Message};

use super::ends_with;
use crate::support::{WORKERS, before, client, wait_for_waiting};

#[tokio::test]
async fn a_users_query_wait_timeout_beats_the_databases_and_that_the_one_for_all() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let forced = format!(
            "{} user=shared query_wait_timeout=1",
            server.conn_info("app")
        );
        let pooler = before(&server, workers)
            .database("app", &forced)
            .set("default_pool_size", 1)
            .set("query_wait_timeout", 100)
            .section("[users]\nbob = query_wait_timeout=0\ncarol = query_wait_timeout=2")
            .start()
            .await;
        let mut holder = client(&pooler, "alice").await;
        holder.query("BEGIN").await;
        let [mut bob, mut carol, mut alice] = [
            client(&pooler, "bob").await,
            client(&pooler, "carol").await,
            client(&pooler, "alice").await,
        ];
        for (count, client) in (1..).zip([&mut bob, &mut carol, &mut alice]) {
            client.send(Message::query("SELECT 1")).await;
            wait_for_waiting(&pooler, count).await;
        }

        // Alice came last and goes first; carol has longer; bob waits for ever.
        ends_with(&mut alice, "query_wait_timeout").await;
        let ended = "closing because: query_wait_timeout";
        pooler.wait_for_log(ended).await;
        assert_eq!(pooler.log_count(ended), 1);
        ends_with(&mut carol, "query_wait_timeout").await;
        holder.query("COMMIT").await;
        bob.read_until_ready().await;
    }
}

/// Alice has 1 s for what bob, for whom the general setting of 100 s holds, may do for longer.
async fn a_users_own(setting: &str, text: &str, over_the_limit: &[&str]) {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set(setting, 100)
            .section(&format!("[users]\nalice = {setting}=1"))
            .start()
            .await;
        let mut alice = client(&pooler, "alice").await;
        let mut bob = client(&pooler, "bob").await;

        for client in [&mut bob, &mut alice] {
            go_over(client, over_the_limit).await;
        }
        ends_with(&mut alice, text).await;

        server.gate("door").open();
        if over_the_limit
            .last()
            .is_some_and(|sql| sql.starts_with("HOLD"))
        {
            bob.read_until_ready().await;
        }
        bob.query("SELECT 'still here'").await;
    }
}

/// Sends the queries, and reads the answers of all that are answered at once.
async fn go_over(client: &mut FakeClient, queries: &[&str]) {
    for sql in queries {
        client.send(Message::query(sql)).await;
        if !sql.starts_with("HOLD") {
            client.read_until_ready().await;
        }
    }
}

#[tokio::test]
async fn a_users_query_timeout_beats_the_one_for_all() {
    a_users_own("query_timeout", "query timeout", &["HOLD door"]).await;
}

#[tokio::test]
async fn a_users_idle_transaction_timeout_beats_the_one_for_all() {
    a_users_own(
        "idle_transaction_timeout",
        "idle transaction timeout",
        &["BEGIN"],
    )
    .await;
}

#[tokio::test]
async fn a_users_transaction_timeout_beats_the_one_for_all() {
    a_users_own(
        "transaction_timeout",
        "transaction timeout",
        &["BEGIN", "HOLD door"],
    )
    .await;
}

#[tokio::test]
async fn a_users_client_idle_timeout_beats_the_one_for_all() {
    a_users_own("client_idle_timeout", "client_idle_timeout", &["SELECT 1"]).await;
}
