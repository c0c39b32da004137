//! COPY in both directions, well and badly ended: it reads as without a pooler, and its server is
//! neither lost nor lent too early.

mod late;
mod short;

use testkit::{FakeClient, FakeServer, Message, Postgres, Side, Tx, transcript};

use crate::support::{
    WORKERS, alice, before, before_postgres, converse, postgres, servers_opened, wait_for_waiting,
};

fn query(sql: &str) -> Message {
    Message::query(sql)
}

fn data(text: &str) -> Message {
    Message::copy_data(Side::Client, text.as_bytes())
}

fn done() -> Message {
    Message::copy_done(Side::Client)
}

fn sync() -> Message {
    Message::sync()
}

/// An extended query with an unnamed statement, but for its Sync.
fn extended(sql: &str) -> [Message; 3] {
    [
        Message::parse("", sql),
        Message::bind("", "", &[]),
        Message::execute(""),
    ]
}

const INTO: &str = "COPY numbers FROM STDIN";
const OUT_OF: &str = "COPY (SELECT generate_series(1, 3)) TO STDOUT";
const FAILS_MIDWAY: &str = "COPY (SELECT 6 / (3 - n) FROM generate_series(1, 5) n) TO STDOUT";

/// COPYs by simple queries, and the number of ReadyForQuery that answer each.
fn simple() -> Vec<(&'static str, Vec<Message>, usize)> {
    vec![
        (
            "in",
            vec![query(INTO), data("1\n2\n"), data("3\n"), done()],
            1,
        ),
        ("in, nothing", vec![query(INTO), done()], 1),
        (
            "in, a row in two pieces",
            vec![query(INTO), data("1"), data("2\n"), done()],
            1,
        ),
        (
            "in, a flush and a sync inside",
            vec![query(INTO), Message::flush(), sync(), data("1\n"), done()],
            1,
        ),
        (
            "in, given up",
            vec![query(INTO), data("1\n"), Message::copy_fail("enough")],
            1,
        ),
        (
            "in, a bad row",
            vec![
                query(INTO),
                data("1\nx\n"),
                data("3\n"),
                done(),
                query("SELECT 1"),
            ],
            2,
        ),
        (
            "in, a bad row and given up",
            vec![query(INTO), data("x\n"), Message::copy_fail("enough")],
            1,
        ),
        (
            "in, no such table",
            vec![
                query("COPY absent FROM STDIN"),
                data("1\n"),
                done(),
                query("SELECT 1"),
            ],
            2,
        ),
        (
            "in, two at once",
            vec![
                query("COPY numbers FROM STDIN; COPY numbers FROM STDIN"),
                data("1\n"),
                done(),
                data("2\n"),
                done(),
            ],
            1,
        ),
        (
            "in, two at once, with a sync between",
            vec![
                query("COPY numbers FROM STDIN; COPY numbers FROM STDIN"),
                data("1\n"),
                done(),
                sync(),
                done(),
                query("SELECT 1"),
            ],
            2,
        ),
        (
            "in, a sync and a bad row, and a query right behind",
            vec![query(INTO), data("x\n"), sync(), done(), query("")],
            3,
        ),
        (
            "in, a bad row before a sync, then one end after the other",
            vec![
                query(INTO),
                data("x\n"),
                sync(),
                done(),
                sync(),
                Message::copy_fail("late"),
                query("SELECT 1"),
            ],
            4,
        ),
        (
            "in, a bad row, and another COPY without an end of the first",
            vec![query(INTO), data("x\n"), query(INTO), data("1\n"), done()],
            2,
        ),
        (
            "in, among queries",
            vec![
                query("SELECT 1"),
                query(INTO),
                data("1\n"),
                done(),
                query("SELECT 2"),
            ],
            3,
        ),
        ("out", vec![query(OUT_OF)], 1),
        (
            "out, among queries",
            vec![query("SELECT 1"), query(OUT_OF), query("SELECT 2")],
            3,
        ),
        (
            "out, an error midway",
            vec![query(FAILS_MIDWAY), query("SELECT 1")],
            2,
        ),
        (
            "out and in",
            vec![
                query("COPY numbers TO STDOUT; COPY numbers FROM STDIN; SELECT 1"),
                data("7\n"),
                done(),
            ],
            1,
        ),
        (
            "an end that nobody waits for",
            vec![query("SELECT 1"), done(), query("SELECT 2"), data("1\n")],
            2,
        ),
    ]
}

