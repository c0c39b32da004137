//! A server is lent again only when it owes nothing, and what it says reaches who asked.

use testkit::{Connection, FakeClient, FakeServer, Message, eventually_async, in_time, transcript};

use super::{run_unnamed, script};
use crate::support::{
    WORKERS, alice, before, before_postgres, converse, postgres, servers_opened, wait_for_waiting,
};

/// What a client says first, how far it then reads, and what it says to be done.
type Unfinished = (&'static str, Vec<Message>, u8, Vec<Message>);

/// Ways to have been answered and still to owe, or be owed, something.
fn unfinished() -> Vec<Unfinished> {
    let query = |sql| vec![Message::query(sql)];
    let sync = vec![Message::sync()];
    let flushed = |part: &[Message]| script([part, &[Message::flush()]]);
    let asked = run_unnamed("SELECT 'asked'", &[]);
    vec![
        ("a transaction", query("BEGIN"), b'Z', query("COMMIT")),
        (
            "a failed transaction",
            script([&query("BEGIN"), &query("FAIL 22012 no")]),
            b'E',
            query("ROLLBACK"),
        ),
        (
            "a second query",
            script([&query("SELECT 1"), &query("HOLD a")]),
            b'Z',
            vec![],
        ),
        (
            "a query of two statements",
            query("SELECT 1; HOLD a"),
            b'C',
            vec![],
        ),
        ("no sync yet", flushed(&asked), b'C', sync.clone()),
        (
            "a statement that is only parsed",
            flushed(&asked[..1]),
            b'1',
            sync.clone(),
        ),
        (
            "an error without its sync",
            flushed(&[Message::bind("", "absent", &[])]),
            b'E',
            sync.clone(),
        ),
        (
            "a second sync",
            script([&asked, &sync, &run_unnamed("HOLD a", &[]), &sync]),
            b'Z',
            vec![],
        ),
        (
            "a second sync after an error",
            script([
                &[Message::bind("", "absent", &[])],
                &sync,
                &run_unnamed("HOLD a", &[]),
                &sync,
            ]),
            b'Z',
            vec![],
        ),
        (
            "the second half of a message",
            vec![],
            0,
            query("SELECT 'both halves'"),
        ),
    ]
}

#[tokio::test]
async fn a_server_is_lent_again_only_when_everything_is_answered() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("prepared_statement_errors", "postgres")
            .start()
            .await;
        let console = pooler.console().await;
        let (mut first, mut second) = (alice(&pooler).await, alice(&pooler).await);
        let connection = server.connection(0).await;
        for (name, begin, answered_by, finish) in unfinished() {
            let gate = server.gate("a");
            gate.close();
            let rest = begin_to(&mut first, &begin, answered_by, &finish).await;
            eventually_async("the lease", async || {
                console.pool("app", "alice").await.number("sv_active") == 1
            })
            .await;

            second.send(Message::query(&format!("SELECT {name}"))).await;
            wait_for_waiting(&pooler, 1).await;
            assert!(!has_asked(&connection, name), "{name}: lent too early");

            first.send_raw(&rest).await;
            gate.open();
            let answer = second.read_until_ready().await;
            assert_eq!(answer[1].values(), Some(vec![Some(name.into())]));
            leave_nothing_unread(&mut first).await;
        }
        assert_eq!(server.logged_in_max(), 1);
    }
}

fn has_asked(connection: &Connection, name: &str) -> bool {
    connection.queries().contains(&format!("SELECT {name}"))
}

/// Says the beginning and reads up to that tag; returns the bytes that are left to say.
async fn begin_to(
    client: &mut FakeClient,
    begin: &[Message],
    answered_by: u8,
    finish: &[Message],
) -> Vec<u8> {
    let rest: Vec<u8> = finish.iter().flat_map(Message::encode).collect();
    if begin.is_empty() {
        let (front, rest) = rest.split_at(rest.len() / 2);
        client.send_raw(front).await;
        return rest.to_vec();
    }
    client.send_all(begin).await;
    client.read_until(answered_by).await;
    rest
}

async fn leave_nothing_unread(client: &mut FakeClient) {
    client.send(Message::query("SELECT 'the last'")).await;
    while client
        .read_until_ready()
        .await
        .iter()
        .all(|message| message.values() != Some(vec![Some("the last".into())]))
    {}
}

#[tokio::test]
async fn a_postgresql_serves_the_second_only_when_the_first_is_done() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut first, mut second) = (alice(&pooler).await, alice(&pooler).await);
        let sees_table = "SELECT to_regclass('pg_temp.seen') IS NOT NULL";
        let create = run_unnamed("CREATE TEMP TABLE seen ON COMMIT DROP AS SELECT 1", &[]);
        first.send_all(&create).await;
        first.send(Message::flush()).await;
        first.read_until(b'C').await;

        second.send(Message::query(sees_table)).await;
        wait_for_waiting(&pooler, 1).await;
        assert_eq!(first.query_value(sees_table).await, "t");
        // PostgreSQL 18 leaves the pipeline's transaction open. After a Sync it would say that it
        // is idle, and be wrong: whatever comes next fails.
        first.send(Message::query("COMMIT")).await;

        let answer = second.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("f".into())]));
    }
}

