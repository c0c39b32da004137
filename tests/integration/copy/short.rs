//! COPYs that are cut short: by a cancel, by the death of their client, by an error after the end.

use testkit::{FakeClient, Message, eventually_async, transcript};

use super::{INTO, data, done, extended, postgres_with_numbers, query, sync};
use crate::support::{WORKERS, alice, before_postgres, converse, servers_opened};

/// More rows than anybody ever reads.
const ENDLESS: &str = "COPY (SELECT repeat('x', 1000), generate_series(1, 1000000000)) TO STDOUT";

/// An extended query whose Sync stands where libpq sends it, or stays away until the COPY is over.
fn by_execute(sql: &str, last: Message) -> Vec<Message> {
    [&extended(sql)[..], &[last]].concat()
}

#[tokio::test]
async fn an_error_that_comes_after_the_last_row_reads_as_without_a_pooler() {
    let postgres = postgres_with_numbers().await;
    // Two equal rows are found out when the transaction ends, after CopyDone was taken.
    let late = "ALTER TABLE numbers ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED";
    postgres.run_in("app", late).await;
    let mut direct = FakeClient::login_scram(&postgres.address(), "alice", "secret", "app").await;
    let rows = [data("1\n1\n"), done()];
    let conversations = [
        ([&[query(INTO)], &rows[..]].concat(), 1),
        ([&extended(INTO)[..], &rows, &[sync()]].concat(), 1),
        (
            [
                &by_execute(INTO, sync())[..],
                &rows,
                &[sync(), query("SELECT 1")],
            ]
            .concat(),
            2,
        ),
        (
            [
                &[query("BEGIN"), query(INTO)],
                &rows[..],
                &[query("COMMIT"), query("SELECT 1")],
            ]
            .concat(),
            4,
        ),
    ];
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 1);
        let pooler = setup.start().await;
        let (mut pooled, mut next) = (alice(&pooler).await, alice(&pooler).await);
        for (say, readies) in &conversations {
            let expected = converse(&mut direct, say, *readies).await;
            let answer = converse(&mut pooled, say, *readies).await;
            let answer = transcript(&answer);
            assert_eq!(answer, transcript(&expected));
            assert!(answer.contains("ERROR 23505"), "{answer}");
            assert_eq!(next.query_value("SELECT count(*) FROM numbers").await, "0");
        }
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

#[tokio::test]
async fn a_cancel_ends_a_copy_in_and_gives_its_server_back() {
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 1);
        let pooler = setup.start().await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        let rows_and_end = [data("2\n"), data("3\n"), done()];
        for (begin, end) in [
            (vec![query(INTO)], rows_and_end.to_vec()),
            (
                by_execute(INTO, Message::flush()),
                [&rows_and_end[..], &[sync()]].concat(),
            ),
            (
                by_execute(INTO, sync()),
                [&rows_and_end[..], &[sync()]].concat(),
            ),
        ] {
            copying.send_all(&begin).await;
            copying.read_until(b'G').await;
            copying.send(data("1\n")).await;
            copying.cancel_me().await;
            // The server hears of it with the next message.
            copying.send_all(&end).await;
            assert_eq!(copying.expect_error().await.code(), "57014");
            copying.read_until_ready().await;
            assert_eq!(next.query_value("SELECT count(*) FROM numbers").await, "0");
            // A Sync that the COPY had not read when it ended is answered, too.
            copying.send(query("SELECT 'goes on'")).await;
            let row = copying.read_until(b'D').await.pop();
            let value = row.and_then(|row| row.values()).unwrap();
            assert_eq!(value, [Some("goes on".to_owned())]);
            copying.read_until_ready().await;
        }
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

#[tokio::test]
async fn a_cancel_ends_a_copy_out_and_gives_its_server_back() {
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 1);
        let pooler = setup.start().await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        for begin in [vec![query(ENDLESS)], by_execute(ENDLESS, sync())] {
            copying.send_all(&begin).await;
            for _ in 0..100 {
                copying.read_until(b'd').await;
            }
            copying.cancel_me().await;
            assert_eq!(copying.expect_error().await.code(), "57014");
            copying.read_until_ready().await;
            assert_eq!(next.query_value("SELECT 'next'").await, "next");
            assert_eq!(copying.query_value("SELECT 'goes on'").await, "goes on");
        }
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

#[tokio::test]
async fn a_client_that_dies_in_a_copy_leaves_neither_rows_nor_locks_nor_its_server() {
    let deaths: [fn(FakeClient); 2] = [FakeClient::reset, drop];
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 1);
        let pooler = setup.start().await;
        for dies in deaths {
            let mut into = alice(&pooler).await;
            into.send_all(&[query(INTO), data("1\n2\n")]).await;
            into.read_until(b'G').await;
            into.send_raw(&data("3\n").encode()[..6]).await;
            dies(into);
            let mut next = alice(&pooler).await;
            assert_eq!(next.query_value("SELECT count(*) FROM numbers").await, "0");
            let locked = "LOCK numbers; SELECT 'locked'";
            assert_eq!(next.query_value(locked).await, "locked");
            next.close().await;

            for begin in [vec![query(ENDLESS)], by_execute(ENDLESS, sync())] {
                let mut out = alice(&pooler).await;
                out.send_all(&begin).await;
                out.read_until(b'd').await;
                dies(out);
                let mut next = alice(&pooler).await;
                assert_eq!(next.query_value("SELECT 'next'").await, "next");
                eventually_async("the end of its session", async || {
                    postgres.sessions_of("alice").await == 1
                })
                .await;
                next.close().await;
            }
        }
    }
}