/// The same by extended queries.
fn by_execute() -> Vec<(&'static str, Vec<Message>, usize)> {
    let into = |rest: &[Message]| [&extended(INTO)[..], rest].concat();
    vec![
        ("in", into(&[data("1\n"), done(), sync()]), 1),
        (
            "in, a sync as libpq sends it",
            into(&[sync(), data("1\n"), done(), sync()]),
            1,
        ),
        (
            "in, a bad row",
            into(&[data("x\n"), done(), sync(), query("SELECT 1")]),
            2,
        ),
        (
            "in, a bad row, and a sync as libpq sends it",
            into(&[sync(), data("x\n"), done(), sync(), query("SELECT 1")]),
            2,
        ),
        (
            "in, given up",
            into(&[Message::copy_fail("enough"), sync()]),
            1,
        ),
        (
            "in, ended twice",
            into(&[
                done(),
                Message::copy_fail("late"),
                sync(),
                query("SELECT 1"),
            ]),
            2,
        ),
        (
            "in, a bad row, a sync, and more",
            into(&[data("x\n"), sync(), query("SELECT 1"), done(), sync()]),
            3,
        ),
        (
            "in, a sync inside, and a query behind",
            into(&[sync(), data("1\n"), done(), query("SELECT 1")]),
            1,
        ),
        (
            "in, no such table",
            [
                &extended("COPY absent FROM STDIN")[..],
                &[data("1\n"), done(), sync()],
            ]
            .concat(),
            1,
        ),
        ("out", [&extended(OUT_OF)[..], &[sync()]].concat(), 1),
        (
            "out, an error midway",
            [
                &extended(FAILS_MIDWAY)[..],
                &extended("SELECT 1"),
                &[sync(), query("SELECT 2")],
            ]
            .concat(),
            2,
        ),
        (
            "in and out in one pipeline",
            [
                &extended(INTO)[..],
                &[data("4\n"), done()],
                &extended(OUT_OF),
                &[sync()],
                &extended(OUT_OF),
                &[sync()],
            ]
            .concat(),
            2,
        ),
    ]
}

async fn postgres_with_numbers() -> Postgres {
    let postgres = postgres().await;
    postgres
        .run_in(
            "app",
            "CREATE TABLE numbers (n int); GRANT ALL ON numbers TO PUBLIC",
        )
        .await;
    postgres
}

#[tokio::test]
async fn a_copy_reads_as_it_does_without_a_pooler() {
    let postgres = postgres_with_numbers().await;
    let mut direct = FakeClient::login_scram(&postgres.address(), "alice", "secret", "app").await;
    for workers in WORKERS {
        for mode in ["transaction", "statement", "session"] {
            let pooler = before_postgres(&postgres, workers)
                .set("default_pool_size", 1)
                .set("pool_mode", mode)
                .start()
                .await;
            let mut pooled = alice(&pooler).await;
            for (name, say, readies) in simple().into_iter().chain(by_execute()) {
                let expected = converse(&mut direct, &say, readies).await;
                let leaves = direct.query("SELECT * FROM numbers").await;
                direct.query("DELETE FROM numbers").await;

                let answer = converse(&mut pooled, &say, readies).await;
                assert_eq!(transcript(&answer), transcript(&expected), "{name}");
                let left = direct.query("SELECT * FROM numbers").await;
                assert_eq!(transcript(&left), transcript(&leaves), "{name}");
                direct.query("DELETE FROM numbers").await;
            }
            assert_eq!(servers_opened(&pooler).await, 1);
        }
    }
}

/// Ways to begin a COPY and to end it, well or badly, when each step waits for the one before.
fn steps() -> Vec<(Vec<Message>, Vec<Message>, &'static str)> {
    let extended = |last| [&extended(INTO)[..], &[last]].concat();
    let (rows, bad) = (data("1\n2\n"), data("x\n"));
    let given_up = Message::copy_fail("enough");
    vec![
        (vec![query(INTO)], vec![rows.clone(), done()], "COPY 2"),
        (
            vec![query(INTO)],
            vec![rows.clone(), given_up.clone()],
            "57014",
        ),
        (vec![query(INTO)], vec![bad.clone(), done()], "22P02"),
        (
            extended(Message::flush()),
            vec![rows.clone(), done(), sync()],
            "COPY 2",
        ),
        (extended(Message::flush()), vec![given_up, sync()], "57014"),
        (
            extended(Message::flush()),
            vec![bad.clone(), done(), sync()],
            "22P02",
        ),
        // As libpq does it.
        (extended(sync()), vec![rows, done(), sync()], "COPY 2"),
        (extended(sync()), vec![bad, done(), sync()], "22P02"),
    ]
}

