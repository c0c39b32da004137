//! Waiting in line for a server.

use std::time::{Duration, Instant};

use testkit::{FakeServer, Message};

use super::ends_with;
use crate::support::{WORKERS, before, clients, wait_for_waiting};

#[tokio::test]
async fn query_wait_timeout_ends_the_wait_and_leaves_the_holder_alone() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("query_wait_timeout", 1)
            .start()
            .await;
        let [mut holder, mut waits, mut later] = clients(&pooler).await;
        holder.query("BEGIN").await;

        let asked = Instant::now();
        waits.send(Message::query("SELECT 1")).await;
        ends_with(&mut waits, "query_wait_timeout").await;

        assert!(asked.elapsed() >= Duration::from_secs(1));
        holder.query("COMMIT").await;
        later.query("SELECT 2").await;
        assert_eq!(
            server.connection(0).await.queries(),
            ["BEGIN", "COMMIT", "SELECT 2"]
        );
    }
}

#[tokio::test]
async fn a_wait_that_ends_in_time_leaves_no_clock_running() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("query_wait_timeout", 2)
            .start()
            .await;
        let [mut first, mut second, mut third] = clients(&pooler).await;
        first.query("BEGIN").await;
        second.send(Message::query("BEGIN")).await;
        wait_for_waiting(&pooler, 1).await;
        first.query("COMMIT").await;
        second.read_until_ready().await;

        // Until the third has waited too long, the second holds its server, and keeps it.
        third.send(Message::query("SELECT 3")).await;
        ends_with(&mut third, "query_wait_timeout").await;
        second.query("COMMIT").await;
    }
}

#[tokio::test]
async fn query_wait_notify_tells_a_waiting_client_once() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("query_wait_notify", 1)
            .start()
            .await;
        let [mut holder, mut first, mut second] = clients(&pooler).await;
        holder.query("BEGIN").await;

        first.send(Message::query("SELECT 'first'")).await;
        let told = first.read().await;
        let notice = "No server connection available in postgres backend, client being queued";
        assert_eq!(
            told.to_string(),
            format!("NoticeResponse NOTICE 00000: {notice}")
        );
        // By the time that the second is told, the first would have been told again.
        second.send(Message::query("SELECT 'second'")).await;
        second.read_until(b'N').await;
        holder.query("COMMIT").await;

        let tags: Vec<u8> = first
            .read_until_ready()
            .await
            .iter()
            .map(|it| it.tag)
            .collect();
        assert_eq!(tags, *b"TDCZ");
        second.read_until_ready().await;
    }
}

#[tokio::test]
async fn query_wait_notify_of_zero_tells_nobody() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("query_wait_notify", 0)
            .set("query_wait_timeout", 2)
            .start()
            .await;
        let [mut holder, mut waits] = clients(&pooler).await;
        holder.query("BEGIN").await;

        waits.send(Message::query("SELECT 1")).await;

        assert_eq!(waits.expect_closed().await.len(), 1);
    }
}

#[tokio::test]
async fn query_timeout_ends_a_wait_too() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("query_timeout", 1)
            .start()
            .await;
        let [mut holder, mut waits] = clients(&pooler).await;
        holder.query("BEGIN").await;

        waits.send(Message::query("SELECT 1")).await;
        ends_with(&mut waits, "query_timeout").await;

        // A transaction that idles is no query.
        holder.query("COMMIT").await;
    }
}
