//! A statement is where it is needed, once, and not for ever.

use testkit::{FakeServer, Message};

use super::{NAMES, code, counts, first_value, prepare, run, say, value};
use crate::support::{
    WORKERS, alice, before, before_postgres, clients, converse, postgres, servers_opened,
};

#[tokio::test]
async fn clients_that_prepare_the_same_share_one_statement() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut first, mut second] = clients(&pooler).await;
        prepare(&mut first, "mine", "SELECT $1::text").await;
        prepare(&mut second, "yours", "SELECT $1::text").await;
        prepare(&mut second, "again", "SELECT $1::text").await;
        for name in ["yours", "again"] {
            assert_eq!(value(&mut second, name, &[Some(name)]).await, name);
        }
        assert_eq!(value(&mut first, "mine", &[Some("mine")]).await, "mine");
        assert_eq!(first.query_value(NAMES).await, "PGBOUNCER_1");
        assert_eq!(counts(&pooler).await, [3, 1, 3]);

        let console = pooler.console().await;
        let held = |row: &testkit::Row| row.number("prepared_statements");
        let clients = console.show("CLIENTS").await;
        let ours = clients
            .iter()
            .filter(|row| row.get("database") == Some("app"));
        let mut names: Vec<i64> = ours.map(held).collect();
        names.sort_unstable();
        assert_eq!(names, [1, 2]);
        let servers = console.show("SERVERS").await;
        assert_eq!(servers.iter().map(held).collect::<Vec<_>>(), [1]);
    }
}

#[tokio::test]
async fn types_of_parameters_make_another_statement() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 1).start().await;
    let mut client = alice(&pooler).await;
    let typed = |name: &str, oid: u32| {
        let body = [
            name.as_bytes(),
            b"\0SELECT pg_typeof($1)\0\0\x01",
            &oid.to_be_bytes(),
        ];
        Message::client(b'P', body.concat())
    };
    say(&mut client, &[&[typed("int", 23), typed("text", 25)]]).await;
    assert_eq!(value(&mut client, "int", &[Some("1")]).await, "integer");
    assert_eq!(value(&mut client, "text", &[Some("1")]).await, "text");
}

#[tokio::test]
async fn a_statement_follows_its_client_to_every_server() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 2)
            .start()
            .await;
        let [mut client, mut other] = clients(&pooler).await;
        other.query("BEGIN").await;
        prepare(&mut client, "pid", "SELECT pg_backend_pid()").await;
        let first = value(&mut client, "pid", &[]).await;
        // Whoever takes the server in between leaves the client with the other one.
        let third = &mut alice(&pooler).await;
        third.query("BEGIN").await;
        other.query("COMMIT").await;
        let second = value(&mut client, "pid", &[]).await;
        assert_ne!(first, second);
        assert_eq!(counts(&pooler).await, [1, 2, 2]);

        third.query("COMMIT").await;
        let describe = [Message::describe_statement("pid")];
        let answer = say(&mut client, &[&describe]).await;
        assert_eq!(answer[1].columns(), Some(vec!["pg_backend_pid".into()]));
        assert_eq!(servers_opened(&pooler).await, 2);
    }
}

#[tokio::test]
async fn a_server_keeps_the_statements_used_last() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("max_prepared_statements", 2)
            .start()
            .await;
        let [mut client, mut other] = clients(&pooler).await;
        for name in ["a", "b"] {
            prepare(&mut client, name, &format!("SELECT '{name}'")).await;
        }
        assert_eq!(value(&mut client, "a", &[]).await, "a");
        prepare(&mut other, "c", "SELECT 'c'").await;
        assert_eq!(other.query_value(NAMES).await, "PGBOUNCER_1 PGBOUNCER_3");
        assert_eq!(value(&mut client, "b", &[]).await, "b");
        assert_eq!(client.query_value(NAMES).await, "PGBOUNCER_3 PGBOUNCER_2");
        // One batch that needs them all.
        let all = ["a", "b", "a"].map(|name| run(name, &[])).concat();
        let answer = say(&mut client, &[&all]).await;
        let values: Vec<_> = answer.iter().filter_map(Message::values).collect();
        assert_eq!(values.concat(), ["a", "b", "a"].map(|v| Some(v.to_owned())));
        assert_eq!(value(&mut other, "c", &[]).await, "c");
    }
}

