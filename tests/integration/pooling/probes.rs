//! What a server is asked before a client gets it: `connect_query` and the check query.

use testkit::{Ask, FakeServer, Gate, Message, Step};

use crate::support::{
    WORKERS, before, client, clients, number, numbered, server_of, wait_for_waiting,
};

#[tokio::test]
async fn a_server_that_idled_is_probed_with_an_empty_query_before_its_next_use() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_check_delay", 0)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        first.query("SELECT 1").await;
        second.query("SELECT 2").await;
        first.query("SELECT 3").await;

        assert_eq!(
            server.connection(0).await.queries(),
            ["", "SELECT 1", "", "SELECT 2", "", "SELECT 3"]
        );
    }
}

#[tokio::test]
async fn the_check_query_is_the_one_that_was_asked_for() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_check_delay", 0)
            .set("server_check_query", "SELECT 'alive'")
            .start()
            .await;

        client(&pooler, "alice").await.query("SELECT 1").await;

        let queries = server.connection(0).await.queries();
        assert_eq!(queries, ["SELECT 'alive'", "SELECT 1"]);
    }
}

#[tokio::test]
async fn nothing_is_probed_within_the_check_delay_or_without_a_check_query() {
    for (delay, query) in [("30", "<empty>"), ("0", "")] {
        for workers in WORKERS {
            let server = FakeServer::start().await;
            let pooler = before(&server, workers)
                .set("server_check_delay", delay)
                .set("server_check_query", query)
                .start()
                .await;

            let mut alice = client(&pooler, "alice").await;
            alice.query("SELECT 1").await;
            alice.query("SELECT 2").await;

            let queries = server.connection(0).await.queries();
            assert_eq!(queries, ["SELECT 1", "SELECT 2"]);
        }
    }
}

#[tokio::test]
async fn with_a_check_delay_of_zero_whoever_waited_gets_a_probed_server_too() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_check_delay", 0)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        first.query("BEGIN").await;
        second.send(Message::query("SELECT 2")).await;
        wait_for_waiting(&pooler, 1).await;
        first.query("COMMIT").await;
        second.read_until_ready().await;

        let queries = server.connection(0).await.queries();
        assert_eq!(queries, ["", "BEGIN", "COMMIT", "", "SELECT 2"]);
    }
}

/// A server whose first connection answers its probe like this.
async fn failing_its_first_probe(how: fn() -> Vec<Step>) -> FakeServer {
    FakeServer::setup()
        .answer(move |ask: Ask| async move {
            let probed = ask.connection == 0 && ask.sql.is_empty();
            if probed { Some(how()) } else { number(&ask) }
        })
        .start()
        .await
}

#[tokio::test]
async fn a_failed_probe_costs_no_client_its_query() {
    let failures: [fn() -> Vec<Step>; 4] = [
        || vec![Step::Die],
        || vec![Step::DieAbruptly],
        || Step::fail("57P01", "terminating connection"),
        || vec![Step::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())],
    ];
    for workers in WORKERS {
        for how in failures {
            let server = failing_its_first_probe(how).await;
            let pooler = before(&server, workers)
                .set("server_check_delay", 0)
                .set("server_connect_timeout", 2)
                .start()
                .await;

            let mut alice = client(&pooler, "alice").await;

            assert_eq!(server_of(&mut alice).await, 1);
            server.connection(0).await.wait_closed().await;
        }
    }
}

#[tokio::test]
async fn a_probe_that_is_never_answered_costs_no_client_its_query() {
    for workers in WORKERS {
        let server = failing_its_first_probe(|| vec![Step::Wait(Gate::closed())]).await;
        let pooler = before(&server, workers)
            .set("server_check_delay", 0)
            .set("server_connect_timeout", 1)
            .start()
            .await;

        let mut alice = client(&pooler, "alice").await;

        assert_eq!(server_of(&mut alice).await, 1);
    }
}

#[tokio::test]
async fn the_connect_query_runs_before_anything_else_and_once_a_connection() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let info = format!(
            "{} connect_query='SELECT ''first'''",
            server.conn_info("app")
        );
        let pooler = before(&server, workers)
            .database("app", &info)
            .start()
            .await;

        let mut alice = client(&pooler, "alice").await;
        alice.query("SELECT 1").await;
        alice.query("SELECT 2").await;

        let queries = server.connection(0).await.queries();
        assert_eq!(queries, ["SELECT 'first'", "SELECT 1", "SELECT 2"]);
    }
}

#[tokio::test]
async fn a_failed_connect_query_is_logged_and_does_no_harm() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let info = format!(
            "{} connect_query='FAIL 42601 nonsense'",
            server.conn_info("app")
        );
        let pooler = before(&server, workers)
            .database("app", &info)
            .start()
            .await;

        let mut alice = client(&pooler, "alice").await;

        assert_eq!(server_of(&mut alice).await, 0);
        pooler.wait_for_log("nonsense").await;
    }
}
