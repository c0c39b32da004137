//! What goes wrong with prepared statements, and that it heals.

use testkit::Message;

use super::{NAMES, code, prepare, run, say, value};
use crate::support::{WORKERS, alice, before_postgres, clients, postgres, words};

#[tokio::test]
async fn a_name_that_is_taken_or_unknown_ends_the_session() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        for (offence, expected) in [
            (
                Message::parse("a", "SELECT 2"),
                "prepared statement name is already in use",
            ),
            (
                Message::bind("", "b", &[]),
                "prepared statement did not exist",
            ),
            (
                Message::describe_statement("b"),
                "prepared statement did not exist",
            ),
        ] {
            let mut client = alice(&pooler).await;
            prepare(&mut client, "a", "SELECT 1").await;
            client.send_all(&[offence, Message::sync()]).await;
            let error = client.expect_error().await;
            assert_eq!(words(&error), format!("FATAL 08P01 {expected}"));
            client.expect_closed().await;
        }
        let mut client = alice(&pooler).await;
        // To close what is not there is no offence.
        let answer = say(&mut client, &[&[Message::close_statement("b")]]).await;
        assert_eq!(answer[0], Message::close_complete());
    }
}

#[tokio::test]
async fn a_parse_that_failed_is_not_remembered() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut client, mut other] = clients(&pooler).await;
        let wrong = [Message::parse("a", "SELECT * FROM nowhere")];
        let answer = say(&mut client, &[&wrong, &run("a", &[])]).await;
        assert_eq!(code(&answer), "42P01");
        // The same again, from somebody else too: the server is asked each time.
        assert_eq!(code(&say(&mut other, &[&wrong]).await), "42P01");
        assert_eq!(code(&say(&mut client, &[&wrong]).await), "42P01");
        prepare(&mut client, "a", "SELECT 'right'").await;
        assert_eq!(value(&mut client, "a", &[]).await, "right");
    }
}

#[tokio::test]
async fn a_statement_that_others_have_fails_in_a_failed_transaction() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 1)
        .set("default_pool_size", 1)
        .start()
        .await;
    let [mut client, mut other] = clients(&pooler).await;
    prepare(&mut other, "a", "SELECT 'a'").await;
    client.query("BEGIN").await;
    client.query("SELECT 1/0").await;
    let parse = [Message::parse("a", "SELECT 'a'")];
    assert_eq!(code(&say(&mut client, &[&parse]).await), "25P02");
    client.query("ROLLBACK").await;
    // The name is free, and the statement well where it was.
    prepare(&mut client, "a", "SELECT 'a'").await;
    assert_eq!(value(&mut client, "a", &[]).await, "a");
    assert_eq!(value(&mut other, "a", &[]).await, "a");
}

#[tokio::test]
async fn a_plan_that_changed_is_told_once_to_each_and_heals() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 2)
            .start()
            .await;
        postgres
            .run_in(
                "app",
                "DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT 'one' AS a; \
                 GRANT ALL ON t TO PUBLIC",
            )
            .await;
        let [mut first, mut second, mut third] = clients(&pooler).await;
        let count = async |client: &mut testkit::FakeClient, name: &str| {
            let answer = say(client, &[&run(name, &[])]).await;
            match answer.iter().find_map(Message::values) {
                Some(row) => row.len().to_string(),
                None => code(&answer),
            }
        };
        // Both servers have it.
        for client in [&mut first, &mut second] {
            client.query("BEGIN").await;
            prepare(client, "all", "SELECT * FROM t").await;
        }
        for client in [&mut first, &mut second] {
            client.query("COMMIT").await;
        }
        prepare(&mut third, "all", "SELECT * FROM t").await;
        assert_eq!(count(&mut third, "all").await, "1");
        postgres
            .run_in("app", "ALTER TABLE t ADD b text DEFAULT 'two'")
            .await;

        assert_eq!(count(&mut first, "all").await, "0A000");
        // Its own retry, under the same name or a new one, on either server.
        for other in [&mut second, &mut third] {
            other.query("BEGIN").await;
            assert_eq!(count(&mut first, "all").await, "2");
            other.query("COMMIT").await;
        }
        prepare(&mut first, "more", "SELECT * FROM t").await;
        assert_eq!(count(&mut first, "more").await, "2");
        // Nobody takes two columns for one: who believes in the old result hears of it, once.
        assert_eq!(count(&mut second, "all").await, "0A000");
        assert_eq!(count(&mut second, "all").await, "2");
        // Who asks what it is need not.
        let describe = [Message::describe_statement("all")];
        let answer = say(&mut third, &[&describe]).await;
        assert_eq!(answer[1].columns().map(|columns| columns.len()), Some(2));
        assert_eq!(count(&mut third, "all").await, "2");
    }
}