#[tokio::test]
async fn a_close_that_an_error_skipped_did_not_happen() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 1)
        .set("default_pool_size", 1)
        .set("max_prepared_statements", 1)
        .start()
        .await;
    let mut client = alice(&pooler).await;
    prepare(&mut client, "a", "SELECT 'a'").await;
    // The server is to close `a` for `b`, but never gets that far.
    let fail = [Message::parse("", "SELECT 1/0")];
    let wrong = [
        &fail[..],
        &run("", &[]),
        &[Message::parse("b", "SELECT 'b'")],
    ];
    assert_eq!(code(&say(&mut client, &wrong).await), "22012");
    assert_eq!(client.query_value(NAMES).await, "PGBOUNCER_1");
    assert_eq!(value(&mut client, "a", &[]).await, "a");
    // Nor does it matter to the next batch, though that is sent at once.
    let again = [Message::sync(), Message::parse("c", "SELECT 'a'")];
    let all = [
        &wrong.concat()[..],
        &again,
        &run("c", &[]),
        &[Message::sync()],
    ]
    .concat();
    let answer = converse(&mut client, &all, 2).await;
    assert_eq!(first_value(&answer), "a");
    // And `b` is as free as it was.
    prepare(&mut client, "b", "SELECT 'b, at last'").await;
    assert_eq!(value(&mut client, "b", &[]).await, "b, at last");
    assert_eq!(value(&mut client, "a", &[]).await, "a");
}

#[tokio::test]
async fn names_pass_where_sessions_keep_their_servers_or_pooling_is_off() {
    let postgres = postgres().await;
    for (key, to) in [("pool_mode", "session"), ("max_prepared_statements", "0")] {
        let pooler = before_postgres(&postgres, 1).set(key, to).start().await;
        let mut client = alice(&pooler).await;
        prepare(&mut client, "mine", "SELECT 1").await;
        assert_eq!(client.query_value(NAMES).await, "mine");
        assert_eq!(counts(&pooler).await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_reset_query_that_drops_statements_is_noticed() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("server_reset_query_always", 1)
            .start()
            .await;
        let [mut client, mut other] = clients(&pooler).await;
        prepare(&mut client, "a", "SELECT 'a'").await;
        assert_eq!(other.query_value("SELECT 1").await, "1");
        assert_eq!(value(&mut client, "a", &[]).await, "a");
    }
}

#[tokio::test]
async fn names_survive_a_change_to_session_mode() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 1).start().await;
    let mut client = alice(&pooler).await;
    prepare(&mut client, "a", "SELECT 'a'").await;
    let console = pooler.console().await;
    console.run("SET pool_mode = session").await;
    assert_eq!(value(&mut client, "a", &[]).await, "a");
}

#[tokio::test]
async fn a_long_statement_is_prepared_in_pieces() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut client, mut other] = clients(&pooler).await;
        for len in [8_000, 70_000, 5_000_000] {
            let sql = format!("SELECT length('{}')", "x".repeat(len));
            let name = len.to_string();
            let parse = Message::parse(&name, &sql).encode();
            let (front, back) = parse.split_at(parse.len() / 3);
            client.send_raw(front).await;
            // Nobody's server waits for the rest of it.
            assert_eq!(other.query_value("SELECT 1").await, "1");
            client.send_raw(back).await;
            let rest = [&run(&name, &[])[..], &[Message::sync()]].concat();
            let answer = converse(&mut client, &rest, 1).await;
            assert_eq!(first_value(&answer), name);
            // Inside a transaction, behind a query: once more.
            let again = [
                Message::query("BEGIN"),
                Message::parse(&format!("{name}b"), &sql),
                Message::sync(),
                Message::query("COMMIT"),
            ];
            converse(&mut client, &again, 3).await;
        }
        assert_eq!(counts(&pooler).await, [6, 3, 3]);
    }
}

#[tokio::test]
async fn bytes_of_pooled_statements_may_come_one_by_one() {
    let server = FakeServer::start().await;
    for workers in WORKERS {
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        let say = [
            &[Message::parse("s1", "SELECT $1")][..],
            &[Message::describe_statement("s1")],
            &run("s1", &[Some("bound")]),
            &[Message::close_statement("s1"), Message::sync()],
        ]
        .concat();
        let whole = converse(&mut client, &say, 1).await;
        for message in &say {
            client.send_bytewise(&message.encode()).await;
        }
        assert_eq!(converse(&mut client, &[], 1).await, whole);
    }
}