#[tokio::test]
async fn a_copy_said_step_by_step_ends_and_gives_its_server_back() {
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        for bytewise in [false, true] {
            for (begin, end, outcome) in steps() {
                copying.send_all(&begin).await;
                copying.read_until(b'G').await;
                for message in &end {
                    if bytewise {
                        copying.send_bytewise(&message.encode()).await;
                    } else {
                        copying.send(message.clone()).await;
                    }
                }
                let answer = transcript(&copying.read_until_ready().await);
                assert!(answer.contains(outcome), "{answer}");
                assert_eq!(next.query_value("SELECT 'next'").await, "next");
            }
        }
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

#[tokio::test]
async fn the_late_end_of_a_failed_copy_may_arrive_in_two_halves() {
    let late = Message::copy_fail("too late").encode();
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        for cut in 1..late.len() {
            copying
                .send_all(&[&extended(INTO)[..], &[sync()]].concat())
                .await;
            copying.read_until(b'G').await;
            let (front, rest) = late.split_at(cut);
            let mut said = [data("x\n"), done(), sync()].map(|m| m.encode()).concat();
            said.extend_from_slice(front);
            // Whether its Syncs were swallowed must be asked now, and not in the middle of this.
            copying.send_raw(&said).await;
            let answer = transcript(&copying.read_until_ready().await);
            assert!(answer.contains("22P02"), "{answer}");
            copying.send_raw(rest).await;
            assert_eq!(next.query_value("SELECT 'next'").await, "next");
            assert_eq!(copying.query_value("SELECT 'mine'").await, "mine");
        }
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

#[tokio::test]
async fn the_server_of_an_open_copy_is_not_lent() {
    let finish: [(&str, &[Message]); 4] = [
        ("done", &[done()]),
        ("given up", &[Message::copy_fail("enough")]),
        ("half a message", &[data("1\n"), done()]),
        ("a sync inside", &[sync(), done()]),
    ];
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        for (name, rest) in finish {
            copying.send(query("COPY t FROM STDIN")).await;
            copying.read_until(b'G').await;
            let rest: Vec<u8> = rest.iter().flat_map(Message::encode).collect();
            let (front, rest) = rest.split_at(rest.len() / 2);
            copying.send_raw(front).await;
            next.send(query(&format!("SELECT {name}"))).await;
            wait_for_waiting(&pooler, 1).await;

            copying.send_raw(rest).await;
            let served = next.read_until_ready().await;
            assert_eq!(served[1].values(), Some(vec![Some(name.into())]));
            copying.read_until_ready().await;
        }
        assert_eq!(server.logged_in_max(), 1);
    }
}

#[tokio::test]
async fn a_failed_copy_fails_its_transaction_and_keeps_it() {
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut copying, mut next) = (alice(&pooler).await, alice(&pooler).await);
        copying.query("BEGIN").await;
        let answer = converse(&mut copying, &[query(INTO), data("x\n"), done()], 1).await;
        assert_eq!(answer.last(), Some(&Message::ready(Tx::Failed)));
        next.send(query("SELECT 'next'")).await;
        wait_for_waiting(&pooler, 1).await;

        copying.query("ROLLBACK").await;
        let answer = next.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("next".into())]));
    }
}

#[tokio::test]
async fn a_foreign_message_inside_a_copy_costs_its_sender_the_server_and_nobody_else() {
    let postgres = postgres_with_numbers().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.send_all(&[query(INTO), query("SELECT 1")]).await;
        let last_words = transcript(&client.expect_closed().await);
        assert!(last_words.contains("ERROR 08P01: unexpected message type 0x51"));
        assert!(last_words.contains("FATAL 08P01: terminating connection"));

        let mut next = alice(&pooler).await;
        assert_eq!(next.query_value("SELECT 'next'").await, "next");
    }
}