#[tokio::test]
async fn whoever_was_told_of_a_result_does_not_get_another_one_for_it() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let all = "SELECT * FROM u";
        postgres
            .run_in(
                "app",
                "DROP TABLE IF EXISTS u; CREATE TABLE u AS SELECT 1 AS a; \
                 GRANT ALL ON u TO PUBLIC",
            )
            .await;
        let [mut told, mut untold, mut next] = clients(&pooler).await;
        for client in [&mut told, &mut untold] {
            prepare(client, "all", all).await;
        }
        let describe = [Message::describe_statement("all")];
        say(&mut told, &[&describe]).await;
        assert_eq!(value(&mut untold, "all", &[]).await, "1");
        // As long as nothing changes, servers may come and go.
        let console = pooler.console().await;
        console.run("RECONNECT").await;
        assert_eq!(value(&mut told, "all", &[]).await, "1");

        postgres
            .run_in("app", "ALTER TABLE u ALTER a TYPE real")
            .await;
        console.run("RECONNECT").await;
        let answer = say(&mut told, &[&run("all", &[])]).await;
        assert_eq!(code(&answer), "0A000");
        assert_eq!(answer.len(), 2, "{answer:?}");
        let answer = say(&mut told, &[&describe, &run("all", &[])]).await;
        assert_eq!(answer[1].column_types(), Some(vec![700]));
        // Whoever prepares it now wants it as it is now.
        let fresh = [Message::parse("all", all)];
        let answer = say(&mut next, &[&fresh, &run("all", &[])]).await;
        assert!(answer.iter().any(|m| m.values().is_some()), "{answer:?}");
    }
}

#[tokio::test]
async fn a_statement_prepared_anew_is_what_it_is_by_then() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 1)
        .set("default_pool_size", 1)
        .start()
        .await;
    let sql = |change: &str| format!("DROP TABLE IF EXISTS v; CREATE TABLE v AS SELECT {change}");
    let console = pooler.console().await;
    let [mut first, mut second] = clients(&pooler).await;
    postgres.run_in("app", &sql("1 AS a")).await;
    postgres.run_in("app", "GRANT ALL ON v TO PUBLIC").await;
    prepare(&mut first, "all", "SELECT * FROM v").await;
    let describe = [Message::describe_statement("all")];
    say(&mut first, &[&describe]).await;
    postgres.run_in("app", &sql("2 AS a, 3 AS b")).await;
    postgres.run_in("app", "GRANT ALL ON v TO PUBLIC").await;
    console.run("RECONNECT").await;
    // All at once: its description is that of its rows, and no error comes between.
    let batch = [
        &[Message::parse("all", "SELECT * FROM v")][..],
        &run("all", &[]),
        &describe,
    ];
    let answer = say(&mut second, &batch).await;
    let row = answer.iter().find_map(Message::values).unwrap();
    assert_eq!(row.len(), 2);
    let columns = answer.iter().find_map(Message::columns).unwrap();
    assert_eq!(columns, ["a", "b"]);
    assert_eq!(code(&say(&mut first, &[&run("all", &[])]).await), "0A000");
    let answer = say(&mut first, &[&run("all", &[])]).await;
    assert_eq!(answer.iter().find_map(Message::values).unwrap().len(), 2);
}

#[tokio::test]
async fn a_statement_lost_behind_our_back_is_prepared_anew() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 1)
        .set("default_pool_size", 1)
        .start()
        .await;
    let mut client = alice(&pooler).await;
    prepare(&mut client, "a", "SELECT 'a'").await;
    client.query("DEALLOCATE \"PGBOUNCER_1\"").await;
    let answer = say(&mut client, &[&run("a", &[])]).await;
    assert_eq!(code(&answer), "26000");
    assert_eq!(value(&mut client, "a", &[]).await, "a");
}

#[tokio::test]
async fn a_name_of_ours_that_sql_took_is_taken_back() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 1)
        .set("default_pool_size", 1)
        .start()
        .await;
    let mut client = alice(&pooler).await;
    client
        .query("PREPARE \"PGBOUNCER_1\" AS SELECT 'somebody else''s'")
        .await;
    let parse = [Message::parse("a", "SELECT 'a'")];
    assert_eq!(code(&say(&mut client, &[&parse]).await), "42P05");
    prepare(&mut client, "a", "SELECT 'a'").await;
    assert_eq!(value(&mut client, "a", &[]).await, "a");
}

#[tokio::test]
async fn statements_take_no_more_memory_than_allowed() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("prepared_statement_memory", 10_000)
            .start()
            .await;
        let [mut client, mut other] = clients(&pooler).await;
        let long = |letter: &str| format!("SELECT length('{}')", letter.repeat(6_000));
        prepare(&mut client, "a", &long("a")).await;
        client.query("BEGIN").await;
        let parse = [Message::parse("b", &long("b"))];
        let answer = say(&mut client, &[&parse, &run("b", &[])]).await;
        assert_eq!(code(&answer), "53200");
        assert_eq!(answer.len(), 2, "{answer:?}");
        // As after any other error.
        assert_eq!(code(&say(&mut client, &[&run("a", &[])]).await), "25P02");
        client.query("ROLLBACK").await;
        assert_eq!(value(&mut client, "a", &[]).await, "6000");
        // One that is too long by itself is not even read.
        let endless = format!("SELECT '{}'", "x".repeat(100_000));
        let parse = [Message::parse("c", &endless)];
        assert_eq!(code(&say(&mut client, &[&parse]).await), "53200");
        // An unnamed one is nobody's memory.
        let unnamed = [Message::parse("", &endless)];
        assert_eq!(
            say(&mut client, &[&unnamed]).await[0],
            Message::parse_complete()
        );

        // Names take memory, too.
        let names: Vec<_> = (0..100)
            .map(|n| Message::parse(&format!("n{n}"), "SELECT 1"))
            .collect();
        assert_eq!(code(&say(&mut other, &[&names]).await), "53200");
        other.close().await;
        client.close().await;
        let mut next = alice(&pooler).await;
        next.query("DISCARD ALL").await;
        prepare(&mut next, "b", &long("b")).await;
        assert_eq!(next.query_value(NAMES).await.split(' ').count(), 1);
    }
}
