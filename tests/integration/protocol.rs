//! The protocol passes as it is, simple and extended, whole and in pieces.

mod lease;
mod refusals;

use testkit::{
    Ask, Chunks, FakeClient, FakeServer, FakeServerSetup, Gate, Message, Step, Tx, transcript,
};

use crate::support::{
    WORKERS, Witnesses, alice, before, before_postgres, converse, postgres, servers_opened,
};

/// An extended query with an unnamed statement, but for its Sync.
fn run_unnamed(sql: &str, values: &[Option<&str>]) -> [Message; 4] {
    [
        Message::parse("", sql),
        Message::bind("", "", values),
        Message::describe_portal(""),
        Message::execute(""),
    ]
}

/// Messages and groups of messages, one after the other.
fn script<const N: usize>(parts: [&[Message]; N]) -> Vec<Message> {
    parts.concat()
}

/// Calls `abs(integer)` by its OID, arguments and result as text.
fn call_abs(value: &str) -> Message {
    const ABS_INT4: u32 = 1397;
    let mut body = ABS_INT4.to_be_bytes().to_vec();
    body.extend([0, 0, 0, 1]);
    body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    body.extend(value.as_bytes());
    body.extend([0, 0]);
    Message::client(b'F', body)
}

/// Conversations that leave nothing behind, and the number of ReadyForQuery that answer each.
fn conversations() -> Vec<(&'static str, Vec<Message>, usize)> {
    let sync = &[Message::sync()];
    let query = |sql| vec![Message::query(sql)];
    vec![
        ("one row", query("SELECT 1"), 1),
        ("nothing at all", query(""), 1),
        ("only a comment", query("-- nothing"), 1),
        (
            "several statements",
            query("SELECT 1; SELECT 2, NULL; SET lock_timeout = 0"),
            1,
        ),
        (
            "several statements, the second wrong",
            query("SELECT 1; SELECT 1/0; SELECT 3"),
            1,
        ),
        ("a syntax error", query("SELEKT"), 1),
        (
            "a notice",
            query("DO $$ BEGIN RAISE NOTICE 'look'; END $$"),
            1,
        ),
        (
            "a transaction",
            script([
                &query("BEGIN"),
                &query("SELECT 1/0"),
                &query("SELECT 2"),
                &query("ROLLBACK"),
            ]),
            4,
        ),
        (
            "an extended query",
            script([&run_unnamed("SELECT $1::text", &[Some("x")]), sync]),
            1,
        ),
        (
            "an empty extended query",
            script([&run_unnamed("", &[]), sync]),
            1,
        ),
        (
            "a described statement",
            script([
                &[Message::parse("", "SELECT $1::int")],
                &[Message::describe_statement("")],
                sync,
            ]),
            1,
        ),
        (
            "a portal in two parts",
            script([
                &[Message::parse("", "SELECT generate_series(1, 3)")],
                &[Message::bind("p", "", &[])],
                &[Message::execute_rows("p", 2)],
                &[Message::execute_rows("p", 2)],
                &[Message::close_portal("p")],
                sync,
            ]),
            1,
        ),
        ("three syncs alone", script([sync, sync, sync]), 3),
        (
            "an error skips to its sync and no further",
            script([
                &run_unnamed("SELECT 1/$1::int", &[Some("0")]),
                &run_unnamed("SELECT 'skipped'", &[]),
                sync,
                &run_unnamed("SELECT 'answered'", &[]),
                sync,
            ]),
            2,
        ),
        (
            "two errors, each in its own part",
            script([
                &run_unnamed("SELECT 1/0", &[]),
                sync,
                &[Message::bind("", "absent", &[])],
                &[Message::execute("")],
                sync,
                &query("SELECT 'after'"),
            ]),
            3,
        ),
        (
            "a query in the middle of a pipeline",
            script([
                &run_unnamed("SELECT 'before'", &[]),
                &query("SELECT 'between'"),
                &run_unnamed("SELECT 'after'", &[]),
                sync,
            ]),
            2,
        ),
        (
            "a query that is skipped",
            script([
                &run_unnamed("SELECT 1/0", &[]),
                &query("SELECT 'skipped'"),
                sync,
            ]),
            1,
        ),
        ("a function call", vec![call_abs("-5")], 1),
        ("a wrong function call", vec![call_abs("x")], 1),
        (
            "a flush",
            script([
                &run_unnamed("SELECT 'flushed'", &[]),
                &[Message::flush()],
                sync,
            ]),
            1,
        ),
        (
            "an error at the sync itself",
            script([
                &run_unnamed(
                    "CREATE TABLE t (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
                    &[],
                ),
                &run_unnamed("INSERT INTO t VALUES (1), (1)", &[]),
                sync,
                &query("SELECT 'after'"),
            ]),
            2,
        ),
    ]
}

