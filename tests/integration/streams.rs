//! Large messages and slow readers: the pooler's memory has a ceiling, and whoever stands still
//! stands alone.

use std::fs;

use testkit::{Console, FakeClient, FakeServer, Message, Pooler, Side, eventually_async, in_time};

use crate::support::{WORKERS, Witnesses, alice, before, before_postgres, converse, postgres};

/// The most that the pooler may grow while one stream goes through it, in bytes.
const STREAM_MOST: u64 = 4 << 20;

const MEGABYTE: usize = 1 << 20;

/// The most memory that the pooler ever had, in bytes.
pub(crate) fn peak(pooler: &Pooler) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pooler.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap() * 1024
}

#[track_caller]
pub(crate) fn assert_grew_less(pooler: &Pooler, before: u64, most: u64) {
    let grown = peak(pooler) - before;
    assert!(grown < most, "grew by {grown} bytes");
}

/// Waits until the bytes that this statistic counts stand still, though others are served.
async fn wait_for_standstill(console: &Console, total: &str, witnesses: &mut Witnesses) {
    let mut last = 0;
    eventually_async("a standstill", async || {
        for _ in 0..50 {
            witnesses.look().await;
        }
        let before = last;
        last = console
            .show_row("STATS", "database", "app")
            .await
            .number(total);
        last > 0 && last == before
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_own_server_only() {
    const ROWS: usize = 200;
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .database("aside", &server.conn_info("app"))
            .set("default_pool_size", 2)
            .start()
            .await;
        let console = pooler.console().await;
        let mut witnesses = Witnesses::on_every_worker(&pooler, workers).await;
        let (mut slow, mut quick) = (alice(&pooler).await, alice(&pooler).await);
        quick.query_value("SELECT 'warm'").await;
        let before = peak(&pooler);

        let stream = format!("STREAM {ROWS} {MEGABYTE}");
        slow.send(Message::query(&stream)).await;
        wait_for_standstill(&console, "total_sent", &mut witnesses).await;
        assert_eq!(console.pool("app", "alice").await.number("sv_active"), 1);
        for _ in 0..100 {
            assert_eq!(quick.query_value("SELECT 'quick'").await, "quick");
        }
        assert_grew_less(&pooler, before, STREAM_MOST);

        let rows = in_time("the stream", count_rows(&mut slow)).await;
        assert_eq!(rows, ROWS);
        assert_grew_less(&pooler, before, STREAM_MOST);
    }
}

/// Reads to the end of an answer, and keeps nothing of it.
async fn count_rows(client: &mut FakeClient) -> usize {
    let mut rows = 0;
    loop {
        match client.read().await.tag {
            b'D' => rows += 1,
            b'Z' => return rows,
            _ => {}
        }
    }
}

#[tokio::test]
async fn twenty_clients_that_do_not_read_cost_less_than_a_megabyte_each() {
    const CLIENTS: usize = 20;
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .database("aside", &server.conn_info("app"))
            .set("default_pool_size", CLIENTS)
            .start()
            .await;
        let console = pooler.console().await;
        let mut witnesses = Witnesses::on_every_worker(&pooler, workers).await;
        let before = peak(&pooler);

        let mut crowd = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = alice(&pooler).await;
            client
                .send(Message::query(&format!("STREAM 20 {MEGABYTE}")))
                .await;
            crowd.push(client);
        }
        wait_for_standstill(&console, "total_sent", &mut witnesses).await;
        assert_grew_less(&pooler, before, (CLIENTS * MEGABYTE) as u64);

        crowd.into_iter().for_each(FakeClient::reset);
        assert_eq!(
            alice(&pooler).await.query_value("SELECT 'next'").await,
            "next"
        );
        assert!(server.logged_in_max() <= CLIENTS + workers as usize);
    }
}

#[tokio::test]
async fn one_message_of_many_megabytes_is_never_gathered() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.query_value("SELECT 'warm'").await;
        let before = peak(&pooler);

        client
            .send(Message::query(&format!("STREAM 1 {}", 64 * MEGABYTE)))
            .await;
        let answer = in_time("the message", client.read_until_ready()).await;
        assert!(answer[1].body.len() > 64 * MEGABYTE);
        assert_grew_less(&pooler, before, STREAM_MOST);
    }
}

