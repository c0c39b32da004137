//! When a server goes back to the pool, and what is cleaned before it is lent again.

use expect_test::expect;
use testkit::{FakeServer, Message, Side, transcript};

use crate::support::{
    WORKERS, before, before_postgres, client, clients, numbered, postgres, server_of,
    wait_for_waiting,
};

#[tokio::test]
async fn a_transaction_keeps_its_server_and_then_gives_it_back() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        first.query("BEGIN").await;
        second.send(Message::query("SELECT 'second'")).await;
        wait_for_waiting(&pooler, 1).await;
        first.query("SELECT 'first'").await;
        first.query("COMMIT").await;
        second.read_until_ready().await;
        first.query("SELECT 'again'").await;

        assert_eq!(
            server.connection(0).await.queries(),
            [
                "BEGIN",
                "SELECT 'first'",
                "COMMIT",
                "SELECT 'second'",
                "SELECT 'again'"
            ]
        );
        assert_eq!(server.connections().len(), 1);
    }
}

#[tokio::test]
async fn a_failed_transaction_keeps_its_server_until_it_is_rolled_back() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        first.query("BEGIN").await;
        first.query("FAIL 22012 division by zero").await;
        second.send(Message::query("SELECT 'second'")).await;
        wait_for_waiting(&pooler, 1).await;
        first.query("ROLLBACK").await;
        second.read_until_ready().await;

        let queries = server.connection(0).await.queries();
        assert_eq!(queries[2..], ["ROLLBACK", "SELECT 'second'"]);
    }
}

#[tokio::test]
async fn a_pipeline_keeps_its_server_until_its_sync_is_answered() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        let request = [
            Message::parse("", "SELECT 'first'"),
            Message::bind("", "", &[]),
            Message::execute(""),
            Message::flush(),
        ];
        first.send_all(&request).await;
        first.read_until(b'C').await;
        second.send(Message::query("SELECT 'second'")).await;
        wait_for_waiting(&pooler, 1).await;
        first.send(Message::sync()).await;
        first.read_until_ready().await;
        second.read_until_ready().await;

        let tags: Vec<u8> = server
            .connection(0)
            .await
            .received()
            .iter()
            .map(|it| it.tag)
            .collect();
        assert_eq!(tags, *b"PBEHSQ");
    }
}

#[tokio::test]
async fn a_copy_keeps_its_server_to_its_end() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        first.send(Message::query("COPY t FROM STDIN")).await;
        first.read_until(b'G').await;
        second.send(Message::query("SELECT 'second'")).await;
        wait_for_waiting(&pooler, 1).await;
        first.send(Message::copy_data(Side::Client, b"row\n")).await;
        first.send(Message::copy_done(Side::Client)).await;
        first.read_until_ready().await;
        second.read_until_ready().await;

        let tags: Vec<u8> = server
            .connection(0)
            .await
            .received()
            .iter()
            .map(|it| it.tag)
            .collect();
        assert_eq!(tags, *b"QdcQ");
    }
}

#[tokio::test]
async fn statement_mode_takes_the_server_back_after_every_statement() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("pool_mode", "statement")
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        first.query("SELECT 1").await;
        second.query("SELECT 2").await;
        first.query("BEGIN; SELECT 3; COMMIT").await;
        second.query("SELECT 4").await;

        assert_eq!(
            server.connection(0).await.queries(),
            [
                "SELECT 1",
                "SELECT 2",
                "BEGIN; SELECT 3; COMMIT",
                "SELECT 4"
            ]
        );
    }
}

#[tokio::test]
async fn statement_mode_refuses_a_transaction_block_and_closes_both_sides() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("pool_mode", "statement")
            .start()
            .await;
        let [mut bold, mut modest] = clients(&pooler).await;

        bold.send(Message::query("BEGIN")).await;
        let told = bold.expect_closed().await;

        expect![[r#"
            < ErrorResponse FATAL 08P01: transaction blocks not allowed in statement pooling mode
        "#]]
        .assert_eq(&transcript(&told));
        server.connection(0).await.wait_closed().await;
        modest.query("SELECT 'unharmed'").await;
    }
}

