//! The reserve: a few more servers for those who waited long.

use std::time::{Duration, Instant};

use testkit::{FakeServer, Message};

use super::holding;
use crate::support::{WORKERS, before, clients, wait_for_waiting};

#[tokio::test]
async fn the_reserve_serves_whoever_waited_long_and_never_more_than_it_has() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 2)
            .set("reserve_pool_size", 2)
            .set("reserve_pool_timeout", 1)
            .start()
            .await;
        let [mut first, _second] = holding(&pooler).await;
        let mut waiting = clients::<4>(&pooler).await;

        let asked = Instant::now();
        for (count, client) in (1..).zip(&mut waiting) {
            client.send(Message::query("BEGIN")).await;
            wait_for_waiting(&pooler, count).await;
        }
        server.connection(2).await;
        assert!(asked.elapsed() >= Duration::from_secs(1));
        pooler
            .wait_for_log("taking connection from reserve_pool")
            .await;
        server.wait_for_logged_in(4).await;
        let [third, fourth, fifth, sixth] = &mut waiting;
        third.read_until_ready().await;
        fourth.read_until_ready().await;

        // Both that are left wait for a seat, not for one more server. They came within milliseconds:
        // which of them is first depends on the worker that has it.
        first.query("COMMIT").await;
        third.query("COMMIT").await;
        fifth.read_until_ready().await;
        sixth.read_until_ready().await;
        assert_eq!(server.connections().len(), 4);
    }
}

#[tokio::test]
async fn a_reserve_timeout_of_zero_keeps_the_reserve_shut() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("reserve_pool_size", 5)
            .set("reserve_pool_timeout", 0)
            .set("query_wait_timeout", 2)
            .start()
            .await;
        let [_holder] = holding(&pooler).await;
        let [mut waits] = clients(&pooler).await;

        waits.send(Message::query("SELECT 1")).await;

        assert_eq!(waits.expect_error().await.text(), "query_wait_timeout");
        assert_eq!(server.connections().len(), 1);
    }
}

#[tokio::test]
async fn a_free_seat_comes_before_the_reserve() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("reserve_pool_size", 5)
            .set("reserve_pool_timeout", 10)
            .start()
            .await;
        let [mut holder] = holding(&pooler).await;
        let mut waiting = clients::<5>(&pooler).await;
        for client in &mut waiting {
            client.send(Message::query("SELECT 1")).await;
        }
        wait_for_waiting(&pooler, 5).await;

        holder.query("COMMIT").await;
        for client in &mut waiting {
            client.read_until_ready().await;
        }

        assert_eq!(server.connections().len(), 1);
    }
}
