//! Whatever a client says at once, it is answered as PostgreSQL would answer it.

use testkit::{FakeClient, Message, transcript};

use super::{first_value, prepare, run, say, value};
use crate::support::{WORKERS, alice, before_postgres, clients, converse, postgres};

/// Conversations with named statements, and how many ReadyForQuery answer each.
fn conversations() -> Vec<(&'static str, Vec<Message>, usize)> {
    let parse = Message::parse;
    let close = Message::close_statement;
    let describe = Message::describe_statement;
    let (sync, query) = (Message::sync(), Message::query);
    let runs = |name| run(name, &[]).to_vec();
    let end = std::slice::from_ref(&sync);
    let all = |parts: &[&[Message]]| parts.concat();
    vec![
        (
            "a life in one batch",
            all(&[
                &[parse("a", "SELECT 'a'"), describe("a")],
                &runs("a"),
                &[close("a"), sync.clone()],
            ]),
            1,
        ),
        (
            "a name given, closed and given again",
            all(&[
                &[parse("a", "SELECT 'first'")],
                &runs("a"),
                &[close("a"), parse("a", "SELECT 'second'")],
                &runs("a"),
                &[close("a"), sync.clone()],
            ]),
            1,
        ),
        (
            "a name given twice",
            all(&[
                &[parse("a", "SELECT 1"), parse("a", "SELECT 2")],
                &runs("a"),
                &[sync.clone(), close("a"), sync.clone()],
            ]),
            2,
        ),
        (
            "an unknown name in a transaction",
            all(&[
                &[query("BEGIN")],
                &runs("none"),
                &[sync.clone(), query("SELECT 1"), query("ROLLBACK")],
            ]),
            4,
        ),
        (
            "a Parse that fails, and the same name behind the Sync",
            all(&[
                &[parse("a", "SELEKT"), describe("a"), sync.clone()],
                &[parse("a", "SELECT 'now'")],
                &runs("a"),
                &[sync.clone(), close("a"), sync.clone()],
            ]),
            3,
        ),
        (
            "a Close that is skipped",
            all(&[
                &[parse("a", "SELECT 'a'"), sync.clone()],
                &[parse("", "SELEKT"), close("a"), sync.clone()],
                &runs("a"),
                &[sync.clone(), close("a"), sync.clone()],
            ]),
            4,
        ),
        (
            "two errors in one pipeline",
            all(&[
                &[parse("a", "SELECT 1/$1::int"), sync.clone()],
                &run("a", &[Some("0")]),
                &runs("none"),
                end,
                &run("a", &[Some("0")]),
                end,
                &run("a", &[Some("1")]),
                &[sync.clone(), close("a"), sync.clone()],
            ]),
            5,
        ),
        (
            "a statement behind one that fails the transaction",
            all(&[
                &[query("BEGIN"), parse("b", "SELECT 1/0"), sync.clone()],
                &runs("b"),
                &[sync.clone(), parse("c", "SELECT 'known'"), sync.clone()],
                &[
                    query("ROLLBACK"),
                    parse("c", "SELECT 'known'"),
                    sync.clone(),
                ],
                &[close("b"), close("c"), sync.clone()],
            ]),
            7,
        ),
        (
            "all dropped by a query, and named anew behind it",
            all(&[
                &[
                    parse("a", "SELECT 'old'"),
                    sync.clone(),
                    query("DISCARD ALL"),
                ],
                &[parse("a", "SELECT 'new'")],
                &runs("a"),
                &[sync.clone(), query("DEALLOCATE ALL")],
                &runs("a"),
                end,
            ]),
            5,
        ),
        (
            "all dropped in a batch, and named anew in the same",
            all(&[
                &[parse("a", "SELECT 'old'")],
                &[parse("", "/* now */ DEALLOCATE ALL")],
                &runs(""),
                &[parse("a", "SELECT 'new'")],
                &runs("a"),
                &[close("a"), sync.clone()],
            ]),
            1,
        ),
        (
            "all dropped by a statement with a name",
            all(&[
                &[parse("drop", "deallocate all"), parse("a", "SELECT 'old'")],
                &runs("drop"),
                end,
                &runs("a"),
                &[sync.clone(), parse("a", "SELECT 'old'")],
                &runs("a"),
                &[close("a"), sync.clone()],
            ]),
            3,
        ),
        (
            "names behind a drop that an error prevents, twice",
            all(&[
                &[parse("a", "SELECT 'a'"), parse("", "DISCARD ALL")],
                &[
                    Message::execute("none"),
                    parse("b", "SELECT 'b'"),
                    sync.clone(),
                ],
                &[parse("", "SELECT 1")],
                &runs(""),
                &runs("a"),
                &[sync.clone(), close("a"), close("b"), sync.clone()],
            ]),
            3,
        ),
        (
            "a known statement behind a call that fails the transaction",
            all(&[
                &[query("BEGIN"), Message::function_call(0, &[])],
                &[parse("a", "SELECT 'known'"), sync.clone()],
                &[query("ROLLBACK"), close("a"), sync.clone()],
            ]),
            5,
        ),
        (
            "a portal over many messages",
            all(&[
                &[parse("a", "SELECT generate_series(1, 3)")],
                &[query("BEGIN"), Message::bind("p", "a", &[])],
                &[Message::execute_rows("p", 1), close("a"), sync.clone()],
                &[Message::execute_rows("p", 5), sync.clone(), query("COMMIT")],
            ]),
            4,
        ),
        (
            "a statement in the way of a COPY",
            all(&[
                &[parse("a", "SELECT 'a'"), sync.clone()],
                &[query("COPY pg_temp.none FROM STDIN")],
                &runs("a"),
                &[close("a"), sync.clone()],
            ]),
            3,
        ),
    ]
}

