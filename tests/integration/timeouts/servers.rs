//! Queries, transactions and logins that take too long: the server goes, and its client.

use testkit::{FakeServer, Gate, Login, Message, eventually, eventually_async};

use super::ends_with;
use crate::support::{
    WORKERS, before, before_postgres, client, clients, numbered, postgres, server_of,
};

#[tokio::test]
async fn query_timeout_ends_a_running_query_and_cancels_it() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("query_timeout", 1)
            .start()
            .await;
        let [mut holder, mut slow] = clients(&pooler).await;
        holder.query("BEGIN").await;

        slow.send(Message::query("HOLD never")).await;
        server.gate("never").wait_for_waiting(1).await;
        ends_with(&mut slow, "query timeout").await;

        let stopped = server.connection(1).await;
        stopped.wait_closed().await;
        eventually("the query to be cancelled", || {
            server.cancels() == [stopped.key.clone()]
        })
        .await;
        pooler.wait_for_log("closing because: query timeout").await;
        holder.query("COMMIT").await;
    }
}

#[tokio::test]
async fn a_query_past_its_time_ends_in_postgresql_too() {
    let postgres = postgres().await;
    let admin = postgres.admin_client().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("query_timeout", 1)
            .start()
            .await;
        let mut alice = client(&pooler, "alice").await;

        alice.send(Message::query("SELECT pg_sleep(1000)")).await;
        ends_with(&mut alice, "query timeout").await;

        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
        eventually_async("the sleeper to end", async || {
            admin
                .query_one(sleeping, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
                == 0
        })
        .await;
    }
}

#[tokio::test]
async fn query_timeout_counts_each_query_by_itself() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("query_timeout", 2)
            .start()
            .await;
        let [mut steady, mut slow] = clients(&pooler).await;
        slow.send(Message::query("HOLD never")).await;

        // One transaction of many short queries lasts as long as the other's only one.
        steady.query("BEGIN").await;
        while pooler.log_count("closing because: query timeout") == 0 {
            steady.query("SELECT 1").await;
        }
        steady.query("COMMIT").await;
    }
}

#[tokio::test]
async fn idle_transaction_timeout_ends_a_transaction_that_idles() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("idle_transaction_timeout", 1)
            .start()
            .await;
        let [mut works, mut idles, mut failed] = clients(&pooler).await;
        let door = server.gate("door");
        works.query("BEGIN").await;
        works.send(Message::query("HOLD door")).await;
        door.wait_for_waiting(1).await;

        for (number, client) in [(1, &mut idles), (2, &mut failed)] {
            client.query("BEGIN").await;
            if number == 2 {
                client.query("FAIL 22012 division by zero").await;
            }
            ends_with(client, "idle transaction timeout").await;
            server.connection(number).await.wait_closed().await;
        }

        // Whose transaction works all that time is not idle.
        door.open();
        works.read_until_ready().await;
        works.query("COMMIT").await;
    }
}

#[tokio::test]
async fn transaction_timeout_ends_a_transaction_whatever_it_does() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("transaction_timeout", 1)
            .start()
            .await;
        let [mut idles, mut works, mut short] = clients(&pooler).await;

        idles.query("BEGIN").await;
        works.query("BEGIN").await;
        works.send(Message::query("HOLD never")).await;
        while pooler.log_count("closing because: transaction timeout") < 4 {
            short.query("SELECT 'a transaction of its own'").await;
        }

        ends_with(&mut idles, "transaction timeout").await;
        ends_with(&mut works, "transaction timeout").await;
        for number in [0, 1] {
            server.connection(number).await.wait_closed().await;
        }
        short.query("SELECT 1").await;
    }
}

#[tokio::test]
async fn server_connect_timeout_gives_up_a_login_and_the_client_waits_on() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let pooler = before(&server, workers)
            .set("server_connect_timeout", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;
        first.query("BEGIN").await;
        server.set_login(Login::Behind(Gate::closed()));

        second.send(Message::query("SELECT server")).await;
        pooler
            .wait_for_log("closing because: connect timeout")
            .await;
        server.connection(1).await.wait_closed().await;
        server.set_login(Login::Trust);

        let answer = second.read_until_ready().await;
        assert!(answer.iter().any(|it| it.values().is_some()), "{answer:?}");
        assert_eq!(server_of(&mut first).await, 0);
    }
}