#[tokio::test]
async fn a_conversation_reads_as_it_does_without_a_pooler() {
    let postgres = postgres().await;
    let mut direct = FakeClient::login_scram(&postgres.address(), "alice", "secret", "app").await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("prepared_statement_errors", "postgres")
            .start()
            .await;
        let mut pooled = alice(&pooler).await;
        for (name, say, readies) in conversations() {
            let expected = converse(&mut direct, &say, readies).await;
            let answer = converse(&mut pooled, &say, readies).await;
            assert_eq!(transcript(&answer), transcript(&expected), "{name}");
            assert_eq!(answer, expected, "{name}");
        }
        assert_eq!(
            servers_opened(&pooler).await,
            1,
            "the server went from hand to hand"
        );
    }
}

fn a_bit_of_everything() -> Vec<Message> {
    script([
        &[Message::query("SELECT 'one'; SELECT 'two'")],
        &[Message::query("FAIL 22012 division by zero")],
        &[Message::query("SET timezone = 'Europe/Berlin'")],
        &run_unnamed("SELECT $1", &[Some("bound")]),
        &[Message::sync()],
        &[Message::bind("", "absent", &[])],
        &[Message::execute("")],
        &[Message::sync()],
        &[Message::query("SET timezone = 'UTC'")],
    ])
}

#[tokio::test]
async fn a_request_may_be_cut_at_any_byte() {
    let say = a_bit_of_everything();
    let bytes: Vec<u8> = say.iter().flat_map(Message::encode).collect();
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .database("aside", &server.conn_info("app"))
            .set("default_pool_size", 1)
            .set("prepared_statement_errors", "postgres")
            .start()
            .await;
        let mut client = alice(&pooler).await;
        let mut witnesses = Witnesses::on_every_worker(&pooler, workers).await;
        let whole = transcript(&converse(&mut client, &say, 6).await);

        for cut in 1..bytes.len() {
            client.send_raw(&bytes[..cut]).await;
            witnesses.look().await;
            client.send_raw(&bytes[cut..]).await;
            let answer = converse(&mut client, &[], 6).await;
            assert_eq!(transcript(&answer), whole, "cut at {cut}");
        }
    }
}

/// A server that answers `CUT n` with these bytes, and waits at its gate after the first n.
fn cutting(bytes: Vec<u8>, gate: Gate) -> FakeServerSetup {
    FakeServer::setup().answer(move |ask: Ask| {
        let cut = ask.sql.strip_prefix("CUT ").map(|at| at.parse().unwrap());
        let pieces = cut.map(|cut: usize| {
            let (front, rest) = bytes.split_at(cut);
            let gate = Step::Wait(gate.clone());
            vec![Step::Raw(front.into()), gate, Step::Raw(rest.into())]
        });
        async { pieces }
    })
}

#[tokio::test]
async fn an_answer_may_be_cut_at_any_byte() {
    let answer = [
        Message::row_description(&["one"]),
        Message::data_row(&[Some("1"), None]),
        Message::notice("look"),
        Message::parameter_status("TimeZone", "Europe/Berlin"),
        Message::command_complete("SELECT 1"),
        Message::parameter_status("TimeZone", "UTC"),
    ];
    let bytes: Vec<u8> = answer.iter().flat_map(Message::encode).collect();
    for workers in WORKERS {
        let gate = Gate::closed();
        let server = cutting(bytes.clone(), gate.clone()).start().await;
        let pooler = before(&server, workers)
            .database("aside", &server.conn_info("app"))
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        let mut witnesses = Witnesses::on_every_worker(&pooler, workers).await;

        for cut in 0..=bytes.len() {
            client.send(Message::query(&format!("CUT {cut}"))).await;
            gate.wait_for_waiting(1).await;
            witnesses.look().await;
            gate.open();
            let mut heard = client.read_until_ready().await;
            gate.close();
            assert_eq!(heard.pop(), Some(Message::ready(Tx::Idle)));
            assert_eq!(heard, answer, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn bytes_may_come_one_by_one_from_both_sides() {
    let whole = FakeServer::start().await;
    let crumbs = FakeServer::setup().chunks(Chunks::Of(1)).start().await;
    for workers in WORKERS {
        let pooler = before(&whole, workers)
            .set("default_pool_size", 1)
            .set("prepared_statement_errors", "postgres")
            .database("crumbs", &crumbs.conn_info("app"))
            .start()
            .await;
        let expected = converse(&mut alice(&pooler).await, &a_bit_of_everything(), 6).await;

        let mut client = FakeClient::connect(&pooler.address()).await;
        let hello = testkit::startup_packet(&[("user", "alice"), ("database", "crumbs")]);
        client.send_bytewise(&hello).await;
        client.read_auth_ok().await;
        client.read_welcome().await;
        for message in a_bit_of_everything() {
            client.send_bytewise(&message.encode()).await;
        }
        let answer = converse(&mut client, &[], 6).await;
        assert_eq!(transcript(&answer), transcript(&expected));
    }
}

#[tokio::test]
async fn a_flush_is_answered_without_a_sync() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.send_all(&run_unnamed("SELECT 'flushed'", &[])).await;
        client.send(Message::flush()).await;
        let answer = client.read_until(b'C').await;
        assert_eq!(answer[3].values(), Some(vec![Some("flushed".into())]));

        client.send(Message::sync()).await;
        assert_eq!(client.read().await, Message::ready(Tx::Idle));
    }
}