/// Requests of many megabytes, of which the server says nothing but a tag.
fn great_requests() -> [(&'static str, Vec<Message>); 2] {
    let great = "x".repeat(50 * MEGABYTE);
    [
        ("a query", vec![Message::query(&format!("NOOP {great}"))]),
        (
            "a bound value",
            vec![
                Message::parse("", "NOOP $1"),
                Message::bind("", "", &[Some(&great)]),
                Message::execute(""),
                Message::sync(),
            ],
        ),
    ]
}

#[tokio::test]
async fn a_server_that_does_not_read_stops_its_own_client_only() {
    for workers in WORKERS {
        for (name, request) in great_requests() {
            let server = FakeServer::start().await;
            let pooler = before(&server, workers)
                .database("aside", &server.conn_info("app"))
                .set("default_pool_size", 2)
                .start()
                .await;
            let console = pooler.console().await;
            let mut witnesses = Witnesses::on_every_worker(&pooler, workers).await;
            let (mut great, mut quick) = (alice(&pooler).await, alice(&pooler).await);
            quick.query_value("SELECT 'warm'").await;
            let before = peak(&pooler);

            // The server reads no further while it waits at the door.
            great.send(Message::query("HOLD door")).await;
            let door = server.gate("door");
            door.wait_for_waiting(1).await;
            let sends = tokio::spawn(async move {
                let answer = converse(&mut great, &request, 2).await;
                answer
                    .into_iter()
                    .map(|message| message.body.len())
                    .sum::<usize>()
            });
            wait_for_standstill(&console, "total_received", &mut witnesses).await;
            for _ in 0..100 {
                assert_eq!(quick.query_value("SELECT 'quick'").await, "quick");
            }
            assert!(!sends.is_finished(), "{name}: nobody can have taken it all");
            assert_grew_less(&pooler, before, STREAM_MOST);

            door.open();
            let answered = in_time("the answer", sends).await.unwrap();
            assert!(answered > 0);
            let heard = server.connections();
            let most = heard
                .iter()
                .map(|connection| connection.bytes_received())
                .max();
            assert!(most > Some(50 << 20), "{name} arrived whole");
            assert_grew_less(&pooler, before, STREAM_MOST);
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_gives_its_seat_back() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut slow = alice(&pooler).await;
        slow.send(Message::query(&format!("STREAM 100 {MEGABYTE}")))
            .await;
        slow.read_until(b'D').await;
        slow.reset();

        assert_eq!(
            alice(&pooler).await.query_value("SELECT 'next'").await,
            "next"
        );
        server.connection(0).await.wait_closed().await;
        assert_eq!(server.logged_in_max(), 1);
    }
}

/// Bytes in the great COPYs, and in each of their rows.
const GREAT: usize = 100_000_000;
const ROW: usize = 100_000;

#[tokio::test]
async fn a_copy_of_a_hundred_megabytes_goes_in_and_comes_out() {
    let postgres = postgres().await;
    let table = "CREATE UNLOGGED TABLE great (x text); GRANT ALL ON great TO PUBLIC";
    postgres.run_in("app", table).await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.query("TRUNCATE great").await;
        let before = peak(&pooler);

        in_time("the way in", pour_in(&mut client)).await;
        let length = "SELECT sum(length(x)) FROM great WHERE x = repeat('x', length(x))";
        assert_eq!(client.query_value(length).await, GREAT.to_string());
        in_time("the way out", pour_out(&mut client)).await;
        assert_grew_less(&pooler, before, STREAM_MOST);
    }
}

async fn pour_in(client: &mut FakeClient) {
    let copied = copy_in(client, "COPY great FROM STDIN", GREAT).await;
    assert_eq!(copied, Some(format!("COPY {}", GREAT / ROW)));
}

/// Copies rows of so many bytes in all, and returns the tag.
async fn copy_in(client: &mut FakeClient, sql: &str, bytes: usize) -> Option<String> {
    client.send(Message::query(sql)).await;
    client.read_until(b'G').await;
    let row = format!("{}\n", "x".repeat(ROW));
    let row = Message::copy_data(Side::Client, row.as_bytes()).encode();
    for _ in 0..bytes / ROW {
        client.send_raw(&row).await;
    }
    client.send(Message::copy_done(Side::Client)).await;
    client.read_until_ready().await[0].command_tag()
}

async fn pour_out(client: &mut FakeClient) {
    let bytes = copy_out(client, "COPY great TO STDOUT").await;
    assert_eq!(bytes, GREAT + GREAT / ROW);
}

/// Copies out, keeps nothing, and returns how many bytes of rows came.
async fn copy_out(client: &mut FakeClient, sql: &str) -> usize {
    client.send(Message::query(sql)).await;
    let mut bytes = 0;
    loop {
        match client.read().await {
            row if row.tag == b'd' => bytes += row.body.len(),
            last if last.tag == b'Z' => return bytes,
            _ => {}
        }
    }
}

#[tokio::test]
async fn hundreds_of_megabytes_are_copied_both_ways_at_once() {
    const EACH: usize = 200_000_000;
    let postgres = postgres().await;
    postgres
        .run_in(
            "app",
            "CREATE TABLE none (x text); GRANT ALL ON none TO PUBLIC",
        )
        .await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers).start().await;
        let (mut into, mut out) = (alice(&pooler).await, alice(&pooler).await);
        let before = peak(&pooler);

        // The server reads it all and keeps nothing.
        let way_in = copy_in(&mut into, "COPY none FROM STDIN WHERE false", EACH);
        let rows = format!(
            "COPY (SELECT repeat('x', {ROW}) FROM generate_series(1, {})) TO STDOUT",
            EACH / ROW
        );
        let way_out = copy_out(&mut out, &rows);
        let (copied, bytes) = in_time("both", async { tokio::join!(way_in, way_out) }).await;
        assert_eq!(copied.as_deref(), Some("COPY 0"));
        assert_eq!(bytes, EACH + EACH / ROW);
        assert_grew_less(&pooler, before, STREAM_MOST);
    }
}