#[tokio::test]
async fn what_a_server_says_unasked_reaches_the_client_that_has_it() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 2)
            .start()
            .await;
        let (mut first, mut second) = (alice(&pooler).await, alice(&pooler).await);
        first.query("BEGIN").await;
        second.query("BEGIN").await;
        let of_first = owner(&server, &mut first, "first").await;

        let news = [
            Message::notice("soon"),
            Message::parameter_status("TimeZone", "Asia/Tokyo"),
            Message::notification(7, "channel", "payload"),
        ];
        for message in &news {
            server.connections()[of_first]
                .send(message.clone())
                .await
                .unwrap();
        }
        for message in news {
            assert_eq!(first.read().await, message);
        }
        let answer = second.query("COMMIT").await;
        assert_eq!(
            answer,
            [
                Message::command_complete("COMMIT"),
                Message::ready(testkit::Tx::Idle)
            ]
        );
        first.query("COMMIT").await;
    }
}

/// Which of the server's connections runs what this client says.
async fn owner(server: &FakeServer, client: &mut FakeClient, word: &str) -> usize {
    client.query(&format!("SELECT {word}")).await;
    let connections = server.connections();
    let position = connections
        .iter()
        .position(|connection| has_asked(connection, word));
    position.expect("it has just answered")
}

#[tokio::test]
async fn a_session_hears_notifications_while_it_is_idle() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 2)
            .set("pool_mode", "session")
            .start()
            .await;
        let (mut listener, mut speaker) = (alice(&pooler).await, alice(&pooler).await);
        listener.query("LISTEN news").await;
        speaker.query("NOTIFY news, 'rain'").await;

        let heard = listener.read().await.to_string();
        assert_eq!(heard, "NotificationResponse news \"rain\"");
    }
}

#[tokio::test]
async fn hundreds_of_requests_in_one_breath_are_answered_in_their_order() {
    const REQUESTS: usize = 600;
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut first, mut second) = (alice(&pooler).await, alice(&pooler).await);
        let breath: Vec<_> = (0..REQUESTS)
            .map(|number| Message::query(&format!("SELECT {number}, repeat('x', {number})")))
            .collect();
        first.send_all(&breath).await;
        second.send_all(&breath).await;
        for client in [&mut first, &mut second] {
            let answer = converse(client, &[], REQUESTS).await;
            let rows = answer.iter().filter_map(Message::values);
            let numbers: Vec<usize> = rows
                .filter_map(|row| row[0].clone()?.parse().ok())
                .collect();
            assert_eq!(numbers, (0..REQUESTS).collect::<Vec<_>>());
        }
    }
}

/// Rounds that each client of the crowd makes.
const ROUNDS: usize = 25;

#[tokio::test]
async fn forty_clients_over_three_seats_get_their_own_rows_only() {
    let postgres = postgres().await;
    for workers in WORKERS {
        for mode in ["transaction", "statement"] {
            let pooler = before_postgres(&postgres, workers)
                .set("default_pool_size", 3)
                .set("pool_mode", mode)
                .start()
                .await;
            let mut crowd = tokio::task::JoinSet::new();
            for name in 0..40 {
                let client = alice(&pooler).await;
                crowd.spawn(ask_by_name(client, name, mode == "transaction"));
            }
            let answered = in_time("the crowd", crowd.join_all()).await;
            assert_eq!(answered.into_iter().sum::<usize>(), 40 * ROUNDS * 4);
            assert!(servers_opened(&pooler).await <= 3);
        }
    }
}

/// Asks for rows with its name, in every way; returns how many answers it checked.
async fn ask_by_name(mut client: FakeClient, name: usize, transactions: bool) -> usize {
    let mut checked = 0;
    for round in 0..ROUNDS {
        let tag = |way: &str| format!("{name}-{round}-{way}");
        // Rows of quite different lengths, so that answers end at different places.
        let padded = |way| {
            format!(
                "SELECT '{}', repeat('x', {})",
                tag(way),
                (name * round) % 9000
            )
        };
        let (open, close) = if transactions {
            ("BEGIN", "COMMIT")
        } else {
            ("", "")
        };
        let bound = run_unnamed("SELECT $1::text", &[Some(&tag("bound"))]);
        let piped = run_unnamed("SELECT $1::text", &[Some(&tag("piped"))]);
        let say = script([
            &[Message::query(open)],
            &[Message::query(&padded("simple"))],
            &bound,
            &[Message::sync()],
            &piped,
            &[Message::sync()],
            &[Message::query(close)],
        ]);
        let mut answer = converse(&mut client, &say[..1], 1).await;
        answer.extend(converse(&mut client, &say[1..], 4).await);
        answer.extend(client.query(&padded("alone")).await);
        let rows = answer.iter().filter_map(Message::values);
        let tags: Vec<_> = rows.filter_map(|row| row.into_iter().next()?).collect();
        let expected = ["simple", "bound", "piped", "alone"].map(tag);
        assert_eq!(tags, expected, "{}", transcript(&answer));
        checked += tags.len();
    }
    checked
}
