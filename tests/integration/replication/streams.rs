//! COPY both ways: WAL one way, the client's progress the other.

use testkit::{Address, FakeClient, Message, Postgres, Side, eventually_async, transcript};

use super::{asking, few_seats, publishing};
use crate::streams::{assert_grew_less, peak};
use crate::support::WORKERS;

/// The most that the pooler may grow while WAL goes through it, in bytes.
const MOST: u64 = 4 << 20;

/// A client of alice's for all of the cluster's WAL.
async fn standby(address: &Address) -> FakeClient {
    let mut client = asking(address, "alice", &[("replication", "true")]).await;
    client.answer_scram("secret").await;
    client.read_auth_ok().await;
    client.read_welcome().await;
    client
}

/// Where the WAL begins that is still there, and where it ends.
async fn wal(postgres: &Postgres) -> (String, u64) {
    let admin = postgres.admin_client().await;
    let sql = "SELECT redo_lsn::text, (pg_current_wal_flush_lsn() - '0/0')::bigint \
               FROM pg_control_checkpoint()";
    let row = admin.query_one(sql, &[]).await.unwrap();
    (row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap())
}

async fn start(client: &mut FakeClient, from: &str) {
    let sql = format!("START_REPLICATION PHYSICAL {from}");
    client.send(Message::query(&sql)).await;
    client.read_until(b'W').await;
}

/// The next piece of WAL, and where it ends; other messages are passed over.
async fn next_piece(client: &mut FakeClient) -> (Vec<u8>, u64) {
    loop {
        let message = client.read().await;
        assert_eq!(message.tag, b'd', "{message}");
        // Its kind, where it starts, where all WAL ends, when it was sent.
        let (head, piece) = message.body.split_at(25);
        if head[0] == b'w' {
            let start = u64::from_be_bytes(head[1..9].try_into().unwrap());
            return (piece.to_vec(), start + piece.len() as u64);
        }
    }
}

/// Reads WAL up to that place.
async fn read_to(client: &mut FakeClient, end: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (piece, reached) = next_piece(client).await;
        all.extend(piece);
        if reached >= end {
            all.truncate(all.len() - usize::try_from(reached - end).unwrap());
            return all;
        }
    }
}

/// "I have this much, and want an answer."
fn progress(place: u64) -> Message {
    let mut body = vec![b'r'];
    for _ in 0..3 {
        body.extend(place.to_be_bytes());
    }
    body.extend([0; 8]);
    body.push(1);
    Message::copy_data(Side::Client, &body)
}

/// What a standby's session reads, as far as it is the same each time.
async fn session(address: &Address, from: &str, end: u64) -> (Vec<u8>, String) {
    let mut client = standby(address).await;
    let mut told = client.query("IDENTIFY_SYSTEM").await.split_off(2);
    start(&mut client, from).await;
    let wal = read_to(&mut client, end).await;
    client.send(progress(end)).await;
    let answer = client.read().await;
    assert_eq!((answer.tag, answer.body[0]), (b'd', b'k'));

    client.send(Message::copy_done(Side::Client)).await;
    // More WAL and other answers may be under way.
    told.extend(client.read_until(b'c').await.pop());
    told.extend(client.read_until_ready().await);
    told.extend(client.query("SHOW wal_segment_size").await);
    told.extend(client.query("SELECT 1").await);
    (wal, transcript(&told))
}

#[tokio::test]
async fn a_stream_reads_as_without_a_pooler_and_its_session_goes_on() {
    let postgres = publishing().await;
    let (from, end) = wal(&postgres).await;
    let expected = session(&postgres.address(), &from, end).await;
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        let (wal, told) = session(&pooler.address(), &from, end).await;
        assert!(wal == expected.0, "the WAL differs");
        assert_eq!(told, expected.1);
    }
}

#[tokio::test]
async fn a_cancel_ends_the_stream_and_leaves_the_session() {
    let postgres = publishing().await;
    let (from, end) = wal(&postgres).await;
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        let mut client = standby(&pooler.address()).await;
        start(&mut client, &from).await;
        read_to(&mut client, end).await;
        client.cancel_me().await;
        assert_eq!(client.expect_error().await.code(), "57014");
        client.read_until_ready().await;
        // Late words of a standby that has not heard yet.
        client.send(progress(end)).await;
        client.send(Message::copy_done(Side::Client)).await;
        let answer = client.query("IDENTIFY_SYSTEM").await;
        assert_eq!(answer.first().map(|message| message.tag), Some(b'T'));
    }
}

/// Waits until the server has sent some of its WAL, and for a while no more.
async fn wait_for_standstill(postgres: &Postgres, begin: u64) {
    let admin = postgres.admin_client().await;
    let mut last = begin;
    eventually_async("the stream to stand still", async || {
        let before = last;
        for _ in 0..100 {
            let sql = "SELECT (sent_lsn - '0/0')::bigint FROM pg_stat_replication";
            let sent: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
            last = sent.unsigned_abs();
        }
        last > begin && last == before
    })
    .await;
}

#[tokio::test]
async fn a_standby_that_does_not_read_costs_no_memory() {
    let postgres = publishing().await;
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        let mut client = standby(&pooler.address()).await;
        let (_, begin) = wal(&postgres).await;
        let from = format!("{:X}/{:X}", begin >> 32, begin & 0xffff_ffff);
        start(&mut client, &from).await;
        let before = peak(&pooler);

        let sql = "SELECT pg_logical_emit_message(true, 'x', repeat('x', 1048576)) \
                   FROM generate_series(1, 64)";
        postgres.run(sql).await;
        let (_, end) = wal(&postgres).await;
        assert!(end - begin > 64 << 20);
        wait_for_standstill(&postgres, begin).await;
        assert_grew_less(&pooler, before, MOST);

        let mut reached = begin;
        while reached < end {
            (_, reached) = next_piece(&mut client).await;
        }
        assert_grew_less(&pooler, before, MOST);
    }
}