#[tokio::test]
async fn named_statements_read_as_they_do_without_a_pooler() {
    let postgres = postgres().await;
    for workers in WORKERS {
        for seats in [1, 2] {
            let pooler = before_postgres(&postgres, workers)
                .set("default_pool_size", seats)
                .set("prepared_statement_errors", "postgres")
                .start()
                .await;
            let mut direct =
                FakeClient::login_scram(&postgres.address(), "alice", "secret", "app").await;
            let [mut pooled, mut other] = clients(&pooler).await;
            // The server knows some of them already.
            prepare(&mut other, "x", "SELECT 'known'").await;
            for (name, say, readies) in conversations() {
                let expected = converse(&mut direct, &say, readies).await;
                let answer = converse(&mut pooled, &say, readies).await;
                assert_eq!(transcript(&answer), transcript(&expected), "{name}");
            }
            assert_eq!(value(&mut other, "x", &[]).await, "known");
        }
    }
}

#[tokio::test]
async fn a_flush_is_answered_for_what_the_pooler_says_itself() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let [mut client, mut other] = clients(&pooler).await;
        prepare(&mut other, "theirs", "SELECT 1").await;
        let say_some = [
            Message::parse("mine", "SELECT 1"),
            Message::close_statement("mine"),
            Message::flush(),
        ];
        client.send_all(&say_some).await;
        assert_eq!(client.read().await, Message::parse_complete());
        assert_eq!(client.read().await, Message::close_complete());
        say(&mut client, &[]).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaves_no_trace() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        let half = Message::parse("a", &format!("SELECT '{}'", "x".repeat(20_000))).encode();
        client.send_raw(&half[..15_000]).await;
        client.close().await;
        let mut client = alice(&pooler).await;
        client
            .send_all(&[Message::parse("b", "SELECT 1"), Message::flush()])
            .await;
        client.read_until(b'1').await;
        client.reset();
        let mut next = alice(&pooler).await;
        prepare(&mut next, "b", "SELECT 1").await;
        assert_eq!(value(&mut next, "b", &[]).await, "1");
    }
}

#[tokio::test]
async fn a_name_behind_a_query_reaches_a_server_that_comes_over_from_another_worker() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut clients = clients::<3>(&pooler).await;
        for client in &mut clients {
            prepare(client, "mine", "SELECT 'mine'").await;
        }
        let query = [Message::query("SELECT 'first'")];
        let batch = [&query[..], &run("mine", &[]), &[Message::sync()]].concat();
        for _ in 0..50 {
            // The server has just arrived, and its socket takes nothing at the first try.
            for client in &mut clients {
                client.send_all(&batch).await;
            }
            for client in &mut clients {
                for value in ["first", "mine"] {
                    assert_eq!(first_value(&client.read_until_ready().await), value);
                }
            }
        }
    }
}