#[tokio::test]
async fn session_mode_keeps_the_server_from_the_first_query_to_the_clients_end() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("pool_mode", "session")
            .start()
            .await;
        let [mut first, mut second, _talks_never] = clients(&pooler).await;

        first.query("SELECT 'first'").await;
        second.send(Message::query("SELECT 'second'")).await;
        wait_for_waiting(&pooler, 1).await;
        first.query("SELECT 'first again'").await;
        first.close().await;
        second.read_until_ready().await;

        assert_eq!(
            server.connection(0).await.queries(),
            [
                "SELECT 'first'",
                "SELECT 'first again'",
                "DISCARD ALL",
                "SELECT 'second'"
            ]
        );
    }
}

#[tokio::test]
async fn nothing_of_a_session_reaches_the_next_one() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("pool_mode", "session")
            .start()
            .await;
        let mut first = client(&pooler, "alice").await;
        let pid = first.query_value("SELECT pg_backend_pid()").await;
        for sql in [
            "CREATE TEMP TABLE mine (n int)",
            "SET work_mem = '77MB'",
            "SELECT pg_advisory_lock(42)",
            "LISTEN news",
            "PREPARE one AS SELECT 1",
            "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
        ] {
            first.query(sql).await;
        }
        first.close().await;

        let mut second = client(&pooler, "alice").await;
        let mut left = Vec::new();
        for sql in [
            "SELECT count(*) FROM pg_class WHERE relname = 'mine'",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
            "SELECT count(*) FROM pg_listening_channels()",
            "SELECT count(*) FROM pg_prepared_statements",
            "SELECT count(*) FROM pg_cursors",
            "SELECT count(*) FROM pg_settings WHERE name = 'work_mem' AND source = 'session'",
        ] {
            left.push(second.query_value(sql).await);
        }

        assert_eq!(left, ["0"; 6]);
        assert_eq!(second.query_value("SELECT pg_backend_pid()").await, pid);
    }
}

#[tokio::test]
async fn transaction_mode_cleans_nothing_unless_told_to_always() {
    for (always, cleaned) in [(0, false), (1, true)] {
        let server = FakeServer::start().await;
        let pooler = before(&server, 3)
            .set("default_pool_size", 1)
            .set("server_reset_query_always", always)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        first.query("SELECT 1").await;
        second.query("SELECT 2").await;

        let queries = server.connection(0).await.queries();
        assert_eq!(
            queries.contains(&"DISCARD ALL".to_owned()),
            cleaned,
            "{queries:?}"
        );
    }
}

#[tokio::test]
async fn the_reset_query_is_the_one_that_was_asked_for() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 1)
        .set("default_pool_size", 1)
        .set("pool_mode", "session")
        .set("server_reset_query", "RESET ALL; UNLISTEN *")
        .start()
        .await;
    let mut first = client(&pooler, "alice").await;
    first.query("SELECT 1").await;
    first.close().await;
    let mut second = client(&pooler, "alice").await;
    second.query("SELECT 2").await;

    assert_eq!(
        server.connection(0).await.queries(),
        ["SELECT 1", "RESET ALL; UNLISTEN *", "SELECT 2"]
    );
}

#[tokio::test]
async fn a_server_that_fails_its_reset_is_never_lent_again() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("pool_mode", "session")
            .set("server_reset_query", "FAIL 55000 cannot forget")
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;

        assert_eq!(server_of(&mut first).await, 0);
        second.send(Message::query("SELECT server")).await;
        wait_for_waiting(&pooler, 1).await;
        first.close().await;

        let answer = second.read_until_ready().await;
        let number = answer.iter().find_map(Message::values);
        assert_eq!(number, Some(vec![Some("1".to_owned())]));
        server.connection(0).await.wait_closed().await;
        assert_eq!(server.logged_in_max(), 1);
    }
}

#[tokio::test]
async fn with_server_fast_close_a_session_parts_from_a_server_that_must_go() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("pool_mode", "session")
            .set("server_fast_close", 1)
            .start()
            .await;
        let [mut idle, mut busy] = clients(&pooler).await;
        idle.query("SELECT 'idle'").await;
        busy.query("BEGIN").await;

        pooler.console().await.run("RECONNECT").await;
        let text = "database configuration changed";
        assert_eq!(idle.expect_error().await.text(), text);
        idle.expect_closed().await;
        // A transaction is seen to its end first.
        assert_eq!(busy.query_value("SELECT 'busy'").await, "busy");
        busy.query("COMMIT").await;
        assert_eq!(busy.expect_error().await.text(), text);
    }
}
